# SPDX-License-Identifier: BSD-3-Clause
"""The LSTM layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import DTypeLike

from . import blas, checks, weights
from . import options as variants
from .checks import Array, SupportsArray
from .options import LSTMOptions
from .recurrent import Recurrent
from .spec import CELLS

Given = tuple[SupportsArray, SupportsArray]
State = tuple[Array, Array]
Slope = tuple[SupportsArray | None, SupportsArray | None]


class LSTM(Recurrent[Given, State, Slope]):
    """A stack of LSTM layers with the semantics, names and shapes of ``torch.nn.LSTM``.

    Models may be called from many threads at once, pickled and copied.

    Parameters
    ----------
    input_size : int
        Features I of each step.
    hidden_size : int
        Hidden units H.
    num_layers : int, default 1
        Layers L, 10,000 at most, each reading the outputs of the one before.
    bias : bool, default True
        Whether there are biases b_ih and b_hh.
    batch_first : bool, default False
        Whether x and y are (B, T, ...) instead of (T, B, ...).
    dropout : float, default 0.0
        Probability of dropout between layers; training only, idle in inference.
    bidirectional : bool, default False
        Whether a second set of weights runs from each sequence's last step to its first.
    proj_size : int, default 0
        P, 0 < P < H: each step's output is projected from H values to P, as in torch; 0: it is not.
    dtype : dtype, default numpy.float32
        float32 or float64, of parameters, inputs and outputs.
    seed : None, int >= 0, or what numpy.random.default_rng takes
        Of the first parameters, uniform in +-1/sqrt(H); None for other ones each time.
    gemm : {"auto", "native", "blas"}
        "auto" and "native" are our kernels. "blas" computes input projections by SciPy's BLAS,
        which forfeits the promise that bits do not depend on batch or chunks; forward passes then
        run on one thread beside those of BLAS.
    options : LSTMOptions, or mapping of its arguments, optional
        What makes it another LSTM than the plain one: peepholes, clips, coupled gates, activations,
        layer normalisation, noise in training.

    Attributes
    ----------
    weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0, ...
        The parameters, arrays named as in torch: (4H, I), (4H, H), (4H,) and (4H,) in the first
        layer (type checkers know those of layer 0); with a projection (4H, I), (4H, P), (4H,),
        (4H,) and ``weight_hr_l0``, (P, H); with peepholes ``weight_ci_l0``, ``weight_cf_l0`` and
        ``weight_co_l0``, (H,) each, too; with layer normalisation those that `LSTMOptions` names.
        They are read-only until `train`; replace them with `load_state_dict`.

    Raises
    ------
    TypeError, ValueError
        A wrong argument.
    MemoryError
        The model does not fit.
    ImportError
        ``gemm="blas"`` where SciPy cannot be imported.

    Warns
    -----
    UserWarning
        Dropout with one layer, where it does nothing.

    Notes
    -----
    With gates in the order i, f, g, o::

        i, f, o = sigmoid(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh)     g = tanh(likewise)
        c_t = f * c_{t-1} + i * g        h_t = o * tanh(c_t)

    With a projection (LSTMP) h_t = W_hr (o * tanh(c_t)), of P values: so are y, h_0 and h_n, and
    layers above the first read D*P inputs.

    The backward pass and all sources stand in ``fastlstm.reference.lstm``, those of options in
    ``fastlstm.reference.options``.

    References
    ----------
    S. Hochreiter and J. Schmidhuber, "Long short-term memory", Neural Computation 9(8), 1997.

    F. Gers, J. Schmidhuber and F. Cummins, "Learning to forget", Neural Computation 12(10), 2000
    (the forget gate).

    H. Sak, A. Senior and F. Beaufays, "Long short-term memory based recurrent neural network
    architectures for large vocabulary speech recognition", arXiv:1402.1128, 2014 (the projection).

    Examples
    --------
    >>> import numpy as np
    >>> import fastlstm
    >>> lstm = fastlstm.LSTM(3, 4, num_layers=2, seed=0)
    >>> lstm
    LSTM(3, 4, num_layers=2, dtype=float32)
    >>> x = np.ones((5, 2, 3), np.float32)  # 5 steps of 2 sequences of 3 features
    >>> y, (h_n, c_n) = lstm(x)
    >>> y.shape, h_n.shape, c_n.shape
    ((5, 2, 4), (2, 2, 4), (2, 2, 4))
    >>> y[-1, 0].round(3)
    array([-0.073, -0.141, -0.047,  0.051], dtype=float32)
    >>> lstm.weight_ih_l0.shape
    (16, 3)
    """

    _kind = "LSTM"
    _cell = CELLS["lstm"]
    _has_c = _cell.has_c
    _states = ("h_0", "c_0")
    _defaults: ClassVar[dict[str, object]] = {
        "num_layers": 1,
        "bias": True,
        "batch_first": False,
        "dropout": 0.0,
        "bidirectional": False,
        "proj_size": 0,
        "gemm": "auto",
        "options": None,
    }

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        *,
        dtype: DTypeLike = np.float32,
        seed: object = None,
        gemm: Literal["auto", "native", "blas"] = "auto",
        options: LSTMOptions | Mapping[str, Any] | None = None,
    ) -> None:
        self.proj_size = checks.count("proj_size", proj_size)
        if self.proj_size >= checks.count("hidden_size", hidden_size, 1):
            raise ValueError(
                f"proj_size must be below hidden_size = {hidden_size}, or 0, got {self.proj_size}"
            )
        if not isinstance(gemm, str) or gemm not in ("auto", "native", "blas"):
            raise ValueError(f"gemm must be 'auto', 'native' or 'blas', got {gemm!r}")
        if gemm == "blas":
            blas.gemm_address()
        self.gemm = gemm
        self.options, cell, equations = variants.chosen(options, self.proj_size)
        super().__init__(
            cell,
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            dtype,
            seed,
            gemm,
            self.proj_size,
            equations,
        )
        weights.set_forget_bias(self._spec, self._params, self.options)

    def config(self) -> dict[str, Any]:
        """The constructor's arguments but for `seed`, as plain Python values.

        Returns
        -------
        dict
            A new one: the class called with it makes a model of the same kind, with parameters of
            its own. There is `options` in it only if there are some, so that a file of a model
            without them can be read by versions that know of none.

        Examples
        --------
        >>> import fastlstm
        >>> lstm = fastlstm.LSTM(3, 4, bidirectional=True)
        >>> config = lstm.config()
        >>> config["hidden_size"], config["bidirectional"], config["dtype"]
        (4, True, 'float32')
        >>> fastlstm.LSTM(**config)
        LSTM(3, 4, bidirectional=True, dtype=float32)
        """
        config = super().config()
        options = config.pop("options")
        return config if options is None else {**config, "options": options.config()}

    @classmethod
    def from_state_dict(
        cls,
        state_dict: Mapping[str, Any],
        prefix: str | None = None,
        *,
        batch_first: bool = False,
        dropout: float = 0.0,
        dtype: DTypeLike | None = None,
        gemm: Literal["auto", "native", "blas"] = "auto",
        options: LSTMOptions | Mapping[str, Any] | None = None,
    ) -> Self:
        """An LSTM whose sizes, layers, directions and bias names and shapes of a state dict say.

        Parameters
        ----------
        state_dict : mapping of str to tensor, array, or what `load_state_dict` takes
            Of a model that has an LSTM in it, of an LSTM or of a ``torch.nn.LSTMCell``; or a
            checkpoint in which such a mapping stands (under "state_dict" or "model", for example).
            Each value is read once at most.
        prefix : str, optional
            Where the LSTM stands, "encoder.lstm." for example; None: the only one. What
            DataParallel ("module.") and torch.compile ("_orig_mod.") put into names may be left
            out.
        batch_first, dropout
            Of the constructor, which no state dict tells.
        dtype : dtype, optional
            float32 or float64: values of any float dtype (float64 for a float32 model too) and
            lists of numbers are converted to it. None: that of the values, float32 if they are
            narrower; lists are an error.
        gemm : {"auto", "native", "blas"}
            Of the constructor.
        options : LSTMOptions, or mapping of its arguments, optional
            Of the constructor; what they name must have its weights.

        Returns
        -------
        Self
            A model of this class.

        Raises
        ------
        TypeError
            No mapping, or a value that is no array of floats.
        ValueError
            No LSTM or several, listed; names missing or left over; shapes that are no LSTM's; a
            value beyond `dtype`.
        MemoryError
            It does not fit.

        Examples
        --------
        >>> import numpy as np
        >>> import fastlstm
        >>> checkpoint = {
        ...     "encoder.weight_ih_l0": np.zeros((16, 3), np.float32),
        ...     "encoder.weight_hh_l0": np.zeros((16, 4), np.float32),
        ...     "head.weight": np.zeros((2, 4), np.float32),
        ... }
        >>> fastlstm.LSTM.from_state_dict(checkpoint)
        LSTM(3, 4, bias=False, dtype=float32)
        >>> fastlstm.LSTM.from_state_dict(checkpoint, "encoder.", dtype="float64")
        LSTM(3, 4, bias=False, dtype=float64)
        """
        chosen = variants.given(options)
        rest = {"batch_first": batch_first, "dropout": dropout, "gemm": gemm, "options": chosen}
        return cls._of_state_dict(state_dict, prefix, dtype, "lstm", **rest)
