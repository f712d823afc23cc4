# SPDX-License-Identifier: BSD-3-Clause
"""Damaged files: `fastlstm.load` refuses them with their name, or loads what they say."""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np

import fastlstm

from .driver import Skipped
from .kinds import any_kind

try:
    import safetensors.numpy  # noqa: F401
except ImportError as error:
    raise Skipped("safetensors is not installed") from error

Rng = np.random.Generator
Header = dict[str, Any]
FOLDER = tempfile.TemporaryDirectory()
PATH = os.path.join(FOLDER.name, "model of the fuzzer.safetensors")

# Values that stand where a number, a text or a list should.
ODD: list[Any] = [
    0, 1, -1, 2, 3, 7, 2**31, 2**31 - 1, 2**53, 2**63, 2**64, 10**30, 10**400, 0.5, 1.0,
    1e308, -0.0, float("nan"), float("inf"), True, False, None, "", "float64", "float32",
    "float16", ">f4", "LSTM", "GRU", "blas", "native", "\u0000", "\ud800", "x" * 5000, [],
    [1], [[1]], [1, 2, 3], {}, {"a": 1},
]  # fmt: skip
DTYPES = [
    "F32",
    "F64",
    "F16",
    "BF16",
    "I64",
    "I32",
    "U8",
    "BOOL",
    "F8_E4M3",
    "F4",
    "C64",
    "f32",
    "",
    4,
    None,
]


