# SPDX-License-Identifier: BSD-3-Clause
"""Arguments that run code of the caller while a call is prepared.

That code changes the shapes, strides, dtypes, memory and values of every array within its reach,
calls the same objects, or raises. Whatever it does: a result of the values as they were before or
after it, or an error of a kind that is promised, or its own one; then nothing is changed, and the
objects go on working.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import fastlstm

from . import hostile
from .hook_model import Model, leaves, part
from .hostile import Array, Rng, one_of
from .stage import Stage, Values, again, equal, plain

optim = fastlstm.optim


STATE, FINAL = ("h_0", "c_0"), ("dh_n", "dc_n")


def parts(state: Any) -> list[Array]:
    """h, and c if there is one."""
    return list(state) if isinstance(state, tuple) else [state]


def gradients(grads: Any) -> list[Array]:
    """Of the input and of the state."""
    found = [grads.x, grads.h_0, grads.c_0]
    return found if grads.c_0 is not None else found[:2]


def small(stage: Stage, value: int) -> Any:
    return hostile.Index(value, stage.hook) if stage.rng.random() < 0.2 else value


def inputs(stage: Stage, model: Model) -> tuple[Any, dict[str, Any]]:
    """x and the keywords of a call or a forward pass."""
    rng = stage.rng
    options: dict[str, Any] = {"num_threads": small(stage, 1)}
    x = stage.put("x", model.x())
    if rng.random() < 0.6:
        options["state"] = model.put_state(STATE, *model.state_shape)
    if rng.random() < 0.4 and not model.flat:
        options["lengths"] = stage.put_lengths(model.steps, model.batch)
    if rng.random() < 0.3 and model.has_c:
        options["return_cells"] = True
    return x, options


def plain_inputs(model: Model, values: Values, options: dict[str, Any]) -> dict[str, Any]:
    found = {"state": model.state_of(values, STATE), "lengths": values.get("lengths")}
    return found | ({"return_cells": True} if "return_cells" in options else {})


def a_call(stage: Stage) -> None:
    model = Model(stage)
    x, options = inputs(stage, model)
    if stage.rng.random() < 0.5:
        options["out"] = stage.put("out", np.zeros(model.y_shape, stage.dtype))
    stage.run(
        lambda: model.lstm(x, **options),
        lambda values: leaves(
            model.fresh(values)(values["x"], **plain_inputs(model, values, options))
        ),
        lambda result: [stage.arrays.get("out", result[0]), *leaves(result[1:])],
        ("out",),
    )
    model.works()


def a_cell(stage: Stage) -> None:
    model = Model(stage, cell=True)
    x = stage.put("x", model.x())
    state = model.put_state(STATE, *model.state_shape) if stage.rng.random() < 0.7 else None
    stage.run(
        lambda: model.lstm(x, state),
        lambda values: leaves(model.fresh(values)(values["x"], model.state_of(values, STATE))),
        leaves,
    )
    model.works()


def a_forward(stage: Stage) -> None:
    model = Model(stage)
    x, options = inputs(stage, model)
    if stage.rng.random() < 0.5:
        options["tape"] = model.tape
        model.lstm.forward(model.x(), tape=model.tape)
    options["seed"] = small(stage, 3)
    dy = stage.values(*model.y_shape)

    def passes(lstm: Any, x: Any, options: dict[str, Any]) -> list[Array]:
        *results, tape = lstm.forward(x, **options)
        stage.hook.active = False
        grads = lstm.backward(tape, dy)
        return [*leaves(tuple(results)), *gradients(grads), *grads.params.values()]

    stage.run(
        lambda: passes(model.lstm, x, options),
        lambda values: passes(
            model.fresh(values), values["x"], plain_inputs(model, values, options)
        ),
        list,
    )
    model.works()


def a_backward(stage: Stage) -> None:
    rng = stage.rng
    model = Model(stage)
    model.record()
    options: dict[str, Any] = {"num_threads": small(stage, 1)}
    dy = stage.put("dy", stage.values(*model.y_shape)) if rng.random() < 0.7 else None
    if rng.random() < 0.6 or dy is None:
        options["dstate"] = model.put_state(FINAL, *model.state_shape)
    if rng.random() < 0.4 and model.has_c:
        options["dcells"] = stage.put("dcells", stage.values(*model.y_shape))
    if rng.random() < 0.6:
        starts = {
            name: stage.values(*value.shape) for name, value in model.lstm.parameters().items()
        }
        options["into"] = stage.put_all("into", starts)
        if rng.random() < 0.2:
            options["into"] = hostile.Holder(options["into"], stage.hook)
    stage.doings += [lambda: model.lstm.backward(model.tape, np.ones(model.y_shape, stage.dtype))]

    def on_plain(values: Values, recorded: Values) -> list[Array]:
        lstm = model.fresh(recorded)
        _, _, tape = lstm.forward(model.first_x)
        into = part(values, "into") if "into" in options else None
        if into is not None:
            gone = part(values, "gone:into")
            into = {
                name: (into[name] if name in into else gone[name]).copy()
                for name in lstm.parameters()
            }
        grads = lstm.backward(
            tape,
            values.get("dy"),
            model.state_of(values, FINAL),
            dcells=values.get("dcells"),
            into=into,
        )
        return found(grads)

    def ways() -> list[Any]:
        # What the hook recorded may be what the call went backward from.
        return [lambda values, one=one: on_plain(values, one) for one in model.records]

    def found(grads: Any) -> list[Array]:
        return [*gradients(grads), *(grads.params[name] for name in model.lstm.parameters())]

    def given(grads: Any) -> list[Array]:
        mine = {
            name: stage.arrays.get(f"into[{name}]", value) for name, value in grads.params.items()
        }
        return [*gradients(grads), *(mine[name] for name in model.lstm.parameters())]

    expected: list[Any] = []

    def call() -> Any:
        grads = model.lstm.backward(model.tape, dy, **options)
        expected.extend(ways())
        return grads

    stage.run(call, expected, given, ("into",))
    model.works()


def a_stream(stage: Stage) -> None:
    rng = stage.rng
    model = Model(stage, streamed=True)
    lstm, batch = model.lstm, model.batch
    stream = lstm.stream(batch, num_threads=small(stage, 1))
    shape = (lstm.num_layers, batch, lstm.hidden_size)
    names = STATE if model.has_c else STATE[:1]
    held = ("state_h", "state_c")
    if rng.random() < 0.3:
        stage.arrays |= {f"stream.{name[0]}": getattr(stream, name[0]) for name in names}
    kept = {f"kept[{name[6:-1]}]": value for name, value in model.params().items()}
    memory = {f"state_{name[0]}": getattr(stream, name[0])[...] for name in names}
    stage.more = lambda: {**model.params(), **{name: plain(view) for name, view in memory.items()}}
    step = stage.values(batch, lstm.input_size)
    old = {name: stage.values(*shape) for name in held}
    stream.state = model.state_of(old, held)
    stage.doings += [
        lambda: stream(step),
        lambda: stream.reset(),
        lambda: stream.state,
        lambda: stream(step),
    ]

    def run_plain(values: Values, x: Array) -> list[Array]:
        new = again(lstm, part(kept, "kept")).stream(batch)
        new.state = model.state_of(values, held)
        return [new(x), *parts(new.state)]

    if rng.random() < 0.4:
        given = model.put_state(STATE, *shape)
        stage.run(
            lambda: setattr(stream, "state", given),
            lambda values: [values[name].astype(lstm.dtype) for name in names],
            lambda _: [one.reshape(shape) for one in parts(stream.state)],
            ("state_", "stream."),
        )
    else:
        steps = (int(rng.integers(1, 4)),) if rng.random() < 0.5 else ()
        x = stage.put("x", stage.values(*steps, batch, lstm.input_size))
        stage.run(
            lambda: stream(x),
            lambda values: run_plain(values, values["x"]),
            lambda y: [y, *(one.reshape(shape) for one in parts(stream.state))],
            ("state_", "stream."),
        )
    stage.lay_out_again()
    stream.state = model.state_of(old, held)
    x = stage.values(2, batch, lstm.input_size)
    wanted = run_plain(old, x)
    found = [stream(x), *parts(stream.state)]
    assert all(equal(a, b) for a, b in zip(found, wanted, strict=True)), stage.log
    model.works()


def a_load(stage: Stage) -> None:
    model = Model(stage, cell=stage.rng.random() < 0.3)
    state = stage.put_all("state", model.other, tensors=True)
    strict = stage.rng.random() < 0.7
    missing: list[str] = []

    def load() -> None:
        missing.extend(model.lstm.load_state_dict(state, strict=strict).missing_keys)

    def on_plain(values: Values) -> list[Array]:
        found = part(values, "param")
        for name, value in (part(values, "state") | part(values, "gone:state")).items():
            if name not in missing:
                assert np.can_cast(value.dtype, stage.dtype, "safe")
                found[name] = value.astype(stage.dtype)
        return [found[name] for name in model.other]

    stage.run(
        load,
        on_plain,
        lambda _: [model.params()[f"param[{name}]"] for name in model.other],
        ("param[",),
    )
    model.works()


def from_hooks() -> tuple[Any, ...]:
    from . import hook_optim

    return (
        a_call,
        a_call,
        a_cell,
        a_forward,
        a_backward,
        a_backward,
        a_stream,
        a_load,
        *hook_optim.KINDS,
    )


def case(rng: Rng) -> None:
    kind = one_of(rng, from_hooks())
    stage = Stage(rng)
    try:
        kind(stage)
    except BaseException as error:
        raise AssertionError(f"{kind.__name__} after {stage.log}") from error
