# SPDX-License-Identifier: BSD-3-Clause
"""LSTMOptions as an object, and LSTMs that have some: what they show, take and refuse, and where
their parameters go."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import json
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

import fastlstm
from fastlstm import LSTMOptions
from fastlstm.options import ACTIVATIONS

I, H, B, T = 3, 5, 2, 4  # noqa: E741
X = np.random.default_rng(0).standard_normal((T, B, I)).astype(np.float32)
FULL = LSTMOptions(
    peepholes=True,
    coupled=True,
    gate_clip=3.0,
    cell_clip=2.0,
    gate_activation=("hard_sigmoid", 1 / 6, 0.5),
    output_activation="softsign",
)
SOME = [
    LSTMOptions(peepholes=True),
    LSTMOptions(forget_gate=False),
    LSTMOptions(forget_bias=1.0),
    FULL,
    LSTMOptions(layer_norm="sums", norm_epsilon=1e-8),
    LSTMOptions(layer_norm="separate", peepholes=True, forget_bias=0.5),
]


def made(**options: Any) -> fastlstm.LSTM:
    return fastlstm.LSTM(I, H, **{"seed": 0, **options})


# ---- the options ----


def test_they_are_a_value() -> None:
    assert repr(LSTMOptions()) == "LSTMOptions()"
    shown = "LSTMOptions(peepholes=True, gate_activation=('elu', 0.5))"
    options = LSTMOptions(peepholes=True, gate_activation=["elu", 0.5])  # type: ignore[arg-type]
    assert repr(options) == shown
    assert eval(shown) == options
    assert hash(options) == hash(LSTMOptions(peepholes=True, gate_activation=("elu", 0.5)))
    assert options != LSTMOptions(peepholes=True)
    assert pickle.loads(pickle.dumps(options)) == options
    with pytest.raises(dataclasses.FrozenInstanceError):
        options.coupled = True  # type: ignore[misc]


@pytest.mark.parametrize("options", SOME, ids=str)
def test_config_makes_them_again(options: LSTMOptions) -> None:
    config = json.loads(json.dumps(options.config()))
    assert LSTMOptions(**config) == options
    assert made(options=config).options == options


def test_numbers_as_by_default_are_no_other_option() -> None:
    for name, numbers in ACTIVATIONS.items():
        assert LSTMOptions(candidate_activation=(name, *numbers)).candidate_activation == name
        if numbers:
            given = LSTMOptions(candidate_activation=(name, 0.25)).candidate_activation
            assert given == (name, 0.25, *numbers[1:])
    assert LSTMOptions(gate_clip=np.float32(2)).gate_clip == 2.0  # type: ignore[arg-type]
    assert type(LSTMOptions(cell_clip=2).cell_clip) is float
    plain = LSTMOptions(gate_activation=(np.str_("elu"), 2))
    assert repr(plain) == "LSTMOptions(gate_activation=('elu', 2.0))"


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"peepholes": 1}, TypeError, "peepholes must be True or False, got 1"),
        ({"coupled": "yes"}, TypeError, "coupled must be True or False"),
        ({"forget_gate": None}, TypeError, "forget_gate must be True or False"),
        ({"coupled": True, "forget_gate": False}, ValueError, "coupled=True .* forget_gate=False"),
        ({"forget_bias": "1"}, TypeError, "forget_bias must be a number, got '1'"),
        ({"forget_bias": np.inf}, ValueError, "forget_bias must be .*, got inf"),
        ({"forget_bias": 1.0, "coupled": True}, ValueError, "forget_bias needs a forget gate"),
        ({"forget_bias": 1.0, "forget_gate": False}, ValueError, "forget_bias needs a forget gate"),
        ({"gate_clip": 0.0}, ValueError, "gate_clip must be > 0, or None for no clip, got 0.0"),
        ({"gate_clip": -1}, ValueError, "gate_clip must be > 0, or None for no clip, got -1"),
        ({"cell_clip": np.nan}, ValueError, "cell_clip must be finite, got nan"),
        ({"cell_clip": [1]}, TypeError, "cell_clip must be a number"),
        ({"proj_clip": 0}, ValueError, "proj_clip must be > 0, or None for no clip, got 0"),
        ({"proj_clip": "1"}, TypeError, "proj_clip must be a number"),
        ({"layer_norm": True}, TypeError, "layer_norm must be one of sums, separate or None, got"),
        ({"layer_norm": "batch"}, ValueError, "layer_norm must be one of .* or None, got 'batch'"),
        ({"norm_epsilon": 0.0}, ValueError, "norm_epsilon must be between 1.18e-38 and 1e.30, got"),
        ({"norm_epsilon": 1e-39}, ValueError, "norm_epsilon must be between"),
        ({"norm_epsilon": np.inf}, ValueError, "norm_epsilon must be"),
        ({"norm_epsilon": None}, TypeError, "norm_epsilon must be a number, got None"),
        (
            {"gate_activation": "gelu"},
            ValueError,
            "gate_activation must be one of sigmoid, tanh.*gelu",
        ),
        ({"candidate_activation": None}, TypeError, "candidate_activation must be a name, or"),
        ({"candidate_activation": ()}, TypeError, "candidate_activation must be a name, or"),
        (
            {"candidate_activation": (1, "elu")},
            TypeError,
            "candidate_activation must be a name, or",
        ),
        ({"output_activation": ("tanh", 1.0)}, ValueError, "tanh has no alpha or beta"),
        ({"output_activation": ("elu", 1.0, 2.0)}, ValueError, "elu has an alpha and no beta"),
        ({"output_activation": ("affine", 1, 2, 3)}, ValueError, "affine has an alpha and a beta,"),
        (
            {"output_activation": ("elu", "1")},
            TypeError,
            "alpha of output_activation must be a num",
        ),
        ({"output_activation": ("affine", 1, 1e31)}, ValueError, "beta of output_activation must"),
    ],
)
def test_bad_options(given: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        LSTMOptions(**given)
    with pytest.raises(error, match=words):
        made(options=given)


def test_the_largest_numbers_of_an_activation() -> None:
    """Both ends are allowed, here and in C."""
    for most in (1e30, -1e30):
        lstm = made(options=LSTMOptions(candidate_activation=("affine", most, most)))
        assert np.isfinite(lstm(np.zeros((1, 1, I), np.float32))[0]).all()
        beyond = np.nextafter(most, 2 * most)
        with pytest.raises(ValueError, match=r"alpha .* must be in \[-1e\+30, 1e\+30\], got"):
            LSTMOptions(candidate_activation=("affine", beyond))


def test_options_of_a_subclass() -> None:
    class Named(LSTMOptions):
        pass

    lstm = made(options=Named(forget_bias=1.0))
    assert type(lstm.options) is LSTMOptions
    assert lstm.options == LSTMOptions(forget_bias=1.0)
    assert lstm._spec.cell == "lstm"  # as of the same options in a file


def test_what_is_no_options() -> None:
    with pytest.raises(TypeError, match=r"options must be LSTMOptions, a mapping .*, got int"):
        made(options=3)
    with pytest.raises(ValueError, match=r"options must be some of peepholes, .*, got 'holes'"):
        made(options={"holes": True})
    with pytest.raises(ValueError, match="options with a forget_bias need bias=True"):
        made(bias=False, options={"forget_bias": 1.0})
    with pytest.raises(ValueError, match="options with a proj_clip need a proj_size"):
        made(options={"proj_clip": 1.0})
    assert made(options={"proj_clip": 1.0}, proj_size=2).options.proj_clip == 1.0


# ---- models that have some ----


def test_what_it_is_called() -> None:
    assert repr(made(options=LSTMOptions(coupled=True))) == (
        "LSTM(3, 5, options=LSTMOptions(coupled=True), dtype=float32)"
    )
    assert repr(made(options=None)) == "LSTM(3, 5, dtype=float32)"
    title = made(options=FULL).explain(T, B).splitlines()[0]
    assert title == f"LSTM(3, 5, options={FULL!r}, dtype=float32) on T=4, B=2"
    assert list(inspect.signature(fastlstm.LSTM).parameters)[-1] == "options"


def test_options_are_fixed() -> None:
    lstm = made(options=FULL)
    with pytest.raises(AttributeError, match="options is fixed"):
        lstm.options = None


def test_parameters() -> None:
    lstm = made(num_layers=2, bidirectional=True, bias=False, options=FULL)
    names = ["weight_ih", "weight_hh", "weight_ci", "weight_cf", "weight_co"]
    ends = ["_l0", "_l0_reverse", "_l1", "_l1_reverse"]
    assert list(lstm.parameters()) == [name + end for end in ends for name in names]
    for name, value in lstm.parameters().items():
        if name.startswith("weight_c"):
            assert value.shape == (H,)
            assert 0 < np.abs(value).max() <= 1 / np.sqrt(H)
    assert "weight_ci_l0" in dir(lstm)
    with pytest.raises(AttributeError, match="weight_co_l1 is replaced"):
        lstm.weight_co_l1 = None
    with pytest.raises(AttributeError, match="no attribute 'weight_ci_l0'"):
        _ = made().weight_ci_l0  # type: ignore[attr-defined,unused-ignore]


def test_parameters_of_layer_norm() -> None:
    """They begin as what changes nothing."""
    shapes = {
        "sums": {"weight_n": 4 * H},
        "separate": {"weight_nx": 4 * H, "weight_nh": 4 * H, "weight_nc": H, "bias_nc": H},
    }
    plain = made(num_layers=2, bidirectional=True).state_dict()
    for form, own in shapes.items():
        options = LSTMOptions(layer_norm=form, norm_epsilon=1e-4)
        lstm = made(num_layers=2, bidirectional=True, options=options)
        state = lstm.state_dict()
        for end in ("_l0", "_l0_reverse", "_l1", "_l1_reverse"):
            for name, count in own.items():
                value = state.pop(name + end)
                assert value.shape == (count,)
                assert (value == (0 if name == "bias_nc" else 1)).all()
                assert not value.flags.writeable
        assert state.keys() == plain.keys()
        assert all(np.array_equal(state[name], value) for name, value in plain.items())
        assert f"layer_norm={form!r}, norm_epsilon=0.0001" in repr(lstm)


def test_an_epsilon_alone_is_no_other_lstm() -> None:
    lstm = made(options=LSTMOptions(norm_epsilon=1e-3))
    assert lstm._spec.cell == "lstm"
    assert lstm.config()["options"] == {"norm_epsilon": 1e-3}


def test_first_parameters() -> None:
    """Those that the plain LSTM has are the same ones, but for what forget_bias says."""
    plain, lstm = made(num_layers=2), made(num_layers=2, options=LSTMOptions(forget_bias=1.5))
    for name, value in plain.state_dict().items():
        other = lstm.state_dict()[name]
        assert not other.flags.writeable
        same = np.ones(len(value), bool)
        if name.startswith("bias"):
            same[H : 2 * H] = False
            assert (other[~same] == (1.5 if name.startswith("bias_ih") else 0.0)).all()
        assert np.array_equal(other[same], value[same])
    assert lstm.train().bias_ih_l0.flags.writeable


@pytest.mark.parametrize("options", SOME, ids=str)
def test_copies_pickles_and_files(options: LSTMOptions, tmp_path: Path) -> None:
    lstm = made(num_layers=2, options=options)
    y, (h_n, c_n) = lstm(X)
    path = tmp_path / "model.safetensors"
    lstm.save(path)
    others = [copy.copy(lstm), copy.deepcopy(lstm), pickle.loads(pickle.dumps(lstm))]
    others += [fastlstm.load(path), fastlstm.LSTM.from_torch(lstm)]
    others.append(fastlstm.LSTM.from_state_dict(lstm.state_dict(), options=options))
    for other in others:
        assert other.options == options
        assert repr(other) == repr(lstm)
        assert other.config() == lstm.config()
        for name, value in lstm.state_dict().items():
            assert np.array_equal(other.state_dict()[name], value)
        assert np.array_equal(other(X)[0], y)
        assert np.array_equal(other(X)[1][1], c_n)
    again = fastlstm.LSTM(**lstm.config(), seed=0)
    assert again.config() == lstm.config()
    assert np.array_equal(again(X)[1][0], h_n)


def test_files_without_options_are_as_before(tmp_path: Path) -> None:
    made().save(tmp_path / "plain")
    with safetensors.safe_open(tmp_path / "plain", "numpy") as file:
        assert "options" not in json.loads(file.metadata()["fastlstm"])
    assert fastlstm.load(tmp_path / "plain").options is None


def test_files_with_bad_options_are_refused(tmp_path: Path) -> None:
    made(options=FULL).save(tmp_path / "good")
    with safetensors.safe_open(tmp_path / "good", "numpy") as file:
        config = json.loads(file.metadata()["fastlstm"])
    arrays = safetensors.numpy.load_file(tmp_path / "good")
    for options, words in (
        ({**config["options"], "holes": 1}, "options must be some of"),
        ({**config["options"], "gate_clip": "no"}, "gate_clip must be a number"),
        ("peepholes", "options must be LSTMOptions"),
        ({"coupled": True}, "unexpected: weight_c"),
    ):
        metadata = {"fastlstm": json.dumps({**config, "options": options})}
        safetensors.numpy.save_file(arrays, tmp_path / "bad", metadata)
        with pytest.raises(ValueError, match=f"cannot be loaded: .*{words}"):
            fastlstm.load(tmp_path / "bad")


def test_state_dicts() -> None:
    lstm = made(options=FULL)
    state = {f"encoder.{name}": value for name, value in lstm.state_dict().items()}
    other = fastlstm.LSTM.from_state_dict(state, "encoder", options=FULL)
    assert np.array_equal(other(X)[0], lstm(X)[0])
    with pytest.raises(ValueError, match=r"encoder.weight_ci_l0 is a peephole's weight: hand over"):
        fastlstm.LSTM.from_state_dict(state)
    with pytest.raises(ValueError, match="missing: weight_ci_l0, weight_cf_l0, weight_co_l0"):
        fastlstm.LSTM.from_state_dict(made().state_dict(), options=FULL)
    with pytest.raises(ValueError, match="unexpected: weight_ci_l0"):
        made().load_state_dict(lstm.state_dict())
    with pytest.raises(ValueError, match=re.escape("weight_co_l0 has shape (4,), must have (5,)")):
        lstm.load_state_dict({**lstm.state_dict(), "weight_co_l0": np.zeros(4, np.float32)})
    for form, name in (("sums", "weight_n_l0"), ("separate", "weight_nx_l0")):
        normed = made(options={"layer_norm": form}).state_dict()
        words = f"{name} is of a layer normalisation: hand over .*layer_norm='{form}'"
        for options in (None, {"layer_norm": "separate" if form == "sums" else "sums"}):
            with pytest.raises(ValueError, match=words):
                fastlstm.LSTM.from_state_dict(normed, options=options)
        with pytest.raises(ValueError, match=f"missing: {name}"):
            fastlstm.LSTM.from_state_dict(made().state_dict(), options={"layer_norm": form})
    rnn = fastlstm.RNN(I, H, seed=0).state_dict()
    with pytest.raises(ValueError, match="weight_co_l0 is a peephole's weight: only an LSTM has"):
        fastlstm.RNN.from_state_dict({**rnn, "weight_co_l0": np.zeros(H, np.float32)})


def test_a_tape_is_of_the_same_options() -> None:
    lstm, other = made(options=LSTMOptions(coupled=True)), made(options={"gate_clip": 1.0})
    y, _, tape = lstm.forward(X)
    assert lstm.backward(tape, y).params.keys() == lstm.parameters().keys()
    for wrong in (other, made()):
        with pytest.raises(ValueError, match="tape must come from"):
            wrong.backward(tape, y)
    made(options={"coupled": True}).backward(tape, y)


def test_training_moves_every_parameter() -> None:
    lstm = made(options=LSTMOptions(peepholes=True, candidate_activation="elu")).train()
    before = {name: value.copy() for name, value in lstm.parameters().items()}
    adam, losses = fastlstm.optim.Adam(lstm.parameters(), lr=0.02), []
    for _ in range(30):
        y, _, tape = lstm.forward(X)
        losses.append(float(np.square(y - 0.3).sum()))
        adam.step(lstm.backward(tape, 2 * (y - np.float32(0.3))))
    assert losses[-1] < 0.3 * losses[0]
    for name, value in lstm.parameters().items():
        assert not np.array_equal(value, before[name]), name
    y = lstm(X)[0]
    assert np.array_equal(lstm.eval()(X)[0], y)


def test_into_has_the_peepholes_too() -> None:
    lstm = made(options=FULL)
    y, _, tape = lstm.forward(X)
    into = {name: np.zeros_like(value) for name, value in made().parameters().items()}
    with pytest.raises(ValueError, match=r"missing .*weight_ci_l0"):
        lstm.backward(tape, y, into=into)


def test_any_finite_weight_is_taken() -> None:
    """No scale is folded into them, so none becomes infinite."""
    lstm = made(options=FULL)
    state = {name: np.full_like(v, 3e38) for name, v in lstm.state_dict().items()}
    lstm.load_state_dict(state)
    assert np.isfinite(lstm(np.zeros_like(X))[0]).all()
