# SPDX-License-Identifier: BSD-3-Clause
"""TensorFlow Lite: random operators against its interpreter, reduced weights, damaged files."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastlstm import interop
from fastlstm.interop import tflite_verify
from support import tflite_build
from support.labels import label

pytest.importorskip("tflite", reason="reading TensorFlow Lite needs the package tflite")
pytest.importorskip("ai_edge_litert", reason="files are made and run by LiteRT")

# Sums of up to 24 terms below 4 in each of 6 steps, in float32, c up to 6.
TOLERANCE = 6 * 24 * 4 * float(np.finfo(np.float32).eps)

PLAIN: dict[str, Any] = {
    "both": False, "projection": 0, "peepholes": False, "coupled": False, "norm": False,
    "cell_clip": 0.0, "proj_clip": 0.0, "time_major": False, "reduce": "",
}  # fmt: skip


def some_config(rng: random.Random) -> dict[str, Any]:
    """Any combination that the operators can express."""
    config = {
        "both": rng.random() < 0.3,
        "projection": rng.choice([0, 0, 1, 3]),
        "peepholes": rng.random() < 0.5,
        "coupled": rng.random() < 0.4,
        "cell_clip": rng.choice([0.0, 0.4, 2.0]),
        "proj_clip": rng.choice([0.0, 0.1]),
        "time_major": rng.random() < 0.5,
        "reduce": rng.choice(["", "", "", "int8"]),
    }
    return {**config, "norm": not config["both"] and not config["reduce"] and rng.random() < 0.5}


def check(seed: int, config: dict[str, Any]) -> None:
    data, x = tflite_build.lstm(seed, config)
    found = interop.from_tflite(data)
    chain = found.sequential()
    given = x.swapaxes(0, 1) if config["time_major"] else x
    y = chain(given)
    y = y.swapaxes(0, 1) if config["time_major"] else y
    # The interpreter rounds x and h to 8 bits as well, by 1/254 of the largest of each row.
    inputs = np.abs(x).max() * x.shape[-1] + 12
    tolerance = TOLERANCE if not config["reduce"] else 6 * inputs / 254
    difference = np.abs(tflite_build.interpreted(data, x) - y).max()
    assert difference <= tolerance, (seed, config, difference)
    assert any("INT8" in note for note in found.notes) == bool(config["reduce"])


ONE_BY_ONE: list[dict[str, Any]] = [
    {}, {"both": True}, {"projection": 3}, {"peepholes": True}, {"coupled": True},
    {"coupled": True, "peepholes": True}, {"norm": True}, {"norm": True, "peepholes": True},
    {"coupled": True, "norm": True, "projection": 2, "proj_clip": 0.1},
    {"cell_clip": 0.4}, {"time_major": True}, {"both": True, "time_major": True, "projection": 2},
    {"reduce": "int8"}, {"reduce": "int8", "peepholes": True, "projection": 3},
]  # fmt: skip


@pytest.mark.parametrize("changes", ONE_BY_ONE, ids=label)
def test_each_option(changes: dict[str, Any]) -> None:
    for seed in range(3):
        check(seed, {**PLAIN, **changes})


@pytest.mark.deep
def test_many_random_operators() -> None:
    for seed in range(1000):
        check(seed, some_config(random.Random(seed)))


def two_layers(tmp_path: Path) -> tuple[Path, np.ndarray]:
    """LSTM, LSTM's last step, dense, tanh: as the converter makes them of Keras 2."""
    rng = np.random.default_rng(0)
    made = tflite_build.Builder()
    schema = made.schema
    x = made.tensor((1, 5, 3))
    at = x
    for inputs, units in ((3, 6), (6, 4)):
        own = tflite_build.side(rng, inputs, units, PLAIN)[:17]
        places = [at, *(-1 if a is None else made.tensor(a.shape, a) for a in own)]
        places += [made.tensor((1, units), variable=True) for _ in range(2)] + [-1] * 4
        options = schema.UnidirectionalSequenceLSTMOptionsT()
        options.fusedActivationFunction = schema.ActivationFunctionType.TANH
        options.cellClip = 10.0
        at = made.tensor((1, 5, units))
        made.operator("UNIDIRECTIONAL_SEQUENCE_LSTM", places, [at], options)
    cut = schema.StridedSliceOptionsT()
    cut.beginMask = cut.endMask = 5
    cut.shrinkAxisMask = 2
    ends = [made.tensor((3,), np.array(v, np.int32)) for v in ([0, -1, 0], [0, 0, 0], [1, 1, 1])]
    last = made.tensor((1, 4))
    made.operator("STRIDED_SLICE", [at, *ends], [last], cut)
    halves = [made.tensor(a.shape, a) for a in (rng.normal(0, 1, (2, 4)).astype(np.float16),)]
    weight = made.tensor((2, 4))
    made.operator("DEQUANTIZE", halves, [weight], schema.DequantizeOptionsT())
    bias = made.tensor((2,), rng.normal(0, 1, 2).astype(np.float32))
    dense = made.tensor((1, 2))
    made.operator("FULLY_CONNECTED", [last, weight, bias], [dense], schema.FullyConnectedOptionsT())
    y = made.tensor((1, 2))
    made.operator("LOGISTIC", [dense], [y], schema.AbsOptionsT())
    path = tmp_path / "model.tflite"
    path.write_bytes(made.bytes([x], [y]))
    return path, rng.normal(0, 1, (1, 5, 3)).astype(np.float32)


