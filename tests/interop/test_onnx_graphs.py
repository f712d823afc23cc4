# SPDX-License-Identifier: BSD-3-Clause
"""ONNX graphs around recurrent nodes: ways of weights, graphs inside, functions."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastlstm
from fastlstm import interop
from support import onnx_models
from support.onnx_models import Node, model_of

onnx = pytest.importorskip("onnx")
make = onnx.helper.make_node


def plain(directions: int = 1, hidden: int = 4, inputs: int = 3, seed: int = 0) -> Node:
    rng = np.random.default_rng(seed)

    def values(*shape: int) -> np.ndarray:
        return rng.uniform(-0.5, 0.5, shape).astype(np.float32)

    node = Node("LSTM", {"X": values(5, 2, inputs)})
    node.values |= {
        "W": values(directions, 4 * hidden, inputs),
        "R": values(directions, 4 * hidden, hidden),
        "B": values(directions, 8 * hidden),
    }
    direction = "bidirectional" if directions == 2 else "forward"
    node.attributes = {"hidden_size": hidden, "direction": direction}
    return node


def lstm(node: Node, inputs: list[str], outputs: list[str]) -> Any:
    return make("LSTM", inputs, outputs, "lstm", **node.attributes)


def ints(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


# How W, (1, 16, 3), reaches its node: constants, and nodes from them to "W".
W = plain().values["W"]
CHAINS: dict[str, tuple[dict[str, np.ndarray], list[Any]]] = {
    "Constant": ({}, [make("Constant", [], ["W"], value=onnx.numpy_helper.from_array(W))]),
    "Identity": ({"a": W}, [make("Identity", ["a"], ["W"])]),
    "Transpose": (
        {"a": np.ascontiguousarray(W.transpose(2, 0, 1))},
        [make("Transpose", ["a"], ["W"], perm=[1, 2, 0])],
    ),
    "Unsqueeze": ({"a": W[0], "axes": ints(0)}, [make("Unsqueeze", ["a", "axes"], ["W"])]),
    "Squeeze": ({"a": W[None], "axes": ints(1)}, [make("Squeeze", ["a", "axes"], ["W"])]),
    "Reshape": ({"a": W.reshape(-1), "s": ints(1, 16, -1)}, [make("Reshape", ["a", "s"], ["W"])]),
    "Slice and Concat": (
        # torch's gates, i f g o, as its exporter turns them into ONNX's
        {
            "a": np.concatenate([np.split(W[0], 4)[k] for k in (0, 2, 3, 1)])[None],
            **{f"at{k}": ints(4 * k) for k in range(5)},
            "axis": ints(1),
        },
        [
            *[make("Slice", ["a", f"at{k}", f"at{k + 1}", "axis"], [f"g{k}"]) for k in range(4)],
            make("Concat", ["g0", "g3", "g1", "g2"], ["W"], axis=1),
        ],
    ),
    "Split": (
        {"a": np.concatenate([W, W + 1]), "parts": ints(1, 1)},
        [make("Split", ["a", "parts"], ["W", "rest"], axis=0)],
    ),
    "Gather": (
        {"a": np.concatenate([W + 1, W]), "at": ints(1)},
        [make("Gather", ["a", "at"], ["W"], axis=0)],
    ),
    "Cast": ({"a": W.astype(np.float64)}, [make("Cast", ["a"], ["W"], to=onnx.TensorProto.FLOAT)]),
}


@pytest.mark.parametrize("name", CHAINS)
def test_weights_are_folded(name: str) -> None:
    constants, nodes = CHAINS[name]
    node = plain()
    others = {key: node.values[key] for key in ("R", "B")}
    model = model_of(
        [*nodes, lstm(node, ["X", "W", "R", "B"], ["Y", "Y_h", "Y_c"])],
        node.feeds(), node.outputs, {**constants, **others},
    )  # fmt: skip
    direct = interop.from_onnx(node.model())
    imported = interop.from_onnx(model)
    assert not imported.others
    for key, values in direct.model.state_dict().items():
        np.testing.assert_array_equal(imported.model.state_dict()[key], values)
    expected = onnx_models.by_runtime(model, node.feeds())
    y, _ = imported.model(node.values["X"])
    assert np.abs(y - expected[0][:, 0]).max() <= onnx_models.tolerance(node, expected)


def test_weights_that_were_quantised() -> None:
    node = plain()
    scale = np.array(0.004, np.float32)
    whole = np.clip(np.round(node.values["W"] / scale), -128, 127).astype(np.int8)
    constants = {"q": whole, "scale": scale, **{k: node.values[k] for k in ("R", "B")}}
    nodes = [
        make("DequantizeLinear", ["q", "scale"], ["W"]),
        lstm(node, ["X", "W", "R", "B"], node.outputs),
    ]
    model = model_of(nodes, node.feeds(), node.outputs, constants)
    imported = interop.from_onnx(model)
    assert any("dequantised" in note for note in imported.notes)
    expected = onnx_models.by_runtime(model, node.feeds())
    y, _ = imported.model(node.values["X"])
    assert np.abs(y - expected[0][:, 0]).max() <= onnx_models.tolerance(node, expected)


def test_dynamic_quantised_lstm(tmp_path: Path) -> None:
    """What ONNX Runtime's own tool makes of an LSTM: W and R as (D, inputs, 4H) of int8."""
    quantization = pytest.importorskip("onnxruntime.quantization")
    layer = fastlstm.LSTM(6, 8, bidirectional=True, seed=0)
    interop.to_onnx(layer, tmp_path / "float.onnx")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantization.quantize_dynamic(
            tmp_path / "float.onnx", tmp_path / "int8.onnx",
            weight_type=quantization.QuantType.QInt8, op_types_to_quantize=["LSTM"],
        )  # fmt: skip
    proto = onnx.load(tmp_path / "int8.onnx")
    assert "DynamicQuantizeLSTM" in {node.op_type for node in proto.graph.node}
    imported = interop.from_onnx(tmp_path / "int8.onnx")
    assert any("dequantised" in note and "differ" in note for note in imported.notes)
    for name, values in layer.state_dict().items():
        step = np.abs(values).max() / 127 if name.startswith("weight") else 0.0
        assert np.abs(imported.model.state_dict()[name] - values).max() <= 0.51 * step, name
    # Its node rounds inputs to 255 steps of some 8 in all; weights are up to 1 / sqrt(8), and
    # errors of 14 inputs add up by chance. A wrong order of gates is off by 0.1 and more.
    from fastlstm.interop import onnx_verify

    (difference,) = onnx_verify.verify(tmp_path / "int8.onnx").values()
    assert 0 < difference <= 8 / 255 / np.sqrt(8) * np.sqrt(14)


