# SPDX-License-Identifier: BSD-3-Clause
"""Training on real data follows PyTorch's loss curve update by update, and ends where it ends.

The loops are those of the examples: NumPy with fastlstm's forward, backward and optimisers on one
side, torch.optim on the other, from the same weights with the same batches.

Why 1e-4: two float32 runs drift apart, since every update feeds rounding back into the weights, and
so do two runs of PyTorch itself, one of them in float64 (at a learning rate of 3e-3 by 1e-5 in 100
updates, at 1e-2 by 0.3). A wrong term in a gradient shows in the second update already.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest

from support import EXAMPLES
from support.helpers import shared_data

UPDATES, TOLERANCE = 100, 1e-4

torch = pytest.importorskip("torch")
pytest.importorskip("tqdm")
sys.path.append(str(EXAMPLES))

import characters  # noqa: E402
import characters_torch  # noqa: E402
import classifier  # noqa: E402
import classifier_torch  # noqa: E402
import settings  # noqa: E402
import train_vowels  # noqa: E402

import fastlstm  # noqa: E402
from fastlstm import nn  # noqa: E402

Sets = tuple[classifier.Series, classifier.Series]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Tests run side by side: teams of threads on a busy machine would only wait for each other."""
    before = torch.get_num_threads(), fastlstm.get_num_threads()
    torch.set_num_threads(1)
    fastlstm.set_num_threads(1)
    yield
    torch.set_num_threads(before[0])
    fastlstm.set_num_threads(before[1])


def digits() -> Sets:
    """Scans of 8 rows of 8 pixels: the first 1,350 to train with, the rest to test with."""
    datasets = pytest.importorskip("sklearn.datasets")
    bunch = datasets.load_digits()
    x, labels = (bunch.images / 16).astype(np.float32), bunch.target.astype(np.int64)
    return classifier.Series(x[:1350], labels[:1350]), classifier.Series(x[1350:], labels[1350:])


def vowels() -> Sets:
    """Nine speakers, 270 and 370 utterances of 7 to 29 frames."""
    return train_vowels.load(shared_data("japanese_vowels"))


def shakespeare() -> tuple[Any, Any, int]:
    """Nine tenths to train with, one tenth held out, and the number of characters."""
    ids, alphabet = characters.read_text(shared_data("text/tinyshakespeare.txt"))
    cut = int(0.9 * len(ids))
    return ids[:cut], ids[cut:], alphabet


class Run(NamedTuple):
    """One way to train."""

    losses: list[float]  # of every update
    score: float  # test accuracy, or loss of held-out text


def runs(start: Any, numpy_script: Any, torch_script: Any, train: Callable[..., Run]) -> list[Run]:
    """PyTorch, accelerated PyTorch and NumPy, each from the weights of `start`."""
    theirs, accelerated = (torch_script.with_weights(start.parameters()) for _ in range(2))
    assert fastlstm.torch.report(fastlstm.torch.accelerate(accelerated)).swapped
    return [
        train(torch_script, theirs),
        train(torch_script, accelerated),
        train(numpy_script, start),
    ]


def train_classifiers(sets: Sets, plan: list[classifier.Update]) -> list[Run]:
    series, test = sets
    start = classifier.Classifier(series.x.shape[2], 64, len(set(series.labels)), seed=0)
    return runs(
        start,
        classifier,
        classifier_torch,
        lambda script, model: Run(
            list(script.train(model, series, plan)), script.accuracy(model, test)
        ),
    )


def train_characters(updates: int, peak: float, held_out: int | None) -> list[Run]:
    ids, test, alphabet = shakespeare()
    rates = settings.one_cycle(updates, peak)
    return runs(
        characters.CharacterModel(alphabet, seed=0),
        characters,
        characters_torch,
        lambda script, model: Run(
            list(script.train(model, ids, rates)), script.held_out_loss(model, test[:held_out])
        ),
    )


