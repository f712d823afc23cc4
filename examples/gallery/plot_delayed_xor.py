# SPDX-License-Identifier: BSD-3-Clause
"""
Delayed XOR
===========

Two bits, far apart in a sequence of random ones, are marked; the target at the end is whether they
differ. S. Hochreiter and J. Schmidhuber, "Long short-term memory", Neural Computation 9, 1997, Sec.
6, name it as a limit of their LSTM: to store one of the bits does not lower the expected error, so
a gradient that is cut at the inputs of gates and cells finds no way there. A net of today does, by
the whole gradient; in the net of 1997 the whole gradient alone is not enough for so few sequences.

Published: no figure; the truncated version "will not easily solve" it.
"""

import _common
import _experiments
from _nets_1997 import NetsOf1997
from _online import CellsOf1997, NetOfToday
from _tasks import DelayedXor

from fastlstm import nn

page = _common.Page(__doc__)
task = DelayedXor(steps=page.pick(test=10, quick=20, full=50))
most = page.pick(test=500, quick=40_000, full=300_000)
trials = page.trials or page.pick(test=1, quick=2, full=5)

# %%
# Nets
# ----
# The paper's, its cells in a layer of today with the whole gradient, and 16 units of today.

BATCH = 8
given = {"input_bias": (-1.0, -2.0, -3.0), "init": 0.2}


def of_1997(seeds):
    """Nets side by side."""
    return NetsOf1997(seeds, 2, 1, 3, 2, 0.5, **given)


def cells_of_1997(seed):
    """The same cells and blocks."""
    return CellsOf1997(2, 1, 3, 2, 0.5, seed=seed, **given)


def today(seed):
    """16 units."""
    return NetOfToday(2, 1, 16, nn.Constant(0.01), steps=2 * task.steps, seed=seed)


nets = {
    "1997's cells, whole gradient": (cells_of_1997, 1),
    "today: 16 units, Adam": (today, BATCH),
}
courses = _experiments.run(page, task, {"1997": of_1997}, nets, trials, most)

# %%
# The picture
# -----------

title = f"XOR of two among {task.steps} bits"
_experiments.draw(page, courses, task, title, None)
published = {"1997": "not easily solved"}
page.report(
    (f"{task.steps} bits, {name}", published.get(name, "none"), _experiments.summary(c, most))
    for name, c in courses.items()
)
