# SPDX-License-Identifier: BSD-3-Clause
"""Training and inference mode: whose arrays parameters are, who may write, who sees it."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import fastlstm
from fastlstm import optim

pytestmark = pytest.mark.sanitize

MODELS = {
    "LSTM": lambda: fastlstm.LSTM(4, 16, 2, seed=0),
    "LSTMCell": lambda: fastlstm.LSTMCell(4, 16, seed=0),
}
X = np.random.default_rng(0).standard_normal((5, 3, 4)).astype(np.float32)


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> Any:
    return MODELS[request.param]()


def output(model: Any) -> np.ndarray:
    if isinstance(model, fastlstm.LSTM):
        return model(X)[0]
    return model(X[0], model(X[1]))[0]  # of a state that is not zero


def with_parameters_of(model: Any) -> np.ndarray:
    """The output of a new model, to which the parameters are handed as values."""
    fresh = MODELS[type(model).__name__]()
    fresh.load_state_dict({name: p.copy() for name, p in model.parameters().items()})
    return output(fresh)


def writable(model: Any) -> set[bool]:
    return {p.flags.writeable for p in model.parameters().values()}


def test_a_model_starts_in_inference_mode(model: Any) -> None:
    assert model.training is False
    assert writable(model) == {False}
    with pytest.raises(ValueError, match="read-only"):
        next(iter(model.parameters().values()))[0] = 0


def test_train_and_eval_return_the_model(model: Any) -> None:
    assert model.train() is model
    assert model.training
    assert model.eval() is model
    assert not model.training
    assert model.train(False) is model
    assert not model.training
    assert model.train(True).training


def test_updates_in_place_are_seen(model: Any) -> None:
    """By the next call, in either mode, whichever array is written to and however often."""
    model.train()
    seen = [output(model)]
    for turn in range(3):
        for p in model.parameters().values():
            p += np.float32(0.05)
            seen.append(output(model))
            np.testing.assert_array_equal(seen[-1], with_parameters_of(model))
        model.eval() if turn % 2 else model.train()
        np.testing.assert_array_equal(output(model), seen[-1])
        model.train()
    assert all((a != b).any() for a, b in pairwise(seen))


def test_forward_sees_updates_in_both_modes() -> None:
    lstm = fastlstm.LSTM(4, 16, 2, seed=0).train()
    for p in lstm.parameters().values():
        p *= 0.5
        np.testing.assert_array_equal(lstm.forward(X)[0], with_parameters_of(lstm))
    lstm.eval()
    np.testing.assert_array_equal(lstm.forward(X)[0], with_parameters_of(lstm))


def test_writable_in_training_mode_only(model: Any) -> None:
    for _ in range(2):
        model.train()
        assert writable(model) == {True}
        model.eval()
        assert writable(model) == {False}


def test_arrays_stay_the_same_objects(model: Any) -> None:
    model.train()
    arrays = model.parameters()
    values = {name: p.copy() + 1 for name, p in arrays.items()}
    for change in (
        model.eval,
        lambda: output(model),
        lambda: model.load_state_dict(values),
        model.train,
        lambda: model.load_state_dict(values),
        lambda: output(model),
        model.train,
    ):
        change()
        now = model.parameters()
        assert list(now) == list(arrays)
        for name, p in now.items():
            assert p is arrays[name]
            assert getattr(model, name) is p
    for name, p in arrays.items():
        np.testing.assert_array_equal(p, values[name])


def test_what_was_handed_out_before_training_stays(model: Any) -> None:
    """A model in inference mode hands out values: nobody's training changes them."""
    before = [model.parameters(), model.state_dict()]
    kept = {name: p.copy() for name, p in before[0].items()}
    model.train()
    for p in model.parameters().values():
        p += 1
    model.load_state_dict({name: p * 7 for name, p in kept.items()})
    for given in before:
        for name, p in given.items():
            assert not p.flags.writeable
            np.testing.assert_array_equal(p, kept[name])


def test_dict_of_parameters_is_the_caller_s(model: Any) -> None:
    model.train().parameters().clear()
    assert len(model.parameters()) == len(model.state_dict()) > 0


@pytest.mark.parametrize("mode", [True, False])
def test_a_state_dict_is_a_snapshot(model: Any, mode: bool) -> None:
    model.train()
    model.train(mode)
    snapshot = model.state_dict()
    kept = {name: p.copy() for name, p in snapshot.items()}
    model.train()
    for p in model.parameters().values():
        p += 1
    for name, p in snapshot.items():
        assert not p.flags.writeable
        np.testing.assert_array_equal(p, kept[name])
    changed = output(model)
    model.load_state_dict(snapshot)
    assert (output(model) != changed).any()
    np.testing.assert_array_equal(output(model), with_parameters_of(model))


def test_loading_is_all_or_nothing(model: Any) -> None:
    model.train()
    before = output(model)
    values = {name: p + 1 for name, p in model.parameters().items()}
    last = list(values)[-1]
    with pytest.raises(ValueError, match=last):
        model.load_state_dict({**values, last: values[last][1:]})
    np.testing.assert_array_equal(output(model), before)
    assert writable(model) == {True}