def deep(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def pristine(rng: Rng) -> bytes:
    """A file as `save` writes it."""
    kind = any_kind(rng, noise=True)
    lstm = kind.layer(
        int(rng.integers(1, 5)),
        int(rng.integers(1, 5)),
        int(rng.integers(1, 4)),
        bias=bool(rng.integers(2)),
        batch_first=bool(rng.integers(2)),
        dropout=float(rng.choice([0, 0.5])),
        bidirectional=bool(rng.integers(2)),
        dtype=str(rng.choice(["float32", "float64"])),
        seed=int(rng.integers(9)),
        **kind.options,
    )
    lstm.save(PATH)
    with open(PATH, "rb") as file:
        return file.read()


def split(data: bytes) -> tuple[Header, bytes]:
    size = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def joined(header: Header | bytes, body: bytes, size: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return ((len(text) if size is None else size) % 2**64).to_bytes(8, "little") + text + body


# ---- damage ----


def bits(rng: Rng, data: bytes) -> bytes:
    found = bytearray(data)
    where = int(rng.choice([len(data), min(len(data), 1200)]))
    for _ in range(int(rng.choice([1, 1, 2, 8, 64]))):
        found[int(rng.integers(where))] ^= 1 << int(rng.integers(8))
    return bytes(found)


def cut(rng: Rng, data: bytes) -> bytes:
    begin, end = sorted(map(int, rng.integers(0, len(data) + 1, 2)))
    return [data[:begin], data[begin:], data[:begin] + data[end:], data + data[begin:end]][
        int(rng.integers(4))
    ]


def header_size(rng: Rng, data: bytes) -> bytes:
    header, body = split(data)
    text = json.dumps(header).encode()
    odd = [
        0,
        1,
        len(text) - 1,
        len(text) + 1,
        len(data),
        len(data) - 8,
        10**8,
        2**31,
        2**63,
        2**64 - 1,
        -8,
    ]
    return joined(text, body, odd[int(rng.integers(len(odd)))])


def tensors(rng: Rng, data: bytes) -> bytes:
    """Lies about the arrays."""
    header, body = split(data)
    names = [name for name in header if name != "__metadata__"]
    for _ in range(int(rng.integers(1, 4))):
        one, other = (header.get(str(rng.choice(names)), {}) for _ in range(2))
        lies: list[Callable[[], object]] = [
            lambda: one.update(shape=[int(n) for n in rng.permutation(list(one["shape"]))]),
            lambda: one.update(shape=[*one["shape"], 1]),
            lambda: one.update(shape=one["shape"][:-1]),
            lambda: one.update(shape=[2**32, 2**32]),
            lambda: one.update(shape=[2**63, 0]),
            lambda: one.update(shape=odd(rng)),
            lambda: one.update(shape=[odd(rng) for _ in one["shape"]]),
            lambda: one.update(data_offsets=list(other["data_offsets"])),
            lambda: one.update(
                data_offsets=[n + int(rng.choice([-4, -1, 1, 4])) for n in one["data_offsets"]]
            ),
            lambda: one.update(data_offsets=one["data_offsets"][::-1]),
            lambda: one.update(data_offsets=[odd(rng), odd(rng)]),
            lambda: one.update(data_offsets=odd(rng)),
            lambda: one.update(dtype=DTYPES[int(rng.integers(len(DTYPES)))]),
            lambda: one.update(more=odd(rng)),
            lambda: one.pop(str(rng.choice(["shape", "dtype", "data_offsets"])), None),
            lambda: header.update({str(rng.choice(names)): odd(rng)}),
            lambda: header.update({"another": dict(one)}),
            lambda: header.pop(str(rng.choice(names)), None),
            # The same arrays under each other's names, which is a file like any other.
            lambda: swap(header, rng, names),
        ]
        try:
            lies[int(rng.integers(len(lies)))]()
        except (KeyError, TypeError, AttributeError, ValueError):
            pass  # an earlier lie has taken away what this one is about
    return dumped(header, body)


def swap(header: Header, rng: Rng, names: list[str]) -> None:
    a, b = str(rng.choice(names)), str(rng.choice(names))
    header[a], header[b] = header[b], header[a]


def dumped(header: Header, body: bytes) -> bytes:
    try:
        return joined(header, body)
    except (RecursionError, ValueError):  # too deep, or a part of itself
        return joined(b'{"__metadata__":' * 100000, body)


def odd(rng: Rng) -> Any:
    return (
        ODD[int(rng.integers(len(ODD)))]
        if rng.random() < 0.95
        else deep(int(rng.choice([10, 2000, 100000])))
    )


def config(rng: Rng, data: bytes) -> bytes:
    """Lies in the configuration."""
    header, body = split(data)
    meta = header["__metadata__"]
    given = json.loads(meta["fastlstm"])
    keys = [*given, "seed", "proj_size", "unknown", "num_threads", "options"]
    if "options" in given and rng.random() < 0.5:  # lies about them alone
        given, whole = given["options"], given
        keys = [field.name for field in dataclasses.fields(fastlstm.LSTMOptions)] + ["unknown"]
    else:
        whole = given
    for _ in range(int(rng.integers(1, 4))):
        key = str(rng.choice(keys))
        if rng.random() < 0.2:
            given.pop(key, None)
        else:
            given[key] = odd(rng)
    try:
        text = json.dumps(whole)
    except RecursionError:
        text = "[" * 100000
    meta["fastlstm"] = text
    lies: list[Callable[[], object]] = [
        lambda: None,
        lambda: meta.update(fastlstm=text[: int(rng.integers(len(text)))]),
        lambda: meta.update(fastlstm="[" * int(rng.choice([5, 5000, 200000]))),
        lambda: meta.update(fastlstm='{"a":' * int(rng.choice([5, 5000, 200000]))),
        lambda: meta.update(fastlstm="1" * int(rng.choice([5, 5000, 200000]))),
        lambda: meta.update(fastlstm=json.dumps(odd(np.random.default_rng(0)))),
        lambda: meta.update(fastlstm=odd(rng)),
        lambda: meta.update(fastlstm=text + text),
        lambda: meta.pop("fastlstm"),
        lambda: header.update(__metadata__=odd(rng)),
        lambda: header.pop("__metadata__"),
    ]
    lies[0 if rng.random() < 0.6 else int(rng.integers(len(lies)))]()
    return dumped(header, body)


def text(rng: Rng, data: bytes) -> bytes:
    """The header as JSON that is damaged itself."""
    header, body = split(data)
    given = json.dumps(header)
    found = [
        "[" * int(rng.choice([10, 200000])),
        '{"a":' * int(rng.choice([10, 200000])),
        given.replace('"F32"', '"F64"'),
        given.replace('"F64"', '"F32"'),
        given[:-1] + "," + given[1:],  # every name twice
        given.replace(":", " : ") + " " * int(rng.choice([0, 7, 10**6])),
        given.replace("weight_hh", "weight_ih"),
        given.replace("weight", str(rng.choice(["w\\u0000", "\\ud83d", "é", "wéight"]))),
        "null", "1", "[]", "{}", "",
    ]  # fmt: skip
    return joined(found[int(rng.integers(len(found)))].encode(), body)


DAMAGE = (bits, bits, cut, header_size, tensors, tensors, config, config, config, text)


# ---- what must hold ----


def case(rng: Rng) -> None:
    data = pristine(rng)
    damage = DAMAGE[int(rng.integers(len(DAMAGE)))]
    data = damage(rng, data)
    with open(PATH, "wb") as file:
        file.write(data)
    try:
        lstm = fastlstm.load(PATH)
    except (ValueError, OSError, MemoryError) as error:
        assert PATH in str(error), f"{damage.__name__}: the message lacks the path: {error!r}"
        assert len(str(error)) < 4000 + 2 * len(data), "the message is longer than the file"
        return
    says_so(lstm, data)


def says_so(lstm: Any, data: bytes) -> None:
    """The file holds exactly these parameters and this configuration."""
    header, body = split(data)
    given = json.loads(header.pop("__metadata__")["fastlstm"])
    assert given.pop("class") == type(lstm).__name__
    assert given.pop("format", 1) == 1
    ours = lstm.config()
    if "options" in given:  # which a GRU has none of
        options = given.pop("options")
        assert lstm.options == (None if options is None else fastlstm.LSTMOptions(**options))
    for key, value in given.items():
        assert ours[key] == value or (key == "dtype" and np.dtype(value).name == ours[key]), (
            key,
            value,
        )
        assert type(ours[key]) is type(value) or key == "dropout", (key, value, ours[key])
    params = lstm.state_dict()
    assert set(header) == set(params)
    for name, values in params.items():
        entry = header[name]
        begin, end = entry["data_offsets"]
        stored = np.frombuffer(
            body[begin:end], {"F32": "<f4", "F64": "<f8", "F16": "<f2"}[entry["dtype"]]
        )
        wanted = stored.reshape(entry["shape"]).astype(lstm.dtype)
        assert wanted.shape == values.shape, name
        assert np.array_equal(wanted, values, equal_nan=True), name
    x = np.ones((2, 1, lstm.input_size), lstm.dtype)
    if getattr(lstm, "options", None) is not None:
        return  # other activations may reach beyond all numbers
    if all(np.isfinite(values).all() and (abs(values) < 1e30).all() for values in params.values()):
        assert np.isfinite(lstm(x)[0]).all()
