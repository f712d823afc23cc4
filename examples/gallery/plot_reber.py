# SPDX-License-Identifier: BSD-3-Clause
"""
Embedded Reber grammar
======================

Predict the next symbol of strings whose last but one symbol repeats the second: experiment 1 of S.
Hochreiter and J. Schmidhuber, "Long short-term memory", Neural Computation 9, 1997. The nets see
one string an update, at a learning rate of 0.1 to 0.5; one has learned when over 256 training and
256 test strings each legal next symbol is more active than every other one.

Published (30 trials each): 97 to 100 % of the trials succeed, after 8,440 to 39,740 strings. An
Elman net never does, RTRL some times after 25,000 to 173,000.
"""

import _common
import matplotlib.pyplot as plt
import numpy as np
from _nets_1997 import NetsOf1997, logistic
from _online import CellsOf1997, NetOfToday
from _reber import padded, right, sets

from fastlstm import nn

page = _common.Page(__doc__)
trials = page.trials or page.pick(test=1, quick=3, full=30)
most = page.pick(test=200, quick=25_000, full=40_000)
LOOKS = 200  # strings between two looks whether it has learned

# %%
# Nets
# ----
# The paper's: 3 blocks of 2 cells or 4 of 1, output gates that start closed, biases of gates alone.
# What succeeds more often: 6 cells that share no gates, with biases of all units.
# Between it and today: those in a layer of today, where no gate reads gates, with the whole
# gradient. Today's: a forget gate, Adam, cross-entropy.


CLOSED = (-1.0, -2.0, -3.0, -4.0)  # first biases of output gates


def of_1997(blocks, size, lr):
    """What makes nets side by side from seeds."""
    given = {"biased": "gates", "output_bias": CLOSED[:blocks], "init": 0.2, "every": True}
    return lambda seeds: NetsOf1997(seeds, 7, 7, blocks, size, lr, **given)


SIX = {"output_bias": np.repeat(CLOSED[:3], 2), "init": 0.2, "every": True}


def six(seeds):
    """Six cells that share no gates, side by side."""
    return NetsOf1997(seeds, 7, 7, 6, 1, 0.5, **SIX)


def six_of_a_layer(seed):
    """The same cells."""
    return CellsOf1997(7, 7, 6, 1, 0.5, seed=seed, **SIX)


def today(seed):
    """30 cells."""
    return NetOfToday(7, 7, 30, nn.Constant(0.005), steps=20, seed=seed, every=True)


together = {
    "1997: 3 x 2, lr 0.5": (of_1997(3, 2, 0.5), "100 %, 8,440"),
    "1997: 4 x 1, lr 0.5": (of_1997(4, 1, 0.5), "97 %, 9,500"),
    "1997: 3 x 2, lr 0.2": (of_1997(3, 2, 0.2), "97 %, 14,060"),
    "1997, all biased: 6 x 1, lr 0.5": (six, "none"),
}
nets = {
    "1997's cells: 6 x 1, lr 0.5, whole gradient": (six_of_a_layer, "none"),
    "today: 30 cells, Adam": (today, "none"),
}
if page.size == "quick":
    together = dict([*together.items()][::3])

# %%
# Trials
# ------
# As in the paper, three data sets of 256 strings to learn and 256 others to test, and as many first
# weights for each.


class Data:
    """One of the three."""

    def __init__(self, number):
        self.learned, tested = sets(np.random.default_rng([page.seed, number]))
        strings = {inputs.tobytes(): (inputs, legal) for inputs, _, legal in self.learned + tested}
        self.x, self.lengths = padded([inputs for inputs, _ in strings.values()])
        self._legal, _ = padded([legal for _, legal in strings.values()])
        self._past = np.arange(len(self.x))[:, None] >= self.lengths

    def share(self, outputs):
        """Share of the strings that outputs (T, ..., strings, 7) get right."""
        legal = self._legal if outputs.ndim == 3 else self._legal[:, None]
        past = self._past if outputs.ndim == 3 else self._past[:, None]
        return (right(outputs, legal) | past).all(axis=0).mean(axis=-1)


