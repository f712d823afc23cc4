# SPDX-License-Identifier: BSD-3-Clause
"""One step of one layer, as a function of its state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar

import numpy as np
from numpy.typing import DTypeLike

from . import _core, checks, runtime, torch_modules, weights
from . import options as variants
from .arrays import new_state
from .checks import Array, SupportsArray
from .module import Module
from .options import LSTMOptions
from .spec import CELLS, FORWARD, Spec
from .stream import Stream

Given = TypeVar("Given")  # what a caller may hand over as a state
State = TypeVar("State")  # what a call returns as one


class RecurrentCell(Module, Generic[Given, State]):
    """One step of one layer, whatever its equations: a kind of cell says in class variables what
    makes it one, and in its constructor which row of `CELLS` it is.

    The type variables say what a state is: a pair (h, c), or h alone.
    """

    _has_c: ClassVar[bool]
    """whether a state has a c beside its h"""
    _states: ClassVar[tuple[str, ...]]
    """what messages call the parts of a state"""

    if TYPE_CHECKING:  # the attributes that every cell has, or every cell with bias

        @property
        def weight_ih(self) -> Array: ...
        @property
        def weight_hh(self) -> Array: ...
        @property
        def bias_ih(self) -> Array: ...
        @property
        def bias_hh(self) -> Array: ...

    def __init__(
        self,
        cell: str,
        input_size: int,
        hidden_size: int,
        bias: bool,
        dtype: DTypeLike,
        seed: object,
        equations: LSTMOptions | None = None,
    ) -> None:
        self.input_size = checks.count("input_size", input_size, 1)
        self.hidden_size = checks.count("hidden_size", hidden_size, 1)
        self.bias = checks.flag("bias", bias)
        self.dtype = checks.real_dtype(dtype)
        self._spec = Spec(
            cell,
            self.input_size,
            self.hidden_size,
            bias=self.bias,
            dtype=self.dtype,
            options=equations,
        )
        self._shapes = {name.removesuffix("_l0"): at for name, at in self._spec.shapes.items()}
        first = weights.initial(self._spec, seed)
        self._params = _core.Parameters(
            {name.removesuffix("_l0"): values for name, values in first.items()}
        )

    def __call__(self, x: SupportsArray, state: Given | None = None) -> State:
        """One step.

        Parameters
        ----------
        x : array of shape (B, I), or (I,) for one sequence
            A NumPy array, or what has `__array__`, of the cell's dtype or a narrower float (float16
            or, for a float64 cell, float32), which is converted; lists, integers and wider floats
            are a TypeError.
        state : (h, c), or h alone where the cell has no c, optional
            Arrays as `x`, each of shape (B, H) or (H,); zeros if None.

        Returns
        -------
        state : (h, c), or h alone where the cell has no c
            The new one, ndarrays of shape (B, H) or (H,), of the cell's dtype.

        Raises
        ------
        TypeError, ValueError
            A wrong argument, named in the message.
        MemoryError
            A result or the workspace cannot be allocated.

        Examples
        --------
        >>> import numpy as np
        >>> import fastlstm
        >>> cell = fastlstm.LSTMCell(3, 4, seed=0)
        >>> h, c = cell(np.ones(3, np.float32))  # one sequence, from zeros
        >>> h, c = cell(np.ones(3, np.float32), (h, c))
        >>> h.shape
        (4,)
        """
        dtype = self.dtype
        x = checks.given("x", x, dtype)
        pair = None
        if state is not None:
            pair = checks.given_state("state", self._states, state, dtype)
        x = checks.array("x", x, dtype)
        if x.ndim not in (1, 2) or x.shape[-1] != self.input_size:
            raise ValueError(
                f"x must have shape (B, I) or (I,) with I = {self.input_size}, got {x.shape}"
            )
        shape = (*x.shape[:-1], self.hidden_size)
        h_0 = c_0 = None
        if pair is not None:
            h_0 = checks.whole("h_0", pair[0], dtype, shape)
            c_0 = checks.whole("c_0", pair[1], dtype, shape)
        x = checks.readable(x).reshape(1, -1, self.input_size)
        threads = runtime.call_threads(None)
        engine = self._engine(FORWARD, threads)
        y = np.empty((1, x.shape[1], self.hidden_size), dtype)
        h, c, new = new_state(shape, shape, dtype, self._has_c)
        engine.forward(x, y, h_0, c_0, h, c, None, None, threads)
        return new  # type: ignore[no-any-return]

    def stream(self, batch_size: int = 1, *, num_threads: int | None = None) -> Stream:
        """Run sequences step by step, with their state kept between calls.

        ``stream(x)`` gives the h of ``cell(x, state)``. The stream runs on the parameters of this
        moment.

        Parameters
        ----------
        batch_size : int, default 1
            How many sequences it runs at once.
        num_threads : int, optional
            Threads it may use at most, 1 to 1024; the process's setting if None.

        Returns
        -------
        Stream
            With a state of zeros, (1, B, H) each, as that of a layer.

        Raises
        ------
        TypeError
            `batch_size` or `num_threads` is no integer.
        ValueError
            `batch_size` < 1, or `num_threads` is not in 1 to 1024.
        MemoryError
            The state does not fit.

        Examples
        --------
        >>> import numpy as np
        >>> import fastlstm
        >>> cell = fastlstm.LSTMCell(3, 4, seed=0)
        >>> stream = cell.stream(batch_size=2)
        >>> stream(np.ones((2, 3), np.float32)).shape
        (2, 4)
        """
        batch = checks.count("batch_size", batch_size, 1)
        threads = runtime.call_threads(num_threads)
        return Stream(self._engine(FORWARD, threads), batch, threads)

    @classmethod
    def from_torch(cls, module: Any) -> Self:
        """A cell with the sizes, options, dtype and parameters of a PyTorch module.

        Parameters are what the module computes with, as for `LSTM.from_torch`.

        Parameters
        ----------
        module : torch.nn.Module
            Of the class of the same name in ``torch.nn``. It is left as it is.

        Returns
        -------
        Self
            A cell of this class.

        Raises
        ------
        TypeError
            Another module or dtype; the message says what the module is and what to do.

        Examples
        --------
        >>> import torch
        >>> import fastlstm
        >>> fastlstm.LSTMCell.from_torch(torch.nn.LSTMCell(3, 4))
        LSTMCell(3, 4, dtype=float32)
        """
        cell = cls(**torch_modules.cell_config(module, cls._kind), seed=0)
        cell.load_state_dict(torch_modules.values(module, cell._shapes))
        return cell


class LSTMCell(RecurrentCell[tuple[SupportsArray, SupportsArray], tuple[Array, Array]]):
    """One LSTM step with the semantics and names of ``torch.nn.LSTMCell``.

    A cell has no ``save``: `state_dict` gives what a file should hold, and `LSTM.from_state_dict`
    makes a layer of it. Calls use the process's number of threads.

    Parameters
    ----------
    input_size, hidden_size : int
        Features I and hidden units H.
    bias : bool, default True
        Whether there are biases b_ih and b_hh.
    dtype : dtype, default numpy.float32
        float32 or float64.
    seed : None, int >= 0, or what numpy.random.default_rng takes
        Of the first parameters, as for `LSTM`.
    options : LSTMOptions, or mapping of its arguments, optional
        What makes it another LSTM than the plain one, as for `LSTM`. A step is inference: noise
        has its expected effect.

    Attributes
    ----------
    weight_ih, weight_hh, bias_ih, bias_hh : ndarray
        The parameters: (4H, I), (4H, H), (4H,) and (4H,), as those of `LSTM`, and those that
        options add, ``weight_ci`` for example.

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
    >>> cell = fastlstm.LSTMCell(3, 4, seed=0)
    >>> state = None
    >>> for x_t in np.ones((5, 2, 3), np.float32):
    ...     state = cell(x_t, state)
    >>> h, c = state
    >>> h.shape, c.shape
    ((2, 4), (2, 4))
    """

    _kind = "LSTMCell"
    _has_c = CELLS["lstm"].has_c
    _states = ("h_0", "c_0")
    options: LSTMOptions | None = None  # of cells pickled before they had options, too
    _defaults: ClassVar[dict[str, object]] = {"bias": True, "options": None}

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        *,
        dtype: DTypeLike = np.float32,
        seed: object = None,
        options: LSTMOptions | Mapping[str, Any] | None = None,
    ) -> None:
        self.options, cell, equations = variants.chosen(options, 0)
        super().__init__(cell, input_size, hidden_size, bias, dtype, seed, equations)
        weights.set_forget_bias(self._spec, self._params, self.options)
