# SPDX-License-Identifier: BSD-3-Clause
"""Nets trained a few sequences at a time until they solve a task, alone or side by side."""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from _nets_1997 import NetsOf1997, logistic
from _tasks import Task

import fastlstm
from fastlstm import nn

WINDOW = 2000  # sequences over which a task counts as solved
LOOKS = 500  # sequences between two looks whether it is


class CellsOf1997:
    """A layer whose cells are those of 1997: no forget gate, g in [-2, 2], h in [-1, 1].

    What a layer of today has else: gates read cells' outputs but no gates, and the whole gradient
    goes back in time. A squared error, and plain gradient descent by one sequence at a time.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        blocks: int,
        size: int,
        lr: float,
        *,
        input_bias: Sequence[float] | None = None,
        output_bias: Sequence[float] | None = None,
        init: float = 0.1,
        seed: int = 0,
        every: bool = False,
    ) -> None:
        cells = blocks * size
        options = {
            "forget_gate": False,
            "candidate_activation": ("scaled_tanh", 2.0, 0.5),
            "output_activation": ("scaled_tanh", 1.0, 0.5),
        }
        lstm = fastlstm.LSTM(inputs, cells, options=options)
        kind = "every" if every else "last"
        self.model = nn.SequenceModel(lstm, nn.Linear(cells, outputs), outputs=kind).train()
        self._blocks, self._size = blocks, size
        rng = np.random.default_rng(seed)
        params = self.model.parameters()
        for values in params.values():
            values[:] = rng.uniform(-init, init, values.shape)
        # The layer has two biases where the paper has one: the second stays zero.
        params["recurrent.bias_hh_l0"][:] = 0
        bias = params["recurrent.bias_ih_l0"]  # gates i, f, g, o
        for gate, given in ((0, input_bias), (3, output_bias)):
            if given is not None:
                bias[gate * cells : (gate + 1) * cells] = np.repeat(given, size)
        self._learned = {k: v for k, v in params.items() if k != "recurrent.bias_hh_l0"}
        self._gated = [name for name in self._learned if name.startswith("recurrent.")]
        for name in self._gated:
            self._share(params[name], lambda gates: gates[:, :, :1])
        self._sgd = fastlstm.optim.SGD(self._learned, lr=lr)
        self._tape: nn.SequenceTape | None = None

    def _share(self, values, how) -> None:
        """One value, in place, for the gates of a block's cells, of theirs (2, blocks, size, K)."""
        gates = values.reshape(4, self._blocks, self._size, -1)
        gates[[0, 3]] = how(gates[[0, 3]])

    def learn(self, x, target, lengths=None):
        """One update by one sequence, x (T, 1, I); the outputs before it."""
        z, self._tape = self.model.forward(x, tape=self._tape, num_threads=1)
        p = logistic(z)
        grads = self.model.backward(self._tape, (p - target) * p * (1 - p), num_threads=1).params
        for name in self._gated:
            self._share(grads[name], lambda gates: gates.sum(axis=2, keepdims=True))
        self._sgd.step({name: grads[name] for name in self._learned})
        return p