def test_half_precision_is_widened() -> None:
    node = plain()
    constants = {k: node.values[k].astype(np.float16) for k in ("W", "R", "B")}
    model = model_of(
        [lstm(node, ["X", "W", "R", "B"], node.outputs)], node.feeds(), node.outputs, constants
    )
    imported = interop.from_onnx(model)
    assert imported.model.dtype == np.float32
    assert any("float16" in note for note in imported.notes)
    order = [0, 2, 3, 1]
    blocks = np.split(constants["W"][0].astype(np.float32), 4)
    torchs = np.concatenate([blocks[k] for k in order])
    np.testing.assert_array_equal(imported.model.weight_ih_l0, torchs)


def test_an_initial_state_that_the_file_holds() -> None:
    node = plain()
    held = {"h": np.full((1, 2, 4), 0.25, np.float32), "c": np.zeros((1, 2, 4), np.float32)}
    weights = {k: node.values[k] for k in ("W", "R", "B")}
    nodes = [lstm(node, ["X", "W", "R", "B", "", "h", "c"], node.outputs)]
    model = model_of(nodes, node.feeds(), node.outputs, {**weights, **held})
    (layers,) = interop.from_onnx(model).stacks.values()
    state = layers[0].initial_state
    assert state is not None
    assert not layers[0].has_state
    assert (state[0] == 0.25).all()
    assert not state[1].any()
    zeros = {name: np.zeros_like(value) for name, value in held.items()}
    model = model_of(nodes, node.feeds(), node.outputs, {**weights, **zeros})
    (layers,) = interop.from_onnx(model).stacks.values()
    assert layers[0].initial_state is None


# ---- stacks ----


