# SPDX-License-Identifier: BSD-3-Clause
"""The nets of Hochreiter and Schmidhuber (1997), many of them trained side by side in NumPy.

A layer of today cannot express them: there gates and cells read, beside the input and the cells'
outputs, the activations of all gates of the step before. Blocks share their gates among their
cells, nothing forgets, and the gradient goes back in time by the cells alone: it is cut where it
reaches the input of a gate or of a cell.
"""

from collections.abc import Iterator, Sequence

import numpy as np

# Who has a bias: cells, outputs. Gates always do.
BIASED = {"all": (True, True), "hidden": (True, False), "gates": (False, False)}


def logistic(z):
    """1 / (1 + e^-z)."""
    return 0.5 + 0.5 * np.tanh(0.5 * z)


class NetsOf1997:
    """One net a seed. g is in [-2, 2], h in [-1, 1], all else in [0, 1]; a squared error.

    Hidden units are input gates, output gates, cells, in this order; weights read inputs, hidden
    units of the step before, and 1. Every sum of a sequence's gradient is one update.

    Parameters
    ----------
    seeds : sequence of int
        Of first weights, a net each.
    inputs, outputs, blocks, size : int
        Units; `size` cells a block.
    lr : float
        Learning rate.
    biased : {"all", "hidden", "gates"}
        Which units have a bias.
    input_bias, output_bias : sequence of float, optional
        First biases of gates, a block each; without them they are drawn as weights are.
    init : float
        Weights begin within plus or minus that.
    every : bool
        Whether there is a target at every step, else at the end.
    gates_read_gates : bool
        False: nothing reads gates, as in a layer of today.
    linear : bool
        True: outputs are linear units.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        inputs: int,
        outputs: int,
        blocks: int,
        size: int,
        lr: float,
        *,
        biased: str = "all",
        input_bias: Sequence[float] | None = None,
        output_bias: Sequence[float] | None = None,
        init: float = 0.1,
        every: bool = False,
        gates_read_gates: bool = True,
        linear: bool = False,
    ) -> None:
        gates, cells = 2 * blocks, blocks * size
        self._inputs, self._blocks, self._lr, self._every = inputs, blocks, lr, every
        self._linear = linear
        units, reads = gates + cells, inputs + gates + cells + 1
        rngs = [np.random.default_rng(seed) for seed in seeds]
        self.hidden = np.array([rng.uniform(-init, init, (units, reads)) for rng in rngs])
        self.output = np.array([rng.uniform(-init, init, (outputs, cells + 1)) for rng in rngs])
        if input_bias is not None:
            self.hidden[:, :blocks, -1] = input_bias
        if output_bias is not None:
            self.hidden[:, blocks:gates, -1] = output_bias
        self._exist = np.ones((units, reads)), np.ones((outputs, cells + 1))  # weights that do
        self._exist[0][gates:, -1], self._exist[1][:, -1] = BIASED[biased]
        if not gates_read_gates:
            self._exist[0][:, inputs : inputs + gates] = 0
        self.hidden *= self._exist[0]
        self.output *= self._exist[1]

    def __len__(self) -> int:
        return len(self.hidden)

    @property
    def weights(self) -> int:
        """How many a net has."""
        return int(sum(exist.sum() for exist in self._exist))

    def keep(self, which) -> None:
        """Only those nets go on."""
        self.hidden, self.output = self.hidden[which], self.output[which]

    def _steps(self, x, hidden) -> Iterator[tuple[np.ndarray, ...]]:
        """Each step of x (T, nets or 1, sequences, I): what hidden units were before it, the tanh
        of their halved net inputs, h of the states, and what hidden units are after it.
        """
        blocks, n, weights = self._blocks, self._inputs, hidden.transpose(0, 2, 1)
        recurrent = np.ascontiguousarray(weights[:, n:-1])
        shape = (len(hidden), x.shape[2])
        y, s = np.zeros((*shape, hidden.shape[1])), 0.0
        for fed in x @ weights[:, :n] + weights[:, -1:]:
            half = np.tanh(0.5 * (fed + y @ recurrent))
            gates = 0.5 + 0.5 * half[..., : 2 * blocks]
            opened, shown = gates[..., :blocks, None], gates[..., blocks:, None]
            s = s + 2 * opened * half[..., 2 * blocks :].reshape(*shape, blocks, -1)
            squashed = np.tanh(0.5 * s)
            after = np.concatenate((gates, (shown * squashed).reshape(*shape, -1)), axis=-1)
            yield y, half, squashed, after
            y = after

    def _outputs(self, h, output):
        """Of cells' outputs (..., nets, sequences, C)."""
        weights = output.transpose(0, 2, 1)
        z = h @ weights[:, :-1] + weights[:, -1:]
        return z if self._linear else logistic(z)

    def __call__(self, x, lengths, which=slice(None)):
        """Of sequences x (T, B, I) in each of some nets: (T, nets, B, O), at ends (nets, B, O)."""
        hidden, output, last = self.hidden[which], self.output[which], lengths - 1
        kept = []
        for t, (_, _, _, y) in enumerate(self._steps(x[:, None], hidden)):
            h = y[..., 2 * self._blocks :]
            if self._every:
                kept.append(h)
            else:
                kept = [np.where((last == t)[:, None], h, kept[0] if kept else 0)]
        outputs = self._outputs(np.array(kept), output)
        return outputs if self._every else outputs[0]

    def gradients(self, x, target, lengths):
        """Of one sequence a net: outputs before it, and the cut gradient of half the squared error.

        x (T, nets, I); targets and outputs are (T, nets, O), or at ends (nets, O).
        """
        blocks, gates = self._blocks, 2 * self._blocks
        steps = zip(*self._steps(x[:, :, None], self.hidden), strict=True)
        before, half, squashed, after = (np.array(s)[:, :, 0].swapaxes(0, 1) for s in steps)
        x, h = x.swapaxes(0, 1), after[..., gates:]  # from here on (nets, T, ...)
        p = self._outputs(h, self.output)
        time, lengths = np.arange(x.shape[1]), lengths[:, None]
        due = time < lengths if self._every else time == lengths - 1
        wanted = target.swapaxes(0, 1) if self._every else target[:, None]
        slope = 1 if self._linear else p * (1 - p)
        dz = (p - wanted) * slope * due[..., None]
        dh = (dz @ self.output[..., :-1]).reshape(squashed.shape)
        opened, shown = after[..., :blocks], after[..., blocks:gates]
        cell = half[..., gates:].reshape(squashed.shape)
        dshown = (dh * squashed).sum(axis=-1) * shown * (1 - shown)
        ds = dh * shown[..., None] * 0.5 * (1 - squashed**2)
        ds = np.cumsum(ds[:, ::-1], axis=1)[:, ::-1]  # nothing forgets
        dopened = (ds * 2 * cell).sum(axis=-1) * opened * (1 - opened)
        dcell = ds * opened[..., None] * (1 - cell**2)
        d = np.concatenate((dopened, dshown, dcell.reshape(h.shape)), axis=-1)
        one = np.ones((*h.shape[:2], 1))
        dhidden = d.swapaxes(1, 2) @ np.concatenate((x, before, one), axis=-1)
        doutput = dz.swapaxes(1, 2) @ np.concatenate((h, one), axis=-1)
        p = p.swapaxes(0, 1) if self._every else p[np.arange(len(p)), lengths[:, 0] - 1]
        return p, dhidden * self._exist[0], doutput * self._exist[1]

    def learn(self, x, target, lengths):
        """One update of each net by a sequence of its own; the outputs before it."""
        p, dhidden, doutput = self.gradients(x, target, lengths)
        self.hidden -= self._lr * dhidden
        self.output -= self._lr * doutput
        return p