class NetOfToday:
    """A plain LSTM whose forget gate starts open, logistic outputs, cross-entropy, Adam, clipping.

    With `steps` biases start as C. Tallec and Y. Ollivier found it best, "Can recurrent neural
    networks warp time?", ICLR 2018: forget gates keep for 1 to `steps` steps, and input gates are
    closed as much.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        cells: int,
        rate: nn.Schedule,
        *,
        steps: int = 0,
        seed: int = 0,
        every: bool = False,
    ) -> None:
        lstm = fastlstm.LSTM(inputs, cells, options={"forget_bias": 1.0}, seed=seed).train()
        if steps:
            bias = lstm.parameters()["bias_ih_l0"]
            span = np.random.default_rng(seed).uniform(1, steps - 1, cells)
            bias[cells : 2 * cells] = np.log(span)
            bias[:cells] = -bias[cells : 2 * cells]
        head = nn.Linear(cells, outputs, seed=seed)
        kind = "every" if every else "last"
        self.model = nn.SequenceModel(lstm, head, outputs=kind).train()
        self._adam, self._rate = fastlstm.optim.Adam(self.model), rate
        self._tape: nn.SequenceTape | None = None

    def learn(self, x, target, lengths=None):
        """One update by some sequences; the outputs before it."""
        z, self._tape = self.model.forward(x, lengths=lengths, tape=self._tape, num_threads=1)
        p = logistic(z)
        dz = (p - target) / np.float32(x.shape[1])
        grads = self.model.backward(self._tape, dz, num_threads=1)
        fastlstm.optim.clip_grad_norm(grads.params, 1.0)
        self._adam.lr = self._rate(self._adam.steps)
        self._adam.step(grads)
        return p


Learner = CellsOf1997 | NetOfToday


@dataclass
class Course:
    """How a training went.

    Attributes
    ----------
    sequences : int
        Trained on, until it counted as solved or was given up.
    solved : bool
        Whether the stopping rule was met.
    errors : list of float
        Mean absolute error of each 500 sequences.
    wrong, tested : int
        Of new sequences after the training.
    error : float
        Their mean absolute error.
    """

    sequences: int = 0
    solved: bool = False
    errors: list[float] = field(default_factory=list)
    wrong: int = 0
    tested: int = 0
    error: float = 0.0
    _means: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))
    _worst: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))

    def saw(self, error, task: Task) -> bool:
        """Absolute errors (sequences, O) of the next ones; whether the task is solved by now."""
        self._means.extend(error.mean(axis=1))
        self._worst.extend(error.max(axis=1))
        self.sequences += len(error)
        if self.sequences // LOOKS > len(self.errors):
            self.errors.append(float(np.mean([*self._means][-LOOKS:])))
            wrong = sum(worst >= task.limit for worst in self._worst)
            full = len(self._means) == WINDOW
            self.solved = full and np.mean(self._means) < task.mean and wrong <= task.allowed
        return self.solved

    def test(self, error, task: Task) -> None:
        """Absolute errors (sequences, O) of new ones."""
        self.wrong, self.tested = int(np.sum(error.max(axis=1) >= task.limit)), len(error)
        self.error = float(error.mean())


def solve(
    learner: Learner, task: Task, seed: int, most: int, *, batch: int = 1, tested: int = 2560
) -> Course:
    """Train until the last 2000 sequences were right, as the task has it, or `most` were seen."""
    rng, course = np.random.default_rng([seed, 1997]), Course()
    solved = False
    while course.sequences < most and not solved:
        x, target, lengths = task.draw(rng, batch)
        solved = course.saw(np.abs(learner.learn(x, target, lengths) - target), task)
    x, target, lengths = task.draw(rng, tested)
    course.test(np.abs(logistic(learner.model(x, lengths=lengths)) - target), task)
    return course


def solve_together(
    nets: NetsOf1997, task: Task, seed: int, steps: Iterable[int], *, tested: int = 2560
) -> list[Course]:
    """The same for nets side by side; one whose task is solved leaves. At most `steps` updates."""
    courses = [Course() for _ in range(len(nets))]
    running = [(course, np.random.default_rng([seed, k])) for k, course in enumerate(courses)]
    rng = np.random.default_rng([seed, 1997])

    def test(which) -> None:
        found = []
        for begin in range(0, tested, 256):  # the steps of more would take much memory
            count = min(256, tested - begin)
            x, target, lengths = task.stack([task.one(rng) for _ in range(count)])
            found.append(np.abs(nets(x, lengths, which) - target))
        for k, error in zip(which, np.concatenate(found, axis=1), strict=True):
            running[k][0].test(error, task)

    for _ in steps:
        x, target, lengths = task.stack([task.one(rng) for _, rng in running])
        error = np.abs(nets.learn(x, target, lengths) - target)
        solved = [course.saw(error[k : k + 1], task) for k, (course, _) in enumerate(running)]
        if any(solved):
            test(np.flatnonzero(solved))
            nets.keep(~np.array(solved))
            running = [one for one, done in zip(running, solved, strict=True) if not done]
        if not running:
            break
    else:
        test(range(len(running)))
    return courses