def test_whole_models(tmp_path: Path) -> None:
    path, x = two_layers(tmp_path)
    found = interop.from_tflite(path)
    assert [*found.layers] == ["lstm", "lstm_1"]
    assert [other.kind for other in found.others] == ["dense", "activation"]
    assert not found.stacks["lstm_1"][0].return_sequences
    assert any("FLOAT16" in note for note in found.notes)
    assert any("keeps states" in note for note in found.notes)
    expected = tflite_build.interpreted(path.read_bytes(), x)
    assert np.abs(found.sequential()(x) - expected).max() <= TOLERANCE


def test_verify(tmp_path: Path) -> None:
    path, _ = two_layers(tmp_path)
    assert tflite_verify.verify(path)["whole"] <= TOLERANCE


def test_other_models() -> None:
    made = tflite_build.Builder()
    x, y = made.tensor((1, 4)), made.tensor((1, 4))
    made.operator("TANH", [x], [y], made.schema.AbsOptionsT())
    with pytest.raises(interop.Unsupported, match="has no recurrent operator, but TANH"):
        interop.from_tflite(made.bytes([x], [y]))


def changed(change: Any) -> bytes:
    """A file of one LSTM after a change of its objects."""
    made = tflite_build.Builder()
    own = tflite_build.side(np.random.default_rng(0), 3, 4, {**PLAIN, "projection": 2})[:17]
    x = made.tensor((1, 5, 3))
    places = [x, *(-1 if a is None else made.tensor(a.shape, a) for a in own)]
    places += [made.tensor((1, 2), variable=True), made.tensor((1, 4), variable=True)]
    y = made.tensor((1, 5, 2))
    options = made.schema.UnidirectionalSequenceLSTMOptionsT()
    options.fusedActivationFunction = made.schema.ActivationFunctionType.TANH
    made.operator("UNIDIRECTIONAL_SEQUENCE_LSTM", places, [y], options)
    change(made)
    return made.bytes([x], [y])


def _shape(made: Any) -> None:
    made.graph.tensors[1].shape = [1 << 20, 1 << 20]


def _activation(made: Any) -> None:
    made.graph.operators[0].builtinOptions.fusedActivationFunction = 5


def _diagonal(made: Any) -> None:
    made.graph.operators[0].builtinOptions.diagonalRecurrentTensors = True


def _bias(made: Any) -> None:
    made.model.buffers[-1].data = made.model.buffers[-1].data + np.uint8(63)


def _gates(made: Any) -> None:
    made.graph.operators[0].inputs[2] = made.graph.operators[0].inputs[6]


def _missing(made: Any) -> None:
    made.graph.operators[0].inputs[14] = -1


def _no_tensor(made: Any) -> None:
    made.graph.operators[0].inputs[2] = 999


def _no_buffer(made: Any) -> None:
    made.graph.tensors[1].buffer = 999


def _input(made: Any) -> None:
    made.graph.operators[0].inputs[2] = 0


def _integers(made: Any) -> None:
    made.graph.tensors[1].type = made.schema.TensorType.INT32


DAMAGES = {
    "shape": (_shape, "tensor 1: shape (1048576, 1048576) of FLOAT32 does not fit 48 bytes"),
    "activation": (_activation, "activation number 5 of its cell"),
    "diagonal": (_diagonal, "diagonal recurrent weights"),
    "bias of the projection": (_bias, "a bias of its projection"),
    "gates": (_gates, "inputs 1 to 4 must have one shape"),
    "missing bias": (_missing, "input 14 is missing"),
    "no tensor": (_no_tensor, "tensor 999 is not in the file"),
    "no buffer": (_no_buffer, "buffer 999 is not in the file"),
    "computed weights": (_input, "input 2 is computed by the graph"),
    "integers": (_integers, "must have 2 axes of floats, got int32"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_models(name: str) -> None:
    change, message = DAMAGES[name]
    with pytest.raises(interop.FormatError, match=re.escape(message)):
        interop.from_tflite(changed(change))


def test_files_that_are_none() -> None:
    good = changed(lambda made: None)
    for data in (b"", b"TFL3", good[:200], good[:4] + b"XXXX" + good[8:]):
        with pytest.raises(interop.FormatError):
            interop.from_tflite(data)
    with pytest.raises(TypeError, match="source must be a path or bytes, got int"):
        interop.from_tflite(3)  # type: ignore[arg-type]