data = [Data(number) for number in range(3)]


def trial(make, number):
    """Share of right strings at every look; it ends when all are."""
    of, learner, shares = data[number % 3], make(1000 * page.seed + number), []
    order = np.random.default_rng([page.seed, number])
    for at in range(most):
        inputs, targets, _ = of.learned[int(order.integers(256))]
        learner.learn(inputs[:, None], targets[:, None])
        if (at + 1) % LOOKS == 0:
            z = learner.model(of.x, lengths=of.lengths, num_threads=1)
            shares.append(float(of.share(logistic(z))))
            if shares[-1] == 1:
                break
    return shares


def side_by_side(make_all, steps):
    """The same for all trials of nets that train together."""
    nets = make_all([1000 * page.seed + number for number in range(trials)])
    orders = [np.random.default_rng([page.seed, number]) for number in range(trials)]
    running, found = np.arange(trials), [[] for _ in range(trials)]
    for at in steps:
        drawn = [data[k % 3].learned[int(orders[k].integers(256))] for k in running]
        x, lengths = padded([inputs for inputs, _, _ in drawn])
        nets.learn(x, padded([targets for _, targets, _ in drawn])[0], lengths)
        if (at + 1) % LOOKS == 0:
            for number, of in enumerate(data):
                some = np.flatnonzero(running % 3 == number)
                if len(some):
                    for k, share in zip(some, of.share(nets(of.x, of.lengths, some)), strict=True):
                        found[running[k]].append(float(share))
            go_on = np.array([found[k][-1] < 1 for k in running])
            nets.keep(go_on)
            running = running[go_on]
            if not len(running):
                break
    return found


courses = {
    name: side_by_side(make_all, _common.progress(range(most), most, name))
    for name, (make_all, _) in together.items()
}
jobs = [(name, number) for name in nets for number in range(trials)]
for name, number in _common.progress(jobs, len(jobs), "trials"):
    courses.setdefault(name, []).append(trial(nets[name][0], number))

# %%
# The picture
# -----------

figure, (left, right_axes) = plt.subplots(1, 2, figsize=(12, 4.5), layout="constrained")
for k, (name, found) in enumerate(courses.items()):
    style = {"color": _common.COLOURS[k], "linestyle": _common.DASHES[k]}
    longest = max(map(len, found))
    filled = [shares + [shares[-1]] * (longest - len(shares)) for shares in found]
    at = LOOKS * np.arange(1, longest + 1)
    left.plot(at, 100 * np.mean(filled, axis=0), label=name, **style)
    ends = np.sort([LOOKS * len(shares) for shares in found if shares[-1] == 1])
    done = np.arange(1, len(ends) + 1) / len(found)
    right_axes.step([0, *ends, LOOKS * longest], 100 * np.array([0, *done, len(ends) / len(found)]),
                    where="post", label=name, **style)  # fmt: skip
left.set(xlabel="strings seen", ylabel="strings predicted rightly in %", title="Mean of the trials")
right_axes.set(
    xlabel="strings seen", ylabel="trials that succeeded in %", title="Trials", ylim=(-3, 103)
)
left.legend(fontsize=8)
page.show(figure)


def words(found):
    """Share of the trials that succeeded, and after how many strings."""
    ends = [LOOKS * len(shares) for shares in found if shares[-1] == 1]
    if not ends:
        return f"0 of {len(found)} within {most:,} strings"
    spread = f"{min(ends):,} to {max(ends):,}"
    return f"{len(ends)} of {len(found)}, after {np.mean(ends):,.0f} strings in the mean ({spread})"


published = {**together, **nets}
page.report((name, published[name][1], words(found)) for name, found in courses.items())
