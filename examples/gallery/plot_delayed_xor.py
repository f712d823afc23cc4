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
from _online import NetOf1997, NetOfToday
from _tasks import DelayedXor

from fastlstm import nn

page = _common.Page(__doc__)
task = DelayedXor(steps=page.pick(test=10, quick=20, full=50))
most = page.pick(test=500, quick=40_000, full=300_000)
trials = page.trials or page.pick(test=1, quick=2, full=5)

# %%
# Nets
# ----
# The paper's cells with the gradient as it was and with the whole one, and 16 units of today.

BATCH = 8


def of_1997(cut):
    """What makes a learner from a seed."""
    given = {"input_bias": (-1.0, -2.0, -3.0), "init": 0.2, "cut": cut}
    return lambda seed: NetOf1997(2, 1, 3, 2, 0.5, seed=seed, **given)


nets = {
    "1997: gradient cut": (of_1997(True), 1),
    "1997: whole gradient": (of_1997(False), 1),
    "today: 16 units, Adam": (
        lambda seed: NetOfToday(2, 1, 16, nn.Constant(0.01), steps=2 * task.steps, seed=seed),
        BATCH,
    ),
}
courses = _experiments.run(page, task, nets, trials, most)

# %%
# The picture
# -----------

title = f"XOR of two among {task.steps} bits"
_experiments.draw(page, courses, task, title, None)
published = {"1997: gradient cut": "not easily solved"}
page.report(
    (f"{task.steps} bits, {name}", published.get(name, "none"), _experiments.summary(c, most))
    for name, c in courses.items()
)
