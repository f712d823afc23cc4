# SPDX-License-Identifier: BSD-3-Clause
"""Guitar amplifiers' models: RTNeural, AIDA-X, GuitarML, NAM."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastlstm
from fastlstm import interop
from support.helpers import shared_data

RNG = np.random.default_rng(0)
LAST = float(np.finfo(np.float32).eps)


def some(*shape: int) -> Any:
    return RNG.uniform(-0.5, 0.5, shape).astype(np.float32).tolist()


def chain(*layers: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"in_shape": [None, None, 1], "layers": list(layers), **more}


LSTM = {"type": "lstm", "activation": "tanh", "shape": [None, None, 4],
        "weights": [some(1, 16), some(4, 16), some(16)]}  # fmt: skip
DENSE = {"type": "dense", "activation": "", "shape": [None, None, 1],
         "weights": [some(4, 1), some(1)]}  # fmt: skip
X = RNG.uniform(-1, 1, (2, 50, 1)).astype(np.float32)


@pytest.mark.parametrize("name", ["lstm", "lstm_1d", "lstm_torch"])
def test_published_models(name: str) -> None:
    """Whole and as a stream, against what the authors' own engine gave."""
    found = interop.from_rtneural(shared_data(f"rtneural/{name}.json"))
    x, y = (
        np.loadtxt(shared_data(f"rtneural/{name}_{kind}_python.csv"), dtype=np.float32)
        for kind in "xy"
    )
    whole = found.sequential()(x.reshape(1, -1, 1))
    assert np.abs(whole.ravel() - y).max() <= 1e-6
    stream = found.sequential().stream()
    parts = [stream(part.reshape(1, -1, 1)) for part in np.array_split(x, 7)]
    assert np.abs(np.concatenate(parts, axis=1) - whole).max() <= 4 * LAST


def by_hand(lstm: fastlstm.LSTM, x: np.ndarray, dense: dict[str, Any]) -> np.ndarray:
    y, _ = lstm(x)
    return y @ np.float32(dense["weights"][0]) + np.float32(dense["weights"][1])


@pytest.mark.parametrize("skip", [0, 1])
def test_aida_x(skip: int) -> None:
    """x goes through a gain, the chain is added to it, and both through another one."""
    found = interop.from_rtneural(chain(LSTM, DENSE, in_skip=skip, in_gain=6.0, out_gain=-3.0))
    assert found.producer == "AIDA-X"
    x = X * np.float32(10 ** (6 / 20))
    y = (by_hand(found.model, x, DENSE) + skip * x) * np.float32(10 ** (-3 / 20))
    np.testing.assert_allclose(found.sequential()(X), y, rtol=0, atol=8 * LAST)
    stream = found.sequential().stream(2)
    parts = [stream(X[:, :20]), stream(X[:, 20:])]
    np.testing.assert_allclose(np.concatenate(parts, axis=1), y, rtol=0, atol=8 * LAST)


def test_gains_are_of_the_sound_alone() -> None:
    layer = {**LSTM, "weights": [some(2, 16), *LSTM["weights"][1:]]}
    found = interop.from_rtneural(chain(layer, DENSE, in_skip=1, in_gain=6.0))
    x = RNG.uniform(-1, 1, (1, 9, 2)).astype(np.float32)
    given = x * np.float32([10 ** (6 / 20), 1])
    expected = by_hand(found.model, given, DENSE) + given[..., :1]
    np.testing.assert_allclose(found.sequential()(x), expected, rtol=0, atol=8 * LAST)


def guitarml(skip: int, unit: str = "LSTM", layers: int = 1) -> dict[str, Any]:
    torch_names = fastlstm.LSTM if unit == "LSTM" else fastlstm.GRU
    model = torch_names(1, 4, layers, seed=0)
    state = {f"rec.{key}": value.tolist() for key, value in model.state_dict().items()}
    state |= {"lin.weight": some(1, 4), "lin.bias": some(1)}
    data = {"model": "SimpleRNN", "input_size": 1, "skip": skip, "output_size": 1,
            "unit_type": unit, "num_layers": layers, "hidden_size": 4, "bias_fl": True}  # fmt: skip
    return {"model_data": data, "state_dict": state}


