# SPDX-License-Identifier: BSD-3-Clause
"""Estimators in files, without pickles, and sequences from tables."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn.exceptions import NotFittedError

import fastlstm
import fastlstm.sklearn
from fastlstm import nn
from fastlstm.sklearn import LSTMClassifier, LSTMForecaster, LSTMRegressor, sequences

RNG = np.random.default_rng(0)
X = [RNG.standard_normal((t, 2)) for t in RNG.integers(4, 9, 30)]
N = np.arange(30)
FAST: dict[str, Any] = {"hidden_size": 5, "max_iter": 2, "random_state": 3}
SERIES = RNG.standard_normal((80, 2))


def fitted(kind: str) -> tuple[Any, Any]:
    """An estimator and what it predicts from."""
    if kind == "forecaster":
        model = LSTMForecaster(steps=8, horizon=2, quantiles=(0.1, 0.9), **FAST)
        return model.fit(SERIES), SERIES
    if kind == "with exogenous":
        return LSTMForecaster(steps=8, **FAST).fit(SERIES, exogenous=SERIES[:, 0]), None
    if kind == "regressor":
        schedule = nn.WarmUp(nn.Cosine(0.01, 9), 3)
        return LSTMRegressor(cell="gru", schedule=schedule, **FAST).fit(X, N / 30), X
    if kind == "of each step":
        return LSTMRegressor(per_step=True, **FAST).fit(X, [x * 2 for x in X]), X
    y: Any = {"words": np.array(["a", "b"])[N % 2], "numbers": N % 3, "objects": N % 2 == 0}[kind]
    y = np.array(["so", "not"], object)[N % 2] if kind == "objects" else y
    weight = {"words": {"a": 1, "b": 2.5}, "numbers": "balanced", "objects": None}[kind]
    options = {"class_weight": weight, "num_layers": 2, "bidirectional": True, "proj_size": 3}
    return LSTMClassifier(pooling="mean", **options, **FAST).fit(X, y), X


KINDS = ["words", "numbers", "objects", "regressor", "of each step", "forecaster", "with exogenous"]


@pytest.mark.parametrize("kind", KINDS)
def test_there_and_back(tmp_path: Path, kind: str) -> None:
    model, x = fitted(kind)
    model.save(tmp_path / "model")
    copy = fastlstm.sklearn.load(tmp_path / "model")
    assert type(copy) is type(model)
    assert copy.get_params() == model.get_params()
    assert copy.loss_curve_ == model.loss_curve_
    if kind == "with exogenous":
        found = [m.predict(SERIES, SERIES[:, 0], np.ones(1)) for m in (model, copy)]
        assert np.array_equal(*found)
        return
    for a, b in zip(model.predict(x), copy.predict(x), strict=True):
        assert np.array_equal(a, b)
    if isinstance(model, LSTMClassifier):
        assert copy.classes_.dtype == model.classes_.dtype
        assert copy.predict_proba(x).tobytes() == model.predict_proba(x).tobytes()
        copy.partial_fit(x, copy.predict(x)) if kind != "numbers" else None
    (copy.path,) = tmp_path.iterdir()
    assert b"pickle" not in copy.path.read_bytes()


def test_what_cannot_be_saved(tmp_path: Path) -> None:
    with pytest.raises(NotFittedError):
        LSTMRegressor().save(tmp_path / "m")
    own = LSTMRegressor(schedule=lambda step: 1e-3, **FAST).fit(X, N / 30)
    with pytest.raises(TypeError, match="schedule cannot be saved"):
        own.save(tmp_path / "m")

    class Mine(LSTMRegressor):
        pass

    with pytest.raises(TypeError, match="got Mine"):
        Mine(**FAST).fit(X, N / 30).save(tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_a_pipe_is_no_file(tmp_path: Path) -> None:
    """Whoever opened it would wait for somebody to write."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="device or a pipe"):
        fastlstm.sklearn.load(tmp_path / "pipe")


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        fastlstm.sklearn.load(tmp_path / "none")
    fastlstm.LSTM(1, 2, seed=0).save(tmp_path / "lstm")
    with pytest.raises(ValueError, match="holds no estimator"):
        fastlstm.sklearn.load(tmp_path / "lstm")
    fitted("regressor")[0].save(tmp_path / "m")
    whole = (tmp_path / "m").read_bytes()
    for end in range(0, len(whole), 97):
        (tmp_path / "cut").write_bytes(whole[:end])
        with pytest.raises(ValueError):
            fastlstm.sklearn.load(tmp_path / "cut")
    for old, new in (
        (b'"format\\": 1', b'"format\\": 9'),
        (b'hidden_size\\": 5', b'hidden_size\\": 7'),
        (b'num_layers\\": 1', b'num_layers\\": 9'),
        (b'"class\\": \\"LSTM', b'"class\\": \\"GRUM'),
        (b'_seed\\":', b'_deed\\":'),
    ):
        assert old in whole
        (tmp_path / "other").write_bytes(whole.replace(old, new))
        with pytest.raises(ValueError, match="cannot be loaded"):
            fastlstm.sklearn.load(tmp_path / "other")


class Frame(dict):
    """As much of a DataFrame as the helper needs."""

    @property
    def columns(self) -> list[str]:
        return list(self)


def table() -> Frame:
    return Frame(
        who=np.array(["b", "a", "b", "a", "b"]),
        when=np.array([2, 1, 0, 0, 1]),
        u=np.arange(5),
        v=np.arange(5) * 10.0,
        label=np.array([1, 0, 1, 0, 1]),
    )


def test_sequences_of_a_table() -> None:
    found = sequences(table(), "who", "when", target="label")
    assert found.groups.tolist() == ["a", "b"]
    assert [x.tolist() for x in found.X] == [
        [[3, 30], [1, 10]],
        [[2, 20], [4, 40], [0, 0]],
    ]
    assert found.y.tolist() == [0, 1]
    plain = sequences(table(), "who", columns=["v"])
    assert [x.tolist() for x in plain.X] == [[[10], [30]], [[0], [20], [40]]]
    assert plain.y is None
    each = sequences(table(), "who", "when", target="u", columns=["v"], per_step=True)
    assert [y.tolist() for y in each.y] == [[3, 1], [2, 4, 0]]


def test_sequences_of_pandas() -> None:
    pandas = pytest.importorskip("pandas")
    found, wanted = (
        sequences(frame, "who", "when", target="label")
        for frame in (pandas.DataFrame(table()), table())
    )
    assert all(np.array_equal(a, b) for a, b in zip(found.X, wanted.X, strict=True))
    assert np.array_equal(found.y, wanted.y)
    assert LSTMClassifier(max_iter=1).fit(found.X, found.y).predict(found.X).shape == (2,)


def test_tables_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"no columns \['no'\]"):
        sequences(table(), "no")
    with pytest.raises(ValueError, match="one feature at least"):
        sequences(table(), "who", columns=[])
    with pytest.raises(ValueError, match="several"):
        sequences(table(), "who", target="u")