def use_momentum(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both loops take SGD instead: Adam would not notice a gradient that is twice too large."""
    momentum = {"lr": 0.1, "momentum": 0.9, "nesterov": True}
    sgd, sgd_torch = fastlstm.optim.SGD, torch.optim.SGD
    monkeypatch.setattr(fastlstm.optim, "Adam", lambda model: sgd(model, **momentum))
    monkeypatch.setattr(
        torch.optim, "Adam", lambda parameters, fused: sgd_torch(parameters, **momentum)
    )


@pytest.mark.parametrize("optimizer, lr", [("Adam", 3e-3), ("SGD", 0.1)])
@pytest.mark.parametrize("data", [digits, vowels])
def test_classifier_follows_the_loss_curve(
    data: Callable[[], Sets], optimizer: str, lr: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    if optimizer == "SGD":
        use_momentum(monkeypatch)
    sets = data()
    plan = classifier.planned(len(sets[0].labels), 64, 60, lr)[:UPDATES]
    theirs, *ours = train_classifiers(sets, [update._replace(lr=lr) for update in plan])
    assert len(theirs.losses) == UPDATES
    for run in ours:
        np.testing.assert_allclose(run.losses, theirs.losses, rtol=TOLERANCE)
    assert theirs.losses[-1] < theirs.losses[0] / 2  # there was something to follow


def test_characters_follow_the_loss_curve() -> None:
    theirs, *ours = train_characters(UPDATES, 5e-3, held_out=100)
    assert len(theirs.losses) == UPDATES
    for run in ours:
        np.testing.assert_allclose(run.losses, theirs.losses, rtol=TOLERANCE)
    assert theirs.losses[-1] < theirs.losses[0] - 0.7


def test_characters_carry_the_state() -> None:
    """The first update starts from zeros, the second does not, and a new pass does again."""
    ids, _, alphabet = shakespeare()
    ids = ids[: characters.BATCH * characters.STEPS * 2 + 1]
    model = characters.CharacterModel(alphabet, seed=0)
    losses = list(characters.train(model, ids, [0.0] * 3))  # no learning: the state alone differs
    assert losses[0] == losses[2]
    (read, following, afresh), (then, later, again) = (
        chunk for _, chunk in zip(range(2), characters.chunks(ids), strict=False)
    )
    assert (afresh, again) == (True, False)
    whole, _ = model(np.concatenate((read, then)))
    joint, _ = nn.cross_entropy(whole, np.concatenate((following, later)))
    # The second chunk read on from where the first had ended: together they are one reading.
    assert np.mean(losses[:2]) == pytest.approx(joint, rel=1e-6)
    alone, _ = nn.cross_entropy(model(then)[0], later)
    assert abs(losses[1] - alone) > 1e-5


@pytest.mark.deep
def test_vowels_are_learned() -> None:
    theirs, *ours = train_classifiers(vowels(), classifier.planned(270, 30, 60, 3e-3))
    assert theirs.score >= 0.96
    for run in ours:
        assert run.score >= 0.96
        assert np.mean(run.losses[-9:]) == pytest.approx(np.mean(theirs.losses[-9:]), rel=0.05)


@pytest.mark.deep
def test_shakespeare_is_learned() -> None:
    """In 1,500 updates the runs have drifted apart, but they come to the same end.

    Three runs of one engine that differed in the last bit of one weight ended at 1.507, 1.502 and
    1.506, held out at 1.662, 1.665 and 1.665: five times the standard deviation of a difference of
    two such runs (0.004) is 0.02.
    """
    theirs, *ours = train_characters(1500, 2e-2, held_out=None)
    assert theirs.score < 1.7
    for run in ours:
        assert np.mean(run.losses[-100:]) == pytest.approx(np.mean(theirs.losses[-100:]), abs=0.02)
        assert run.score == pytest.approx(theirs.score, abs=0.02)