def stacked(between: list[Any], constants: dict[str, np.ndarray], **second: Any) -> Any:
    """Two LSTMs of one direction with nodes from "Y" to "x2" between."""
    one, two = plain(), plain(inputs=4, seed=1)
    two.attributes |= second
    weights = {f"{k}{at}": n.values[k] for at, n in ((1, one), (2, two)) for k in ("W", "R", "B")}
    nodes = [
        make("LSTM", ["X", "W1", "R1", "B1"], ["Y"], "below", **one.attributes),
        *between,
        make("LSTM", ["x2", "W2", "R2", "B2"], ["Y2"], "above", **two.attributes),
    ]
    return model_of(nodes, one.feeds(), ["Y2"], {**weights, **constants})


TOGETHER: dict[str, tuple[list[Any], dict[str, np.ndarray]]] = {
    "Squeeze": ([make("Squeeze", ["Y", "a"], ["x2"])], {"a": ints(1)}),
    "Squeeze from the end": ([make("Squeeze", ["Y", "a"], ["x2"])], {"a": ints(-3)}),
    "Transpose and Reshape": (
        [make("Transpose", ["Y"], ["t"], perm=[0, 2, 1, 3]), make("Reshape", ["t", "s"], ["x2"])],
        {"s": ints(0, 0, -1)},
    ),
    "Reshape": ([make("Reshape", ["Y", "s"], ["x2"])], {"s": ints(0, -1, 4)}),
    "Dropout": (
        [make("Squeeze", ["Y", "a"], ["t"]), make("Dropout", ["t"], ["x2"])],
        {"a": ints(1)},
    ),
}
APART: dict[str, tuple[list[Any], dict[str, np.ndarray]]] = {
    "Relu": (
        [make("Squeeze", ["Y", "a"], ["t"]), make("Relu", ["t"], ["x2"])],
        {"a": ints(1)},
    ),
    "time and batch exchanged": (
        [make("Squeeze", ["Y", "a"], ["t"]), make("Transpose", ["t"], ["x2"], perm=[1, 0, 2])],
        {"a": ints(1)},
    ),
    "sizes that may mix time and batch": (
        [make("Reshape", ["Y", "s"], ["x2"])],
        {"s": ints(2, 5, 4)},
    ),
}


@pytest.mark.parametrize("name", [*TOGETHER, *APART])
def test_layers_on_each_other(name: str) -> None:
    between, constants = {**TOGETHER, **APART}[name]
    model = stacked(between, constants)
    imported = interop.from_onnx(model)
    if name in APART:
        assert list(imported.layers) == ["below", "above"]
        return
    assert list(imported.layers) == ["below"]
    assert imported.model.num_layers == 2
    x = plain().values["X"]
    expected = onnx_models.by_runtime(model, {"X": x})
    y, _ = imported.model(x)
    assert np.abs(y - expected[0][:, 0]).max() <= 2 * onnx_models.tolerance(plain(), expected)


@pytest.mark.parametrize("fault", ["", "order", "axis", "read"])
def test_directions_cut_apart_and_laid_together(fault: str) -> None:
    """As tf2onnx writes Bidirectional; in another order, or read elsewhere, it is no stack."""
    one, two = plain(2), plain(2, inputs=8, seed=1)
    weights = {f"{k}{at}": n.values[k] for at, n in ((1, one), (2, two)) for k in ("W", "R", "B")}
    first, second = ("b", "f") if fault == "order" else ("f", "b")
    nodes = [
        make("LSTM", ["X", "W1", "R1", "B1"], ["Y"], "below", **one.attributes),
        make("Slice", ["Y", "n1", "n2", "n1"], ["b4"]),
        make("Squeeze", ["b4", "n1"], ["b"]),
        make("Slice", ["Y", "n0", "n1", "n1"], ["f4"]),
        make("Squeeze", ["f4", "n1"], ["f"]),
        make("Concat", [first, second], ["x2"], axis=0 if fault == "axis" else -1),
        make("LSTM", ["x2", "W2", "R2", "B2"], ["Y2"], "above", **two.attributes),
    ]
    constants = {**weights, "n0": ints(0), "n1": ints(1), "n2": ints(2)}
    outputs = ["Y2", "f"] if fault == "read" else ["Y2"]
    model = model_of(nodes, one.feeds(), outputs, constants)
    imported = interop.from_onnx(model)
    if fault:
        assert list(imported.layers) == ["below", "above"]
        return
    assert imported.model.num_layers == 2
    x = one.values["X"]
    expected = onnx_models.by_runtime(model, {"X": x})[0]
    y = imported.model(x)[0].reshape(*x.shape[:2], 2, 4).transpose(0, 2, 1, 3)
    assert np.abs(y - expected).max() <= 2 * onnx_models.tolerance(one, [expected])


