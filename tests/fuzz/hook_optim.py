# SPDX-License-Identifier: BSD-3-Clause
"""Optimisers and clipping on arguments that run code; see `hooks`."""

from __future__ import annotations

from typing import Any

import numpy as np

import fastlstm

from . import hostile
from .hook_model import Model, part, same
from .hostile import one_of
from .stage import Stage, Values, plain
from .world import MAKERS

optim = fastlstm.optim


class Training:
    """An optimiser on a stage, of a model, a mapping, or an object with arrays."""

    def __init__(self, stage: Stage) -> None:
        rng = stage.rng
        self.stage = stage
        self.make = one_of(rng, MAKERS)
        self.model: Model | None = None
        self.given: Any
        if rng.random() < 0.4:
            self.model = Model(stage)
            self.model.lstm.train()
            self.given = self.model.lstm
            self.start = {
                name: plain(value) for name, value in self.model.lstm.parameters().items()
            }
        else:
            shapes = [(stage.size(5, 40960),), (stage.size(), stage.size()), (3, 1, 2)][
                : int(rng.integers(1, 4))
            ]
            self.start = {f"p{i}": stage.values(*shape) for i, shape in enumerate(shapes)}
            data: dict[str, Any] = {}
            for name, value in self.start.items():
                value = np.array(value)
                if rng.random() < 0.4:
                    value = hostile.subclass(rng, value, stage.hook)
                stage.arrays[f"param[{name}]"] = data[name] = value
            self.given = hostile.mapping(rng, data, stage.hook)
            if rng.random() < 0.4:
                self.given = hostile.Source(data, stage.hook)
        self.opt: Any = None

    def values(self) -> Values:
        state = {} if self.opt is None else self.opt.state_dict()
        found = {f"opt[{name}]": np.array(value) for name, value in state.items()}
        return found | (self.model.params() if self.model else {})

    def begin(self) -> None:
        """Makes the optimiser, takes a step, and lets the hook reach it."""
        self.opt = self.make(self.given)
        self.opt.step({name: np.ones_like(value) for name, value in self.start.items()})
        self.stage.more = self.values
        opt, grads = self.opt, {name: np.ones_like(value) for name, value in self.start.items()}
        state = opt.state_dict()
        self.stage.doings += [
            lambda: opt.step(grads),
            lambda: opt.load_state_dict(state),
            lambda: opt.state_dict(),
            lambda: setattr(opt, "lr", 0.5),
        ]

    def fresh(self, values: Values) -> tuple[Any, Values]:
        params = {name: np.array(value) for name, value in part(values, "param").items()}
        new = self.make(params)
        state = part(values, "opt")
        if state:
            new.load_state_dict(state)
        return new, params

    def works(self) -> None:
        """A step is that of a new optimiser with the same state."""
        stage = self.stage
        if not stage.lay_out_again():
            return
        for name, value in stage.arrays.items():
            if name.startswith("param["):
                np.ndarray.flags.__get__(value).writeable = True  # type: ignore[attr-defined]
        if self.model is not None:
            self.model.lstm.train()
        new, params = self.fresh(stage.snap() | self.values())
        grads = {
            name: stage.values(*value.shape).astype(value.dtype)
            for name, value in self.start.items()
        }
        new.step(grads)
        self.opt.step(grads)
        assert same(part(stage.snap(), "param"), params), "an optimiser does not go on"
        if self.model is not None:
            self.model.works()


def a_new_optimiser(stage: Stage) -> None:
    training = Training(stage)

    def make() -> Any:
        training.opt = training.make(training.given)
        stage.hook.active = False
        training.start = dict(part(stage.snap() | training.values(), "param"))
        stage.remember()
        return training.opt

    if stage.run(make, lambda _: [], lambda _: []):
        training.works()


def a_step(stage: Stage) -> None:
    training = Training(stage)
    training.begin()
    grads = stage.put_all(
        "grads", {name: stage.values(*v.shape) for name, v in training.start.items()}
    )
    if stage.rng.random() < 0.3:
        grads = hostile.Holder(grads, stage.hook)

    def on_plain(values: Values) -> list[Any]:
        new, params = training.fresh(values)
        new.step({name: values[f"grads[{name}]"] for name in params})
        return [params[name] for name in training.start]

    stage.run(
        lambda: training.opt.step(grads),
        on_plain,
        lambda _: [stage.snap()[f"param[{name}]"] for name in training.start],
        ("param[", "opt["),
    )
    training.works()


def a_state(stage: Stage) -> None:
    """Loading the state of an optimiser."""
    training = Training(stage)
    training.begin()
    state = training.opt.state_dict()
    training.opt.step({name: np.ones_like(value) for name, value in training.start.items()})
    arrays = {
        name: value for name, value in state.items() if isinstance(value, np.ndarray) and value.ndim
    }
    data = {name: stage.put(f"state[{name}]", value) for name, value in arrays.items()}
    for name in state.keys() - arrays.keys():
        data[name] = state[name]
        if name in ("lr", "eps", "weight_decay") and stage.rng.random() < 0.3:
            data[name] = hostile.real(float(state[name]), stage.hook)
        elif name == "step" and stage.rng.random() < 0.3:
            data[name] = hostile.Index(int(state[name]), stage.hook)
    given = hostile.mapping(stage.rng, data, stage.hook)
    kept = [name for name in arrays if name != "betas"]
    stage.run(
        lambda: training.opt.load_state_dict(given),
        lambda values: [values[f"state[{name}]"] for name in kept],
        lambda _: [training.opt.state_dict()[name] for name in kept],
        ("opt[",),
    )
    training.works()


def a_clip(stage: Stage) -> None:
    shapes = [(stage.size(5, 40960),), (stage.size(), stage.size()), (3, 1, 2)][
        : int(stage.rng.integers(1, 4))
    ]
    starts = {f"g{i}": stage.values(*shape) for i, shape in enumerate(shapes)}
    grads = stage.put_all("grads", starts)
    if stage.rng.random() < 0.3:
        grads = hostile.Holder(grads, stage.hook)
    clip: Any = one_of(stage.rng, [optim.clip_grad_norm, optim.clip_grad_value])
    most = hostile.real(0.5, stage.hook) if stage.rng.random() < 0.3 else 0.5

    def on_plain(values: Values) -> list[Any]:
        found = part(values, "grads")
        clip(found, 0.5)
        return [found.get(name, values.get(f"gone:grads[{name}]")) for name in starts]

    stage.run(
        lambda: clip(grads, most),
        on_plain,
        lambda _: [stage.snap()[f"grads[{n}]"] for n in starts],
        ("grads",),
    )


KINDS = (a_new_optimiser, a_step, a_step, a_state, a_clip)
