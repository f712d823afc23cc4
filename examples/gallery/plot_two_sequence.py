# SPDX-License-Identifier: BSD-3-Clause
"""
The two-sequence problem
========================

One input: three steps of 1 or -1, then a hundred of noise; the class at the end is the sign of the
beginning. Experiment 3a of S. Hochreiter and J. Schmidhuber, "Long short-term memory", Neural
Computation 9, 1997 (the task is Bengio's, Simard's and Frasconi's of 1994), and with ``--noisy``
3b, where the three steps are noisy as well. Two stopping rules: none (3b: fewer than 6) of 256
sequences is wrong, and besides their mean error is below 0.01 (3b: 0.04).

Published (10 trials, T = 100, N = 3): 3a after 27,380 and 39,850 sequences, 3b after 41,740 and
43,250.
"""

import _common
import matplotlib.pyplot as plt
import numpy as np
from _nets_1997 import NetsOf1997, logistic
from _online import CellsOf1997, NetOfToday
from _tasks import TwoSequence

from fastlstm import nn

page = _common.Page(__doc__, flags={"noisy": "experiment 3b"})
noisy = page.flags["noisy"]
task = TwoSequence(steps=page.pick(test=20, quick=100, full=100), signal_noise=0.2 * noisy)
allowed, least, paper = (5, 0.04, (41_740, 43_250)) if noisy else (0, 0.01, (27_380, 39_850))
trials = page.trials or page.pick(test=1, quick=2, full=10)
most = page.pick(test=1000, quick=40_000, full=150_000)
LOOKS = 500  # sequences between two looks

# %%
# Nets
# ----
# The paper's: three cells whose gates start closed, learning rate 1; the same where gates do not
# read gates. Their many short steps in NumPy take minutes, so they train with ``--full`` alone. Its
# cells in a layer of today, with the whole gradient, which the noise of a hundred steps disturbs.
# Today's: 8 units.

BATCH = 8
bias = {"input_bias": (-1.0, -3.0, -5.0), "output_bias": (-2.0, -4.0, -6.0)}


def of_1997(seeds, **more):
    """Nets side by side."""
    return NetsOf1997(seeds, 1, 1, 3, 1, 1.0, biased="hidden", **bias, **more)


def blind(seeds):
    """The same, but gates do not read gates."""
    return of_1997(seeds, gates_read_gates=False)


def cells_of_1997(seed):
    """The same cells."""
    return CellsOf1997(1, 1, 3, 1, 1.0, seed=seed, **bias)


def today(seed):
    """8 units."""
    return NetOfToday(1, 1, 8, nn.Constant(0.01), steps=200, seed=seed)


together = {"1997": of_1997, "1997, gates do not read gates": blind}
if page.size == "quick":
    together = {}
nets = {
    "1997's cells, whole gradient": (cells_of_1997, 1),
    "today: 8 units, Adam": (today, BATCH),
}


def look(p, wanted):
    """Mean error and number of wrong ones, and whether that is enough."""
    error = np.abs(p - wanted)
    mean, wrong = error.mean(), np.sum(error >= task.limit)
    return (mean, wrong), mean < least and wrong <= allowed


def trial(make, batch, seed):
    """Looks at 256 sequences until both rules hold."""
    rng, learner, looks = np.random.default_rng([seed, 3]), make(seed), []
    test, wanted, lengths = task.draw(rng, 256)
    for at in range(batch, most + 1, batch):
        learner.learn(*task.draw(rng, batch))
        if at // LOOKS > len(looks):
            p = logistic(learner.model(test, lengths=lengths, num_threads=1))
            seen, enough = look(p, wanted)
            looks.append(seen)
            if enough:
                break
    return np.array(looks)


def side_by_side(make_all, seeds, steps):
    """The same for nets that train together, with one test set."""
    nets, rngs = make_all(seeds), [np.random.default_rng([seed, 3]) for seed in seeds]
    test, wanted, lengths = task.draw(np.random.default_rng([page.seed, 4]), 256)
    looks = [[] for _ in seeds]
    running = list(range(len(seeds)))
    for at in steps:
        nets.learn(*task.stack([task.one(rngs[k]) for k in running]))
        if (at + 1) % LOOKS == 0:
            seen = [look(p, wanted) for p in nets(test, lengths)]
            for k, (one, _) in zip(running, seen, strict=True):
                looks[k].append(one)
            go_on = np.array([not enough for _, enough in seen])
            nets.keep(go_on)
            running = [k for k, on in zip(running, go_on, strict=True) if on]
            if not running:
                break
    return [np.array(some) for some in looks]


seeds = [1000 * page.seed + number for number in range(trials)]
courses = {
    name: side_by_side(make_all, seeds, _common.progress(range(most), most, name))
    for name, make_all in together.items()
}
jobs = [(name, seed) for name in nets for seed in seeds]
for name, seed in _common.progress(jobs, len(jobs), "trials"):
    courses.setdefault(name, []).append(trial(*nets[name], seed))

# %%
# The picture
# -----------

figure, axes = plt.subplots(figsize=(7.5, 4.5), layout="constrained")
for k, (name, found) in enumerate(courses.items()):
    for number, looks in enumerate(found):
        at, label = LOOKS * np.arange(1, len(looks) + 1), name if number == 0 else None
        axes.plot(
            at, looks[:, 0], color=_common.COLOURS[k], linestyle=_common.DASHES[k], label=label
        )
axes.axhline(least, color="#777777", linewidth=0.8)
axes.set(yscale="log", xlabel="sequences seen", ylabel="mean absolute error of 256 sequences")
axes.set_title(f"{task.informative} steps to be remembered over {task.steps} of noise")
figure.legend(fontsize=8, loc="outside lower center", ncols=3)
page.show(figure)


def words(found):
    """When each rule was met, in the mean of the trials that met it."""
    parts = []
    for met in (lambda m, w: w <= allowed, lambda m, w: (w <= allowed) & (m < least)):
        first = [np.flatnonzero(met(looks[:, 0], looks[:, 1])) for looks in found]
        ends = [LOOKS * (int(at[0]) + 1) for at in first if len(at)]
        mean = f" after {np.mean(ends):,.0f}" if ends else ""
        parts.append(f"{len(ends)} of {len(found)}{mean}")
    return f"first rule {parts[0]}; second {parts[1]} (at most {most:,})"


published = {"1997": f"10 of 10, {paper[0]:,} and {paper[1]:,}"}
page.report((name, published.get(name, "none"), words(found)) for name, found in courses.items())
