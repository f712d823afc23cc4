# SPDX-License-Identifier: BSD-3-Clause
"""Recurrent nodes of ONNX through the importer: the standard's own tests, ONNX Runtime's, and ONNX
Runtime itself on random nodes."""

from __future__ import annotations

import importlib
import json
from typing import Any

import numpy as np
import pytest

from fastlstm import interop
from support import onnx_models
from support.helpers import shared_data
from support.onnx_models import INPUTS, WEIGHTS, Node

onnx = pytest.importorskip("onnx")


def answers(node: Node) -> list[np.ndarray]:
    """Ours, after the way through an ONNX model."""
    imported = interop.from_onnx(node.model())
    (layers,) = imported.stacks.values()
    state = [node.values.get(name) for name in ("initial_h", "initial_c")]
    given = None if state[0] is None else tuple(h for h in state if h is not None)
    lengths = node.values.get("sequence_lens")
    x = node.values["X"]
    return onnx_models.by_fastlstm(imported.model, layers[0], x, given, lengths)


def standard_cases() -> list[tuple[str, Node, dict[str, np.ndarray]]]:
    """What the onnx package has for the three operators: it ships them as code."""
    found = []
    for kind in ("LSTM", "GRU", "RNN"):
        module = importlib.import_module(f"onnx.backend.test.case.node.{kind.lower()}")

        def keep(node: Any, inputs: list[Any], outputs: list[Any], name: str, **_: Any) -> None:
            given = dict(zip([n for n in node.input if n], inputs, strict=True))
            values = {
                role: np.asarray(given[name])
                for role, name in zip(INPUTS[node.op_type], node.input, strict=False)
                if name
            }
            results = [
                role for role, name in zip(("Y", "Y_h", "Y_c"), node.output, strict=False) if name
            ]
            attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            fed = tuple(role for role in values if role not in WEIGHTS)
            case = Node(node.op_type, values, fed, attributes)
            found.append((name, case, dict(zip(results, outputs, strict=True))))

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "expect", keep)
            cases = next(
                value for name, value in vars(module).items() if name in ("LSTM", "GRU", "RNN")
            )
            for name in [name for name in vars(cases) if name.startswith("export")]:
                getattr(cases, name)()
    return found


STANDARD = {name: (node, expected) for name, node, expected in standard_cases()}


def test_the_standard_has_cases() -> None:
    kinds = [node.kind for node, _ in STANDARD.values()]
    assert all(kinds.count(kind) >= 3 for kind in ("LSTM", "GRU", "RNN"))


@pytest.mark.parametrize("name", STANDARD)
def test_standard_node(name: str) -> None:
    node, expected = STANDARD[name]
    results = dict(zip(node.outputs, answers(node), strict=True))
    for role, values in expected.items():
        np.testing.assert_allclose(results[role], values, rtol=0, atol=1e-5, err_msg=role)


CUT = [
    name
    for name, (node, _) in STANDARD.items()
    if "sequence_lens" not in node.values and not node.batch_first
]


@pytest.mark.parametrize("name", CUT)
def test_standard_node_of_each_length(name: str) -> None:
    """A sequence of n steps is the whole cut after n, for every n from 0 to T."""
    node, _ = STANDARD[name]
    x = node.values["X"]
    for count in range(len(x) + 1):
        cut = {**node.values, "X": x[:count]}
        lengths = np.full(x.shape[1], count, np.int32)
        ragged = {**node.values, "sequence_lens": lengths}
        short = answers(Node(node.kind, cut, node.fed, node.attributes))
        whole = answers(Node(node.kind, ragged, (*node.fed, "sequence_lens"), node.attributes))
        np.testing.assert_array_equal(whole[0][:count], short[0])
        assert not whole[0][count:].any()
        for mine, other in zip(whole[1:], short[1:], strict=True):
            np.testing.assert_array_equal(mine, other)