def test_an_output_that_is_read_elsewhere_stays_one() -> None:
    between, constants = TOGETHER["Squeeze"]
    model = stacked(between, constants)
    model.graph.output.append(
        onnx.helper.make_tensor_value_info("x2", onnx.TensorProto.FLOAT, None)
    )
    assert list(interop.from_onnx(model).layers) == ["below", "above"]


def test_other_options_are_no_stack() -> None:
    between, constants = TOGETHER["Squeeze"]
    imported = interop.from_onnx(stacked(between, constants, clip=0.5))
    assert list(imported.layers) == ["below", "above"]


# ---- graphs in nodes ----


def test_branches_and_loops() -> None:
    """Weights of a graph around, of the graph itself, and the same names in both branches."""
    node = plain()
    helper, real = onnx.helper, onnx.TensorProto.FLOAT

    def branch(scale: float) -> Any:
        own = onnx.numpy_helper.from_array(node.values["W"] * np.float32(scale), "W")
        result = helper.make_tensor_value_info("Y", real, [None] * 4)
        nodes = [make("LSTM", ["X", "W", "R", "B"], ["Y"], "same", **node.attributes)]
        return helper.make_graph(nodes, "branch", [], [result], [own])

    choice = make(
        "If", ["flag"], ["out"], "choice", then_branch=branch(1.0), else_branch=branch(0.5)
    )
    body = helper.make_graph(
        [
            make("Identity", ["go_on"], ["go_on_out"]),
            make("LSTM", ["X", "V", "R", "B"], ["step"], "inner", **node.attributes),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", onnx.TensorProto.INT64, []),
            helper.make_tensor_value_info("go_on", onnx.TensorProto.BOOL, []),
        ],
        [
            helper.make_tensor_value_info("go_on_out", onnx.TensorProto.BOOL, []),
            helper.make_tensor_value_info("step", real, None),
        ],
    )
    loop = make("Loop", ["count", "flag"], ["steps"], "loop", body=body)
    constants = {
        "R": node.values["R"], "B": node.values["B"], "V": node.values["W"] * np.float32(2),
        "count": np.array(1, np.int64),
    }  # fmt: skip
    feeds = {**node.feeds(), "flag": np.array(True)}
    model = model_of([choice, loop], feeds, ["out", "steps"], constants)
    imported = interop.from_onnx(model)
    scales = {name: layer.weight_ih_l0.max() for name, layer in imported.layers.items()}
    assert len(scales) == 3
    largest = node.values["W"].max()
    found = sorted(float(value / largest) for value in scales.values())
    np.testing.assert_allclose(found, [0.5, 1.0, 2.0], rtol=1e-6)
    assert {"same", "inner"} < {*scales}
    assert scales["inner"] == 2 * largest
    (second,) = {*scales} - {"same", "inner"}
    assert second.startswith("choice/")


def test_functions_are_written_out() -> None:
    node = plain()
    helper = onnx.helper
    function = helper.make_function(
        "ours", "Layer", ["x", "w", "r"], ["y"],
        [make("LSTM", ["x", "w", "r"], ["y"], **node.attributes)],
        [helper.make_opsetid("", onnx_models.OPSET)],
    )  # fmt: skip
    call = make("Layer", ["X", "W", "R"], ["Y"], "call", domain="ours")
    weights = {k: node.values[k] for k in ("W", "R")}
    model = model_of([call], node.feeds(), ["Y"], weights)
    model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("ours", 1))
    assert interop.from_onnx(model).model.hidden_size == 4


def test_functions_that_explode_are_refused() -> None:
    helper = onnx.helper
    model = plain().model()
    for at in range(30):  # 2 to the 30 nodes
        below = f"f{at - 1}" if at else "Identity"
        domain = "bomb" if at else ""
        nodes = [
            make(below, ["x"], ["t"], domain=domain),
            make(below, ["t"], ["y"], domain=domain),
        ]
        model.functions.append(
            helper.make_function(
                "bomb", f"f{at}", ["x"], ["y"], nodes, [helper.make_opsetid("", 17)]
            )
        )
    model.graph.node.append(make("f29", ["X"], ["Z"], domain="bomb"))
    with pytest.raises(interop.FormatError, match="functions"):
        interop.from_onnx(model)
