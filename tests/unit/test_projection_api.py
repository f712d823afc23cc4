# SPDX-License-Identifier: BSD-3-Clause
"""`proj_size` through everything that knows a model: state dicts, files, reports, errors."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import numpy as np
import pytest

import fastlstm


@pytest.fixture
def lstm() -> fastlstm.LSTM:
    return fastlstm.LSTM(3, 8, 2, bidirectional=True, proj_size=5, seed=0)


def outputs(model: fastlstm.LSTM) -> bytes:
    x = np.random.default_rng(0).standard_normal((4, 2, 3)).astype(np.float32)
    y, (h, c) = model(x)
    assert (y.shape, h.shape, c.shape) == ((4, 2, 10), (4, 2, 5), (4, 2, 8))
    return y.tobytes() + h.tobytes() + c.tobytes()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_state_dict_is_torch_s(bias: bool, dtype: str) -> None:
    torch = pytest.importorskip("torch")
    theirs = torch.nn.LSTM(
        3, 8, 2, bias, bidirectional=True, proj_size=5, dtype=getattr(torch, dtype)
    )
    ours = fastlstm.LSTM.from_torch(theirs)
    expected = {name: tuple(value.shape) for name, value in theirs.state_dict().items()}
    actual = {name: value.shape for name, value in ours.state_dict().items()}
    assert list(actual.items()) == list(expected.items())
    assert ours.proj_size == 5
    assert ours.dtype == dtype
    again = fastlstm.LSTM.from_state_dict(theirs.state_dict())
    assert again.config() == ours.config()
    for name, value in ours.state_dict().items():
        np.testing.assert_array_equal(value, theirs.state_dict()[name].numpy())
        np.testing.assert_array_equal(value, again.state_dict()[name])
    theirs.load_state_dict({n: torch.tensor(v) for n, v in again.state_dict().items()})


def test_copies_keep_it(lstm: fastlstm.LSTM, tmp_path: Path) -> None:
    expected = outputs(lstm)
    path = tmp_path / "model.safetensors"
    lstm.save(path)
    for other in (
        fastlstm.load(path),
        pickle.loads(pickle.dumps(lstm)),
        copy.deepcopy(lstm),
        fastlstm.LSTM.from_state_dict(lstm.state_dict()),
    ):
        assert repr(other) == repr(lstm)
        assert other.config() == lstm.config()
        assert outputs(other) == expected
    plain = fastlstm.LSTM(3, 8, 2, bidirectional=True, seed=0)
    _, _, tape = lstm.forward(np.zeros((1, 1, 3), np.float32))
    with pytest.raises(ValueError, match="must come from"):
        plain.backward(tape, np.zeros((1, 1, 16), np.float32))


def test_reports(lstm: fastlstm.LSTM) -> None:
    assert repr(lstm) == (
        "LSTM(3, 8, num_layers=2, bidirectional=True, proj_size=5, dtype=float32)"
    )
    lines = lstm.explain(4, 2).splitlines()
    assert (
        "output       projected to 5 of 8 values, after a barrier where threads share units"
        in lines
    )
    plain = fastlstm.LSTM(3, 8, seed=0)
    assert not any(line.startswith("output") for line in plain.explain(4, 2).splitlines())
    stream = fastlstm.LSTM(3, 8, proj_size=5, seed=0).stream(2)
    assert repr(stream) == "<Stream(3, 8, proj_size=5, dtype=float32) of 2 at once>"


def test_first_values_are_within_torch_s_bound(lstm: fastlstm.LSTM) -> None:
    for name, values in lstm.parameters().items():
        assert np.abs(values).max() <= 8**-0.5, name
    assert np.std(lstm.weight_hr_l1_reverse) > 0.5 * 8**-0.5 / 3**0.5  # type: ignore[attr-defined]


@pytest.mark.parametrize("proj_size", [8, 9, -1, 2**40])
def test_bad_size(proj_size: int) -> None:
    with pytest.raises(ValueError, match=r"proj_size must be .*, got "):
        fastlstm.LSTM(3, 8, proj_size=proj_size)


@pytest.mark.parametrize("proj_size", [2.0, "2", True, None])
def test_bad_type(proj_size: object) -> None:
    with pytest.raises(TypeError, match="proj_size must be an integer"):
        fastlstm.LSTM(3, 8, proj_size=proj_size)  # type: ignore[arg-type]


def test_bad_arrays(lstm: fastlstm.LSTM) -> None:
    x = np.zeros((4, 2, 3), np.float32)
    right, wrong = np.zeros((4, 2, 5), np.float32), np.zeros((4, 2, 8), np.float32)
    with pytest.raises(ValueError, match=r"h_0 must have shape \(4, 2, 5\)"):
        lstm(x, (wrong, wrong))
    with pytest.raises(ValueError, match=r"c_0 must have shape \(4, 2, 8\)"):
        lstm(x, (right, right))
    with pytest.raises(ValueError, match=r"out must have shape \(4, 2, 10\)"):
        lstm(x, out=np.zeros((4, 2, 16), np.float32))
    y, _, cells, tape = lstm.forward(x, return_cells=True)
    assert (y.shape, cells.shape) == ((4, 2, 10), (4, 2, 16))
    with pytest.raises(ValueError, match=r"dy must have shape \(4, 2, 10\)"):
        lstm.backward(tape, cells)
    with pytest.raises(ValueError, match=r"dcells must have shape \(4, 2, 16\)"):
        lstm.backward(tape, dcells=y)
    with pytest.raises(ValueError, match=r"dh_n must have shape \(4, 2, 5\)"):
        lstm.backward(tape, dstate=(wrong, None))
    gradients = lstm.backward(tape, y, (right, wrong), dcells=cells)
    assert (gradients.h_0.shape, gradients.c_0.shape) == ((4, 2, 5), (4, 2, 8))


def test_bad_state_dicts(lstm: fastlstm.LSTM) -> None:
    state = dict(lstm.state_dict())
    for shape in [(8, 8), (9, 8), (5,)]:
        with pytest.raises(ValueError, match=r"weight_hr_l0 must have shape \(P, H\)"):
            fastlstm.LSTM.from_state_dict({**state, "weight_hr_l0": np.zeros(shape, np.float32)})
    with pytest.raises(ValueError, match=r"weight_hh_l0 must have shape \(4 H, 4\)"):
        fastlstm.LSTM.from_state_dict({**state, "weight_hr_l0": np.zeros((4, 6), np.float32)})
    with pytest.raises(ValueError, match="weight_hr_l1 has shape"):
        fastlstm.LSTM.from_state_dict({**state, "weight_hr_l1": np.zeros((4, 8), np.float32)})
    some = {name: value for name, value in state.items() if name != "weight_hr_l1"}
    with pytest.raises(ValueError, match="missing: weight_hr_l1"):
        fastlstm.LSTM.from_state_dict(some)
    with pytest.raises(ValueError, match="missing: weight_hr_l1"):
        lstm.load_state_dict(some)
    rnn = {name: value[:8] for name, value in state.items() if not name.startswith("weight_hr")}
    with pytest.raises(ValueError, match=r"names beside those of the RNN.*weight_hr_l0"):
        fastlstm.RNN.from_state_dict({**rnn, "weight_hr_l0": state["weight_hr_l0"]})


def test_one_of_two_models_is_found_by_its_gates() -> None:
    lstm = fastlstm.LSTM(3, 8, proj_size=2, seed=0)  # (32, 2): sixteen rows for each value of h
    rnn = fastlstm.RNN(3, 8, seed=0)
    both = {f"a.{n}": v for n, v in lstm.state_dict().items()}
    both |= {f"b.{n}": v for n, v in rnn.state_dict().items()}
    assert fastlstm.LSTM.from_state_dict(both).proj_size == 2
    assert fastlstm.RNN.from_state_dict(both).hidden_size == 8


def test_gradients_add_up(lstm: fastlstm.LSTM) -> None:
    lstm.train()
    x = np.ones((4, 20, 3), np.float32)
    y, _, tape = lstm.forward(x)
    once = lstm.backward(tape, y)
    into = {name: value.copy() for name, value in once.params.items()}
    lstm.backward(tape, y, into=into)
    for name, value in once.params.items():
        np.testing.assert_allclose(into[name], 2 * value, rtol=1e-5, atol=1e-5)
        assert np.abs(value).max() > 0, name
