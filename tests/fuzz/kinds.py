# SPDX-License-Identifier: BSD-3-Clause
"""Which models the fuzzers take: plain LSTMs for the most part, LSTMs with options, GRUs."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import fastlstm
from fastlstm import LSTMOptions
from support.option_runs import random_noise, random_options

from .hostile import Rng


class Kind(NamedTuple):
    layer: Any
    cell: Any
    options: dict[str, Any]  # of both constructors


def any_options(rng: Rng, *, noise: bool = False) -> LSTMOptions | None:
    """None for the plain LSTM, in half of the cases. Without noise, passes need no seed."""
    if rng.random() < 0.5:
        return None
    options = random_options(rng)
    loud = noise and rng.random() < 0.5
    return dataclasses.replace(options, **random_noise(rng)) if loud else options


def any_kind(rng: Rng, *, noise: bool = False) -> Kind:
    """One of them."""
    if rng.random() < 0.25:
        return Kind(fastlstm.GRU, fastlstm.GRUCell, {"reset_after": bool(rng.integers(2))})
    options = any_options(rng, noise=noise)
    return Kind(fastlstm.LSTM, fastlstm.LSTMCell, {} if options is None else {"options": options})
