# SPDX-License-Identifier: BSD-3-Clause
"""Running recurrent layers for training: the forward pass onto a tape, and the backward pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Generic, Literal, TypeVar, overload

import numpy as np
from numpy.typing import ArrayLike

from . import _core, checks, runtime, weights
from .arrays import empty, new_state
from .checks import Array, SupportsArray
from .inference import Given, Inference, State, apart
from .options import LSTMOptions
from .spec import BACKWARD, FORWARD
from .training import (
    Gradients,
    Record,
    Tape,
    backward,
    drop_weights,
    given_mapping,
    grads_to_fill,
    tape_size,
)

Slope = TypeVar("Slope")  # what a caller may hand over as the gradient of one


class Recurrent(Inference[Given, State], Generic[Given, State, Slope]):
    """A stack of recurrent layers that runs and is trained.

    The type variables say what a state is: a pair (h, c), or h alone.
    """

    options: LSTMOptions | None = (
        None  # of an LSTM; of one that was pickled before there were some, too
    )

    @overload
    def forward(
        self,
        x: SupportsArray,
        state: Given | None = None,
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
        state: Given | None = None,
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
        state: Given | None = None,
        *,
        lengths: ArrayLike | Sequence[int] | None = None,
        return_cells: bool = False,
        tape: Tape | None = None,
        seed: int | None = None,
        num_threads: int | None = None,
    ) -> tuple[Array, State, Tape] | tuple[Array, State, Array, Tape]:
        """Run forward and keep what `backward` needs.

        The numbers are those of a call, bit by bit, unless dropout between layers or noise of
        `LSTMOptions` acts: in training mode only. Values that dropout keeps are divided by 1 -
        dropout.

        Parameters
        ----------
        x, state, lengths, return_cells
            As for a call of the model.
        tape : Tape, optional
            One whose memory to use again; what it held is lost.
        seed : int, optional
            Of the masks of dropout and noise, 0 to 2**64 - 1; None draws one.
        num_threads : int, optional
            As for a call of the model.

        Returns
        -------
        y, state
            As from a call of the model.
        cells : ndarray of shape (T, B, D*H), in the layout of `x`
            With `return_cells` only: c_t of the last layer.
        tape : Tape
            For `backward`.

        Raises
        ------
        TypeError, ValueError, MemoryError
            As a call does.
        RuntimeError
            Another thread uses the tape.

        Examples
        --------
        >>> import numpy as np
        >>> import fastlstm
        >>> lstm = fastlstm.LSTM(3, 4, seed=0)
        >>> x = np.ones((5, 2, 3), np.float32)
        >>> y, (h_n, c_n), tape = lstm.forward(x, lengths=[5, 2])
        >>> bool((y == lstm(x, lengths=[5, 2])[0]).all())
        True
        >>> y, state, tape = lstm.forward(x, tape=tape)  # in the same memory
        """
        if checks.flag("return_cells", return_cells):
            self._require_c("return_cells")
        if tape is not None and not isinstance(tape, Tape):
            raise TypeError(f"tape must be a Tape, got {type(tape).__name__}")
        if seed is not None:
            seed = checks.count("seed", seed, most=2**64 - 1)
        threads = runtime.call_threads(num_threads)
        x, h_0, c_0, steps_of, y_shape, h_shape, c_shape = self._checked(x, state, lengths)
        training = self.training  # looked at once: another thread may switch the mode
        dropout = self.dropout if training and self.num_layers > 1 else 0.0
        options = self.options if training else None
        noisy = options is not None and options.has_noise()
        weight_drop = 0.0 if options is None else options.weight_drop
        if seed is None:
            seed = self._draw_seed() if dropout or noisy else 0
        tape = Tape() if tape is None else tape
        with tape._guard.writing():
            tape._record = None  # until all is recorded, whatever ends this pass
            if weight_drop:
                engine = self._dropped_engine(weight_drop, seed, threads)
            else:
                engine = self._engine(FORWARD | BACKWARD, threads)
            steps, batch, _ = x.shape
            before = tape._memory
            memory, kept = tape._room(x, tape_size(self._spec, steps, batch))
            y = empty(y_shape, self.dtype)
            h_n, c_n, final = new_state(h_shape, c_shape, self.dtype, self._has_c)
            cells = np.empty(self._cells_shape(y_shape), self.dtype) if return_cells else None
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
                seed,
                untouched=memory.nbytes if memory is not before else 0,
                noisy=noisy,
            )
            shapes = y_shape, h_shape, c_shape
            run = (kept, steps_of, *shapes, dropout, seed, noisy, weight_drop)
            tape._record = Record(self._layout(), engine, *run)
        return (y, final, tape) if cells is None else (y, final, cells, tape)

    def backward(
        self,
        tape: Tape,
        dy: SupportsArray | None = None,
        dstate: Slope | None = None,
        *,
        dcells: SupportsArray | None = None,
        into: Mapping[str, Array] | Gradients | None = None,
        input_grad: bool = True,
        num_threads: int | None = None,
    ) -> Gradients:
        """Gradients of a loss from those of a forward pass's results.

        The equations, and where they come from, stand in ``fastlstm.reference``.

        Parameters
        ----------
        tape : Tape
            From `forward`; it may be used again.
        dy : array of the shape of y, optional
            Gradient of y; zeros if None. What it holds past a sequence's end counts for nothing.
        dstate : (dh_n, dc_n), or dh_n alone where the cell has no c, optional
            Gradients of the final state, of its shape; zeros where None.
        dcells : array of the shape of the cells, optional
            Gradient of all c_t of the last layer; zeros if None. One of `dy`, dh_n, dc_n and
            `dcells` must be there.
        into : mapping of str to ndarray, or Gradients, optional
            Gradients of the parameters are added into these arrays instead of new ones. An
            interrupted call leaves part of the sums in them.
        input_grad : bool, default True
            Whether to compute the gradient of x.
        num_threads : int, optional
            Threads for this call, 1 to 1024; results do not depend on it.

        Returns
        -------
        Gradients
            Of x, the initial state and all parameters.

        Raises
        ------
        TypeError, ValueError
            A wrong argument, or the tape of another kind of model.
        RuntimeError
            Another thread writes to the tape.
        MemoryError
            A result or the workspace cannot be allocated.

        Examples
        --------
        >>> import numpy as np
        >>> import fastlstm
        >>> gru = fastlstm.GRU(3, 4, seed=0)
        >>> y, h_n, tape = gru.forward(np.ones((5, 2, 3), np.float32))
        >>> grads = gru.backward(tape, 2 * y)  # of the loss (y ** 2).sum()
        >>> grads.x.shape, grads.h_0.shape, grads.params["weight_ih_l0"].shape
        ((5, 2, 3), (1, 2, 4), (12, 3))
        >>> grads = gru.backward(tape, dstate=np.ones_like(h_n), into=grads)  # of h_n.sum(), added
        """
        if not isinstance(tape, Tape):
            raise TypeError(f"tape must be a Tape, got {type(tape).__name__}")
        threads = runtime.call_threads(num_threads)
        input_grad = checks.flag("input_grad", input_grad)
        if dcells is not None:
            self._require_c("dcells")
        # Code of the caller's objects runs in the next lines only.
        given = None if into is None else given_mapping(into, self._shapes)
        pair: checks.Pair = (None, None)
        if dstate is not None:
            names = tuple(f"d{name[0]}_n" for name in self._states)
            pair = checks.given_state("dstate", names, dstate, self.dtype, optional=True)
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
            dh_n = checks.whole("dh_n", pair[0], self.dtype, record.h_shape)
            dc_n = checks.whole("dc_n", pair[1], self.dtype, record.c_shape)
            dy = checks.gradient("dy", dy, self.dtype, record.y_shape)
            cells_shape = self._cells_shape(record.y_shape)
            dcells = checks.gradient("dcells", dcells, self.dtype, cells_shape)
            if dy is None and dh_n is None and dc_n is None and dcells is None:
                wanted = "dy, dstate or dcells" if self._has_c else "dy or dstate"
                raise ValueError(f"{wanted} must be given: all are None")
            if given is not None:  # what is written must not be read as well
                arrays = list(params.values())
                dy, dcells, dh_n, dc_n = (apart(g, arrays) for g in (dy, dcells, dh_n, dc_n))
            # With weight drop, gradients of W_hh pass its mask before they go anywhere.
            apart_from = given is not None and record.weight_drop > 0
            sums = grads_to_fill(None, self._shapes, self.dtype) if apart_from else params
            dx, dh_0, dc_0 = backward(
                tape._memory,
                record,
                weights.by_layer(self._spec, sums),
                None if dy is None else self._time_major(dy),
                (dh_n, dc_n),
                None if dcells is None else self._time_major(dcells),
                has_c=self._has_c,
                accumulate=given is not None and not apart_from,
                input_grad=input_grad,
                threads=threads,
            )
            if record.weight_drop:
                drop_weights(sums, self._spec, record.weight_drop, record.seed)
            if apart_from:
                for name, values in params.items():
                    values += sums[name]
        if dx is not None:
            dx = dx.transpose(1, 0, 2) if self.batch_first and len(shape) == 3 else dx
            dx = dx.reshape(shape)
        return Gradients(dx, dh_0, dc_0, params if given is None else given)

    def _dropped_engine(self, p: float, seed: int, threads: int) -> _core.Engine:
        """Of parameters with weight drop, for one pass: nobody else gets it."""
        while True:
            moment = self._params.settled()
            arrays = self._params.copies()
            if self._params.unchanged(*moment):
                break
        drop_weights(arrays, self._spec, p, seed)
        for end in self._spec.suffixes:
            name = "weight_hh" + end
            if not np.isfinite(arrays[name]).all() and np.isfinite(self._params.arrays[name]).all():
                raise ValueError(
                    f"{name} times 1 / (1 - weight_drop) = {1 / (1 - p):.4g} must be finite in "
                    f"{self.dtype}, and is not"
                )
        return self._pack(arrays, FORWARD | BACKWARD, threads, False)

    def _draw_seed(self) -> int:
        """The next seed of masks; their sequence follows from the model's own seed."""
        if self._seeds is None:
            given: Any = self._seed
            if given is not None and not isinstance(given, np.random.Generator):
                given = np.random.SeedSequence(given, spawn_key=(1,))
            self._seeds = np.random.default_rng(given)
        return int(self._seeds.integers(2**63))
