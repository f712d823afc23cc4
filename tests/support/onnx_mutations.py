# SPDX-License-Identifier: BSD-3-Clause
"""ONNX models that are whole as files and wrong inside: fields changed by chance."""

from __future__ import annotations

import random
from typing import Any

import onnx

NUMBERS = [-1, 0, 1, 2, 3, 7, 1 << 20, 1 << 31, (1 << 62) + 1, -(1 << 40)]


def of_fields(data: bytes, rng: random.Random) -> bytes:
    """A model with some of its fields changed."""
    model = onnx.ModelProto.FromString(data)
    names = [name for node in model.graph.node for name in (*node.input, *node.output)]
    for _ in range(rng.choice([1, 1, 2, 3, 6])):
        _change(model, names, rng)
    return model.SerializeToString()


def _change(model: Any, names: list[str], rng: random.Random) -> None:
    """One field of a message that is found on a walk by chance."""
    message = model.graph
    while True:
        inside = [
            (field, value)
            for field, value in message.ListFields()
            if field.message_type is not None
        ]
        if not inside or rng.random() < 0.25:
            break
        field, value = rng.choice(inside)
        message = rng.choice(list(value)) if _repeats(field) else value
    fields = message.ListFields()
    if not fields:
        return
    field, value = rng.choice(fields)
    if _repeats(field):
        _reorder(field, value, names, rng)
    elif field.message_type is not None or rng.random() < 0.1:
        message.ClearField(field.name)
    else:
        _assign(message, field, names, rng)


def _repeats(field: Any) -> bool:
    return bool(field.is_repeated if hasattr(field, "is_repeated") else field.label == 3)


def _reorder(field: Any, value: Any, names: list[str], rng: random.Random) -> None:
    at = rng.randrange(len(value))
    how = rng.randrange(4)
    if how == 0:
        del value[at]
    elif field.message_type is not None:
        value.add().CopyFrom(value[at])
    elif how == 1:
        value.append(value[at])
    elif isinstance(value[at], str):
        value[at] = rng.choice([*names, ""])
    elif isinstance(value[at], bytes):
        value[at] = rng.choice([b"Relu", b"", b"\xff", b"Affine"])
    elif isinstance(value[at], float):
        value[at] = rng.choice([float("nan"), -1.0, 1e30])
    else:
        _number(lambda number: value.__setitem__(at, number), rng)


def _assign(message: Any, field: Any, names: list[str], rng: random.Random) -> None:
    old = getattr(message, field.name)
    if isinstance(old, str):
        words = ["", "LSTM", "GRU", "If", "Reshape", "Concat", "direction", "axis", "\u00e9"]
        setattr(message, field.name, rng.choice([*names, *words]))
    elif isinstance(old, bytes):
        how = rng.randrange(3)
        setattr(message, field.name, [old[:-1], old + b"\0" * 4, b""][how])
    elif isinstance(old, float):
        setattr(message, field.name, rng.choice([float("nan"), float("inf"), -1.0, 0.0]))
    else:
        _number(lambda number: setattr(message, field.name, number), rng)


def _number(put: Any, rng: random.Random) -> None:
    """The first of some numbers that the field can hold."""
    for _ in range(4):
        try:
            put(rng.choice(NUMBERS))
        except ValueError:
            continue
        return
