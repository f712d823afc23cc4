# SPDX-License-Identifier: BSD-3-Clause
"""The digit classifier, trained three times from the same weights with the same batches.

By an ordinary PyTorch script; by the very same script on an accelerated model; and in NumPy with
fastlstm's forward, backward and optimiser.
"""

from dataclasses import dataclass

import classifier
import classifier_torch
from classifier import Classifier, Series
from timing import Training, train_in_turn

import fastlstm

HIDDEN, BATCH, PEAK_RATE = 64, 64, 3e-3
ACCELERATED = "PyTorch, accelerated"
WAYS = ("PyTorch", ACCELERATED, "fastlstm")


@dataclass(frozen=True)
class DigitTraining:
    """What the three runs gave, by way; the model is the one that plain PyTorch trained."""

    model: classifier_torch.TorchClassifier
    course: Training
    accuracy: dict[str, float]  # on the test scans


def train(series: Series, test: Series, epochs: int) -> DigitTraining:
    """Trains in each way, after a warm-up of each, one thread setting for all."""
    plan = classifier.planned(len(series.labels), BATCH, epochs, PEAK_RATE)
    _run(series, test, plan[:10], "warm-up")
    return _run(series, test, plan, "training on digits")


def _run(series: Series, test: Series, plan: list[classifier.Update], what: str) -> DigitTraining:
    ours = Classifier(8, HIDDEN, 10, seed=0)
    theirs, accelerated = (classifier_torch.with_weights(ours.parameters()) for _ in range(2))
    fastlstm.torch.accelerate(accelerated)  # the only line that differs
    runs = {
        "PyTorch": classifier_torch.train(theirs, series, plan),
        ACCELERATED: classifier_torch.train(accelerated, series, plan),
        "fastlstm": classifier.train(ours, series, plan),
    }
    course = train_in_turn(runs, len(plan), what)
    accuracy = {
        "PyTorch": classifier_torch.accuracy(theirs, test),
        ACCELERATED: classifier_torch.accuracy(accelerated, test),
        "fastlstm": classifier.accuracy(ours, test),
    }
    return DigitTraining(theirs, course, accuracy)
