# SPDX-License-Identifier: BSD-3-Clause
"""The GRU layer and its single step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import DTypeLike

from . import checks
from .cell import RecurrentCell
from .checks import Array, SupportsArray
from .recurrent import Recurrent
from .spec import CELLS


def _cell_of(reset_after: bool) -> str:
    """The row of `CELLS`."""
    return "gru" if reset_after else "gru_reset_before"


class GRU(Recurrent[SupportsArray, Array, SupportsArray]):
    """A stack of GRU layers with the semantics and names of ``torch.nn.GRU``.

    A state is h alone, as in torch: ``y, h_n = gru(x, h_0)``; whatever asks for a cell state
    (`return_cells`, `dcells`) is refused. Models may be called from many threads at once, pickled
    and copied.

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
    reset_after : bool, default True
        Whether the reset gate comes after the product with h_{t-1}, as in torch, or before it.
    dtype : dtype, default numpy.float32
        float32 or float64, of parameters, inputs and outputs.
    seed : None, int >= 0, or what numpy.random.default_rng takes
        Of the first parameters, uniform in +-1/sqrt(H); None for other ones each time.

    Attributes
    ----------
    weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0, ...
        The parameters, arrays named as in torch: (3H, I), (3H, H), (3H,) and (3H,) in the first
        layer (type checkers know those of layer 0). They are read-only until `train`; replace them
        with `load_state_dict`.

    Raises
    ------
    TypeError, ValueError
        A wrong argument.
    MemoryError
        The model does not fit.

    Warns
    -----
    UserWarning
        Dropout with one layer, where it does nothing.

    Notes
    -----
    With gates in the order r, z, n::

        r, z = sigmoid(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh)
        n = tanh(W_in x_t + b_in + r * (W_hn h_{t-1} + b_hn))
        h_t = (1 - z) * n + z * h_{t-1}

    r comes after the product with h_{t-1}, as in torch and cuDNN; Keras calls this ``reset_after``,
    ONNX ``linear_before_reset``. With ``reset_after=False`` it comes before, as in Cho et al. 2014,
    which takes a second product a step, one after the other::

        n = tanh(W_in x_t + b_in + W_hn (r * h_{t-1}) + b_hn)

    The backward pass and all sources stand in ``fastlstm.reference.gru``.

    References
    ----------
    K. Cho et al., "Learning phrase representations using RNN encoder-decoder for statistical
    machine translation", EMNLP 2014.

    Examples
    --------
    >>> import numpy as np
    >>> import fastlstm
    >>> gru = fastlstm.GRU(3, 4, bidirectional=True, seed=0)
    >>> y, h_n = gru(np.ones((5, 2, 3), np.float32))
    >>> y.shape, h_n.shape
    ((5, 2, 8), (2, 2, 4))
    >>> h_n[0, 0].round(3)  # of the first direction, the first sequence
    array([ 0.258, -0.16 , -0.259, -0.18 ], dtype=float32)
    """

    _kind = "GRU"
    _cell = CELLS["gru"]  # and of "gru_reset_before"
    _has_c = _cell.has_c
    _states = ("h_0",)
    _defaults: ClassVar[dict[str, object]] = {
        "num_layers": 1,
        "bias": True,
        "batch_first": False,
        "dropout": 0.0,
        "bidirectional": False,
        "reset_after": True,
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
        *,
        reset_after: bool = True,
        dtype: DTypeLike = np.float32,
        seed: object = None,
    ) -> None:
        self.reset_after = checks.flag("reset_after", reset_after)
        super().__init__(
            _cell_of(self.reset_after),
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            dtype,
            seed,
        )

    @classmethod
    def from_state_dict(
        cls,
        state_dict: Mapping[str, Any],
        prefix: str | None = None,
        *,
        batch_first: bool = False,
        dropout: float = 0.0,
        reset_after: bool = True,
        dtype: DTypeLike | None = None,
    ) -> Self:
        """A GRU whose sizes, layers, directions and bias names and shapes of a state dict say.

        Parameters
        ----------
        state_dict : mapping of str to tensor, array, or what `load_state_dict` takes
            Of a model that has a GRU in it, of a GRU or of a ``torch.nn.GRUCell``; or a checkpoint
            in which such a mapping stands (under "state_dict" or "model", for example). Each value
            is read once at most.
        prefix : str, optional
            Where the GRU stands, "encoder.gru." for example; None: the only one. What DataParallel
            ("module.") and torch.compile ("_orig_mod.") put into names may be left out.
        batch_first, dropout, reset_after
            Of the constructor, which no state dict tells.
        dtype : dtype, optional
            float32 or float64: values of any float dtype (float64 for a float32 model too) and
            lists of numbers are converted to it. None: that of the values, float32 if they are
            narrower; lists are an error.

        Returns
        -------
        Self
            A model of this class.

        Raises
        ------
        TypeError
            No mapping, or a value that is no array of floats.
        ValueError
            No GRU or several, listed; names missing or left over; shapes that are no GRU's; a value
            beyond `dtype`.
        MemoryError
            It does not fit.

        Examples
        --------
        >>> import numpy as np
        >>> import fastlstm
        >>> arrays = {"weight_ih_l0": np.zeros((12, 3)), "weight_hh_l0": np.zeros((12, 4))}
        >>> fastlstm.GRU.from_state_dict(arrays)
        GRU(3, 4, bias=False, dtype=float64)
        """
        options = {"batch_first": batch_first, "dropout": dropout, "reset_after": reset_after}
        return cls._of_state_dict(state_dict, prefix, dtype, "gru", **options)


class GRUCell(RecurrentCell[SupportsArray, Array]):
    """One step of a GRU layer with the semantics of ``torch.nn.GRUCell``.

    A state is h alone: ``h = cell(x, h)``. A cell has no ``save``: `state_dict` gives what a file
    should hold, and `GRU.from_state_dict` makes a layer of it. Calls use the process's number of
    threads.

    Parameters
    ----------
    input_size, hidden_size : int
        Features I and hidden units H.
    bias : bool, default True
        Whether there are biases b_ih and b_hh.
    reset_after : bool, default True
        As for `GRU`.
    dtype : dtype, default numpy.float32
        float32 or float64.
    seed : None, int >= 0, or what numpy.random.default_rng takes
        Of the first parameters, as for `GRU`.

    Attributes
    ----------
    weight_ih, weight_hh, bias_ih, bias_hh : ndarray
        The parameters: (3H, I), (3H, H), (3H,) and (3H,), as those of `GRU`.

    Raises
    ------
    TypeError, ValueError
        A wrong argument.
    MemoryError
        The cell does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> import fastlstm
    >>> cell = fastlstm.GRUCell(3, 4, seed=0)
    >>> h = None
    >>> for x_t in np.ones((5, 2, 3), np.float32):
    ...     h = cell(x_t, h)
    >>> h.shape
    (2, 4)
    """

    _kind = "GRUCell"
    _has_c = CELLS["gru"].has_c
    _states = ("h_0",)
    _defaults: ClassVar[dict[str, object]] = {"bias": True, "reset_after": True}

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        *,
        reset_after: bool = True,
        dtype: DTypeLike = np.float32,
        seed: object = None,
    ) -> None:
        self.reset_after = checks.flag("reset_after", reset_after)
        cell = _cell_of(self.reset_after)
        super().__init__(cell, input_size, hidden_size, bias, dtype, seed)
