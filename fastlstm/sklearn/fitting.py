# SPDX-License-Identifier: BSD-3-Clause
"""The training loop of all estimators."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import numpy as np
from threadpoolctl import threadpool_limits

from .. import nn
from ..checks import Array
from ..optim import Adam, clip_grad_norm
from .inputs import Sequences

CHUNK = 256  # sequences of a prediction that run at once


class Part(NamedTuple):
    """What one update learns from."""

    x: Array
    lengths: Any
    y: Any
    weight: Array | None
    beside: Array | None = None


Method = TypeVar("Method", bound=Callable[..., Any])
Loss = Callable[[Array, Part], tuple[float, Array]]


def whole(method: Method) -> Method:
    """The method, after whose errors the estimator has the attributes that it had before. An
    interrupt is none: what was trained until then can be used."""

    @functools.wraps(method)
    def run(self: Any, *given: Any, **named: Any) -> Any:
        before = dict(vars(self))
        try:
            return method(self, *given, **named)
        except Exception:
            vars(self).clear()
            vars(self).update(before)
            raise

    return run  # type: ignore[return-value]


@dataclass
class Plan:
    """How to train: settings that are the same for every epoch."""

    schedule: nn.Schedule
    clip: float | None
    threads: int | None
    loss: Loss
    validate: Callable[[], float] | None = None
    stopping: nn.EarlyStopping | None = None
    progress: bool = False


@dataclass
class Course:
    """How it went."""

    losses: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)


def train(
    model: nn.SequenceModel,
    optimizer: Adam,
    epochs: Iterable[Iterable[Part]],
    plan: Plan,
    total: int,
) -> Course:
    """Follow the plan for some epochs, and leave the model in inference mode, with its best weights
    if somebody watched them.

    Products of the head run on one thread of NumPy's BLAS: their bits would depend on more.
    """
    course, tape = Course(), nn.SequenceTape()
    first = optimizer.steps
    with threadpool_limits(1, user_api="blas"):
        try:
            for parts in _shown(epochs, total, course, plan.progress):
                model.train()
                course.losses.append(_epoch(model, optimizer, parts, plan, tape, first))
                model.eval()
                watched = course.losses[-1]
                if plan.validate is not None:
                    watched = plan.validate()
                    course.validation.append(watched)
                if isinstance(plan.schedule, nn.ReduceOnPlateau):
                    plan.schedule.update(watched)
                if plan.stopping is not None and plan.stopping.update(watched):
                    break
        finally:
            model.eval()
        if plan.stopping is not None:
            plan.stopping.restore()
    return course


def _epoch(
    model: nn.SequenceModel,
    optimizer: Adam,
    parts: Iterable[Part],
    plan: Plan,
    tape: nn.SequenceTape,
    first: int,
) -> float:
    """An update from each part; the mean loss of a sequence."""
    losses, count = 0.0, 0
    for part in parts:
        optimizer.lr = plan.schedule(optimizer.steps - first)
        y, tape = model.forward(
            part.x,
            lengths=part.lengths,
            beside=part.beside,
            tape=tape,
            num_threads=plan.threads,
        )
        loss, dy = plan.loss(y, part)
        grads = model.backward(tape, dy, num_threads=plan.threads).params
        if plan.clip is not None:
            clip_grad_norm(grads, plan.clip)
        optimizer.step(grads)
        losses += loss * len(part.x)
        count += len(part.x)
    if not math.isfinite(losses):
        raise ValueError(
            f"the loss has become {losses}: a lower learning_rate, a clip_norm, or values of X and "
            "y of the order of 1 may help"
        )
    if not count:
        raise ValueError("there are no batches: an iterator that has come to its end gives no more")
    return losses / count


def _shown(epochs: Iterable[Any], total: int, course: Course, progress: bool) -> Iterator[Any]:
    """The epochs, with a progress bar if there is to be one and tqdm is installed."""
    if not progress:
        yield from epochs
        return
    try:
        from tqdm.auto import tqdm
    except ImportError:
        yield from epochs
        return
    with tqdm(total=total, desc="fit", unit="epoch") as bar:
        for epoch in epochs:
            yield epoch
            found = {"loss": course.losses[-1:], "validation": course.validation[-1:]}
            bar.set_postfix({name: f"{v[0]:.4g}" for name, v in found.items() if v})
            bar.update()


def parts_of(
    x: Sequences,
    y: Any,
    weight: Array | None,
    size: int,
    seed: Any,
    beside: Array | None = None,
) -> Iterator[Part]:
    """An epoch of sequences in memory, in a new order; sequences of like lengths go together."""
    ragged = isinstance(x, list)
    for batch in nn.batches(x, y, size=size, buckets=8 if ragged else 0, seed=seed):
        yield Part(
            batch.x,
            batch.lengths if ragged else None,
            batch.y,
            None if weight is None else weight[batch.chosen],
            None if beside is None else beside[batch.chosen],
        )


def outputs(
    model: nn.SequenceModel, x: Sequences, threads: int | None, beside: Array | None = None
) -> Any:
    """What the head gives for each sequence, (n, O); or for each step, (n, T, O) or n (T_k, O).

    Every value is one sum in one order, so that its bits depend on its own sequence alone.
    """
    found: list[Any] = []
    weight, bias = model.head.weight, model.head.bias
    for batch in nn.batches(x, size=CHUNK, shuffle=False):
        features = model.features(batch.x, lengths=batch.lengths, num_threads=threads)
        if beside is not None:
            features = np.concatenate((features, beside[batch.chosen]), axis=-1)
        y = np.einsum("...k,ok->...o", features, weight) + bias
        if isinstance(x, list) and model.outputs == "every":
            found += [row[:length] for row, length in zip(y, batch.lengths, strict=True)]
        else:
            found.append(y)
    return found if isinstance(x, list) and model.outputs == "every" else np.concatenate(found)
