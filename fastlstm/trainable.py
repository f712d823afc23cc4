# SPDX-License-Identifier: BSD-3-Clause
"""The training passes of a module: forward onto a tape, and backward from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike

from . import checks, runtime, weights
from .checks import Array, SupportsArray
from .module import BACKWARD, FORWARD, Module
from .training import (
    Gradients,
    Record,
    Tape,
    backward,
    empty,
    given_mapping,
    grads_to_fill,
    tape_size,
)

State = tuple[Array, Array]


# The checked input of a call, arrays as the core takes them and shapes as the caller sees them:
# x (T, B, I), h_0, c_0, lengths, shape of y, shape of a state. Plain, since every call makes one.
Checked = tuple[Array, Array | None, Array | None, Any, tuple[int, ...], tuple[int, ...]]


_DSTATE = ("dh_n", "dc_n")


def _apart(given: Array | None, params: Mapping[str, Array]) -> Array | None:
    """`given`, or a copy where it shares memory with one of the arrays."""
    if given is None or not any(np.may_share_memory(given, array) for array in params.values()):
        return given
    return given.copy()


class Trainable(Module):
    """What `LSTM` adds to a module for training."""

    num_layers: int
    batch_first: bool
    dropout: float
    bidirectional: bool
    _seed: object
    _seeds: np.random.Generator | None  # of dropout

    def _checked(
        self,
        x: SupportsArray,
        state: tuple[SupportsArray, SupportsArray] | None,
        lengths: ArrayLike | Sequence[int] | None,
    ) -> Checked:
        """The input of a call, checked."""
        raise NotImplementedError

    def _time_major(self, y: Array) -> Array:
        raise NotImplementedError

    @overload
    def forward(
        self,
        x: SupportsArray,
        state: tuple[SupportsArray, SupportsArray] | None = None,
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
        x: SupportsArray,
        state: tuple[SupportsArray, SupportsArray] | None = None,
        *,
        lengths: ArrayLike | Sequence[int] | None = None,
        return_cells: Literal[True],
        tape: Tape | None = None,
        seed: int | None = None,
        num_threads: int | None = None,
    ) -> tuple[Array, State, Array, Tape]: ...
    def forward(
        self,
        x: SupportsArray,
        state: tuple[SupportsArray, SupportsArray] | None = None,
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

        Raises TypeError, ValueError or MemoryError as a call does; RuntimeError if another thread
        uses the tape.
        """
        return_cells = checks.flag("return_cells", return_cells)
        if tape is not None and not isinstance(tape, Tape):
            raise TypeError(f"tape must be a Tape, got {type(tape).__name__}")
        if seed is not None:
            seed = checks.count("seed", seed, most=2**64 - 1)
        threads = runtime.call_threads(num_threads)
        x, h_0, c_0, steps_of, y_shape, state_shape = self._checked(x, state, lengths)
        dropout = self.dropout if self.training and self.num_layers > 1 else 0.0
        if seed is None and dropout:
            seed = self._draw_seed()
        tape = Tape() if tape is None else tape
        with tape._guard.writing():
            tape._record = None  # until all is recorded, whatever ends this pass
            engine = self._engine(FORWARD | BACKWARD, threads)
            steps, batch, _ = x.shape
            before = tape._memory
            memory, kept = tape._room(x, tape_size(self._spec, steps, batch))
            y = empty(y_shape, self.dtype)
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
                False,
                memory,
                dropout,
                seed or 0,
                untouched=memory.nbytes if memory is not before else 0,
            )
            tape._record = Record(
                self._layout(), engine, kept, steps_of, y_shape, state_shape, dropout, seed or 0
            )
        return (y, (h_n, c_n), tape) if cells is None else (y, (h_n, c_n), cells, tape)

    def backward(
        self,
        tape: Tape,
        dy: SupportsArray | None = None,
        dstate: tuple[SupportsArray | None, SupportsArray | None] | None = None,
        *,
        dcells: SupportsArray | None = None,
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
            dcells       gradient of all c_t of the last layer, shaped as y; zeros if None; one of
                         dy, dh_n, dc_n and dcells must be there
            into         name -> array (or earlier `Gradients`): gradients of the parameters are
                         added into these arrays instead of new ones. An interrupted call leaves
                         part of the sums in them
            input_grad   whether to compute the gradient of x
            num_threads  threads for this call; results do not depend on it

        Raises
            TypeError, ValueError   a wrong argument, or the tape of another kind of model
            RuntimeError            another thread writes to the tape
            MemoryError             a result or the workspace cannot be allocated
        """
        if not isinstance(tape, Tape):
            raise TypeError(f"tape must be a Tape, got {type(tape).__name__}")
        threads = runtime.call_threads(num_threads)
        input_grad = checks.flag("input_grad", input_grad)
        # Code of the caller's objects runs in the next four lines only.
        given = None if into is None else given_mapping(into, self._shapes)
        pair: checks.Pair = (None, None)
        if dstate is not None:
            pair = checks.given_pair("dstate", _DSTATE, dstate, self.dtype, optional=True)
        dy = None if dy is None else checks.given("dy", dy, self.dtype)
        dcells = None if dcells is None else checks.given("dcells", dcells, self.dtype)
        with tape._guard.reading():
            record = tape._record
            if record is None or record.model != self._layout():
                raise ValueError(
                    "tape must come from a complete forward pass of a model like this one"
                )
            shape = (*record.y_shape[:-1], self.input_size)
            params = grads_to_fill(given, self._shapes, self.dtype)
            dh_n = checks.whole("dh_n", pair[0], self.dtype, record.state_shape)
            dc_n = checks.whole("dc_n", pair[1], self.dtype, record.state_shape)
            dy = checks.gradient("dy", dy, self.dtype, record.y_shape)
            dcells = checks.gradient("dcells", dcells, self.dtype, record.y_shape)
            if dy is None and dh_n is None and dc_n is None and dcells is None:
                raise ValueError("dy, dstate or dcells must be given: all are None")
            if given is not None:  # what is written must not be read as well
                dy, dcells, dh_n, dc_n = (_apart(g, params) for g in (dy, dcells, dh_n, dc_n))
            dx, dh_0, dc_0 = backward(
                tape._memory,
                record,
                weights.by_layer(self._spec, params),
                None if dy is None else self._time_major(dy),
                (dh_n, dc_n),
                None if dcells is None else self._time_major(dcells),
                accumulate=given is not None,
                input_grad=input_grad,
                threads=threads,
            )
        if dx is not None:
            dx = dx.transpose(1, 0, 2) if self.batch_first and len(shape) == 3 else dx
            dx = dx.reshape(shape)
        return Gradients(dx, dh_0, dc_0, params if given is None else given)

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
