# SPDX-License-Identifier: BSD-3-Clause
"""The digit classifier, trained three times from the same weights with the same batches.

By an ordinary PyTorch script; by the very same script on an accelerated model; and in NumPy with
fastlstm's forward, backward and optimiser.
"""

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

import classifier
import classifier_torch
from classifier import Classifier, Series
from layers import largest_difference
from timing import ENGINES, Timing
from tqdm import tqdm

import fastlstm

HIDDEN, BATCH, PEAK_RATE = 64, 64, 3e-3
WAYS = ("PyTorch", "PyTorch, accelerated", "fastlstm")


@dataclass(frozen=True)
class Training:
    """What the three runs gave, by way; the model is the one that plain PyTorch trained."""

    model: classifier_torch.TorchClassifier
    losses: dict[str, list[float]]  # of every update
    seconds: dict[str, float]
    accuracy: dict[str, float]  # on the test scans

    @property
    def timing(self) -> Timing:
        """Of one update, in the mean; fastlstm in NumPy."""
        each = {e: self.seconds[e] / len(self.losses[e]) for e in ENGINES}
        return Timing(f"training update, {BATCH} scans", each)

    def difference(self, way: str, updates: int | None = None) -> float:
        """Largest relative difference of the first losses, or all, to those of PyTorch."""
        return largest_difference(self.losses[way][:updates], self.losses["PyTorch"][:updates])


def train(series: Series, test: Series, epochs: int) -> Training:
    """Trains in each way, after a warm-up of each, one thread setting for all."""
    start = Classifier(8, HIDDEN, 10, seed=0)
    plan = classifier.planned(len(series.labels), BATCH, epochs, PEAK_RATE)
    for way in WAYS:
        _run(way, start, series, test, plan[:10])
    losses, seconds, accuracy, models = {}, {}, {}, {}
    for way in WAYS:
        with tqdm(total=len(plan), desc=way, unit="update", mininterval=0.5) as bar:
            models[way], losses[way], seconds[way], accuracy[way] = _run(
                way, start, series, test, plan, bar.update
            )
    return Training(models["PyTorch"], losses, seconds, accuracy)


def _run(  # type: ignore[no-untyped-def]
    way: str,
    start: Classifier,
    series: Series,
    test: Series,
    plan: list[classifier.Update],
    after: Callable[[], object] = lambda: ...,
):
    """The trained model, its losses, seconds and test accuracy; `start` stays as it is."""
    if way == "fastlstm":
        scripts, model = classifier, Classifier(8, HIDDEN, 10, seed=0)
    else:
        scripts, model = classifier_torch, classifier_torch.with_weights(start.parameters())
        if way == "PyTorch, accelerated":
            fastlstm.torch.accelerate(model)  # the only line that differs
    began = perf_counter()
    losses = scripts.train(model, series, plan, after)
    return model, losses, perf_counter() - began, scripts.accuracy(model, test)
