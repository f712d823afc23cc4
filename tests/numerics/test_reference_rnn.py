# SPDX-License-Identifier: BSD-3-Clause
"""The specifications of the RNN and the GRU against PyTorch, forward and autograd, against finite
differences, and at their edges; all in float64."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from fastlstm import reference
from support import rnn_runs
from support.rnn_runs import KINDS, TORCH_KINDS, Case

# Both sides round to 2^-53 some I + H times in each sum, and a step hands its error on. Measured
# over the cases here: 1e-14 of the largest number for tanh, 5e-13 for relu, whose states grow.
TOLERANCE = 1e-11
STEP, DIFFERENCE_TOLERANCE = 1e-6, 1e-7  # of finite differences: their error is STEP^2 and eps/STEP


def close(actual: Any, expected: Any, tolerance: float, what: object) -> None:
    scale = max(1.0, float(np.max(np.abs(expected), initial=0)))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * scale, err_msg=str(what))


# PyTorch has no fast GRU: twelve of these take as long as forty RNNs.
@pytest.mark.parametrize(
    ("kind", "seed"),
    [(kind, seed) for kind in TORCH_KINDS for seed in range(12 if kind == "gru" else 40)],
)
def test_agrees_with_torch(kind: str, seed: int) -> None:
    """Forward, and the gradients of a random loss; ragged rows of length 0 are left to promise."""
    case = rnn_runs.random_case(seed, kind, "float64")
    theirs = rnn_runs.torch_results(case)
    ours = rnn_runs.reference_results(case)
    assert ours.keys() == theirs.keys()
    for name, expected in theirs.items():
        assert ours[name].dtype == np.float64
        close(ours[name], expected, TOLERANCE, (name, case))


def test_the_cases_cover_every_option() -> None:
    cases = [rnn_runs.random_case(seed, "tanh", "float64") for seed in range(40)]
    for option in ("bias", "bidirectional", "with_state", "ragged"):
        assert {getattr(case, option) for case in cases} == {False, True}, option
    assert {case.num_layers for case in cases} == {1, 2, 3}
    ragged = [case.lengths() for case in cases if case.ragged]
    assert any((lengths == 0).any() for lengths in ragged)
    assert any((np.diff(lengths) > 0).any() for lengths in ragged)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_finite_differences_of_every_entry(kind: str, dropout: float) -> None:
    case = Case(4, 3, 2, 3, 2, True, True, True, True, kind, "float64", 3)
    inputs = case.inputs()

    def loss(moved: dict[str, np.ndarray]) -> float:
        result = rnn_runs.reference_forward(
            case,
            moved["x"],
            {name: moved[name] for name in inputs.params},
            h_0=moved["h_0"],
            lengths=inputs.lengths,
            dropout=dropout,
            seed=5,
        )
        return float(np.sum(inputs.dy * result.y) + np.sum(inputs.dh_n * result.h_n))

    grads = rnn_runs.reference_backward(
        case,
        inputs.x,
        inputs.params,
        h_0=inputs.h_0,
        lengths=inputs.lengths,
        dy=inputs.dy,
        dh_n=inputs.dh_n,
        dropout=dropout,
        seed=5,
    )
    variables = {"x": np.nan_to_num(inputs.x), "h_0": inputs.h_0, **inputs.params}
    found = {"x": grads.x, "h_0": grads.h_0, **grads.params}
    assert found.keys() == variables.keys()
    for name, value in variables.items():
        slopes = np.zeros(value.shape)
        for place in np.ndindex(value.shape):
            losses = []
            for step in (STEP, -STEP):
                moved = value.copy()
                moved[place] += step
                losses.append(loss({**variables, name: moved}))
            slopes[place] = (losses[0] - losses[1]) / (2 * STEP)
        close(found[name], slopes, DIFFERENCE_TOLERANCE, name)


def test_one_step_by_hand() -> None:
    params = {
        "weight_ih_l0": [[2.0], [-1.0]],
        "weight_hh_l0": [[0.0, 1.0], [3.0, 0.0]],
        "bias_ih_l0": [0.25, 0.0],
        "bias_hh_l0": [0.25, -4.0],
    }
    h_0 = [[[0.5, -1.0]]]
    # z = (2 * 1 - 1 + 0.5, -1 + 3 * 0.5 - 4) = (1.5, -3.5)
    result = reference.rnn_forward([[[1.0]]], params, nonlinearity="relu", h_0=h_0)
    assert result.y.tolist() == [[[1.5, 0.0]]]
    assert result.h_n.tolist() == [[[1.5, 0.0]]]
    result = reference.rnn_forward([[[1.0]]], params, h_0=h_0)
    assert result.y[0, 0].tolist() == [np.tanh(1.5), np.tanh(-3.5)]
    grads = reference.rnn_backward(
        [[[1.0]]], params, nonlinearity="relu", h_0=h_0, dy=[[[1.0, 10.0]]], dh_n=[[[2.0, 10.0]]]
    )
    assert grads.x.tolist() == [[[6.0]]]  # dz = (3, 0)
    assert grads.h_0.tolist() == [[[0.0, 3.0]]]
    assert grads.params["weight_hh_l0"].tolist() == [[1.5, -3.0], [0.0, 0.0]]
    assert grads.params["bias_ih_l0"].tolist() == [3.0, 0.0]


def test_one_step_of_a_gru_by_hand() -> None:
    params = {
        "weight_ih_l0": [[0.0], [0.0], [2.0]],
        "weight_hh_l0": [[0.0], [0.0], [4.0]],
        "bias_ih_l0": [0.0, np.log(3.0), 0.5],
        "bias_hh_l0": [0.0, 0.0, -2.0],
    }
    h_0 = [[[0.75]]]
    # r = 1/2, z = 3/4, b_n = 4 * 0.75 - 2 = 1, n = tanh(2 + 0.5 + 1/2)
    n, z, r, b_n = np.tanh(3.0), 0.75, 0.5, 1.0
    result = reference.gru_forward([[[1.0]]], params, h_0=h_0)
    np.testing.assert_allclose(result.y, [[[0.25 * n + 0.75 * 0.75]]], rtol=1e-15)
    grads = reference.gru_backward([[[1.0]]], params, h_0=h_0, dy=[[[8.0]]])
    da_n = 8 * (1 - z) * (1 - n**2)
    da_z = 8 * (0.75 - n) * z * (1 - z)
    da_r = da_n * b_n * r * (1 - r)
    np.testing.assert_allclose(grads.x, [[[2 * da_n]]], rtol=1e-13)
    np.testing.assert_allclose(grads.h_0, [[[8 * z + 4 * da_n * r]]], rtol=1e-13)
    np.testing.assert_allclose(grads.params["bias_ih_l0"], [da_r, da_z, da_n], rtol=1e-13)
    np.testing.assert_allclose(grads.params["bias_hh_l0"], [da_r, da_z, da_n * r], rtol=1e-13)


def test_one_step_of_a_gru_that_resets_before_by_hand() -> None:
    params = {
        "weight_ih_l0": [[0.0], [0.0], [2.0]],
        "weight_hh_l0": [[1.0], [0.0], [4.0]],
        "bias_ih_l0": [-0.75, np.log(3.0), 0.5],
        "bias_hh_l0": [0.0, 0.0, -2.0],
    }
    h = 0.75
    # r = sigmoid(0.75 - 0.75) = 1/2, z = 3/4, n = tanh(2 + 0.5 + 4 * (0.5 * 0.75) - 2)
    n, z, r = np.tanh(2.0), 0.75, 0.5
    result = reference.gru_forward([[[1.0]]], params, h_0=[[[h]]], reset_after=False)
    np.testing.assert_allclose(result.y, [[[0.25 * n + 0.75 * h]]], rtol=1e-15)
    grads = reference.gru_backward([[[1.0]]], params, h_0=[[[h]]], dy=[[[8.0]]], reset_after=False)
    da_n = 8 * (1 - z) * (1 - n**2)
    da_z = 8 * (h - n) * z * (1 - z)
    dm = 4 * da_n
    da_r = dm * h * r * (1 - r)
    np.testing.assert_allclose(grads.x, [[[2 * da_n]]], rtol=1e-13)
    np.testing.assert_allclose(grads.h_0, [[[8 * z + dm * r + da_r]]], rtol=1e-13)
    dw_hh = [[da_r * h], [da_z * h], [da_n * r * h]]
    np.testing.assert_allclose(grads.params["weight_hh_l0"], dw_hh, rtol=1e-13)
    for bias in ("bias_ih_l0", "bias_hh_l0"):
        np.testing.assert_allclose(grads.params[bias], [da_r, da_z, da_n], rtol=1e-13)


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_grus_agree_with_onnx_runtime(before: bool, seed: int) -> None:
    """Whose GRU is float32 alone: two ways to sum K = I + H numbers there differ by eps sqrt(K) of
    their size or so, which steps and layers hand on."""
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    case = rnn_runs.random_case(300 + seed, "gru_reset_before" if before else "gru", "float32")
    case = dataclasses.replace(case, num_layers=1, bias=True)
    i, directions = case.inputs(), 1 + case.bidirectional
    ends = ("", "_reverse")[:directions]

    def stacked(name: str) -> np.ndarray:
        """As ONNX orders gates: z r h."""
        parts = [np.split(i.params[f"{name}_l0{end}"], 3) for end in ends]
        return np.stack([np.concatenate([z, r, n]) for r, z, n in parts])

    bias = np.concatenate([stacked("bias_ih"), stacked("bias_hh")], axis=1)
    lengths = np.full(case.batch, case.steps) if i.lengths is None else i.lengths
    h_0 = np.zeros_like(i.dh_n) if i.h_0 is None else i.h_0
    given = {"x": np.nan_to_num(i.x), "W": stacked("weight_ih"), "R": stacked("weight_hh")}
    given |= {"B": bias, "lengths": lengths.astype(np.int32), "h_0": h_0}
    kinds = {name: onnx.helper.np_dtype_to_tensor_dtype(v.dtype) for name, v in given.items()}
    value = onnx.helper.make_tensor_value_info
    node = onnx.helper.make_node(
        "GRU",
        list(given),
        ["y", "h_n"],
        hidden_size=case.hidden_size,
        direction="bidirectional" if case.bidirectional else "forward",
        linear_before_reset=int(not before),
    )
    graph = onnx.helper.make_graph(
        [node],
        "gru",
        [value(name, kinds[name], v.shape) for name, v in given.items()],
        [value(name, kinds["x"], None) for name in ("y", "h_n")],
    )
    opset = onnx.helper.make_opsetid("", 17)
    model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8)
    y, h_n = runtime.InferenceSession(model.SerializeToString()).run(None, given)
    ours = rnn_runs.reference_forward(case, i.x, i.params, h_0=i.h_0, lengths=i.lengths)
    count = case.input_size + case.hidden_size + 2
    bound = 6 * np.sqrt(count) * np.finfo(np.float32).eps
    taken = lengths > 0  # ONNX Runtime forgets the state of a sequence without steps
    np.testing.assert_allclose(
        np.moveaxis(y, 1, 2).reshape(ours.y.shape)[:, taken], ours.y[:, taken], rtol=0, atol=bound
    )
    np.testing.assert_allclose(h_n[:, taken], ours.h_n[:, taken], rtol=0, atol=bound)


def test_edges() -> None:
    params = Case(1, 1, 2, 3, 1, True, False, False, False, "tanh", "float64", 0).inputs().params
    empty = reference.rnn_forward(np.zeros((0, 2, 2)), params, h_0=np.ones((1, 2, 3)))
    assert empty.y.shape == (0, 2, 3)
    assert (empty.h_n == 1).all()
    assert reference.rnn_forward(np.zeros((4, 0, 2)), params).h_n.shape == (1, 0, 3)
    with pytest.raises(ValueError, match="nonlinearity must be one of tanh, relu"):
        reference.rnn_forward(np.zeros((1, 1, 2)), params, nonlinearity="elu")
    with pytest.raises(ValueError, match="h_0 has shape"):
        reference.rnn_forward(np.zeros((1, 1, 2)), params, h_0=np.zeros((1, 1, 4)))
    with pytest.raises(ValueError, match="dh_n has shape"):
        reference.rnn_backward(np.zeros((1, 1, 2)), params, dh_n=np.zeros((2, 1, 3)))
    with pytest.raises(ValueError, match="lengths"):
        reference.rnn_forward(np.zeros((1, 1, 2)), params, lengths=[2])
