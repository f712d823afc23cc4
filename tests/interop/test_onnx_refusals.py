# SPDX-License-Identifier: BSD-3-Clause
"""ONNX graphs that nearly are chains: where they compute something else, no wrong number comes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fastlstm import interop
from support import onnx_models

onnx = pytest.importorskip("onnx")

STEPS, BATCH, INPUTS, UNITS, OUT = 5, 3, 2, 4, 3
step: Callable[..., Any] = onnx.helper.make_node


def floats(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.6, shape).astype(np.float32)


def model(*nodes: Any, opset: int = 11, last: bool = False, **arrays: np.ndarray) -> Any:
    """An LSTM, its last step if told, and what reads that: the value is called s."""
    below = [
        step("LSTM", ["x", "W", "R"], ["y4"], hidden_size=UNITS),
        step("Squeeze", ["y4"], ["all" if last else "s"], axes=[1]),
    ]
    if last:
        below.append(step("Gather", ["all", "end"], ["s"], axis=0))
        arrays["end"] = np.array(-1)
    arrays |= {"W": floats(1, 4 * UNITS, INPUTS), "R": floats(1, 4 * UNITS, UNITS)}
    made = onnx_models.model_of([*below, *nodes], {"x": x()}, ["y"], arrays)
    del made.opset_import[:]
    made.opset_import.extend([onnx.helper.make_opsetid("", opset)])
    return made


def x() -> np.ndarray:
    return floats(STEPS, BATCH, INPUTS)


def agrees(made: Any) -> None:
    """With ONNX Runtime; sums of at most 10 terms below 4 in each of 5 steps."""
    pytest.importorskip("onnxruntime")
    (expected,) = onnx_models.by_runtime(made, {"x": x()})
    y = interop.from_onnx(made).sequential()(x().swapaxes(0, 1))
    y = y.swapaxes(0, 1) if y.ndim == 3 else y
    limit = 5 * 10 * 4 * float(np.finfo(np.float32).eps)
    np.testing.assert_allclose(y, expected, rtol=0, atol=limit)


def refused(made: Any, why: str) -> None:
    found = interop.from_onnx(made)
    assert len(found.layers) == 1
    with pytest.raises(interop.Unsupported, match=why):
        found.sequential()


@pytest.mark.parametrize("kind", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize("opset", [7, 11, 12])
def test_old_softmax_is_over_all_axes_from_the_second(kind: str, opset: int) -> None:
    refused(model(step(kind, ["s"], ["y"]), opset=opset), "another axis than the columns")
    agrees(model(step(kind, ["s"], ["y"], axis=2), opset=opset))
    agrees(model(step(kind, ["s"], ["y"]), opset=opset, last=True))


@pytest.mark.parametrize("shape", [(), (1,), (OUT,), (1, OUT), (1, 1)], ids=str)
def test_gemm_adds_a_bias(shape: tuple[int, ...]) -> None:
    arrays = {"D": floats(UNITS, OUT), "c": floats(*shape)}
    agrees(model(step("Gemm", ["s", "D", "c"], ["y"]), last=True, **arrays))


@pytest.mark.parametrize("shape", [(BATCH, 1), (BATCH, OUT)], ids=str)
def test_gemm_adds_something_else(shape: tuple[int, ...]) -> None:
    arrays = {"D": floats(UNITS, OUT), "c": floats(*shape)}
    node = step("Gemm", ["s", "D", "c"], ["y"])
    refused(model(node, last=True, **arrays), "something else than a bias")


def test_operators_of_others() -> None:
    node = step("Relu", ["s"], ["y"], domain="mine")
    refused(model(node), r"Relu of mine\) is no operator of ONNX")


def test_dropout_of_training() -> None:
    arrays = {"ratio": np.float32(0.5), "trains": np.array(True)}
    node = step("Dropout", ["s", "ratio", "trains"], ["y"])
    refused(model(node, **arrays), "no layer of a chain")  # type: ignore[arg-type]
    arrays["trains"] = np.array(False)
    assert not interop.from_onnx(model(node, **arrays)).branches  # type: ignore[arg-type]


def test_names_that_are_no_text() -> None:
    """protobuf hands over bytes for them."""
    data = model(step("Relu", ["s"], ["y"], "middle")).SerializeToString()
    with pytest.raises(interop.FormatError, match="node 2: a name of it is no UTF-8"):
        interop.from_onnx(data.replace(b"middle", b"midd\xff\xfe"))


@pytest.mark.parametrize("perm", [(0, 2, 1), (1, 2, 0), (2, 0, 1)], ids=str)
def test_outputs_whose_columns_are_not_last(perm: tuple[int, ...]) -> None:
    refused(model(step("Transpose", ["s"], ["y"], perm=perm)), r"no \(B, T, columns\)")
