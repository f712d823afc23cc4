# SPDX-License-Identifier: BSD-3-Clause
"""Models that hypothesis makes: importers refuse them or run them right, whatever they are."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import numpy as np
import pytest

from fastlstm import interop
from fastlstm.interop import formats
from support import onnx_models

pytest.importorskip("hypothesis", reason="it makes the models")

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

pytestmark = pytest.mark.deep

# The same examples each time: what fails once fails again.
MANY = settings(
    max_examples=1000,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)

# ---- files of JSON, and Keras's configurations: words that importers know, in any places ----

WORDS = [
    "layers", "type", "weights", "shape", "state_dict", "model_data", "skip", "in_gain", "in_skip",
    "rec.weight_ih_l0", "rec.weight_hh_l0", "rec.bias_ih_l0", "lin.weight", "lin.bias", "config",
    "architecture", "input_size", "hidden_size", "num_layers", "class_name", "name", "units",
    "layer", "cell", "cells", "merge_mode", "activation", "recurrent_activation", "use_bias",
    "inbound_nodes", "output_layers", "registered_name", "module", "dtype", "axis", "rate",
]  # fmt: skip
VALUES = [
    "lstm", "gru", "dense", "conv1d", "batchnorm", "prelu", "activation", "LSTM", "GRU", "Dense",
    "SimpleRNN", "RNN", "Bidirectional", "StackedRNNCells", "LSTMCell", "TimeDistributed",
    "Sequential", "Functional", "InputLayer", "Embedding", "Conv1D", "BatchNormalization", "tanh",
    "relu", "hard_sigmoid", "LeakyReLU", "concat", "", "x", "\x00",
]  # fmt: skip
LEAVES: Any = some.one_of(
    some.none(), some.booleans(), some.integers(-3, 9), some.floats(), some.sampled_from(VALUES)
)
MATRICES: Any = some.tuples(some.integers(0, 4), some.integers(0, 8)).map(
    lambda shape: np.ones(shape).tolist()
)
TREES: Any = some.recursive(
    LEAVES | MATRICES,
    lambda inner: (
        some.lists(inner, max_size=5)
        | some.dictionaries(some.sampled_from(WORDS), inner, max_size=6)
    ),
    max_leaves=30,
)
MAPPINGS = some.dictionaries(some.sampled_from(WORDS), TREES, max_size=6)
LAYERS: Any = some.fixed_dictionaries(
    {"class_name": some.sampled_from(VALUES), "config": MAPPINGS}, optional={"name": LEAVES}
)


def refused_or_read(reader: Any, *arguments: Any) -> None:
    """What is asked of every importer."""
    try:
        found = reader(*arguments)
    except (interop.FormatError, TypeError, ValueError):
        return
    assert repr(found)
    json.dumps(found.summary())
    if not found.branches and not found.unsupported:
        with contextlib.suppress(interop.Unsupported):
            found.sequential()


@MANY
@given(MAPPINGS)
def test_audio_models(model: dict[str, Any]) -> None:
    for reader in (interop.from_rtneural, interop.from_nam):
        try:
            refused_or_read(reader, model)
        except TypeError as error:
            raise AssertionError("a mapping of JSON is of no wrong type") from error


@MANY
@given(some.lists(LAYERS, max_size=4), some.dictionaries(LEAVES.map(str), some.lists(MATRICES)))
def test_configurations_of_keras(layers: list[Any], weights: dict[str, Any]) -> None:
    arrays = {name: [np.float32(one) for one in own] for name, own in weights.items()}
    named = [str(layer.get("name", "")) for layer in layers]
    arrays |= {name: [np.ones((2, 8), np.float32)] * 3 for name in named}
    config = {"class_name": "Sequential", "config": {"layers": layers}}
    refused_or_read(interop.from_keras, config, arrays)


STARTS = {
    ".onnx": b"\x08\x08", ".tflite": b"\x1c\0\0\0TFL3", ".keras": b"PK\x03\x04", ".nam": b"{",
    ".h5": b"\x89HDF\r\n\x1a\n", ".json": b"{", ".safetensors": b"\x08\0\0\0\0\0\0\0{",
    ".pt": b"\x80\x02",
}  # fmt: skip


@settings(MANY, max_examples=200)
@pytest.mark.parametrize("ending", STARTS)
@given(data=some.binary(max_size=300), starts=some.booleans())
def test_bytes(ending: str, data: bytes, starts: bool, tmp_path_factory: Any) -> None:
    path = tmp_path_factory.getbasetemp() / f"model{ending}"
    path.write_bytes((STARTS[ending] if starts else b"") + data)
    with pytest.raises(interop.FormatError, match="model"):
        formats.read(str(path))


# ---- ONNX graphs: an LSTM and whatever may follow it, against ONNX Runtime ----

STEPS, BATCH, INPUTS, UNITS = 4, 3, 2, 4
PERMS: Any = some.permutations(range(3)) | some.permutations(range(4))
AXES = some.integers(-4, 3)
SIZES: Any = some.lists(some.sampled_from([-1, 0, 1, BATCH, STEPS, UNITS, 12]), max_size=4)


def floats(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).normal(0, 0.6, shape).astype(np.float32)


@some.composite
def operators(draw: Any) -> list[tuple[str, list[np.ndarray], dict[str, Any]]]:
    """Operators one after another, each with its constants and attributes."""
    found = []
    for _ in range(draw(some.integers(0, 5))):
        kind = draw(some.sampled_from([*MAKERS]))
        arrays, attributes = draw(MAKERS[kind])
        found.append((kind, [np.asarray(array) for array in arrays], attributes))
    return found


def ints(values: Any) -> np.ndarray:
    return np.array(values, np.int64)


ALONE: Any = some.just(([], {}))
MAKERS: dict[str, Any] = {
    "Squeeze": AXES.map(lambda axis: ([ints([axis])], {})),
    "Transpose": PERMS.map(lambda perm: ([], {"perm": list(perm)})),
    "Reshape": SIZES.map(lambda sizes: ([ints(sizes)], {})),
    "Gather": some.tuples(some.sampled_from([-1, 0, 1]), AXES).map(
        lambda pair: ([ints(pair[0])], {"axis": pair[1]})
    ),
    "Slice": some.tuples(some.sampled_from([-1, 0]), AXES).map(
        lambda pair: ([ints([pair[0]]), ints([1 << 40]), ints([pair[1]])], {})
    ),
    "MatMul": some.sampled_from([UNITS, BATCH]).map(lambda n: ([floats(n, UNITS)], {})),
    "Gemm": some.sampled_from([(), (UNITS,), (BATCH, 1), (1, UNITS)]).map(
        lambda shape: ([floats(UNITS, UNITS), floats(*shape)], {})
    ),
    "Add": some.sampled_from([(), (UNITS,), (BATCH, 1)]).map(lambda shape: ([floats(*shape)], {})),
    "Softmax": AXES.map(lambda axis: ([], {"axis": axis})),
    "LogSoftmax": ALONE,
    "Relu": ALONE,
    "Tanh": ALONE,
    "LSTM": some.sampled_from(["forward", "reverse"]).map(
        lambda way: (
            [floats(1, 4 * UNITS, UNITS), floats(1, 4 * UNITS, UNITS)],
            {"hidden_size": UNITS, "direction": way},
        )
    ),
}


def graph(way: str, after: list[Any], state: str) -> Any:
    """The LSTM, what follows it, and every constant; what becomes of the final state h."""
    onnx = pytest.importorskip("onnx")
    directions = 2 if way == "bidirectional" else 1
    arrays = {
        "W": floats(directions, 4 * UNITS, INPUTS),
        "R": floats(directions, 4 * UNITS, UNITS),
    }
    step = onnx.helper.make_node
    nodes = [step("LSTM", ["x", "W", "R"], ["v0", "h"], hidden_size=UNITS, direction=way)]
    for at, (kind, constants, attributes) in enumerate(after):
        names = [f"c{at}_{n}" for n in range(len(constants))]
        arrays |= dict(zip(names, constants, strict=True))
        nodes.append(step(kind, [f"v{at}", *names], [f"v{at + 1}"], **attributes))
    x = floats(STEPS, BATCH, INPUTS)
    ends = [f"v{len(after)}"]
    if state == "is an output":
        ends.append("h")
    elif state:
        nodes.append(step("Transpose", ["h"], ["moved"], perm=[1, 0, 2]))
        ends.append("moved")
    if state == "is an output and added":
        nodes.append(step("Add", [ends[0], "h"], ["sum"]))
        ends[0] = "sum"
    elif state == "is an output, and added where it is moved":
        nodes.append(step("Add", [ends[0], "moved"], ["sum"]))
        ends[0] = "sum"
    return onnx_models.model_of(nodes, {"x": x}, ends, arrays), x


STATES = (
    "", "is an output", "is an output if moved", "is an output and added",
    "is an output, and added where it is moved",
)  # fmt: skip
PLAIN = [("Squeeze", [ints([1])], {})]


@settings(MANY, max_examples=10_000)
@given(
    some.sampled_from(["forward", "reverse", "bidirectional"]),
    some.booleans(),
    operators(),
    some.sampled_from(STATES),
)
def test_chains_of_onnx(way: str, plain: bool, after: list[Any], state: str) -> None:
    """What is taken for a chain gives what ONNX Runtime gives; what that refuses is not compared.
    Each layer adds up 12 terms below 4 at most in each of 4 steps, and there are six."""
    pytest.importorskip("onnxruntime")
    model, x = graph(way, [*(PLAIN if plain else []), *after], state)
    found = interop.from_onnx(model)
    if found.branches:
        return
    assert "added" not in state
    chain = found.sequential()
    try:
        expected, *_ = onnx_models.by_runtime(model, {"x": x})
    except Exception:  # of its own kind: shapes that do not fit
        return
    y = chain(x.swapaxes(0, 1))
    if y.shape != expected.shape and y.ndim == 3:
        y = y.swapaxes(0, 1)
    limit = 6 * 4 * 12 * 4 * float(np.finfo(np.float32).eps)
    np.testing.assert_allclose(y, expected, rtol=0, atol=limit)