def test_loading_its_own_arrays(model: Any) -> None:
    model.train()
    before = output(model)
    model.load_state_dict(model.parameters())
    np.testing.assert_array_equal(output(model), before)


COPIES: dict[str, Callable[[Any], Any]] = {
    "deepcopy": copy.deepcopy,
    "pickle 2": lambda model: pickle.loads(pickle.dumps(model, 2)),
    "pickle 4": lambda model: pickle.loads(pickle.dumps(model, 4)),
    "pickle 5": lambda model: pickle.loads(pickle.dumps(model, 5)),
}


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("before", ["never trained", "training", "trained"])
def test_copies(model: Any, how: str, before: str) -> None:
    """A copy is in the mode of the original, has its values, and arrays of its own. (Arrays of
    4,096 elements here: pickle stores those in another way than smaller ones.)"""
    if before != "never trained":
        model.train()
        for p in model.parameters().values():
            p += 1
        output(model)
        model.train(before == "training")
    twin = COPIES[how](model)
    assert twin.training == model.training
    assert writable(twin) == writable(model)
    np.testing.assert_array_equal(output(twin), output(model))
    expected = output(model)
    twin.train()
    assert writable(twin) == {True}
    for name, p in twin.parameters().items():
        assert not np.shares_memory(p, model.parameters()[name])
        p += 1
    assert (output(twin) != expected).any()
    np.testing.assert_array_equal(output(model), expected)
    twin.eval()
    assert writable(twin) == {False}


def test_a_tape_is_neither_pickled_nor_copied() -> None:
    tape = fastlstm.LSTM(4, 16).forward(X)[2]
    for call in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="Tape"):
            call(tape)


def test_a_tape_is_written_to_by_one_pass_alone() -> None:
    lstm = fastlstm.LSTM(4, 16)
    y, _, tape = lstm.forward(X)
    in_use = "tape is in use by"
    with tape._guard.writing():
        with pytest.raises(RuntimeError, match=in_use):
            lstm.backward(tape, y)
        with pytest.raises(RuntimeError, match=in_use):
            lstm.forward(X, tape=tape)
    with tape._guard.reading():
        lstm.backward(tape, y)
        with pytest.raises(RuntimeError, match=in_use):
            lstm.forward(X, tape=tape)
    lstm.forward(X, tape=tape)
    with pytest.raises(ValueError):
        lstm.forward(X[..., :2], tape=tape)
    lstm.backward(tape, y)


def test_a_stream_is_neither_pickled_nor_copied() -> None:
    stream = fastlstm.LSTM(4, 16).stream(3)
    for call in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="Stream"):
            call(stream)


def test_a_stream_keeps_the_parameters_it_was_made_with() -> None:
    lstm = fastlstm.LSTM(4, 16, 2, seed=0).train()
    stream, expected = lstm.stream(3), lstm(X)[0]
    for p in lstm.parameters().values():
        p += 1
    np.testing.assert_array_equal(stream(X), expected)
    np.testing.assert_array_equal(lstm.stream(3)(X), lstm(X)[0])


def test_saving_while_training(tmp_path: Any) -> None:
    lstm = fastlstm.LSTM(4, 16, 2, seed=0).train()
    for p in lstm.parameters().values():
        p += 1
    lstm.save(tmp_path / "model.safetensors")
    loaded = fastlstm.load(tmp_path / "model.safetensors")
    assert not loaded.training
    np.testing.assert_array_equal(loaded(X)[0], lstm(X)[0])


def test_an_optimiser_goes_on_across_modes() -> None:
    """It holds the arrays; between its steps the model is evaluated, saved and loaded."""
    lstm = fastlstm.LSTM(4, 16, 2, seed=0).train()
    optimiser = optim.SGD(lstm.parameters(), lr=0.1)
    y, _, tape = lstm.forward(X)
    target = np.zeros_like(y)
    losses = []
    for turn in range(12):
        y, _, tape = lstm.forward(X, tape=tape)
        losses.append(float(np.square(y - target).mean()))
        grads = lstm.backward(tape, 2 * (y - target) / y.size)
        before = {name: p.copy() for name, p in lstm.parameters().items()}
        optimiser.step(grads.params)
        for name, p in lstm.parameters().items():
            expected = before[name] - np.float32(0.1) * grads.params[name]
            np.testing.assert_allclose(p, expected, rtol=0, atol=1e-7)
        if turn % 3 == 0:
            lstm.eval()
            np.testing.assert_array_equal(lstm(X)[0], with_parameters_of(lstm))
            lstm.train()
        if turn % 4 == 0:
            lstm.load_state_dict(lstm.state_dict())
    assert all(b < a for a, b in pairwise(losses)), losses


def test_training_mode_of_a_read_only_array_is_refused_by_the_optimiser() -> None:
    lstm = fastlstm.LSTM(4, 16, seed=0)
    with pytest.raises(ValueError, match="read-only"):
        optim.SGD(lstm.parameters(), lr=0.1)


@pytest.mark.parametrize("value", [None, 0, 1, "yes", np.array([True])], ids=repr)
def test_bad_mode(model: Any, value: Any) -> None:
    with pytest.raises(TypeError, match="mode must be True or False"):
        model.train(value)
    assert not model.training
    assert writable(model) == {False}
