# SPDX-License-Identifier: BSD-3-Clause
"""Running forward and backward of the engine on the problems of `gradients`."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np

import fastlstm
from support import helpers
from support.gradients import OUTPUTS, SUBSETS, Problem, torch_gradients

Named = dict[str, np.ndarray]


def problem_of(config: helpers.Config, seed: int, *, dropout: float = 0.0) -> Problem:
    """A problem whose upstream gradients are of the configuration's dtype, NaN in the padding."""
    problem = Problem(config, seed, dropout=dropout)
    problem.upstream = {n: a.astype(config.dtype) for n, a in problem.upstream.items()}
    for name in ("y", "cells"):
        for row, length in enumerate(config.lengths or ()):
            problem.upstream[name][length:, row] = np.nan
    return problem


def model_of(
    problem: Problem, *, batch_first: bool = False, train: bool = True, gemm: Any = "auto"
) -> fastlstm.LSTM:
    config = replace(problem.config, batch_first=batch_first)
    dropout = problem.options.get("dropout", 0.0)
    lstm = fastlstm.LSTM(
        **config.lstm_arguments, dropout=dropout, dtype=config.dtype, seed=0, gemm=gemm
    )
    lstm.load_state_dict(problem.params)
    return lstm.train(train)


def forward(lstm: fastlstm.LSTM, problem: Problem, **options: Any) -> tuple[Named, fastlstm.Tape]:
    """Outputs by name, time-major, and the tape."""
    x, state, lengths = problem.inputs
    seed = problem.options.get("seed")
    y, (h_n, c_n), cells, tape = lstm.forward(
        swapped(lstm, x), state, lengths=lengths, return_cells=True, seed=seed, **options
    )
    named = {"y": swapped(lstm, y), "h_n": h_n, "c_n": c_n, "cells": swapped(lstm, cells)}
    return named, tape


def backward(
    lstm: fastlstm.LSTM,
    tape: fastlstm.Tape,
    problem: Problem,
    given: tuple[str, ...] = OUTPUTS,
    **options: Any,
) -> Named:
    """Gradients by name, x time-major."""
    dy, dh_n, dc_n, dcells = (problem.upstream[n] if n in given else None for n in OUTPUTS)
    grads = lstm.backward(
        tape,
        None if dy is None else swapped(lstm, dy),
        None if dh_n is None and dc_n is None else (dh_n, dc_n),
        dcells=None if dcells is None else swapped(lstm, dcells),
        **options,
    )
    return named(lstm, grads)


def named(lstm: fastlstm.LSTM, grads: fastlstm.Gradients) -> Named:
    x = {} if grads.x is None else {"x": swapped(lstm, grads.x)}
    return {**x, "h_0": grads.h_0, "c_0": grads.c_0, **grads.params}


def gradients(
    problem: Problem,
    given: tuple[str, ...] = OUTPUTS,
    *,
    batch_first: bool = False,
    num_threads: int = 1,
    gemm: Any = "auto",
) -> Named:
    """By a model made for it."""
    lstm = model_of(problem, batch_first=batch_first, gemm=gemm)
    _, tape = forward(lstm, problem, num_threads=num_threads)
    return backward(lstm, tape, problem, given, num_threads=num_threads)


def by_torch(problem: Problem, given: tuple[str, ...] = OUTPUTS[:3]) -> Named:
    """Gradients by torch.nn.LSTM in float64."""
    clean = copy.copy(problem)
    clean.upstream = {n: np.nan_to_num(a).astype(np.float64) for n, a in problem.upstream.items()}
    return torch_gradients(clean, given)


def swapped(lstm: fastlstm.LSTM, a: np.ndarray) -> np.ndarray:
    """Between (T, B, ...) and the model's layout, as a contiguous array."""
    return np.ascontiguousarray(a.swapaxes(0, 1)) if lstm.batch_first else a


def random_problem(seed: int) -> tuple[Problem, tuple[str, ...]]:
    """Sizes in 1..70; in one of five a large one; and which outputs have gradients."""
    rng = np.random.default_rng(20_000 + seed)
    config = replace(helpers.random_config(rng), batch_first=False)
    if rng.random() < 0.15:  # a batch that is cut into parts
        config = replace(config, steps=min(config.steps, 9), batch=int(rng.integers(64, 301)))
        config = replace(config, lengths=_lengths(config, rng))
    dropout = float(rng.choice([0.1, 0.5, 0.9])) if rng.random() < 0.4 else 0.0
    dropout = dropout if config.num_layers > 1 else 0.0
    given = SUBSETS[int(rng.integers(1, len(SUBSETS)))] if rng.random() < 0.7 else OUTPUTS
    return problem_of(config, seed, dropout=dropout), given


def _lengths(config: helpers.Config, rng: np.random.Generator) -> tuple[int, ...] | None:
    if config.lengths is None:
        return None
    return tuple(int(n) for n in rng.integers(0, config.steps + 1, config.batch))
