# SPDX-License-Identifier: BSD-3-Clause
"""Estimators of sequences: what they learn, in which forms, and how they fit into scikit-learn."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline

import fastlstm
from fastlstm import nn
from fastlstm.sklearn import LSTMClassifier, LSTMRegressor, SequenceScaler

RNG = np.random.default_rng(0)
X = [RNG.standard_normal((t, 2)) for t in RNG.integers(4, 9, 80)]
WORDS = np.array(["down", "flat", "up"])
SUMS = np.array([x[:, 0].sum() for x in X])
Y = WORDS[np.digitize(SUMS, [-0.8, 0.8])]
CUMULATED = [np.cumsum(x[:, 0]) for x in X]
FAST: dict[str, Any] = {"hidden_size": 12, "learning_rate": 2e-2, "random_state": 0}


def same(one: Any, other: Any) -> bool:
    pairs = zip(one.model_.state_dict().items(), other.model_.state_dict().values(), strict=True)
    return all(np.array_equal(a, b) for (_, a), b in pairs)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"cell": "gru", "bidirectional": True},
        {"cell": "rnn", "pooling": "mean"},
        {"num_layers": 2, "dropout": 0.1, "proj_size": 8},
        {"schedule": "cosine", "weight_decay": 1e-3, "dtype": "float64"},
        {"schedule": "one_cycle", "clip_norm": None},
        {"schedule": "plateau", "early_stopping": True},
        {"schedule": nn.Exponential(2e-2, 0.999)},
    ],
    ids=lambda options: " ".join(options),
)
def test_a_classifier_learns(options: dict[str, Any]) -> None:
    model = LSTMClassifier(**{**FAST, "max_iter": 40, **options}).fit(X, Y)
    assert model.score(X, Y) > 0.9
    assert model.classes_.tolist() == WORDS.tolist()
    assert model.n_features_in_ == 2
    assert model.loss_curve_[-1] < model.loss_curve_[0] / 2
    shares = model.predict_proba(X)
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-6)
    assert np.array_equal(model.classes_[shares.argmax(axis=1)], model.predict(X))


@pytest.mark.parametrize("ragged", [True, False], ids=["list", "array"])
def test_labels_of_each_step(ragged: bool) -> None:
    x: Any = X if ragged else np.stack([row[:4] for row in X])
    y: Any = [WORDS[(c > 0) * 2] for c in CUMULATED]
    y = y if ragged else np.stack([row[:4] for row in y])
    model = LSTMClassifier(per_step=True, max_iter=40, **FAST).fit(x, y)
    assert model.score(x, y) > 0.9
    found = model.predict(x)
    assert [len(row) for row in found] == [len(row) for row in x]
    assert [row.shape for row in model.predict_proba(x)] == [(len(row), 2) for row in x]
    weights = np.arange(80.0)
    right = np.concatenate([a == b for a, b in zip(found, y, strict=True)])
    each = np.repeat(weights, [len(row) for row in x])
    assert model.score(x, y, weights) == pytest.approx((right * each).sum() / each.sum())


@pytest.mark.parametrize("ragged", [True, False], ids=["list", "array"])
@pytest.mark.parametrize("columns", [None, 2], ids=["one value", "two values"])
def test_values_of_each_step(ragged: bool, columns: int | None) -> None:
    x: Any = X if ragged else np.stack([row[:4] for row in X])
    rows = [c if columns is None else np.stack((c, -c), axis=1) for c in CUMULATED]
    y: Any = rows if ragged else np.stack([row[:4] for row in rows])
    model = LSTMRegressor(cell="rnn", per_step=True, max_iter=40, **FAST).fit(x, y)
    assert model.score(x, y) > 0.8
    assert [p.shape for p in model.predict(x)] == [np.shape(row) for row in y]


@pytest.mark.parametrize("columns", [None, 2], ids=["one value", "two values"])
def test_a_regressor_learns(columns: int | None) -> None:
    y = SUMS if columns is None else np.stack((SUMS, -SUMS), axis=1)
    model = LSTMRegressor(cell="gru", max_iter=60, **FAST).fit(X, y)
    assert model.score(X, y) > 0.9
    assert model.predict(X).shape == y.shape


def test_the_same_seed_gives_the_same_bits_whatever_the_threads() -> None:
    long = [np.tile(x, (6, 1)) for x in X]
    options = {**FAST, "dropout": 0.2, "num_layers": 2, "hidden_size": 40, "max_iter": 2}
    models = [LSTMClassifier(num_threads=n, **options).fit(long, Y) for n in (1, 2, 2)]
    assert same(models[0], models[1])
    assert same(models[1], models[2])
    assert models[0].loss_curve_ == models[2].loss_curve_
    assert not same(models[0], LSTMClassifier(**{**options, "random_state": 1}).fit(long, Y))


@pytest.mark.parametrize("pooling", ["last", "mean"])
def test_a_prediction_does_not_depend_on_its_batch(pooling: str) -> None:
    model = LSTMClassifier(pooling=pooling, max_iter=2, **FAST).fit(X, Y)
    together = model.predict_proba(X)
    for at in (0, 7, 79):
        assert np.array_equal(model.predict_proba([X[at]])[0], together[at])


def test_early_stopping_returns_to_the_best_weights() -> None:
    noise = np.random.default_rng(1).permutation(Y)  # nothing to learn but by heart
    options = {**FAST, "early_stopping": True, "validation_fraction": 0.25, "n_iter_no_change": 5}
    model = LSTMClassifier(max_iter=100, **options).fit(X, noise)
    assert model.n_iter_ < 100
    curve = model.validation_loss_curve_
    assert len(curve) == model.n_iter_
    assert int(np.argmin(curve)) == model.n_iter_ - 6
    shorter = LSTMClassifier(max_iter=model.n_iter_ - 5, **options).fit(X, noise)
    assert same(model, shorter)


def test_partial_fit_and_warm_start() -> None:
    parts = LSTMClassifier(**FAST)
    with pytest.raises(ValueError, match="classes must be passed"):
        parts.partial_fit(X, Y)
    for _ in range(3):
        parts.partial_fit(X, Y, classes=WORDS)
    whole = LSTMClassifier(max_iter=3, **FAST).fit(X, Y)
    assert same(parts, whole)
    assert parts.loss_curve_ == whole.loss_curve_
    warm = LSTMClassifier(max_iter=1, warm_start=True, **FAST)
    for _ in range(3):
        warm.fit(X, Y)
    assert same(warm, whole)
    assert warm.n_iter_ == 3
    cold = LSTMClassifier(max_iter=1, **FAST).fit(X, Y).fit(X, Y)
    assert cold.n_iter_ == 1
    with pytest.raises(ValueError, match="y must hold classes"):
        warm.fit(X, np.full(80, "strange"))
    regressor = LSTMRegressor(**FAST).partial_fit(X, SUMS).partial_fit(X, SUMS)
    assert same(regressor, LSTMRegressor(max_iter=2, **FAST).fit(X, SUMS))


def test_batches_from_elsewhere() -> None:
    def epoch(number: int) -> Any:
        for batch in nn.batches(X, size=20, seed=number):
            yield [X[k] for k in batch.chosen], Y[batch.chosen], np.ones(len(batch.chosen))

    model = LSTMClassifier(max_iter=40, **FAST).fit_batches(epoch, classes=WORDS)
    assert model.score(X, Y) > 0.9
    again = [(X[:40], SUMS[:40]), (X[40:], SUMS[40:])]
    regressor = LSTMRegressor(max_iter=100, n_iter_no_change=3, **FAST)
    regressor.fit_batches(again, validation=(X[:20], RNG.standard_normal(20)))
    assert regressor.n_iter_ < 100
    assert len(regressor.validation_loss_curve_) == regressor.n_iter_
    with pytest.raises(ValueError, match="read only once"):
        regressor.fit_batches(iter(again))
    with pytest.raises(ValueError, match="one batch at least"):
        regressor.fit_batches([])
    with pytest.raises(ValueError, match="how many batches"):
        LSTMRegressor(schedule="cosine").fit_batches(again)
    with pytest.raises(ValueError, match="balanced"):
        LSTMClassifier(class_weight="balanced").fit_batches(epoch, classes=WORDS)


def test_weights_of_classes_and_of_sequences() -> None:
    """What weighs nothing is not learned: the answer is that of the others."""
    none = LSTMClassifier(class_weight={"up": 0, "flat": 1, "down": 1}, max_iter=30, **FAST)
    assert "up" not in none.fit(X, Y).predict(X)
    weight = (Y != "flat").astype(float)
    assert "flat" not in LSTMClassifier(max_iter=30, **FAST).fit(X, Y, weight).predict(X)
    few = np.r_[np.flatnonzero(Y == "up")[:3], np.flatnonzero(Y == "down")]
    x, y = [X[k] for k in few], Y[few]
    plain, balanced = (
        LSTMClassifier(class_weight=w, max_iter=3, **FAST).fit(x, y).predict_proba(x)[:, 1].mean()
        for w in (None, "balanced")
    )
    assert balanced > plain
    with pytest.raises(ValueError, match="sample_weight must be >= 0"):
        LSTMRegressor().fit(X, SUMS, -weight)


def test_inside_scikit_learn() -> None:
    model = make_pipeline(SequenceScaler(), LSTMClassifier(max_iter=15, **FAST))
    assert cross_val_score(model, X, Y, cv=3).mean() > 0.7
    search = GridSearchCV(model, {"lstmclassifier__cell": ["gru", "rnn"]}, cv=2).fit(X, Y)
    assert search.predict(X).shape == (80,)
    copy = clone(search.best_estimator_)
    with pytest.raises(NotFittedError):
        copy.predict(X)


def test_scaler() -> None:
    shifted = [3 * x + 5 for x in X]
    scaled = SequenceScaler().fit_transform(shifted)
    steps = np.concatenate(scaled)
    np.testing.assert_allclose(steps.mean(axis=0), 0, atol=1e-14)
    np.testing.assert_allclose(steps.std(axis=0), 1, rtol=1e-14)
    array = np.stack([x[:4] for x in shifted])
    found = SequenceScaler().fit(shifted).transform(array)
    assert np.array_equal(found[3], scaled[3][:4])


def test_pickle_and_going_on() -> None:
    model = LSTMClassifier(max_iter=2, dropout=0.2, num_layers=2, **FAST).fit(X, Y)
    copy = pickle.loads(pickle.dumps(model))
    assert np.array_equal(copy.predict_proba(X), model.predict_proba(X))
    assert same(copy.partial_fit(X, Y), model.partial_fit(X, Y))


def test_mapped_by_joblib(tmp_path: Any) -> None:
    """joblib maps large arrays of a file, read-only: they are taken into memory."""
    import joblib

    model = LSTMRegressor(max_iter=1, **FAST).fit(X, SUMS)
    lstm = fastlstm.LSTM(2, 3, seed=0)
    joblib.dump((model, lstm), tmp_path / "both")
    copy, other = joblib.load(tmp_path / "both", mmap_mode="r")
    assert np.array_equal(copy.predict(X), model.predict(X))
    assert same(copy.partial_fit(X, SUMS), model.partial_fit(X, SUMS))
    x = np.ones((4, 1, 2), np.float32)
    assert np.array_equal(other(x)[0], lstm(x)[0])
    assert other.train().weight_hh_l0.flags.writeable


def test_progress(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tqdm")
    LSTMRegressor(max_iter=3, verbose=True, **FAST).fit(X, SUMS)
    shown = capsys.readouterr().err
    assert "3/3" in shown
    assert "loss=" in shown
    monkeypatch.setitem(__import__("sys").modules, "tqdm.auto", None)
    LSTMRegressor(max_iter=1, verbose=True, **FAST).fit(X, SUMS)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "options,error,words",
    [
        ({"cell": "elman"}, ValueError, "cell must be one of lstm, gru, rnn"),
        ({"hidden_size": 0}, ValueError, "hidden_size"),
        ({"cell": "gru", "proj_size": 2}, ValueError, "proj_size must be 0"),
        ({"dropout": 1.0}, ValueError, "dropout"),
        ({"schedule": "steps"}, ValueError, "schedule must be one of"),
        ({"clip_norm": -1.0}, ValueError, "clip_norm"),
        ({"batch_size": 0}, ValueError, "batch_size"),
        ({"max_iter": 0}, ValueError, "max_iter"),
        ({"pooling": "max"}, ValueError, "pooling"),
        ({"per_step": 1}, TypeError, "per_step"),
        ({"warm_start": "no"}, TypeError, "warm_start"),
        ({"dtype": "float16"}, TypeError, "dtype"),
        ({"early_stopping": True, "validation_fraction": 2.0}, ValueError, "validation_fraction"),
        ({"early_stopping": True, "validation_fraction": 0.0}, ValueError, "must leave sequences"),
        (
            {"early_stopping": True, "validation_fraction": 0.999},
            ValueError,
            "must leave sequences",
        ),
        ({"early_stopping": True, "n_iter_no_change": 0}, ValueError, "n_iter_no_change"),
        ({"early_stopping": True, "tol": -1.0}, ValueError, "tol must be"),
        ({"learning_rate": -1.0}, ValueError, "learning_rate must be"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else None,
)
def test_bad_parameters(options: dict[str, Any], error: type[Exception], words: str) -> None:
    y: Any = [np.zeros(len(x)) for x in X] if options.get("per_step") else SUMS
    with pytest.raises(error) as caught:
        LSTMRegressor(**options).fit(X, y)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "x,y,words",
    [
        (X, SUMS[1:], "inconsistent"),
        (X, None, "requires y"),
        ([X[0], X[1][:, :1]], SUMS[:2], "of one I"),
        ([X[0], X[1] * np.nan], SUMS[:2], "NaN"),
        (np.zeros((2, 0, 3)), SUMS[:2], "one step"),
        (np.zeros(4), SUMS[:4], "must have shape"),
        ([np.zeros(4), np.zeros(5)], SUMS[:2], "x[:, None] of each"),
        ([], [], "Found array with 0 sample"),
    ],
    ids=["y", "no y", "I", "NaN", "empty", "one axis", "rows", "nothing"],
)
def test_bad_input(x: Any, y: Any, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        LSTMRegressor(max_iter=1).fit(x, y)


@pytest.mark.parametrize(
    "batches,words",
    [
        (None, "an iterable or a callable, got NoneType"),
        ([X[:4]], "got list of 4"),
        ([(X[:4],)], "got tuple of 1"),
        ([3], "got int"),
        ([(X[:4], SUMS[:4]), np.zeros((4, 5, 2))], "got ndarray of 4"),
    ],
    ids=["nothing", "X alone", "a tuple of X", "a number", "later"],
)
def test_bad_batches(batches: Any, words: str) -> None:
    with pytest.raises(TypeError) as caught:
        LSTMRegressor(max_iter=1, **FAST).fit_batches(batches)
    assert words in str(caught.value)


def test_an_error_leaves_the_estimator_as_it_was() -> None:
    model = LSTMClassifier(max_iter=1, **FAST).fit(X, SUMS > 0)
    before, wider = model.predict_proba(X), [np.repeat(x, 2, axis=1) for x in X]
    for call in (
        lambda: model.fit(wider, SUMS > 0, sample_weight=[-1.0] * len(X)),
        lambda: model.fit(X, SUMS),
        lambda: model.fit_batches([(wider, SUMS)], classes=[0, 1, 2]),
    ):
        with pytest.raises(ValueError, match=r"sample_weight|label type"):
            call()
        assert np.array_equal(model.predict_proba(X), before)


def test_a_loss_that_is_no_number_ends_training() -> None:
    options = {**FAST, "learning_rate": 1e30}
    model = LSTMRegressor(clip_norm=None, max_iter=9, **options)
    with np.errstate(all="ignore"), pytest.raises(ValueError, match="the loss has become"):
        model.fit(X, SUMS)
    with pytest.raises(NotFittedError):
        model.predict(X)


def test_scaler_keeps_arrays_where_frames_are_asked_for() -> None:
    pytest.importorskip("pandas")
    with config_context(transform_output="pandas"):
        assert SequenceScaler().fit_transform(np.stack([X[0], X[0]])).shape == (2, *X[0].shape)


@pytest.mark.parametrize(
    "change", [{"hidden_size": 5}, {"num_layers": 2}, {"bidirectional": True}], ids=" ".join
)
def test_a_layer_is_not_changed_by_parameters(change: dict[str, Any], tmp_path: Path) -> None:
    """Else a warm start would go on with another layer than asked for, and a file not load."""
    model = LSTMRegressor(max_iter=1, warm_start=True, **FAST).fit(X, SUMS).set_params(**change)
    for call in (model.fit, model.partial_fit):
        with pytest.raises(ValueError, match="but the fitted layer has"):
            call(X, SUMS)
    with pytest.raises(ValueError, match="but the fitted layer has"):
        model.save(tmp_path / "model.safetensors")
    model.set_params(warm_start=False).fit(X, SUMS).save(tmp_path / "model.safetensors")


def test_other_features() -> None:
    model = LSTMRegressor(max_iter=1, **FAST).fit(X, SUMS)
    with pytest.raises(ValueError, match="X has 1 features, but LSTMRegressor is expecting 2"):
        model.predict([x[:, :1] for x in X])
    with pytest.raises(ValueError, match="y must have 1 values as before, got 2"):
        model.partial_fit(X, np.zeros((80, 2)))
    for y in (CUMULATED[:-1], [*CUMULATED[:-1], CUMULATED[-1][1:]]):
        with pytest.raises(ValueError, match="y must have"):
            LSTMRegressor(per_step=True).fit(X, y)
    with pytest.raises(ValueError, match="y must have shape"):
        LSTMRegressor(per_step=True).fit(np.zeros((2, 3, 1)), np.zeros((2, 4)))
