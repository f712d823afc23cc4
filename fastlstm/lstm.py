# SPDX-License-Identifier: BSD-3-Clause
"""The LSTM module."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, overload

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from . import _core, checks, explain, runtime, weights
from .checks import Array
from .module import BACKWARD, FORWARD, Module
from .stream import Stream
from .training import Gradients, Tape, backward, empty, grads_to_fill, tape_size

State = tuple[Array, Array]


class _Run(NamedTuple):
    """The checked input of a call: arrays as the core takes them, shapes as the caller's."""

    x: Array  # (T, B, I)
    h_0: Array | None
    c_0: Array | None
    lengths: Any
    y_shape: tuple[int, ...]
    state_shape: tuple[int, ...]


class LSTM(Module):
    """A stack of LSTM layers with the semantics, names and shapes of ``torch.nn.LSTM``.

    Equations (sources in ``fastlstm.reference``), with gates in the order i, f, g, o::

        i, f, o = sigmoid(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh)     g = tanh(likewise)
        c_t = f * c_{t-1} + i * g        h_t = o * tanh(c_t)

    Parameters
        input_size     features I of each step
        hidden_size    hidden units H
        num_layers     layers L, each reading the outputs of the one before
        bias           whether there are biases b_ih and b_hh
        batch_first    x and y are (B, T, ...) instead of (T, B, ...)
        dropout        probability of dropout between layers; training only, idle in inference
        bidirectional  a second set of weights runs from each sequence's last step to its first
        proj_size      must be 0: projections are not supported yet (NotImplementedError)
        dtype          float32 or float64, of parameters, inputs and outputs
        seed           seed or Generator of the first parameters, uniform in +-1/sqrt(H)
        gemm           "auto" and "native": our kernels; "blas": input projections through SciPy's
                       BLAS, which forfeits the promise that bits do not depend on batch or chunks

    Parameters are arrays named as in torch (``weight_ih_l0``, ...), also reachable as attributes:
    read-only until `train`; replace them with `load_state_dict`. Models may be called from many
    threads at once, pickled and copied.

    Raises TypeError or ValueError for a wrong argument, MemoryError if it does not fit.
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
        self.num_layers = checks.count("num_layers", num_layers, 1)
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
        self.gemm = gemm
        self._directions = 2 if self.bidirectional else 1
        if self.num_layers > 10_000:
            raise MemoryError(f"num_layers = {self.num_layers} does not fit into memory")
        self._shapes = weights.lstm_shapes(
            self.input_size, self.hidden_size, self.num_layers, self.bidirectional, self.bias
        )
        self._packed = None
        self._seed = seed
        self._seeds: np.random.Generator | None = None  # of dropout
        self._params = weights.initial(self._shapes, self.hidden_size, self.dtype, seed)

    def __repr__(self) -> str:
        parts = [str(self.input_size), str(self.hidden_size)]
        for name, usual in _DEFAULTS.items():
            value = getattr(self, name)
            if value != usual:
                parts.append(f"{name}={value}")
        return f"LSTM({', '.join(parts)}, dtype={self.dtype})"

    # ---- running ----

    @overload
    def __call__(
        self,
        x: ArrayLike,
        state: tuple[ArrayLike, ArrayLike] | None = None,
        *,
        lengths: ArrayLike | Sequence[int] | None = None,
        out: Array | None = None,
        return_cells: Literal[False] = False,
        num_threads: int | None = None,
    ) -> tuple[Array, State]: ...
    @overload
    def __call__(
        self,
        x: ArrayLike,
        state: tuple[ArrayLike, ArrayLike] | None = None,
        *,
        lengths: ArrayLike | Sequence[int] | None = None,
        out: Array | None = None,
        return_cells: Literal[True],
        num_threads: int | None = None,
    ) -> tuple[Array, State, Array]: ...
    def __call__(
        self,
        x: ArrayLike,
        state: tuple[ArrayLike, ArrayLike] | None = None,
        *,
        lengths: ArrayLike | Sequence[int] | None = None,
        out: Array | None = None,
        return_cells: bool = False,
        num_threads: int | None = None,
    ) -> tuple[Array, State] | tuple[Array, State, Array]:
        """Run inference; nothing is kept.

        Parameters
            x             (T, B, I), (B, T, I) with batch_first, or (T, I) for one sequence. A
                          float16 (or, for a float64 model, float32) array, and one whose last
                          axis is not contiguous, is copied
            state         (h_0, c_0), each (D*L, B, H), or (D*L, H) for one sequence; zeros if None
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
        run = self._checked(x, state, lengths, (out is None) + return_cells)
        x, h_0, c_0 = run.x, run.h_0, run.c_0
        if out is None:
            y = np.empty(run.y_shape, self.dtype)
        else:
            y = checks.writable("out", out, self.dtype, run.y_shape)
            if np.may_share_memory(x, y):
                x = x.copy()
            if h_0 is not None and c_0 is not None:
                h_0 = h_0.copy() if np.may_share_memory(h_0, y) else h_0
                c_0 = c_0.copy() if np.may_share_memory(c_0, y) else c_0
        h_n, c_n = np.empty(run.state_shape, self.dtype), np.empty(run.state_shape, self.dtype)
        cells = np.empty(run.y_shape, self.dtype) if return_cells else None
        self._engine().forward(
            x,
            self._time_major(y),
            h_0,
            c_0,
            h_n,
            c_n,
            None if cells is None else self._time_major(cells),
            run.lengths,
            runtime.call_threads(num_threads),
        )
        return (y, (h_n, c_n)) if cells is None else (y, (h_n, c_n), cells)

    def _checked(
        self,
        x: ArrayLike,
        state: tuple[ArrayLike, ArrayLike] | None,
        lengths: ArrayLike | Sequence[int] | None,
        results: int,
    ) -> _Run:
        """The input of a call, checked; `results` arrays like y will be made."""
        x = checks.array("x", x, self.dtype)
        rank = x.ndim
        if rank not in (2, 3) or x.shape[-1] != self.input_size:
            shape = "(B, T, I)" if self.batch_first else "(T, B, I)"
            raise ValueError(
                f"x must have shape {shape} or (T, I) with I = {self.input_size}, got {x.shape}"
            )
        y_shape = (*x.shape[:-1], self._directions * self.hidden_size)
        x = checks.readable(x)
        checks.fits(self.dtype.itemsize * results * math.prod(y_shape))
        x = self._time_major(x)
        steps, batch, _ = x.shape
        middle = () if rank == 2 else (batch,)
        state_shape = (self._directions * self.num_layers, *middle, self.hidden_size)
        h_0 = c_0 = None
        if state is not None:
            h_0, c_0 = checks.state_pair(state, self.dtype, state_shape)
        if lengths is not None:
            if rank == 2:
                raise ValueError("lengths needs a batch: x of shape (T, I) is one whole sequence")
            lengths = checks.lengths(lengths, batch, steps)
        return _Run(x, h_0, c_0, lengths, y_shape, state_shape)

    # ---- training ----

    @overload
    def forward(
        self,
        x: ArrayLike,
        state: tuple[ArrayLike, ArrayLike] | None = None,
        *,
        lengths: ArrayLike | Sequence[int] | None = None,
        return_cells: Literal[False] = False,
        tape: Tape | None = None,
        seed: int | None = None,
        num_threads: int | None = None,
    ) -> tuple[Array, State, Tape]: ...
    @overload
    def forward(
        self,
        x: ArrayLike,
        state: tuple[ArrayLike, ArrayLike] | None = None,
        *,
        lengths: ArrayLike | Sequence[int] | None = None,
        return_cells: Literal[True],
        tape: Tape | None = None,
        seed: int | None = None,
        num_threads: int | None = None,
    ) -> tuple[Array, State, Array, Tape]: ...
    def forward(
        self,
        x: ArrayLike,
        state: tuple[ArrayLike, ArrayLike] | None = None,
        *,
        lengths: ArrayLike | Sequence[int] | None = None,
        return_cells: bool = False,
        tape: Tape | None = None,
        seed: int | None = None,
        num_threads: int | None = None,
    ) -> tuple[Array, State, Tape] | tuple[Array, State, Array, Tape]:
        """Run forward and keep what `backward` needs.

        Parameters
            x, state, lengths, return_cells, num_threads   as for a call of the model
            tape   a `Tape` whose memory to use again; what it held is lost
            seed   of the dropout masks, 0 to 2**64 - 1; None draws one. Dropout acts between
                   layers, in training mode only: kept values are divided by 1 - dropout

        Returns y, (h_n, c_n), with return_cells all c_t of the last layer, and the tape. The
        numbers are those of a call, bit by bit, unless dropout acts.

        Raises TypeError, ValueError or MemoryError as a call does.
        """
        return_cells = checks.flag("return_cells", return_cells)
        if tape is not None and not isinstance(tape, Tape):
            raise TypeError(f"tape must be a Tape, got {type(tape).__name__}")
        run = self._checked(x, state, lengths, 1 + return_cells)
        dropout = self.dropout if self._training and self.num_layers > 1 else 0.0
        if seed is not None:
            seed = checks.count("seed", seed, most=2**64 - 1)
        elif dropout:
            seed = self._draw_seed()
        threads = runtime.call_threads(num_threads)
        tape = Tape() if tape is None else tape
        tape._model = None  # until all is recorded, whatever ends this pass
        engine = tape._engine = self._engine(FORWARD | BACKWARD)
        steps, batch, _ = run.x.shape
        tape._record(run.x, run.lengths, tape_size(self, steps, batch))
        tape._y_shape, tape._state_shape = run.y_shape, run.state_shape
        tape._dropout, tape._seed = dropout, seed or 0
        y = empty(run.y_shape, self.dtype)
        h_n, c_n = np.empty(run.state_shape, self.dtype), np.empty(run.state_shape, self.dtype)
        cells = np.empty(run.y_shape, self.dtype) if return_cells else None
        engine.forward(
            run.x,
            self._time_major(y),
            run.h_0,
            run.c_0,
            h_n,
            c_n,
            None if cells is None else self._time_major(cells),
            run.lengths,
            threads,
            tape._memory,
            dropout,
            tape._seed,
        )
        tape._model = self._layout()
        return (y, (h_n, c_n), tape) if cells is None else (y, (h_n, c_n), cells, tape)

    def backward(
        self,
        tape: Tape,
        dy: ArrayLike | None = None,
        dstate: tuple[ArrayLike | None, ArrayLike | None] | None = None,
        *,
        dcells: ArrayLike | None = None,
        into: Mapping[str, Array] | Gradients | None = None,
        input_grad: bool = True,
        num_threads: int | None = None,
    ) -> Gradients:
        """Gradients of a loss from those of a forward pass's results (equations in
        ``fastlstm.reference``).

        Parameters
            tape         from `forward`; it may be used again
            dy           gradient of y, shaped as it; zeros if None. What it holds past a sequence's
                         end counts for nothing
            dstate       (dh_n, dc_n), gradients of h_n and c_n; zeros where None
            dcells       gradient of all c_t of the last layer, shaped as y; zeros if None
            into         name -> array (or earlier `Gradients`): gradients of the parameters are
                         added into these arrays instead of new ones
            input_grad   whether to compute the gradient of x
            num_threads  threads for this call; results do not depend on it

        Raises
            TypeError, ValueError   a wrong argument, or the tape of another kind of model
            MemoryError             a result or the workspace cannot be allocated
        """
        if not isinstance(tape, Tape):
            raise TypeError(f"tape must be a Tape, got {type(tape).__name__}")
        if tape._model != self._layout():
            raise ValueError("tape must come from a complete forward pass of a model like this one")
        shape = (*tape._y_shape[:-1], self.input_size)
        accumulate, params = into is not None, grads_to_fill(into, self._shapes, self.dtype)
        input_grad = checks.flag("input_grad", input_grad)
        dh_n, dc_n = checks.gradient_pair(dstate, self.dtype, tape._state_shape)
        dy = checks.gradient("dy", dy, self.dtype, tape._y_shape)
        dcells = checks.gradient("dcells", dcells, self.dtype, tape._y_shape)
        dx, dh_0, dc_0 = backward(
            tape,
            weights.suffixes(self.num_layers, self.bidirectional),
            None if dy is None else self._time_major(dy),
            (dh_n, dc_n),
            None if dcells is None else self._time_major(dcells),
            params,
            accumulate=accumulate,
            input_grad=input_grad,
            num_threads=num_threads,
        )
        if dx is not None:
            dx = dx.transpose(1, 0, 2) if self.batch_first and len(shape) == 3 else dx
            dx = dx.reshape(shape)
        return Gradients(dx, dh_0, dc_0, params)

    def _draw_seed(self) -> int:
        """The next dropout seed; their sequence follows from the model's own seed."""
        if self._seeds is None:
            given: Any = self._seed
            if given is not None and not isinstance(given, np.random.Generator):
                given = np.random.SeedSequence(given, spawn_key=(1,))
            self._seeds = np.random.default_rng(given)
        return int(self._seeds.integers(2**63))

    def _layout(self) -> tuple[object, ...]:
        """What a model must have in common with that of a tape."""
        return self._shapes, self.dtype, self.batch_first

    def _time_major(self, y: Array) -> Array:
        if y.ndim == 2:
            return y[:, None, :]
        return y.transpose(1, 0, 2) if self.batch_first else y

    def _pack(self, params: dict[str, Array], passes: int) -> _core.Engine:
        ends = weights.suffixes(self.num_layers, self.bidirectional)
        return self._pack_as(params, ends, self.num_layers, self._directions, self.gemm, passes)

    def stream(self, batch_size: int = 1, *, num_threads: int | None = None) -> Stream:
        """A `Stream`: `batch_size` sequences step by step, with their state kept inside.

        It runs on the parameters of this moment. Raises ValueError for a bidirectional model.
        """
        if self.bidirectional:
            raise ValueError("a bidirectional LSTM cannot be streamed: it reads from the end")
        batch = checks.count("batch_size", batch_size, 1)
        shape = (self.num_layers, batch, self.hidden_size)
        return Stream(
            self._engine(),
            batch,
            runtime.call_threads(num_threads),
            np.zeros(shape, self.dtype),
            np.zeros(shape, self.dtype),
        )

    def explain(self, T: int, B: int, *, num_threads: int | None = None) -> str:
        """How a call with T steps and B sequences would run, in words."""
        steps, batch = checks.count("T", T), checks.count("B", B)
        plan = self._engine().plan(steps, batch, runtime.call_threads(num_threads))
        return explain.explain(self, steps, batch, plan)

    # ---- parameters ----

    @classmethod
    def from_torch(cls, module: Any) -> LSTM:
        """An LSTM with the configuration, dtype and parameters of a ``torch.nn.LSTM``.

        Raises TypeError for another module or dtype, NotImplementedError for a projection.
        """
        names = ("input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout")
        known = (*names, "bidirectional", "weight_ih_l0", "state_dict")
        if any(not hasattr(module, name) for name in known) or isinstance(module, type):
            raise TypeError(f"module must be a torch.nn.LSTM, got {type(module).__name__}")
        if getattr(module, "mode", "LSTM") != "LSTM":
            raise TypeError(f"module must be a torch.nn.LSTM, got mode {module.mode}")
        dtype = str(module.weight_ih_l0.dtype).removeprefix("torch.")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch has warned about dropout already
            lstm = cls(
                **{name: getattr(module, name) for name in names},
                bidirectional=module.bidirectional,
                proj_size=getattr(module, "proj_size", 0),
                dtype=dtype,
                seed=0,
            )
        lstm.load_state_dict(module.state_dict())
        return lstm

    def config(self) -> dict[str, Any]:
        """The constructor's arguments, as plain Python values."""
        values = {name: getattr(self, name) for name in ("input_size", "hidden_size", *_DEFAULTS)}
        return {**values, "dtype": self.dtype.name}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write parameters and configuration to a safetensors file; `fastlstm.load` reads it.

        Raises ImportError without the safetensors package, OSError if it cannot be written.
        """
        from . import storage

        storage.save(self, path)


_DEFAULTS: dict[str, object] = {
    "num_layers": 1,
    "bias": True,
    "batch_first": False,
    "dropout": 0.0,
    "bidirectional": False,
    "proj_size": 0,
    "gemm": "auto",
}