@pytest.mark.parametrize("unit, layers", [("LSTM", 1), ("GRU", 1), ("LSTM", 3)])
@pytest.mark.parametrize("skip", [0, 1])
def test_guitarml(skip: int, unit: str, layers: int, tmp_path: Path) -> None:
    model = guitarml(skip, unit, layers)
    path = tmp_path / "proteus.json"
    path.write_text(json.dumps(model))
    found = interop.from_rtneural(path)
    assert [*found.layers] == ["rec"]
    assert found.producer == "GuitarML"
    rec = found.layers["rec"]
    assert (type(rec).__name__, rec.num_layers, rec.hidden_size) == (unit, layers, 4)
    y, _ = rec(X)
    state = model["state_dict"]
    y = y @ np.float32(state["lin.weight"]).T + np.float32(state["lin.bias"]) + skip * X
    np.testing.assert_allclose(found.sequential()(X), y, rtol=0, atol=8 * LAST)


def test_names_without_an_order_are_no_chain() -> None:
    state = guitarml(0)["state_dict"]
    state["lin.weight"] = some(1, 5)
    with pytest.raises(interop.Unsupported, match="lin takes 5 inputs, and what is before"):
        interop.from_rtneural(state).sequential()
    fits = interop.from_rtneural(guitarml(0)["state_dict"])
    assert any("taken to follow each other" in note for note in fits.notes)


def test_other_layers_around() -> None:
    """A convolution of the past, normalisation and activations, as RTNeural runs them."""
    kernel, shift = some(3, 1, 2), some(2)
    gamma, beta, mean, variance = (some(2) for _ in range(4))
    variance = [abs(v) + 0.1 for v in variance]
    layers = [
        {"type": "conv1d", "activation": "relu", "shape": [None, None, 2], "kernel_size": [3],
         "dilation": [2], "weights": [kernel, shift]},
        {"type": "batchnorm", "shape": [None, None, 2], "epsilon": 0.01,
         "weights": [gamma, beta, mean, variance]},
        {"type": "prelu", "shape": [None, None, 2], "weights": [[[0.25, 0.5]]]},
        {**LSTM, "weights": [some(2, 16), *LSTM["weights"][1:]]},
        {"type": "activation", "activation": "sigmoid", "shape": [None, None, 4]},
    ]  # fmt: skip
    found = interop.from_rtneural(chain(*layers))
    assert [other.kind for other in found.others] == [
        "conv1d", "batch_norm", "prelu", "activation",
    ]  # fmt: skip
    padded = np.concatenate([np.zeros((2, 4, 1), np.float32), X], axis=1)
    y = sum(padded[:, 2 * k : 2 * k + 50] @ np.float32(kernel[k]) for k in range(3))
    y = np.maximum(y + np.float32(shift), 0)
    y = (y - np.float32(mean)) / np.sqrt(np.float32(variance) + 0.01)
    y = y * np.float32(gamma) + np.float32(beta)
    y = np.where(y > 0, y, y * np.float32([0.25, 0.5])).astype(np.float32)
    y = 1 / (1 + np.exp(-found.model(y)[0]))
    np.testing.assert_allclose(found.sequential()(X), y, rtol=0, atol=32 * LAST)
    stream = found.sequential().stream(2)
    parts = [stream(X[:, at : at + 1]) for at in range(50)]
    np.testing.assert_allclose(np.concatenate(parts, axis=1), y, rtol=0, atol=32 * LAST)


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_round_trips(kind: str, tmp_path: Path) -> None:
    model = {"lstm": fastlstm.LSTM, "gru": fastlstm.GRU}[kind](1, 4, 2, batch_first=True, seed=0)
    if kind == "lstm":
        values = model.state_dict()
        model.load_state_dict({key: 0 * v if "bias_hh" in key else v for key, v in values.items()})
    path = tmp_path / "model.json"
    weight, bias = some(2, 4), some(2)
    interop.to_rtneural(model, path, dense=[(weight, bias)])
    found = interop.from_rtneural(path)
    back = interop.stack([layer for layers in found.stacks.values() for layer in layers])
    for name, values in model.state_dict().items():
        np.testing.assert_array_equal(back.state_dict()[name], values, err_msg=name)
    expected = model(X)[0] @ np.float32(weight).T + np.float32(bias)
    np.testing.assert_allclose(found.sequential()(X), expected, rtol=0, atol=8 * LAST)


