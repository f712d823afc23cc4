# SPDX-License-Identifier: BSD-3-Clause
"""
Temporal order
==============

X or Y appears at two places of a hundred symbols; the class at the end is their order, XX, XY, YX
or YY. Experiment 6a of S. Hochreiter and J. Schmidhuber, "Long short-term memory", Neural
Computation 9, 1997, and with ``--three`` experiment 6b, three places and eight classes. Solved: the
mean error of the last 2000 sequences is below 0.1 and all were right, each output within 0.3 of its
target.

Published: 6a after 31,390 sequences in the mean of 20 trials, 1 of 2560 test sequences wrong; 6b
after 571,100.
"""

import _common
import _experiments
from _online import NetOf1997, NetOfToday
from _tasks import TemporalOrder

from fastlstm import nn

page = _common.Page(__doc__, flags={"three": "experiment 6b"})
places = 3 if page.flags["three"] else 2
task = TemporalOrder(symbols=places, steps=page.pick(test=20, quick=100, full=100))
paper = 571_100 if places == 3 else 31_390
most = page.pick(test=500, quick=31_390, full=3 * paper)
trials = page.trials or page.pick(test=1, quick=2, full=3 if places == 3 else 20)

# %%
# Nets
# ----
# The paper's: two or three blocks of two cells whose input gates start closed; its gradient is cut
# at the inputs of gates and cells. The same with the whole gradient. Today's: 8 units whose forget
# gates start all but open.

BATCH = 4
bias = (-2.0, -4.0, -6.0)[:places]
rate = nn.Constant(0.01)


def of_1997(cut):
    """What makes a learner from a seed."""
    lr = 0.1 if places == 3 else 0.5
    given = {"input_bias": bias, "cut": cut}
    return lambda seed: NetOf1997(8, 2**places, places, 2, lr, seed=seed, **given)


nets = {
    "1997: gradient cut": (of_1997(True), 1),
    "1997: whole gradient": (of_1997(False), 1),
    "today: 8 units, Adam": (
        lambda seed: NetOfToday(8, 2**places, 8, rate, steps=200, seed=seed),
        BATCH,
    ),
}
courses = _experiments.run(page, task, nets, trials, most)

# %%
# The picture
# -----------

title = f"The order of {places} among {task.steps} symbols"
_experiments.draw(page, courses, task, title, paper)
published = {"1997: gradient cut": f"{paper:,}"}
page.report(
    (f"6{'ab'[places - 2]}, {name}", published.get(name, "none"), _experiments.summary(c, most))
    for name, c in courses.items()
)
