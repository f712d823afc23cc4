# SPDX-License-Identifier: BSD-3-Clause
"""`bench --planner`: plans that are forced give the same bits, and regrets are told right."""

from __future__ import annotations

import numpy as np
import pytest

import fastlstm
from fastlstm.__main__ import main
from fastlstm.bench import planner


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("both", [False, True])
def test_forced_plans_run_as_told_with_the_same_bits(isa: str, threads: int, both: bool) -> None:
    lstm = fastlstm.LSTM(9, 37, 2, bidirectional=both, seed=0)
    x = np.random.default_rng(0).standard_normal((12, 7, 9)).astype(np.float32)
    lengths = [12, 0, 5, 12, 1, 7, 9]
    engine = lstm._engine()
    expected = lstm(x, lengths=lengths, num_threads=1)[0]
    plans = list(planner.candidates(lstm, 12, 7, threads))
    assert len(plans) == len(set(plans))
    assert planner.chosen(lstm, 12, 7, threads) in plans
    for plan in plans:
        engine.force(*plan)
        taken = engine.plan(12, 7, 1)
        groups = taken["dir_groups"], taken["row_groups"], taken["unit_groups"]
        assert (*groups, taken["project_steps"] > 0) == plan
        assert taken["threads"] == plan[0] * plan[1] * plan[2]
        np.testing.assert_array_equal(lstm(x, lengths=lengths)[0], expected)


@pytest.mark.parametrize("batch", [7, 20, 130])  # one part of the batch, two, four
@pytest.mark.parametrize("purpose", ["train", "back"])
def test_forced_plans_of_training(isa: str, purpose: str, batch: int) -> None:
    hidden = 37 if batch > 7 else 11  # so few units cannot be shared by two threads backwards
    lstm = fastlstm.LSTM(9, hidden, 2, bidirectional=True, seed=0)
    x = np.random.default_rng(0).standard_normal((12, batch, 9)).astype(np.float32)

    def step() -> list[np.ndarray]:
        y, _, tape = lstm.forward(x)
        grads = lstm.backward(tape, y)
        return [y, grads.x, grads.h_0, *grads.params.values()]

    expected = step()
    engine = lstm._engine(3)
    for threads in (1, 2):
        plans = list(planner.candidates(lstm, 12, batch, threads, purpose))
        assert len(plans) == len(set(plans))
        assert planner.chosen(lstm, 12, batch, threads, purpose) in plans
        for plan in plans:
            engine.force(*plan, purpose)
            assert planner.chosen(lstm, 12, batch, 1, purpose) == plan
            for array, other in zip(step(), expected, strict=True):
                np.testing.assert_array_equal(array, other)


@pytest.mark.parametrize("plan", [(2, 1, 1), (1, 8, 1), (1, 1, 99), (0, 1, 1), (1, 1, 0)])
def test_plans_that_do_not_fit_are_refused(plan: tuple[int, int, int]) -> None:
    lstm = fastlstm.LSTM(9, 37, seed=0)
    lstm._engine().force(*plan, True)
    with pytest.raises(RuntimeError, match="out of its range"):
        lstm(np.zeros((12, 7, 9), np.float32))


def test_regrets() -> None:
    one, other = (1, 1, 1, False), (1, 1, 1, True)
    assert planner.Case("", one, {one: 2.0, other: 1.0}).regret == 1
    assert planner.Case("", other, {one: 2.0, other: 1.0}).regret == 0


def test_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    measured = []

    def case(seed: int, threads: int, purpose: str) -> planner.Case:
        measured.append((seed, threads, purpose))
        slow, best = (1, 1, 1, False), (1, 1, 1, True)
        chosen = slow if seed == 8 else best
        return planner.Case(f"shape {seed}", chosen, {slow: 1.5, best: 1.0})

    monkeypatch.setattr(planner, "measure", case)
    assert main(["bench", "--planner", "3", "--seed", "7", "--threads", "1"]) == 0
    assert measured == [(seed, 1, "infer") for seed in (7, 8, 9)]
    printed = capsys.readouterr().out
    assert "0.0 % slower than the best in the median, 50.0 % at worst" in printed
    assert "shape 8" in printed
    assert "chosen 1x1x1 inside" in printed
    measured.clear()
    assert main(["bench", "--planner", "1", "--train", "--threads", "2"]) == 0
    assert measured == [(0, 2, "train"), (0, 2, "back")]
    assert "backward, 2 threads" in capsys.readouterr().out


def test_a_seed_is_a_shape() -> None:
    first, again = (planner.measure(3, 1, "infer", 1, 0.0, most_flops=1e6) for _ in range(2))
    assert first.shape == again.shape
    assert set(first.seconds) == set(again.seconds)
    assert first.chosen == again.chosen
    assert all(0 < seconds < np.inf for seconds in first.seconds.values())
