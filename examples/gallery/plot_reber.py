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
from _online import NetOf1997, NetOfToday, logistic
from _reber import padded, right, strings

from fastlstm import nn

page = _common.Page(__doc__)
trials = page.trials or page.pick(test=1, quick=3, full=30)
most = page.pick(test=200, quick=25_000, full=40_000)
LOOKS = 200  # strings between two looks whether it has learned

# %%
# Nets
# ----
# The paper's: 3 blocks of 2 cells or 4 of 1, output gates that start closed, a gradient cut at the
# inputs of gates and cells. One thing no layer of today can express: gates that read gates.
# Today's: a forget gate, the whole gradient, Adam, cross-entropy. Between them: 6 cells of 1997
# with gates of their own and the whole gradient.


def of_1997(blocks, size, lr, **more):
    """What makes a learner from a seed."""
    bias = [-1.0, -2.0, -3.0, -4.0][:blocks]
    given = {"output_bias": bias, "init": 0.2, "every": True, **more}
    return lambda seed: NetOf1997(7, 7, blocks, size, lr, seed=seed, **given)


def today(seed):
    """30 cells."""
    return NetOfToday(7, 7, 30, nn.Constant(0.005), steps=20, seed=seed, every=True)


own = {"cut": False, "shared": False}
nets = {
    "1997: 3 x 2, lr 0.5": (of_1997(3, 2, 0.5), "100 %, 8,440"),
    "1997: 4 x 1, lr 0.5": (of_1997(4, 1, 0.5), "97 %, 9,500"),
    "1997: 3 x 2, lr 0.2": (of_1997(3, 2, 0.2), "97 %, 14,060"),
    "1997: 6 x 1, lr 0.5, whole gradient": (of_1997(3, 2, 0.5, **own), "none"),
    "today: 30 cells, Adam": (today, "none"),
}
if page.size != "full":
    nets = dict([*nets.items()][-2:])

# %%
# Trials
# ------
# As in the paper, three data sets of 256 strings to learn and 256 others to test, and as many first
# weights for each.


def trial(make, number):
    """Share of right strings at every look; it ends when all are."""
    rng = np.random.default_rng([page.seed, number % 3])
    drawn = strings(rng, 512)
    x, lengths = padded([inputs for inputs, _, _ in drawn])
    legal, _ = padded([legal for _, _, legal in drawn])
    valid = np.arange(len(x))[:, None] < lengths
    learner, order = make(1000 * page.seed + number), np.random.default_rng([page.seed, number])
    shares = []
    for at in range(most):
        inputs, targets, _ = drawn[int(order.integers(256))]
        learner.learn(inputs[:, None], targets[:, None])
        if (at + 1) % LOOKS == 0:
            good = right(logistic(learner.model(x, lengths=lengths, num_threads=1)), legal)
            shares.append(float((good | ~valid).all(axis=0).mean()))
            if shares[-1] == 1:
                break
    return shares


jobs = [(name, number) for name in nets for number in range(trials)]
courses = {name: [] for name in nets}
for name, number in _common.progress(jobs, len(jobs), "trials"):
    courses[name].append(trial(nets[name][0], number))

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


page.report((name, nets[name][1], words(found)) for name, found in courses.items())
