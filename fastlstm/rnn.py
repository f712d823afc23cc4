# SPDX-License-Identifier: BSD-3-Clause
"""The plain recurrent layer, and one step of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import DTypeLike

from .cell import RecurrentCell
from .checks import Array, SupportsArray
from .recurrent import Recurrent
from .spec import CELLS


def _checked(nonlinearity: object) -> str:
    """One that the core has."""
    if not isinstance(nonlinearity, str) or nonlinearity not in ("tanh", "relu"):
        raise ValueError(f"nonlinearity must be 'tanh' or 'relu', got {nonlinearity!r}")
    return nonlinearity


class RNN(Recurrent[SupportsArray, Array, SupportsArray]):
    """A stack of plain recurrent layers with the semantics and names of ``torch.nn.RNN``.

    A state is h alone, as in torch: ``y, h_n = rnn(x, h_0)``; whatever asks for a cell state
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
    nonlinearity : {"tanh", "relu"}
        What makes h_t of the weighted sums.
    bias : bool, default True
        Whether there are biases b_ih and b_hh.
    batch_first : bool, default False
        Whether x and y are (B, T, ...) instead of (T, B, ...).
    dropout : float, default 0.0
        Probability of dropout between layers; training only, idle in inference.
    bidirectional : bool, default False
        Whether a second set of weights runs from each sequence's last step to its first.
    dtype : dtype, default numpy.float32
        float32 or float64, of parameters, inputs and outputs.
    seed : None, int >= 0, or what numpy.random.default_rng takes
        Of the first parameters, uniform in +-1/sqrt(H); None for other ones each time.

    Attributes
    ----------
    weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0, ...
        The parameters, arrays named as in torch: (H, I), (H, H), (H,) and (H,) in the first layer
        (type checkers know those of layer 0). They are read-only until `train`; replace them with
        `load_state_dict`.

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
    One step, with the function that `nonlinearity` names::

        h_t = tanh(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh)

    The backward pass and all sources stand in ``fastlstm.reference.rnn``.

    References
    ----------
    J. Elman, "Finding structure in time", Cognitive Science 14(2), 1990.

    Examples
    --------
    >>> import numpy as np
    >>> import fastlstm
    >>> rnn = fastlstm.RNN(3, 4, nonlinearity="relu", batch_first=True, seed=0)
    >>> y, h_n = rnn(np.ones((2, 5, 3), np.float32))
    >>> y.shape, h_n.shape
    ((2, 5, 4), (1, 2, 4))
    >>> h_n[0, 0].round(3)
    array([0.436, 0.   , 0.   , 0.38 ], dtype=float32)
    """

    _kind = "RNN"
    _cell = CELLS["rnn_tanh"]  # and of "rnn_relu"
    _has_c = _cell.has_c
    _states = ("h_0",)
    _defaults: ClassVar[dict[str, object]] = {
        "num_layers": 1,
        "nonlinearity": "tanh",
        "bias": True,
        "batch_first": False,
        "dropout": 0.0,
        "bidirectional": False,
    }

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: Literal["tanh", "relu"] = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        dtype: DTypeLike = np.float32,
        seed: object = None,
    ) -> None:
        self.nonlinearity = _checked(nonlinearity)
        super().__init__(
            f"rnn_{nonlinearity}",
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
        nonlinearity: Literal["tanh", "relu"] = "tanh",
        batch_first: bool = False,
        dropout: float = 0.0,
        dtype: DTypeLike | None = None,
    ) -> Self:
        """An RNN whose sizes, layers, directions and bias names and shapes of a state dict say.

        Parameters
        ----------
        state_dict : mapping of str to tensor, array, or what `load_state_dict` takes
            Of a model that has an RNN in it, of an RNN or of a ``torch.nn.RNNCell``; or a
            checkpoint in which such a mapping stands (under "state_dict" or "model", for example).
            Each value is read once at most.
        prefix : str, optional
            Where the RNN stands, "encoder.rnn." for example; None: the only one. What DataParallel
            ("module.") and torch.compile ("_orig_mod.") put into names may be left out.
        nonlinearity, batch_first, dropout
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
            No RNN or several, listed; names missing or left over; shapes that are no RNN's; a value
            beyond `dtype`.
        MemoryError
            It does not fit.

        Examples
        --------
        >>> import numpy as np
        >>> import fastlstm
        >>> arrays = {"weight_ih_l0": np.zeros((4, 3)), "weight_hh_l0": np.zeros((4, 4))}
        >>> fastlstm.RNN.from_state_dict(arrays, nonlinearity="relu")
        RNN(3, 4, nonlinearity='relu', bias=False, dtype=float64)
        """
        options = {"nonlinearity": nonlinearity, "batch_first": batch_first, "dropout": dropout}
        return cls._of_state_dict(state_dict, prefix, dtype, "rnn_tanh", **options)


class RNNCell(RecurrentCell[SupportsArray, Array]):
    """One step of a plain recurrent layer with the semantics of ``torch.nn.RNNCell``.

    A state is h alone: ``h = cell(x, h)``. A cell has no ``save``: `state_dict` gives what a file
    should hold, and `RNN.from_state_dict` makes a layer of it. Calls use the process's number of
    threads.

    Parameters
    ----------
    input_size, hidden_size : int
        Features I and hidden units H.
    bias : bool, default True
        Whether there are biases b_ih and b_hh.
    nonlinearity : {"tanh", "relu"}
        What makes the new h of the weighted sums.
    dtype : dtype, default numpy.float32
        float32 or float64.
    seed : None, int >= 0, or what numpy.random.default_rng takes
        Of the first parameters, as for `RNN`.

    Attributes
    ----------
    weight_ih, weight_hh, bias_ih, bias_hh : ndarray
        The parameters: (H, I), (H, H), (H,) and (H,), as those of `RNN`.

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
    >>> cell = fastlstm.RNNCell(3, 4, seed=0)
    >>> h = cell(np.ones((2, 3), np.float32))
    >>> cell(np.ones((2, 3), np.float32), h).shape
    (2, 4)
    """

    _kind = "RNNCell"
    _has_c = CELLS["rnn_tanh"].has_c
    _states = ("h_0",)
    _defaults: ClassVar[dict[str, object]] = {"bias": True, "nonlinearity": "tanh"}

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: Literal["tanh", "relu"] = "tanh",
        *,
        dtype: DTypeLike = np.float32,
        seed: object = None,
    ) -> None:
        self.nonlinearity = _checked(nonlinearity)
        super().__init__(f"rnn_{nonlinearity}", input_size, hidden_size, bias, dtype, seed)