@pytest.mark.parametrize("name", ["defaults", "with_initial_bias", "with_peepholes", "batchwise"])
def test_shared_node(name: str) -> None:
    """The same from files: the graph's own inputs as initializers, as a trained model has them."""
    folder = shared_data("onnx_node") / f"test_lstm_{name}"
    proto = onnx.load(folder / "model.onnx")
    (there,) = proto.graph.node
    data = folder / "test_data_set_0"

    def read(kind: str, at: int) -> np.ndarray:
        tensor = onnx.TensorProto.FromString((data / f"{kind}_{at}.pb").read_bytes())
        return onnx.numpy_helper.to_array(tensor)

    order = {value.name: at for at, value in enumerate(proto.graph.input)}
    roles = dict(zip(INPUTS["LSTM"], there.input, strict=False))
    values = {role: read("input", order[name]) for role, name in roles.items() if name}
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in there.attribute}
    fed = tuple(role for role in values if role not in WEIGHTS)
    results = dict(zip(there.output, answers(Node("LSTM", values, fed, attributes)), strict=False))
    for at, value in enumerate(proto.graph.output):
        np.testing.assert_allclose(results[value.name], read("output", at), rtol=0, atol=1e-5)


GOLDEN = [
    "ForwardSimpleWeightsNoBiasTwoRows", "ReverseSimpleWeightsNoBiasTwoRows",
    "BidirectionalSimpleWeightsNoBiasTwoRows", "ForwardPeepHole", "BidirectionalBasic",
    "ForwardHiddenState", "ForwardCellState",
]  # fmt: skip


@pytest.mark.parametrize("name", GOLDEN)
def test_runtime_case(name: str) -> None:
    with open(shared_data("golden/golden_cases.json"), encoding="utf-8") as file:
        entries = {entry["name"]: entry for entry in json.load(file)}
    assert {f"ort/{case}" for case in GOLDEN} == {key for key in entries if key[:3] == "ort"}
    entry = entries[f"ort/{name}"]
    given, tol = entry["inputs"], entry["tol"]
    directions = 2 if given["direction"] == "bidirectional" else 1
    names = {"W": "W_iofc", "R": "R_iofc", "B": "B", "P": "P_iof"}
    values = {"X": np.array(given["X"], np.float32)}
    for role, key in names.items():
        if given[key] is not None:
            values[role] = np.stack([np.array(given[key], np.float32)] * directions)
    hidden = values["R"].shape[2]
    shape = (directions, values["X"].shape[1], hidden)
    if given["initial_h"] is not None:
        for role in ("initial_h", "initial_c"):
            start = np.zeros(shape) if given[role] is None else np.reshape(given[role], shape)
            values[role] = start.astype(np.float32)
    attributes = {"direction": given["direction"], "hidden_size": hidden}
    assert given["clip"] is None
    assert not given["input_forget"]
    attributes["activations"] = [
        {"sigmoid": "Sigmoid", "tanh": "Tanh"}[a.lower()] for a in given["activations_fgh"]
    ] * directions
    fed = tuple(role for role in values if role not in WEIGHTS)
    results = dict(
        zip(("Y", "Y_h", "Y_c"), answers(Node("LSTM", values, fed, attributes)), strict=True)
    )
    for role, expected in entry["expected"].items():
        flat = np.reshape(np.array(expected), results[role].shape)
        np.testing.assert_allclose(results[role], flat, rtol=0, atol=tol)


def agree(node: Node) -> None:
    expected = onnx_models.by_runtime(node.model(), node.feeds())
    results = answers(node)
    limit = onnx_models.tolerance(node, expected)
    for role, mine, theirs in zip(node.outputs, results, expected, strict=True):
        assert mine.shape == theirs.shape, role
        difference = float(np.abs(mine - theirs).max(initial=0.0))
        assert difference <= limit, f"{role}: {difference:.3g} > {limit:.3g}, {node.attributes}"


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("seed", range(12))
def test_agrees_with_onnx_runtime(kind: str, seed: int) -> None:
    agree(onnx_models.random_node(seed, kind))


@pytest.mark.deep
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("block", range(4))
def test_agrees_with_onnx_runtime_on_hundreds(kind: str, block: int) -> None:
    for seed in range(100 + 100 * block, 200 + 100 * block):
        agree(onnx_models.random_node(seed, kind))


def test_a_wrong_gate_order_is_seen() -> None:
    """The oracle can fail: two gates of the recurrent weights exchanged."""
    node = onnx_models.random_node(0, "LSTM")
    node.values["X"] = np.ones((4, 2, node.values["W"].shape[2]), np.float32)
    node.values.pop("sequence_lens", None)
    for name in ("initial_h", "initial_c"):
        node.values.pop(name, None)
    expected = onnx_models.by_runtime(node.model(), node.feeds())
    hidden = node.values["R"].shape[2]
    w = node.values["W"]
    w[:, : 2 * hidden] = np.roll(w[:, : 2 * hidden], hidden, axis=1)
    assert np.abs(answers(node)[0] - expected[0]).max() > 1e-3
