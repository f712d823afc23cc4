# SPDX-License-Identifier: BSD-3-Clause
"""Checkpoints: training that was stopped goes on with the same bits; files are whole or refused."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastlstm
from fastlstm import nn, optim


class Run:
    """Training with everything that a checkpoint has to hold: dropout, momenta, watches."""

    def __init__(self, seed: int = 0, kind: Any = optim.Adam, hidden: int = 8) -> None:
        lstm = fastlstm.LSTM(3, hidden, 2, batch_first=True, dropout=0.3, seed=seed)
        self.model = nn.SequenceModel(lstm, nn.Linear(hidden, 4, seed=seed), dropout=0.2).train()
        self.optimizer = kind(self.model, lr=0.01)
        self.stopping = nn.EarlyStopping(self.model, patience=5)
        self.plateau = nn.ReduceOnPlateau(0.01, 0.5, patience=0)
        rng = np.random.default_rng(0)
        self.x = [rng.standard_normal((t, 3), np.float32) for t in rng.integers(2, 9, 40)]
        self.y = rng.integers(0, 4, 40)

    def epochs(self, first: int, count: int) -> Iterator[float]:
        for epoch in range(first, first + count):
            for batch in nn.batches(self.x, self.y, size=16, seed=[5, epoch]):
                self.optimizer.lr = self.plateau(self.optimizer.steps)
                logits, tape = self.model.forward(batch.x, lengths=batch.lengths)
                loss, slope = nn.cross_entropy(logits, batch.y)
                self.optimizer.step(self.model.backward(tape, slope))
                yield loss
            self.plateau.update(loss)
            self.stopping.update(loss)

    def parts(self) -> dict[str, Any]:
        return {"stopping": self.stopping, "plateau": self.plateau}


def same(one: Run, other: Run) -> bool:
    states = zip(
        (one.model, one.optimizer, one.stopping, one.plateau),
        (other.model, other.optimizer, other.stopping, other.plateau),
        strict=True,
    )
    return all(
        np.array_equal(value, b.state_dict()[name])
        for a, b in states
        for name, value in a.state_dict().items()
    )


def momentum(model: Any, lr: float) -> optim.SGD:
    return optim.SGD(model, lr=lr, momentum=0.9)


def amsgrad(model: Any, lr: float) -> optim.AdamW:
    return optim.AdamW(model, lr=lr, amsgrad=True)


@pytest.mark.parametrize("kind", [optim.Adam, momentum, amsgrad], ids=["adam", "sgd", "adamw"])
def test_going_on_is_going_on(tmp_path: Path, kind: Any) -> None:
    one = Run(kind=kind)
    for _ in one.epochs(0, 3):
        pass
    nn.save_checkpoint(tmp_path / "run", one.model, one.optimizer, step=3, **one.parts())
    other = Run(seed=9, kind=kind)  # other weights, other masks
    assert not same(one, other)
    step = nn.load_checkpoint(tmp_path / "run", other.model, other.optimizer, **other.parts())
    assert step == 3
    assert same(one, other)
    assert list(one.epochs(3, 3)) == list(other.epochs(step, 3))
    assert same(one, other)
    one.stopping.restore()
    other.stopping.restore()
    assert same(one, other)


def test_a_layer_alone(tmp_path: Path) -> None:
    gru, other = fastlstm.GRU(2, 3, seed=0), fastlstm.GRU(2, 3, seed=1)
    nn.save_checkpoint(tmp_path / "gru", gru)
    assert nn.load_checkpoint(tmp_path / "gru", other) == 0
    assert np.array_equal(gru.weight_hh_l0, other.weight_hh_l0)


def test_what_fails_changes_nothing(tmp_path: Path) -> None:
    one, two = Run(), Run(seed=9)
    for _ in one.epochs(0, 1):
        pass
    nn.save_checkpoint(tmp_path / "run", one.model, one.optimizer, step=1, **one.parts())
    before = Run(seed=9)
    path = tmp_path / "run"
    for given in (
        {"optimizer": momentum(two.model, 0.01), **two.parts()},
        {"optimizer": two.optimizer, "stopping": two.stopping},
        {"optimizer": two.optimizer, **two.parts(), "more": two.stopping},
    ):
        with pytest.raises(ValueError):
            nn.load_checkpoint(path, two.model, **given)
        assert same(two, before)
    with pytest.raises(ValueError, match="does not fit"):
        nn.load_checkpoint(path, Run(hidden=9).model, one.optimizer, **one.parts())


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Run()
    path = tmp_path / "run"
    nn.save_checkpoint(path, one.model, step=1)
    old = path.read_bytes()

    def fails(*_: Any) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr("os.fsync", fails)
    with pytest.raises(OSError, match="full"):
        nn.save_checkpoint(path, one.model, step=2)
    assert path.read_bytes() == old
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_a_pipe_is_no_file(tmp_path: Path) -> None:
    """Whoever opened it would wait for somebody to write."""
    pipe, layer = tmp_path / "pipe", nn.Linear(2, 3, seed=0).train()
    os.mkfifo(pipe)
    with pytest.raises(ValueError, match="device or a pipe"):
        nn.load_checkpoint(pipe, layer)
    with pytest.raises(IsADirectoryError):
        nn.load_checkpoint(tmp_path, layer)


def test_files_that_are_none(tmp_path: Path) -> None:
    model = nn.Linear(2, 1, seed=0)
    with pytest.raises(FileNotFoundError):
        nn.load_checkpoint(tmp_path / "none", model)
    lstm = fastlstm.LSTM(1, 2, seed=0)
    lstm.save(tmp_path / "lstm")
    with pytest.raises(ValueError, match="no checkpoint"):
        nn.load_checkpoint(tmp_path / "lstm", lstm)
    nn.save_checkpoint(tmp_path / "ck", model)
    with pytest.raises(ValueError, match="without a fastlstm configuration"):
        fastlstm.load(tmp_path / "ck")
    whole = (tmp_path / "ck").read_bytes()
    for end in range(0, len(whole), 7):
        (tmp_path / "cut").write_bytes(whole[:end])
        with pytest.raises(ValueError):
            nn.load_checkpoint(tmp_path / "cut", model)


@pytest.mark.parametrize(
    "call,error,words",
    [
        (lambda: nn.save_checkpoint(3, nn.Linear(1, 1)), TypeError, "path"),
        (lambda: nn.save_checkpoint("x", 3), TypeError, "model must have state_dict"),
        (lambda: nn.save_checkpoint("x", nn.Linear(1, 1), step=-1), ValueError, "step"),
        (lambda: nn.save_checkpoint("x", nn.Linear(1, 1), more=3), TypeError, "more must have"),
    ],
)
def test_bad_input(call: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error) as caught:
        call()
    assert words in str(caught.value)
