# SPDX-License-Identifier: BSD-3-Clause
"""The nets of Hochreiter and Schmidhuber (1997) and of today, trained a few sequences at a time.

What a layer of today cannot express: gates that read the other gates' activations. All else of 1997
is here: no forget gate, blocks whose cells share their gates, and a gradient that goes back in time
by the cells alone, cut at the inputs of gates and cells.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from _tasks import Task

import fastlstm
from fastlstm import nn

WINDOW = 2000  # sequences over which a task counts as solved


class NetOf1997:
    """The paper's g in [-2, 2] and h in [-1, 1], a squared error, and plain gradient descent.

    The gradient is cut by a twin that reads the old h among its inputs and has no recurrent
    weights: what goes back to an input is dropped.
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
        cut: bool = True,
        shared: bool = True,
    ) -> None:
        cells = blocks * size
        options = {
            "forget_gate": False,
            "candidate_activation": ("scaled_tanh", 2.0, 0.5),
            "output_activation": ("scaled_tanh", 1.0, 0.5),
        }
        kind = {"outputs": "every" if every else "last"}
        head = nn.Linear(cells, outputs)
        self.model = nn.SequenceModel(fastlstm.LSTM(inputs, cells, options=options), head, **kind)
        twin = fastlstm.LSTM(inputs + cells, cells, options=options)
        self._twin = nn.SequenceModel(twin, head, **kind).train()
        self.model.train()
        self._cut, self._blocks, self._size, self._inputs = cut, blocks, size, inputs
        self._shared = shared
        rng = np.random.default_rng(seed)
        params = self._twin.parameters()
        for values in params.values():
            values[:] = rng.uniform(-init, init, values.shape)
        params["recurrent.weight_hh_l0"][:] = 0
        # The layer has two biases where the paper has one: the second stays zero.
        for net in (self._twin, self.model):
            net.recurrent.parameters()["bias_hh_l0"][:] = 0
        bias = params["recurrent.bias_ih_l0"]  # gates i, f, g, o
        for gate, given in ((0, input_bias), (3, output_bias)):
            if given is not None:
                bias[gate * cells : (gate + 1) * cells] = np.repeat(given, size)
        self._learned = {k: v for k, v in params.items() if "_hh_" not in k}
        for name in ("recurrent.weight_ih_l0", "recurrent.bias_ih_l0"):
            self._share(params[name], lambda gates: gates[:, :, :1])
        self._sgd = fastlstm.optim.SGD(self._learned, lr=lr)
        self._tape: nn.SequenceTape | None = None
        self._hand_over()

    def _share(self, values, how) -> None:
        """One value, in place, for the gates of a block's cells, of theirs (2, blocks, size, K)."""
        if self._shared:
            gates = values.reshape(4, self._blocks, self._size, -1)
            gates[[0, 3]] = how(gates[[0, 3]])

    def _hand_over(self) -> None:
        """The net that runs has the twin's weights."""
        weight = self._learned["recurrent.weight_ih_l0"]
        ours = self.model.recurrent.parameters()
        ours["weight_ih_l0"][:] = weight[:, : self._inputs]
        ours["weight_hh_l0"][:] = weight[:, self._inputs :]
        ours["bias_ih_l0"][:] = self._learned["recurrent.bias_ih_l0"]

    def _gradients(self, x, target):
        if self._cut:
            h, _ = self.model.recurrent(x, num_threads=1)
            old = np.concatenate((np.zeros_like(h[:1]), h[:-1]))
            x, net = np.concatenate((x, old), axis=2), self._twin
        else:
            net = self.model
        z, self._tape = net.forward(x, tape=self._tape, num_threads=1)
        p = logistic(z)
        grads = net.backward(self._tape, (p - target) * p * (1 - p), num_threads=1).params
        if not self._cut:
            parts = [grads.pop(f"recurrent.weight_{k}_l0") for k in ("ih", "hh")]
            grads["recurrent.weight_ih_l0"] = np.concatenate(parts, axis=1)
        return p, {name: grads[name] for name in self._learned}

    def learn(self, x, target, lengths=None):
        """One update by one sequence, x (T, 1, I); the outputs before it."""
        p, grads = self._gradients(x, target)
        for name in ("recurrent.weight_ih_l0", "recurrent.bias_ih_l0"):
            self._share(grads[name], lambda gates: gates.sum(axis=2, keepdims=True))
        self._sgd.step(grads)
        self._hand_over()
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


Learner = NetOf1997 | NetOfToday


def logistic(z):
    """1 / (1 + e^-z)."""
    return 0.5 + 0.5 * np.tanh(0.5 * z)


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
    """

    sequences: int = 0
    solved: bool = False
    errors: list[float] = field(default_factory=list)
    wrong: int = 0
    tested: int = 0
    error: float = 0.0


def solve(
    learner: Learner, task: Task, seed: int, most: int, *, batch: int = 1, tested: int = 2560
) -> Course:
    """Train until the last 2000 sequences were all right and their mean error is small enough."""
    rng, course = np.random.default_rng([seed, 1997]), Course()
    recent: deque[float] = deque(maxlen=WINDOW)  # mean errors
    worst: deque[float] = deque(maxlen=WINDOW)
    since = 0
    while course.sequences < most and not course.solved:
        x, target, lengths = task.draw(rng, batch)
        error = np.abs(learner.learn(x, target, lengths) - target)
        recent.extend(error.mean(axis=1))
        worst.extend(error.max(axis=1))
        course.sequences += batch
        if course.sequences // 500 > since:
            since = course.sequences // 500
            course.errors.append(float(np.mean([*recent][-500:])))
            full = len(recent) == WINDOW
            course.solved = full and np.mean(recent) < task.mean and max(worst) < task.limit
    x, target, lengths = task.draw(rng, tested)
    error = np.abs(logistic(learner.model(x, lengths=lengths)) - target)
    course.wrong, course.tested = int(np.sum(error.max(axis=1) >= task.limit)), tested
    course.error = float(error.mean())
    return course
