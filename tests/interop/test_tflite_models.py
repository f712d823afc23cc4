# SPDX-License-Identifier: BSD-3-Clause
"""TensorFlow Lite: its own test cases as files; operators after an LSTM that only look known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastlstm import interop
from support import cases, tflite_build

pytest.importorskip("tflite", reason="reading TensorFlow Lite needs the package tflite")
pytest.importorskip("ai_edge_litert", reason="files are made by LiteRT")

GOLDEN = ["tflite/NoCifgNoPeepholeNoProjection_fw", "tflite/NoCifgNoPeepholeNoProjection_bw"]


def after_an_lstm(
    after: Any, given: dict[str, Any] | None = None, units: int = 4
) -> tuple[bytes, np.ndarray]:
    """A file of an LSTM, and of what `after` makes of the builder and the LSTM's output; inputs."""
    made = tflite_build.Builder()
    rng = np.random.default_rng(0)
    given = given or {
        **{f"W{gate}": rng.normal(0, 0.6, (units, 2)) for gate in "ifgo"},
        **{f"R{gate}": rng.normal(0, 0.6, (units, units)) for gate in "ifgo"},
        "x_tbI": rng.normal(0, 1, (5, 1, 2)),
    }
    x = np.float32(given["x_tbI"])
    weights = [np.float32(given[kind + gate]) for kind in "WR" for gate in "ifgo"]
    biases = [np.float32(given.get(f"b{gate}", np.zeros(units))) for gate in "ifgo"]
    start = made.tensor(x.shape)
    places = [start, *(made.tensor(array.shape, array) for array in weights), -1, -1, -1]
    places += [made.tensor(array.shape, array) for array in biases]
    places += [-1, -1, *(made.tensor((1, units), variable=True) for _ in range(2)), *[-1] * 4]
    options = made.schema.UnidirectionalSequenceLSTMOptionsT()
    options.fusedActivationFunction = made.schema.ActivationFunctionType.TANH
    options.cellClip, options.timeMajor = float(given.get("cell_clip", 0)), True
    y = made.tensor((*x.shape[:2], units))
    made.operator("UNIDIRECTIONAL_SEQUENCE_LSTM", places, [y], options)
    return made.bytes([start], [after(made, y)]), x


@pytest.mark.parametrize("name", GOLDEN)
def test_tflite_s_own_cases(name: str) -> None:
    entry = cases.golden_entries()[name]
    given = entry["inputs"]
    data, x = after_an_lstm(lambda made, y: y, given)
    x = x[::-1] if given["reverse"] else x
    y = interop.from_tflite(data).sequential()(x.swapaxes(0, 1))[0]
    y = y[::-1] if given["reverse"] else y
    np.testing.assert_allclose(y.reshape(-1), entry["expected"]["Y"], rtol=0, atol=entry["tol"])


def softmax(made: Any, y: int, beta: float) -> int:
    options = made.schema.SoftmaxOptionsT()
    options.beta = beta
    end = made.tensor((5, 1, 4))
    made.operator("SOFTMAX", [y], [end], options)
    return int(end)


def test_softmax_of_a_multiple() -> None:
    data, x = after_an_lstm(lambda made, y: softmax(made, y, 1.0))
    y = interop.from_tflite(data).sequential()(x.swapaxes(0, 1))
    limit = 5 * 10 * 4 * float(np.finfo(np.float32).eps)  # 10 terms below 4 in each of 5 steps
    expected = tflite_build.interpreted(data, x).swapaxes(0, 1)
    np.testing.assert_allclose(y, expected, rtol=0, atol=limit)
    data, _ = after_an_lstm(lambda made, y: softmax(made, y, 2.0))
    with pytest.raises(interop.Unsupported, match="'SOFTMAX' is none of"):
        interop.from_tflite(data).sequential()


def test_weights_that_are_shuffled() -> None:
    def dense(made: Any, y: int) -> int:
        options = made.schema.FullyConnectedOptionsT()
        options.weightsFormat = made.schema.FullyConnectedOptionsWeightsFormat.SHUFFLED4x16INT8
        weight = made.tensor((4, 4), np.ones((4, 4), np.int8), scale=0.5)
        end = made.tensor((5, 4))
        made.operator("FULLY_CONNECTED", [y, weight], [end], options)
        return int(end)

    data, _ = after_an_lstm(dense)
    with pytest.raises(interop.Unsupported, match="'FULLY_CONNECTED' is none of"):
        interop.from_tflite(data).sequential()


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.int32])
def test_integers_become_floats(dtype: Any) -> None:
    """(q - zero) scale, rounded once: of 32 bits in double precision."""
    limits = np.iinfo(dtype)
    whole = np.array([limits.min, limits.min + 1, 1, limits.max], dtype)

    def dense(made: Any, y: int) -> int:
        weight = made.tensor((1, 4), whole[None], scale=0.1)
        made.graph.tensors[weight].quantization.zeroPoint = np.array([7], np.int64)
        end = made.tensor((5, 1))
        options = made.schema.FullyConnectedOptionsT()
        made.operator("FULLY_CONNECTED", [y, weight], [end], options)
        return int(end)

    found = interop.from_tflite(after_an_lstm(dense)[0])
    expected = (whole.astype(np.int64) - 7) * np.float64(np.float32(0.1))
    np.testing.assert_array_equal(found.others[0].weights["weight"][0], expected.astype(np.float32))
