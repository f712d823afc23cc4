# SPDX-License-Identifier: BSD-3-Clause
"""Layer normalisation: the reference against PyTorch's own, and what is particular to it in the
core. Random models, bits and files are in the tests of options."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import fastlstm
from fastlstm import LSTMOptions, _core, reference
from fastlstm.options import LAYER_NORMS
from fastlstm.spec import BACKWARD, FORWARD
from support import option_runs
from support.option_runs import Case

pytestmark = pytest.mark.sanitize
every_form = pytest.mark.parametrize("form", LAYER_NORMS)


def same_bits(one: np.ndarray, other: np.ndarray) -> bool:
    return np.ascontiguousarray(one).tobytes() == np.ascontiguousarray(other).tobytes()


# ---- PyTorch's ----


def torch_results(case: Case) -> dict[str, np.ndarray]:
    """One layer and direction by `torch.nn.functional.layer_norm` and autograd."""
    torch = pytest.importorskip("torch")
    i, o = case.inputs(), case.options
    assert i.state is not None
    leaves = {name.removesuffix("_l0"): torch.tensor(value) for name, value in i.params.items()}
    leaves |= {"x": torch.tensor(i.x), "h_0": torch.tensor(i.state[0][0])}
    leaves["c_0"] = torch.tensor(i.state[1][0])
    for leaf in leaves.values():
        leaf.requires_grad_()
    p, size = leaves, case.hidden_size

    def normed(v: Any, *affine: Any) -> Any:
        return torch.nn.functional.layer_norm(v, v.shape[-1:], *affine, eps=o.norm_epsilon)

    def step(x: Any, h: Any, c: Any) -> tuple[Any, Any]:
        of_x, of_h, bias = x @ p["weight_ih"].T, h @ p["weight_hh"].T, p["bias_ih"] + p["bias_hh"]
        holes = [p[f"weight_c{gate}"] if o.peepholes else torch.zeros(size) for gate in "ifo"]

        def gate(k: int, peephole: Any) -> Any:
            block = slice(k * size, (k + 1) * size)
            if o.layer_norm == "sums":
                sums = (of_x + of_h)[:, block] + peephole
                return normed(sums, p["weight_n"][block], bias[block])
            z = normed(of_x, p["weight_nx"]) + bias + normed(of_h, p["weight_nh"])
            return z[:, block] + peephole

        limit = np.inf if o.gate_clip is None else o.gate_clip
        i_ = torch.sigmoid(gate(0, holes[0] * c).clamp(-limit, limit))
        f = torch.sigmoid(gate(1, holes[1] * c).clamp(-limit, limit))
        f = 1 - i_ if o.coupled else f if o.forget_gate else torch.ones_like(f)
        c = f * c + i_ * torch.tanh(gate(2, 0).clamp(-limit, limit))
        o_ = torch.sigmoid(gate(3, holes[2] * c).clamp(-limit, limit))
        shown = c if o.layer_norm == "sums" else normed(c, p["weight_nc"], p["bias_nc"])
        h = o_ * torch.tanh(shown)
        if case.proj_size:
            most = np.inf if o.proj_clip is None else o.proj_clip
            h = (h @ p["weight_hr"].T).clamp(-most, most)
        return h, c

    h, c, outputs, cells = p["h_0"], p["c_0"], [], []
    for x in p["x"]:
        h, c = step(x, h, c)
        outputs.append(h)
        cells.append(c)
    y, cells = torch.stack(outputs), torch.stack(cells)
    pairs = zip((y, h[None], c[None], cells), (i.dy, *i.dstate, i.dcells), strict=True)
    sum((value * torch.tensor(slope)).sum() for value, slope in pairs).backward()
    results = [y, h[None], c[None], cells, p["x"].grad, p["h_0"].grad[None], p["c_0"].grad[None]]
    params = {name: np.zeros_like(value) for name, value in i.params.items()}
    for name, value in params.items():
        grad = p[name.removesuffix("_l0")].grad
        value += 0 if grad is None else grad.numpy()  # None: nothing reads it
    return option_runs.named([value.detach().numpy() for value in results], params)


@pytest.mark.parametrize(
    "others",
    [
        {},
        {"peepholes": True},
        {"peepholes": True, "coupled": True, "gate_clip": 0.9, "norm_epsilon": 0.1},
        {"peepholes": True, "forget_gate": False},
        {"proj_clip": 0.1, "gate_clip": 1.0},
    ],
    ids=str,
)
@every_form
def test_the_reference_agrees_with_torch(form: str, others: dict[str, Any]) -> None:
    """Some 1e4 roundings of numbers around 1 in float64; slopes reach 1 / sqrt(epsilon)."""
    options = LSTMOptions(layer_norm=form, **others)
    proj_size = 3 if options.proj_clip else 0
    case = Case(5, 3, 4, 6, 1, True, False, True, False, options, "float64", 5, proj_size)
    wanted = torch_results(case)
    for name, value in option_runs.expected(case).items():
        scale = max(1.0, float(np.abs(value).max()))
        np.testing.assert_allclose(value, wanted[name], rtol=0, atol=1e-11 * scale, err_msg=name)


# ---- the core ----


@every_form
def test_one_unit_is_its_biases(isa: str, dtype: str, form: str) -> None:
    """The norm of one number is 0, whatever it is. (Separately, four gates are normalised.)"""
    options = LSTMOptions(layer_norm=form, output_activation="linear")
    lstm = fastlstm.LSTM(3, 1, dtype=dtype, seed=0, options=options)
    state = dict(lstm.state_dict())
    state["weight_hh_l0"] = np.zeros_like(state["weight_hh_l0"])
    if form == "separate":
        state |= {"weight_ih_l0": np.zeros_like(state["weight_ih_l0"])}
        state |= {"bias_nc_l0": np.full_like(state["bias_nc_l0"], 0.75)}
    lstm.load_state_dict(state)
    x = 100 * np.random.default_rng(0).standard_normal((4, 3, 3)).astype(dtype)
    y, _, cells, tape = lstm.forward(x, return_cells=True)
    i, f, g, o = (state["bias_ih_l0"] + state["bias_hh_l0"]).astype(np.float64)
    i, f, o = (1 / (1 + np.exp(-z)) for z in (i, f, o))
    c = np.cumsum(i * np.tanh(g) * f ** np.arange(4))[:, None, None]
    shown = c if form == "sums" else 0.75
    tolerance = 20 * np.finfo(dtype).eps
    np.testing.assert_allclose(cells, np.broadcast_to(c, cells.shape), rtol=tolerance)
    np.testing.assert_allclose(y, np.broadcast_to(o * shown, y.shape), rtol=tolerance)
    grads = lstm.backward(tape, np.ones_like(y))
    assert not grads.x.any()
    assert grads.params["bias_ih_l0"].any()


@every_form
@pytest.mark.parametrize("hidden", [3, 16, 21, 40])
def test_constant_sums_are_their_biases(isa: str, dtype: str, form: str, hidden: int) -> None:
    """Equal sums of all units have no variance: 0 / sqrt(epsilon)."""
    options = LSTMOptions(layer_norm=form, norm_epsilon=2e-38)
    lstm = fastlstm.LSTM(2, hidden, dtype=dtype, seed=0, options=options)
    state = dict(lstm.state_dict())
    state["weight_ih_l0"] = np.full_like(state["weight_ih_l0"], 0.5)
    state["weight_hh_l0"] = np.zeros_like(state["weight_hh_l0"])
    lstm.load_state_dict(state)
    x = np.random.default_rng(0).integers(-8, 9, (1, 5, 2)).astype(dtype)  # means are exact
    _, (_, c_n), tape = lstm.forward(x)
    i, _, g, _ = np.split((state["bias_ih_l0"] + state["bias_hh_l0"]).astype(np.float64), 4)
    expected = np.broadcast_to(np.tanh(g) / (1 + np.exp(-i)), (1, 5, hidden))
    np.testing.assert_allclose(c_n, expected, rtol=0, atol=4 * np.finfo(dtype).eps)
    grads = lstm.backward(tape, dstate=(None, np.ones_like(c_n)))
    assert np.isfinite(grads.params["bias_ih_l0"]).all()


@every_form
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30, -1e18])
def test_odd_values_stay_in_their_row(isa: str, dtype: str, form: str, value: float) -> None:
    """Forward and backward: bits of the others are as without them. What the row has is what the
    reference makes in this dtype, where squares beyond its largest number are infinite."""
    options = LSTMOptions(layer_norm=form, peepholes=True, gate_clip=4.0, cell_clip=3.0)
    case = Case(3, 4, 2, 9, 2, True, False, True, False, options, dtype, 2)
    lstm, i = option_runs.model(case), case.inputs()
    x = i.x.copy()
    x[1, 2, 1] = value
    results = []
    for given in (i.x, x):
        y, _, tape = lstm.forward(given, i.state)
        results.append((y, lstm.backward(tape, i.dy).x))
    rest = [0, 1, 3]
    for clean, odd in zip(*results, strict=True):
        assert same_bits(odd[:, rest], clean[:, rest])
    given = {"state": i.state, "options": options.config(), "dtype": dtype}
    expected = reference.lstm_forward(x, i.params, **given).y[:, 2]
    y = results[1][0][:, 2]
    assert np.array_equal(np.isnan(y), np.isnan(expected))
    finite = np.isfinite(expected)
    np.testing.assert_allclose(y[finite], expected[finite], rtol=0, atol=1e-4)


@every_form
def test_a_small_epsilon(isa: str, dtype: str, form: str) -> None:
    """TensorFlow Lite's, with sums that vary little. The mean and what is left of a sum without it
    are off by some roundings of the sum, which is `spread` times as large: so are results, at
    first order, times the sensitivity of a step or two."""
    spread = 50.0
    options = LSTMOptions(layer_norm=form, norm_epsilon=1e-8)
    case = Case(2, 3, 1, 33, 1, True, False, False, False, options, dtype, 4)
    i = case.inputs()
    params = dict(i.params)
    noise = params["weight_ih_l0"] / np.abs(params["weight_ih_l0"]).max()
    params["weight_ih_l0"] = (1 + noise / spread).astype(dtype)
    lstm = option_runs.model(case)
    lstm.load_state_dict(params)
    expected = reference.lstm_forward(i.x, params, options=options.config()).y
    error = float(np.abs(lstm(i.x)[0] - expected).max())
    assert error <= 16 * spread * np.finfo(dtype).eps


@pytest.fixture
def _restored_caches() -> Iterator[None]:
    yield
    _core.assume_caches("cpu")


@every_form
@pytest.mark.usefixtures("_restored_caches")
@pytest.mark.parametrize(("hidden", "batch"), [(740, 9), (744, 110)])
def test_blocks(isa: str, form: str, hidden: int, batch: int) -> None:
    """Sums in blocks, and of more rows than are kept at a time, have the same bits."""
    x = np.random.default_rng(0).standard_normal((2, batch, 6)).astype(np.float32)
    lengths = np.arange(batch) % 3
    results = []
    for kind in ("fast", "slow"):
        _core.assume_caches(kind)
        lstm = fastlstm.LSTM(6, hidden, seed=0, options={"layer_norm": form, "peepholes": True})
        y, _, tape = lstm.forward(x, lengths=lengths)
        grads = lstm.backward(tape, y)
        results.append([y, grads.x, *grads.params.values()])
    row = lstm(x[:, 1:2], lengths=lengths[1:2])[0]
    assert same_bits(row, results[0][0][:, 1:2])
    for one, other in zip(*results, strict=True):
        assert same_bits(one, other)


@every_form
def test_plans(isa: str, form: str) -> None:
    """Threads do not share the units of a row, and separate norms take the sums of x ahead."""
    lstm = fastlstm.LSTM(40, 300, 2, seed=0, options={"layer_norm": form})
    x = np.random.default_rng(0).standard_normal((7, 6, 40)).astype(np.float32)
    whole = lstm(x)[0]
    for purpose in ("infer", "train", "back"):
        plan = lstm._engine(FORWARD | BACKWARD).plan(20, 2, 4, purpose)
        assert plan["unit_groups"] == 1
    engine = lstm._engine()
    engine.force(1, 1, 2, True)
    with pytest.raises(RuntimeError, match="core refuses the call"):
        lstm(x)
    for rows, ahead in ((1, True), (2, True), (1, False)):
        engine.force(1, rows, 1, ahead)
        if form == "separate" and not ahead:
            with pytest.raises(RuntimeError, match="core refuses the call"):
                lstm(x)
        else:
            assert same_bits(lstm(x)[0], whole)
