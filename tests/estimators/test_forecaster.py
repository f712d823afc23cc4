# SPDX-License-Identifier: BSD-3-Clause
"""Forecasts: several variables, steps ahead, exogenous inputs and intervals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import TimeSeriesSplit, cross_val_score

from fastlstm.sklearn import LSTMForecaster, load

T = np.arange(400)
SERIES = np.stack((10 + 3 * np.sin(T / 4), 1000 * np.cos(T / 6)), axis=1)
PULSE = (np.random.default_rng(0).random(400) < 0.2).astype(float)
FAST: dict[str, Any] = {
    "steps": 16,
    "horizon": 3,
    "hidden_size": 16,
    "learning_rate": 1e-2,
    "max_iter": 25,
    "random_state": 0,
}


def test_it_forecasts_variables_of_any_scale() -> None:
    model = LSTMForecaster(**FAST).fit(SERIES[:300])
    assert model.score(SERIES[300:]) > 0.95
    ahead = model.predict(SERIES[:350])
    assert ahead.shape == (3, 2)
    deviation = SERIES.std(axis=0)
    assert (np.abs(ahead - SERIES[350:353]) < 0.3 * deviation).all()
    forecast, truth = model.predict_windows(SERIES[300:360])
    assert forecast.shape == truth.shape == (60 - 16 - 3 + 1, 3, 2)
    np.testing.assert_allclose(truth[5], SERIES[321:324], rtol=1e-5, atol=1e-3)
    assert np.array_equal(model.predict(SERIES[300:321]), forecast[5])
    assert model.n_features_in_ == 2


def test_several_series_and_one_variable() -> None:
    parts = [SERIES[:150, 0], SERIES[150:300, 0]]
    model = LSTMForecaster(cell="gru", early_stopping=True, **FAST).fit(parts)
    assert model.score(SERIES[300:, 0]) > 0.9
    both = model.predict(parts)
    assert both.shape == (2, 3, 1)
    assert np.array_equal(both[1], model.predict(parts[1]))


def test_what_is_known_of_the_future_helps() -> None:
    """Each value is the pulse of its own step, which no past tells."""
    series = 5 + 2 * PULSE
    blind = LSTMForecaster(**FAST).fit(series[:300])
    seeing = LSTMForecaster(**FAST).fit(series[:300], exogenous=PULSE[:300])
    assert blind.score(series[300:]) < 0.3
    assert seeing.score(series[300:], exogenous=PULSE[300:]) > 0.95
    ahead = seeing.predict(series[:350], PULSE[:350], PULSE[350:353])
    np.testing.assert_allclose(ahead[:, 0], series[350:353], atol=0.5)
    windows, _ = seeing.predict_windows(series[330:353], PULSE[330:353])
    assert np.array_equal(windows[-1], ahead)


def test_quantiles() -> None:
    noise = np.random.default_rng(0).standard_normal(1200)
    model = LSTMForecaster(quantiles=[0.1, 0.5, 0.9], **{**FAST, "max_iter": 4}).fit(noise[:800])
    forecast, truth = model.predict_windows(noise[800:])
    assert (np.diff(forecast, axis=-1) >= 0).all()
    inside = (forecast[..., 0] < truth) & (truth < forecast[..., 2])
    # 80 % of some 400 independent steps: their share has a deviation of 2 %.
    assert 0.68 < inside.mean() < 0.92
    ahead = model.predict_quantiles(noise)
    assert ahead.shape == (3, 1, 3)
    assert np.array_equal(model.predict(noise), ahead[..., 1])


def test_seed_clone_and_cross_validation() -> None:
    model = LSTMForecaster(**{**FAST, "max_iter": 10})
    one, two = (clone(model).set_params(num_threads=n).fit(SERIES) for n in (1, 2))
    assert np.array_equal(one.predict(SERIES), two.predict(SERIES))
    scores = cross_val_score(model, SERIES, cv=TimeSeriesSplit(2))
    assert scores.shape == (2,)
    assert np.isfinite(scores).all()
    longer = clone(model).set_params(warm_start=True, max_iter=5).fit(SERIES).fit(SERIES)
    assert np.array_equal(longer.predict(SERIES), one.predict(SERIES))


@pytest.mark.parametrize(
    "call,words",
    [
        (lambda m: m.predict(SERIES[:15]), "16 steps at least, got 15"),
        (lambda m: m.predict(SERIES[:, :1]), "X must have 2 columns"),
        (lambda m: m.predict(SERIES, PULSE, PULSE[:3]), "exogenous must be given as in fit"),
        (lambda m: m.predict_quantiles(SERIES), "quantiles must be given"),
        (lambda m: m.fit(SERIES[:10]), "19 steps at least"),
        (lambda m: m.fit(SERIES * np.nan), "NaN"),
        (lambda m: m.fit(SERIES, exogenous=PULSE[:-1]), "exogenous must have the steps of X"),
        (lambda m: m.fit(SERIES, exogenous=PULSE).predict(SERIES, PULSE), "future must have"),
        (lambda m: m.set_params(quantiles=[0.9, 0.1]).fit(SERIES), "quantiles must rise"),
        (lambda m: m.set_params(horizon=0).fit(SERIES), "horizon"),
        (lambda m: m.fit([SERIES, SERIES[:, :1]]), "as many variables each, got [1, 2]"),
        (lambda m: m.fit(SERIES[None]), "list(X) are 1 series"),
        (lambda m: m.predict(SERIES, future=PULSE[:3]), "future must be None"),
        (lambda m: m.set_params(horizon=1).predict(SERIES), "do not fit the 6 outputs"),
        (lambda m: m.set_params(quantiles=[0.2, 0.8]).predict(SERIES), "fit a new one"),
    ],
)
def test_bad_input(call: Any, words: str) -> None:
    model = LSTMForecaster(**{**FAST, "max_iter": 1})
    with pytest.raises(NotFittedError):
        model.predict(SERIES)
    with pytest.raises(ValueError) as caught:
        call(model.fit(SERIES))
    assert words in str(caught.value)


def test_columns_of_a_frame_keep_their_order(tmp_path: Path) -> None:
    """Else a forecast would take one variable for another without a word."""
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(SERIES, columns=["a", "b"])
    LSTMForecaster(**{**FAST, "max_iter": 1}).fit(frame).save(tmp_path / "model.safetensors")
    model = load(tmp_path / "model.safetensors")
    assert np.array_equal(model.predict(frame), model.predict(SERIES))
    for call in (model.predict, model.predict_windows, model.score):
        with pytest.raises(ValueError, match=r"columns \['a', 'b'\] as in fit, got \['b', 'a'\]"):
            call(frame[["b", "a"]])


def test_quantiles_are_several() -> None:
    with pytest.raises(TypeError, match="quantiles must be numbers or None"):
        LSTMForecaster(quantiles=0.5).fit(SERIES)  # type: ignore[arg-type]