def test_both_biases_of_an_lstm_become_one() -> None:
    model = fastlstm.LSTM(1, 4, seed=0)
    found = interop.from_rtneural(interop.to_rtneural(model)).model
    values = model.state_dict()
    total = values["bias_ih_l0"] + values["bias_hh_l0"]
    np.testing.assert_array_equal(found.state_dict()["bias_ih_l0"], total)


REFUSED: list[tuple[Any, dict[str, Any], str]] = [
    (fastlstm.RNN, {}, "no plain RNN"),
    (fastlstm.LSTM, {"bidirectional": True}, "no second direction"),
    (fastlstm.LSTM, {"proj_size": 2}, "no projection"),
    (fastlstm.LSTM, {"dtype": np.float64}, "no float64"),
    (fastlstm.LSTM, {"options": {"coupled": True}}, r"no LSTM with LSTMOptions\(coupled=True\)"),
]


@pytest.mark.parametrize("kind, config, message", REFUSED, ids=[case[2] for case in REFUSED])
def test_what_rtneural_has_not(kind: Any, config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        interop.to_rtneural(kind(1, 4, **config))


def test_dense_layers_must_fit() -> None:
    with pytest.raises(ValueError, match=r"dense must have weights \(outputs, 4\)"):
        interop.to_rtneural(fastlstm.LSTM(1, 4), dense=[(some(1, 3), some(1))])


def broken(**changes: Any) -> dict[str, Any]:
    layer = {**copy.deepcopy(LSTM), **changes}
    return chain(layer, DENSE)


def bad_state(**changes: Any) -> dict[str, Any]:
    found = guitarml(1)
    found["state_dict"].update(changes)
    return found


DAMAGES: list[tuple[Any, str]] = [
    (3, "source must be a path or a mapping, got int"),
    ({}, "must have layers, or a state dict of PyTorch, has nothing"),
    (chain(DENSE), "has no recurrent layer"),
    (chain(3), r"layers[0]: must have a type, got 3"),
    (chain({"type": "wavenet"}, LSTM), "wavenet"),
    (broken(weights=3), "lstm_0: weights must be a list"),
    (broken(weights=[some(1, 16)]), "lstm_0: 2 arrays are needed, 1 are there"),
    (broken(weights=[some(1, 16), some(4, 15), some(16)]), "got (1, 16) and (4, 15)"),
    (broken(weights=[[["x"]], some(4, 16), some(16)]), "weights[0]: must be numbers"),
    (broken(weights=[[[1.0], [1.0, 2.0]], some(4, 16), some(16)]), "lstm_0: weights[0]: "),
    (broken(weights=[[[1e300] * 16], some(4, 16), some(16)]), "finite numbers of float32"),
    (chain(LSTM, in_skip=-1), "skip: must be an integer from 0"),
    (chain(LSTM, out_gain=1e6), "out_gain: must be from -200 to 200 dB"),
    (chain({"type": "conv1d", "dilation": [0], "weights": [some(1, 1, 1)]}, LSTM),
     "dilation: must be an integer from 1"),
    (bad_state(**{"rec.weight_hh_l0": some(16, 5)}), "of no LSTM, GRU or RNN"),
    (bad_state(**{"rec.bias_ih_l0": some(15)}), "bias_ih must have shape (16,)"),
    (bad_state(**{"rec.weight_ih_l2": some(16, 4)}), "rec: layer 1: weight_ih or weight_hh is"),
    ({"state_dict": guitarml(0)["state_dict"], "model_data": 3}, "model_data: must be a mapping"),
]  # fmt: skip


@pytest.mark.parametrize("model, message", DAMAGES, ids=[case[1] for case in DAMAGES])
def test_damaged_models(model: Any, message: str) -> None:
    with pytest.raises((interop.FormatError, TypeError), match=re.escape(message)):
        interop.from_rtneural(model).sequential()


def nam(layers: int, outputs: int = 1) -> tuple[dict[str, Any], fastlstm.LSTM, list[np.ndarray]]:
    """A file, the LSTM in it, and its first states and head."""
    model = fastlstm.LSTM(1, 3, layers, batch_first=True, seed=0)
    values, numbers = model.state_dict(), []
    h, c = np.float32(some(layers, 1, 3)), np.float32(some(layers, 1, 3))
    for at in range(layers):
        w_ih, w_hh, b_ih, b_hh = (
            values[f"{name}_l{at}"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        numbers += [np.concatenate([w_ih, w_hh], axis=1).ravel(), b_ih + b_hh, h[at, 0], c[at, 0]]
    head, shift = np.float32(some(outputs, 3)), np.float32(some(outputs))
    numbers += [head.ravel(), shift]
    config = {"input_size": 1, "hidden_size": 3, "num_layers": layers}
    found = {"version": "0.5.4", "architecture": "LSTM", "config": config,
             "weights": np.concatenate(numbers).tolist(), "sample_rate": 48000}  # fmt: skip
    return found, model, [h, c, head, shift]


@pytest.mark.parametrize("layers", [1, 3])
def test_nam(layers: int, tmp_path: Path) -> None:
    model, lstm, (h, c, head, shift) = nam(layers)
    path = tmp_path / "amp.nam"
    path.write_text(json.dumps(model))
    found = interop.from_nam(path)
    assert (found.version, found.model.num_layers) == ("0.5.4", layers)
    state = (np.repeat(h, 2, axis=1), np.repeat(c, 2, axis=1))
    y = lstm(X, state)[0] @ head.T + shift
    # b_ih + b_hh is rounded once in the file, 16 units of 50 steps
    np.testing.assert_allclose(found.sequential()(X), y, rtol=0, atol=50 * LAST)
    stream = found.sequential().stream(2)
    parts = [stream(X[:, :7]), stream(X[:, 7:])]
    np.testing.assert_allclose(np.concatenate(parts, axis=1), y, rtol=0, atol=50 * LAST)


NAM_DAMAGES: list[tuple[dict[str, Any], str]] = [
    ({"architecture": "WaveNet"}, "is WaveNet: only LSTM is recurrent"),
    ({"architecture": 3}, "must have an architecture and a config"),
    ({"config": {}}, "config: input_size: must be an integer from 1"),
    ({"weights": [1.0, 2.0]}, "must have 70 numbers for its config, has 2"),
    ({"weights": [[1.0], [2.0]]}, "must be one list of numbers"),
    ({"weights": None}, "weights: must be numbers"),
    ({"config": {"input_size": 1, "hidden_size": 1 << 24, "num_layers": 1 << 24}}, "numbers for"),
]


@pytest.mark.parametrize("change, message", NAM_DAMAGES, ids=[case[1] for case in NAM_DAMAGES])
def test_damaged_nam_files(change: dict[str, Any], message: str) -> None:
    with pytest.raises(interop.FormatError, match=re.escape(message)):
        interop.from_nam({**nam(1)[0], **change})
