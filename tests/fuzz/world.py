# SPDX-License-Identifier: BSD-3-Clause
"""A model with all that belongs to it, operations on it, and its state for comparisons."""

from __future__ import annotations

import copy
import os
import tempfile
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

import fastlstm

from .hostile import Rng, one_of
from .kinds import any_kind

State = dict[str, Any]
optim = fastlstm.optim
FOLDER = tempfile.TemporaryDirectory()
PATH = os.path.join(FOLDER.name, "model.safetensors")

MAKERS: tuple[Any, ...] = (
    lambda params: optim.SGD(params, lr=0.1),
    lambda params: optim.SGD(params, lr=0.1, momentum=0.9, nesterov=True),
    lambda params: optim.Adam(params, lr=0.1, amsgrad=True),
    lambda params: optim.AdamW(params, lr=0.1),
)


def same(a: Any, b: Any) -> bool:
    """Whether two nests of arrays, numbers and texts are equal, bit by bit."""
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        a, b = np.asarray(a), np.asarray(b)
        return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (tuple, list)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


class World:
    """An LSTM or GRU, a cell, a stream, a tape and an optimiser, and inputs for them."""

    def __init__(
        self,
        rng: Rng,
        *,
        sizes: tuple[int, int] | None = None,
        extent: tuple[int, int] | None = None,
    ) -> None:
        self.dtype = one_of(rng, ["float32", "float64"])
        kind = any_kind(rng, noise=True)
        sizes = sizes or (int(rng.integers(1, 6)), int(rng.integers(1, 9)))
        self.steps, self.batch = extent or (int(rng.integers(1, 6)), int(rng.integers(1, 4)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.lstm: Any = kind.layer(
                *sizes,
                int(rng.integers(1, 3)),
                dropout=0.5,
                dtype=self.dtype,
                seed=int(rng.integers(99)),
                **kind.options,
            )
        self.cell: Any = kind.cell(*sizes, dtype=self.dtype, seed=3, **kind.options)
        self.x = rng.standard_normal((self.steps, self.batch, sizes[0])).astype(self.dtype)
        self.states = [
            {
                name: rng.uniform(-0.5, 0.5, value.shape).astype(self.dtype)
                for name, value in part.items()
            }
            for part in [self.lstm.state_dict()] * 2
        ]
        self.cell_states = [
            {
                name: rng.uniform(-0.5, 0.5, value.shape).astype(self.dtype)
                for name, value in part.items()
            }
            for part in [self.cell.state_dict()] * 2
        ]
        self.maker = one_of(rng, MAKERS)
        self.opt: Any = None
        if rng.random() < 0.7:
            self.lstm.train()
            self.opt = self.maker(self.lstm)
            self.opt.step(self.states[0])
            self.opt_state = self.opt.state_dict()
        self.tape = fastlstm.Tape()
        self.dy = rng.standard_normal((self.steps, self.batch, sizes[1])).astype(self.dtype)
        self.lengths = rng.integers(0, self.steps + 1, self.batch)
        self.streamed = self.lstm.state_dict()  # parameters that the stream runs on
        self.stream: Any = self.lstm.stream(self.batch)

    def twin(self) -> World:
        """Another world in the same state; but for the tape, which is empty."""
        new = copy.copy(self)
        new.lstm, new.cell = copy.deepcopy(self.lstm), copy.deepcopy(self.cell)
        if self.opt is not None:
            new.opt = self.maker(
                {name: np.array(value) for name, value in self.lstm.state_dict().items()}
            )
            new.opt._source = new.lstm
            new.opt.load_state_dict(self.opt.state_dict())
        old = copy.deepcopy(self.lstm)
        old.load_state_dict(self.streamed)
        new.stream = old.stream(self.batch)
        new.stream.state = self.stream.state
        new.tape = fastlstm.Tape()
        return new

    def state(self) -> State:
        """All that operations change, but for the tape."""
        found: State = {"params": self.lstm.state_dict(), "training": self.lstm.training}
        found["cell"] = self.cell.state_dict()
        found["optimiser"] = {} if self.opt is None else self.opt.state_dict()
        found["stream"] = self.stream.state
        return found

    def grads(self) -> Any:
        """Of the tape; None where nothing, or not all, is recorded."""
        try:
            grads = self.lstm.backward(self.tape, self.dy)
        except ValueError:
            return None
        return grads.x, grads.h_0, grads.c_0, grads.params

    def consistent(self) -> None:
        """Calls use the parameters shown, which are all writable or none."""
        new = copy.deepcopy(self.lstm).eval()
        new.load_state_dict(self.lstm.state_dict())
        assert same(self.lstm(self.x), new(self.x)), "a call uses other parameters than are shown"
        writable = {value.flags.writeable for value in self.lstm.parameters().values()}
        assert writable == {self.lstm.training}, (
            f"writable: {writable}, training: {self.lstm.training}"
        )
        assert same(self.cell(self.x[0]), copy.deepcopy(self.cell)(self.x[0])), (
            "a cell's packed copy is old"
        )

    # ---- operations: each returns what it gives ----

    def call(self) -> Any:
        return self.lstm(self.x, return_cells=self.lstm._has_c)

    def ragged(self) -> Any:
        return self.lstm(self.x, lengths=self.lengths)

    def out(self) -> Any:
        out = np.zeros_like(self.dy)
        self.lstm(self.x, out=out)
        return out

    def cell_call(self) -> Any:
        return self.cell(self.x[0])

    def cell_load(self) -> Any:
        self.cell.load_state_dict(self.cell_states[0])

    def cell_load_other(self) -> Any:
        self.cell.load_state_dict(self.cell_states[1])

    def forward(self) -> Any:
        return self.lstm.forward(self.x, seed=5)[:2]

    def record(self) -> Any:
        return self.lstm.forward(self.x, tape=self.tape, seed=5)[:2]

    def both(self) -> Any:
        y, _, tape = self.lstm.forward(self.x, seed=7)
        return self.lstm.backward(tape, y).params

    def into(self) -> Any:
        _, _, tape = self.lstm.forward(self.x, seed=7, lengths=self.lengths)
        into = {name: np.ones_like(value) for name, value in self.states[0].items()}
        dcells = self.dy if self.lstm._has_c else None
        return self.lstm.backward(tape, self.dy, dcells=dcells, into=into).params

    def step(self) -> Any:
        return self.stream(self.x[0]).copy()

    def chunk(self) -> Any:
        return self.stream(self.x)

    def reset(self) -> Any:
        self.stream.reset()

    def set_state(self) -> Any:
        state = self.stream.state
        halves = [np.full_like(part, 0.5) for part in (state if self.lstm._has_c else (state,))]
        self.stream.state = tuple(halves) if self.lstm._has_c else halves[0]

    def load(self) -> Any:
        self.lstm.load_state_dict(self.states[0])

    def load_other(self) -> Any:
        self.lstm.load_state_dict(self.states[1])

    def train(self) -> Any:
        self.lstm.train()

    def eval(self) -> Any:
        self.lstm.eval()

    def optimise(self) -> Any:
        if self.opt is not None and self.lstm.training:
            self.opt.step(self.states[1])

    def opt_load(self) -> Any:
        if self.opt is not None:
            self.opt.load_state_dict(self.opt_state)

    def new_optimiser(self) -> Any:
        params = {name: value.copy() for name, value in self.states[0].items()}
        self.maker(params).step(self.states[1])
        return params

    def clip(self) -> Any:
        grads = {name: value.copy() for name, value in self.states[0].items()}
        norm = optim.clip_grad_norm(grads, 0.1)
        optim.clip_grad_value(grads, 0.01)
        return norm, grads

    def file(self) -> Any:
        self.lstm.save(PATH)
        return fastlstm.load(PATH).state_dict()

    def new(self) -> Any:
        sizes = self.lstm.input_size, self.lstm.hidden_size
        return type(self.lstm)(*sizes, dtype=self.dtype, seed=1)(self.x)

    def new_stream(self) -> Any:
        return self.lstm.stream(self.batch)(self.x)

    def copies(self) -> Any:
        return copy.deepcopy(self.lstm).state_dict()

    def look(self) -> Any:
        return self.lstm.state_dict(), repr(self.lstm), self.lstm.explain(3, 2), self.stream.state


READS = (
    *("call", "ragged", "out", "cell_call", "forward", "both", "into", "new_optimiser", "clip"),
    *("file", "new", "new_stream", "copies", "look"),
)
WRITES = (
    *("record", "step", "chunk", "reset", "set_state", "load", "load_other", "train", "eval"),
    *("optimise", "opt_load", "cell_load", "cell_load_other"),
)
OPERATIONS = (*READS, *WRITES)


def operation(world: World, name: str) -> Callable[[], Any]:
    found: Callable[[], Any] = getattr(world, name)
    return found
