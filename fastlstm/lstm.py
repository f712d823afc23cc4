# SPDX-License-Identifier: BSD-3-Clause
"""The LSTM module."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self, overload

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from . import _core, blas, checks, explain, runtime, saving, state_dicts, torch_modules, weights
from .checks import Array, SupportsArray
from .module import FORWARD
from .spec import Spec
from .stream import Stream
from .trainable import Checked, State, Trainable


class LSTM(Trainable):
    """A stack of LSTM layers with the semantics, names and shapes of ``torch.nn.LSTM``.

    Equations (sources in ``fastlstm.reference``), with gates in the order i, f, g, o::

        i, f, o = sigmoid(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh)     g = tanh(likewise)
        c_t = f * c_{t-1} + i * g        h_t = o * tanh(c_t)

    Parameters
        input_size     features I of each step
        hidden_size    hidden units H
        num_layers     layers L, 10,000 at most, each reading the outputs of the one before
        bias           whether there are biases b_ih and b_hh
        batch_first    x and y are (B, T, ...) instead of (T, B, ...)
        dropout        probability of dropout between layers; training only, idle in inference
        bidirectional  a second set of weights runs from each sequence's last step to its first
        proj_size      must be 0: projections are not supported yet (NotImplementedError)
        dtype          float32 or float64, of parameters, inputs and outputs
        seed           of the first parameters, uniform in +-1/sqrt(H): None for other ones each
                       time, or what `numpy.random.default_rng` takes, an integer >= 0 for example
        gemm           "auto" and "native": our kernels; "blas": input projections through SciPy's
                       BLAS, which forfeits the promise that bits do not depend on batch or chunks;
                       forward passes then run on one thread beside those of BLAS

    Parameters are arrays named as in torch (``weight_ih_l0``, ...), also reachable as attributes
    (type checkers know those of layer 0): read-only until `train`; replace them with
    `load_state_dict`. Models may be called from many
    threads at once, pickled and copied.

    Raises TypeError or ValueError for a wrong argument, MemoryError if it does not fit, ImportError
    for gemm="blas" where SciPy cannot be imported. Warns (UserWarning) of dropout with one layer,
    where it does nothing.
    """

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
    ) -> None:
        self.input_size = checks.count("input_size", input_size, 1)
        self.hidden_size = checks.count("hidden_size", hidden_size, 1)
        self.num_layers = checks.count("num_layers", num_layers, 1, 10_000)
        self.bias = checks.flag("bias", bias)
        self.batch_first = checks.flag("batch_first", batch_first)
        self.dropout = checks.probability("dropout", dropout)
        self.bidirectional = checks.flag("bidirectional", bidirectional)
        self.proj_size = checks.count("proj_size", proj_size)
        if self.proj_size:
            raise NotImplementedError("proj_size > 0 is not supported yet")
        if self.dropout and self.num_layers == 1:
            warnings.warn(
                "dropout acts between layers, so with num_layers=1 it does nothing", stacklevel=2
            )
        self.dtype = checks.real_dtype(dtype)
        if not isinstance(gemm, str) or gemm not in ("auto", "native", "blas"):
            raise ValueError(f"gemm must be 'auto', 'native' or 'blas', got {gemm!r}")
        if gemm == "blas":
            blas.gemm_address()
        self.gemm = gemm
        self._directions = 2 if self.bidirectional else 1
        self._spec = Spec(
            "lstm",
            self.input_size,
            self.hidden_size,
            self.num_layers,
            self._directions,
            self.bias,
            self.dtype,
            gemm,
        )
        self._shapes = self._spec.shapes
        self._seed = seed
        self._seeds: np.random.Generator | None = None  # of dropout
        first = weights.initial(self._spec, seed)
        self._params = _core.Parameters(first)

    def __repr__(self) -> str:
        parts = [str(self.input_size), str(self.hidden_size)]
        for name, usual in _DEFAULTS.items():
            value = getattr(self, name)
            if value != usual:
                parts.append(f"{name}={value}")
        return f"LSTM({', '.join(parts)}, dtype={self.dtype})"

    if TYPE_CHECKING:  # the attributes that every model has, or every model with bias

        @property
        def weight_ih_l0(self) -> Array: ...
        @property
        def weight_hh_l0(self) -> Array: ...
        @property
        def bias_ih_l0(self) -> Array: ...
        @property
        def bias_hh_l0(self) -> Array: ...

    # ---- running ----

    @overload
    def __call__(
        self,
        x: SupportsArray,
        state: tuple[SupportsArray, SupportsArray] | None = None,
        *,
        lengths: ArrayLike | Sequence[int] | None = None,
        out: Array | None = None,
        return_cells: Literal[False] = False,
        num_threads: int | None = None,
    ) -> tuple[Array, State]: ...
    @overload
    def __call__(
        self,
        x: SupportsArray,
        state: tuple[SupportsArray, SupportsArray] | None = None,
        *,
        lengths: ArrayLike | Sequence[int] | None = None,
        out: Array | None = None,
        return_cells: Literal[True],
        num_threads: int | None = None,
    ) -> tuple[Array, State, Array]: ...
    def __call__(
        self,
        x: SupportsArray,
        state: tuple[SupportsArray, SupportsArray] | None = None,
        *,
        lengths: ArrayLike | Sequence[int] | None = None,
        out: Array | None = None,
        return_cells: bool = False,
        num_threads: int | None = None,
    ) -> tuple[Array, State] | tuple[Array, State, Array]:
        """Run inference; nothing is kept.

        Parameters
            x             (T, B, I), (B, T, I) with batch_first, or (T, I) for one sequence: a NumPy
                          array, or what has `__array__` (a torch tensor on the CPU that needs no
                          gradient), of the model's dtype. A narrower float (float16 or, for a
                          float64 model, float32) is converted, and an array whose last axis is not
                          contiguous is copied; lists, integers and wider floats are a TypeError
            state         (h_0, c_0), each (D*L, B, H), or (D*L, H) for one sequence; arrays as x;
                          zeros if None
            lengths       (B,) integers from 0 to T in any order: steps of each sequence
            out           where to put y: its shape and dtype, last axis contiguous
            return_cells  also return every c_t of the last layer
            num_threads   threads for this call, 1 to 1024

        Returns
            y             (T, B, D*H) in x's layout; zero past a sequence's end
            (h_n, c_n)    state after each sequence's last step, shaped as `state`
            cells         with return_cells: (T, B, D*H) in x's layout, zero past the end

        Raises
            TypeError, ValueError   a wrong argument, named in the message
            MemoryError             a result or the workspace cannot be allocated
        """
        return_cells = checks.flag("return_cells", return_cells)
        threads = runtime.call_threads(num_threads)
        x, h_0, c_0, steps_of, y_shape, state_shape = self._checked(x, state, lengths)
        engine = self._engine(FORWARD, threads)
        if out is None:
            y = np.empty(y_shape, self.dtype)
        else:
            y = checks.writable("out", out, self.dtype, y_shape)
            if np.may_share_memory(x, y):
                x = x.copy()
            if h_0 is not None and c_0 is not None:
                h_0 = h_0.copy() if np.may_share_memory(h_0, y) else h_0
                c_0 = c_0.copy() if np.may_share_memory(c_0, y) else c_0
        h_n, c_n = np.empty(state_shape, self.dtype), np.empty(state_shape, self.dtype)
        cells = np.empty(y_shape, self.dtype) if return_cells else None
        engine.forward(
            x,
            self._time_major(y),
            h_0,
            c_0,
            h_n,
            c_n,
            None if cells is None else self._time_major(cells),
            steps_of,
            threads,
            out is not None,
        )
        y = y if out is None else out
        return (y, (h_n, c_n)) if cells is None else (y, (h_n, c_n), cells)

    def _checked(
        self,
        x: SupportsArray,
        state: tuple[SupportsArray, SupportsArray] | None,
        lengths: ArrayLike | Sequence[int] | None,
    ) -> Checked:
        # Code of the caller's objects runs in the first lines only.
        x = checks.given("x", x, self.dtype)
        pair = None if state is None else checks.given_pair("state", _STATE, state, self.dtype)
        steps_of = None if lengths is None else checks.given_lengths(lengths)
        x = checks.array("x", x, self.dtype)
        rank = x.ndim
        if rank not in (2, 3) or x.shape[-1] != self.input_size:
            shape = "(B, T, I)" if self.batch_first else "(T, B, I)"
            raise ValueError(
                f"x must have shape {shape} or (T, I) with I = {self.input_size}, got {x.shape}"
            )
        y_shape = (*x.shape[:-1], self._directions * self.hidden_size)
        x = self._time_major(checks.readable(x))
        steps, batch, _ = x.shape
        middle = () if rank == 2 else (batch,)
        state_shape = (self._directions * self.num_layers, *middle, self.hidden_size)
        h_0 = c_0 = None
        if pair is not None:
            h_0 = checks.whole("h_0", pair[0], self.dtype, state_shape)
            c_0 = checks.whole("c_0", pair[1], self.dtype, state_shape)
        if steps_of is not None:
            if rank == 2:
                raise ValueError("lengths needs a batch: x of shape (T, I) is one whole sequence")
            steps_of = checks.lengths(steps_of, batch, steps)
        return x, h_0, c_0, steps_of, y_shape, state_shape

    def _time_major(self, y: Array) -> Array:
        if y.ndim == 2:
            return y[:, None, :]
        return y.transpose(1, 0, 2) if self.batch_first else y

    def stream(self, batch_size: int = 1, *, num_threads: int | None = None) -> Stream:
        """A `Stream`: `batch_size` sequences step by step, with their state kept inside.

        It runs on the parameters of this moment, with `num_threads` threads at most (the default
        is the process's setting).

        Raises
            TypeError     batch_size or num_threads is no integer
            ValueError    a bidirectional model; batch_size < 1; num_threads not in 1 to 1024
            MemoryError   the state does not fit
        """
        if self.bidirectional:
            raise ValueError("a bidirectional LSTM cannot be streamed: it reads from the end")
        batch = checks.count("batch_size", batch_size, 1)
        threads = runtime.call_threads(num_threads)
        return Stream(self._engine(FORWARD, threads), batch, threads, self.batch_first)

    def explain(self, T: int, B: int, *, num_threads: int | None = None) -> str:
        """How a call with T steps and B sequences would run, in words: several lines of text.

        They tell the kernels, how threads share the work, how hidden units stand in panels, when
        inputs are projected, and the bytes of the workspace and of the packed weights. Nothing is
        computed, but weights are packed if they are not yet.

        Raises
            TypeError    T, B or num_threads is no integer
            ValueError   T or B < 0, num_threads not in 1 to 1024
        """
        steps, batch = checks.count("T", T), checks.count("B", B)
        plan = self._engine().plan(steps, batch, runtime.call_threads(num_threads))
        title = f"{self!r} on T={steps}, B={batch}"
        return explain.explain(title, self.dtype.name, self.gemm, steps, plan)

    # ---- parameters ----

    @classmethod
    def from_torch(cls, module: Any) -> Self:
        """An LSTM with the configuration, dtype and parameters of a ``torch.nn.LSTM``.

        Parameters are what the module computes with: a parametrization (weight_norm, spectral_norm)
        or pruning is taken by its result, and left as it is.

        Raises TypeError for another module or dtype (it says what the module is and what to do),
        NotImplementedError for a projection.
        """
        config = torch_modules.lstm_config(module)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch has warned about dropout already
            lstm = cls(**config, seed=0)
        lstm.load_state_dict(torch_modules.values(module, lstm._shapes))
        return lstm

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
    ) -> Self:
        """An LSTM whose sizes, layers, directions and bias names and shapes of a state dict say.

        Parameters
            state_dict   name -> tensor, array, or what `load_state_dict` takes: of a model that has
                         an LSTM in it, of an LSTM or of a ``torch.nn.LSTMCell``; or a checkpoint in
                         which such a mapping stands (under "state_dict" or "model", for example).
                         Each value is read once at most
            prefix       where the LSTM stands, "encoder.lstm." for example; None: the only one.
                         What DataParallel ("module.") and torch.compile ("_orig_mod.") put into
                         names may be left out
            dtype        float32 or float64: values of any float dtype (float64 for a float32 model
                         too) and lists of numbers are converted to it. None: that of the values,
                         float32 if they are narrower; lists are an error
            batch_first, dropout, gemm   of the constructor, which no state dict tells

        Raises
            TypeError             no mapping, or a value that is no array of floats
            ValueError            no LSTM or several, listed; names missing or left over; shapes
                                  that are no LSTM's; a value beyond `dtype`
            NotImplementedError   projections (``weight_hr_l0``)
            MemoryError           it does not fit
        """
        config, arrays = state_dicts.model_of(state_dict, prefix, dtype)
        lstm = cls(**config, batch_first=batch_first, dropout=dropout, gemm=gemm, seed=0)
        lstm.load_state_dict(arrays)
        return lstm

    def config(self) -> dict[str, Any]:
        """The constructor's arguments but for `seed`, as plain Python values: a new dict.

        ``LSTM(**lstm.config())`` makes a model of the same kind, with parameters of its own.
        """
        values = {name: getattr(self, name) for name in ("input_size", "hidden_size", *_DEFAULTS)}
        return {**values, "dtype": self.dtype.name}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write parameters and configuration to a safetensors file; `fastlstm.load` reads it.

        Raises
            TypeError     path is no str or PathLike
            OSError       it cannot be written
        """
        saving.save("LSTM", self.config(), self.state_dict(), path)


_STATE = ("h_0", "c_0")
_DEFAULTS: dict[str, object] = {
    "num_layers": 1,
    "bias": True,
    "batch_first": False,
    "dropout": 0.0,
    "bidirectional": False,
    "proj_size": 0,
    "gemm": "auto",
}
