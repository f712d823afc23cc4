# SPDX-License-Identifier: BSD-3-Clause
"""Models whose arguments run code: what `hooks` and `hook_optim` put on a stage."""

from __future__ import annotations

import contextlib
from typing import Any

import fastlstm
from fastlstm.cell import RecurrentCell

from .hostile import Array
from .kinds import any_kind
from .stage import Stage, Values, again, equal, plain


def part(values: Values, what: str) -> Values:
    """What stands as what[name], by name."""
    return {
        name[len(what) + 1 : -1]: value
        for name, value in values.items()
        if name.startswith(what + "[")
    }


def out_of_range(lstm: Any, x: Array) -> bool:
    """Whether the model is refused for weights that are too large for its kernels."""
    try:
        lstm(x)
    except ValueError as error:
        return "weights must be below" in str(error)
    return False


class Model:
    """An LSTM or GRU, or a cell, on a stage."""

    def __init__(self, stage: Stage, *, cell: bool = False, streamed: bool = False) -> None:
        rng = stage.rng
        self.stage = stage
        sizes, kind = (stage.size(), stage.size()), any_kind(rng)
        self.lstm: Any
        if cell:
            bias = bool(rng.integers(2))
            self.lstm = kind.cell(*sizes, bias, dtype=stage.dtype, seed=1, **kind.options)
        else:
            self.lstm = kind.layer(
                *sizes,
                int(rng.integers(1, 3)),
                bias=bool(rng.integers(2)),
                batch_first=not streamed and bool(rng.integers(2)),
                bidirectional=not streamed and bool(rng.integers(2)),
                dtype=stage.dtype,
                seed=1,
                **kind.options,
            )
        self.has_c = self.lstm._has_c
        mode = rng.random()
        if mode < 0.5:
            self.lstm.train()
        if mode < 0.2:
            self.lstm.eval()
        if rng.random() < 0.5:
            self.lstm._engine()
        self.steps, self.batch = stage.size(), stage.size(5, 160)
        self.flat = rng.random() < 0.2
        if self.flat:
            self.batch = 1
        self.other = {name: -value for name, value in self.lstm.state_dict().items()}
        if rng.random() < 0.2:  # the caller spoils the model itself
            stage.arrays |= {
                f"param[{name}]": value for name, value in self.lstm.parameters().items()
            }
        stage.more = self.params
        x = self.first_x = self.x()
        lstm = self.lstm
        self.records: list[Values] = []  # parameters that passes on the tape ran with
        stage.doings += [
            lambda: lstm(x),
            lambda: lstm.train(),
            lambda: lstm.eval(),
            lambda: lstm.load_state_dict(self.other),
            lambda: lstm.state_dict(),
        ]
        if not cell:
            self.tape = fastlstm.Tape()
            stage.doings += [self.record, lambda: lstm.forward(x)]

    def put_state(self, names: tuple[str, str], *shape: int) -> Any:
        """A state, or a gradient of one, as the model takes it."""
        if self.has_c:
            return self.stage.put_pair(names, *shape)
        return self.stage.put(names[0], self.stage.values(*shape))

    def state_of(self, values: Values, names: tuple[str, str]) -> Any:
        """The same as plain values; None without them."""
        if names[0] not in values:
            return None
        return tuple(values[name] for name in names) if self.has_c else values[names[0]]

    def record(self) -> None:
        """A pass on the tape."""
        self.records.append(self.params())
        self.lstm.forward(self.first_x, tape=self.tape)

    def params(self) -> Values:
        return {f"param[{name}]": plain(value) for name, value in self.lstm.parameters().items()}

    def x(self) -> Array:
        lstm = self.lstm
        if isinstance(lstm, RecurrentCell):
            shape: Any = (self.batch, lstm.input_size)
        else:
            shape = (self.batch, self.steps) if lstm.batch_first else (self.steps, self.batch)
            shape = (*shape, lstm.input_size)
        if self.flat:
            shape = (*(n for n in shape[:-1] if n != 1), lstm.input_size)
            shape = shape if len(shape) > 1 or isinstance(lstm, RecurrentCell) else (1, *shape)
            if not isinstance(lstm, RecurrentCell):
                shape = (self.steps, lstm.input_size)
        return self.stage.values(*shape)

    @property
    def y_shape(self) -> tuple[int, ...]:
        lstm = self.lstm
        shape = (self.batch, self.steps) if lstm.batch_first else (self.steps, self.batch)
        shape = (self.steps,) if self.flat else shape
        return (*shape, (2 if lstm.bidirectional else 1) * lstm.hidden_size)

    @property
    def state_shape(self) -> tuple[int, ...]:
        lstm = self.lstm
        if isinstance(lstm, RecurrentCell):
            return (lstm.hidden_size,) if self.flat else (self.batch, lstm.hidden_size)
        layers = lstm.num_layers * (2 if lstm.bidirectional else 1)
        return (layers, lstm.hidden_size) if self.flat else (layers, self.batch, lstm.hidden_size)

    def fresh(self, values: Values) -> Any:
        return again(self.lstm, part(values, "param"))

    def works(self) -> None:
        """The model goes on as a new one with its parameters does."""
        lstm = self.lstm
        if not self.stage.lay_out_again():
            # Arrays of the model's own are gone. New values may still come in.
            try:
                lstm.load_state_dict(self.other)
            except ValueError:
                return
        x = self.x()
        kinds = {name: (value.shape, value.dtype) for name, value in lstm.parameters().items()}
        if any((value.shape, lstm.dtype) != kinds[name] for name, value in self.other.items()):
            # The caller changed the model's arrays before it copied them.
            with contextlib.suppress(ValueError):
                lstm(x)
                raise AssertionError("a model with an array of another shape or dtype runs")
            return
        new = again(lstm, lstm.state_dict())
        if out_of_range(lstm, x):  # a hook gave what was loaded another dtype
            assert out_of_range(new, x)
            lstm.load_state_dict(self.other)
            return
        assert all(equal(a, b) for a, b in zip(leaves(lstm(x)), leaves(new(x)), strict=True))
        if not isinstance(lstm, RecurrentCell):
            y, _, _ = lstm.forward(x, tape=self.tape)
            want_y, _, tape = new.forward(x)
            assert equal(y, want_y)
            assert same(lstm.backward(self.tape, y).params, new.backward(tape, y).params)
        lstm.load_state_dict(self.other)
        assert same(lstm.state_dict(), self.other)
        assert equal(leaves(lstm(x))[0], leaves(again(lstm, self.other)(x))[0])


def same(a: Values, b: Values) -> bool:
    return a.keys() == b.keys() and all(equal(a[name], b[name]) for name in a)


def leaves(result: Any) -> list[Array]:
    """The arrays in a nest of tuples."""
    if isinstance(result, tuple):
        return [leaf for one in result for leaf in leaves(one)]
    return [result]
