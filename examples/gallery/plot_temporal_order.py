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
from _nets_1997 import NetsOf1997
from _online import CellsOf1997, NetOfToday
from _tasks import TemporalOrder

from fastlstm import nn

page = _common.Page(__doc__, flags={"three": "experiment 6b"})
places = 3 if page.flags["three"] else 2
task = TemporalOrder(symbols=places, steps=page.pick(test=20, quick=100, full=100))
paper = 571_100 if places == 3 else 31_390
most = page.pick(test=500, quick=31_390, full=3 * paper)
trials = page.trials or page.pick(test=1, quick=2, full=10 if places == 3 else 20)

# %%
# Nets
# ----
# The paper's: two or three blocks of two cells whose input gates start closed; its many short steps
# in NumPy take minutes, so it trains with ``--full`` alone. Its cells in a layer of today, where
# gates do not read gates, with the whole gradient. Today's: 8 units whose forget gates start all
# but open.

BATCH = 4
bias = (-2.0, -4.0, -6.0)[:places]
lr = 0.1 if places == 3 else 0.5
rate = nn.Constant(0.01)


def of_1997(seeds):
    """Nets side by side."""
    return NetsOf1997(seeds, 8, 2**places, places, 2, lr, input_bias=bias)


def cells_of_1997(seed):
    """The same cells and blocks."""
    return CellsOf1997(8, 2**places, places, 2, lr, input_bias=bias, seed=seed)


def today(seed):
    """8 units."""
    return NetOfToday(8, 2**places, 8, rate, steps=200, seed=seed)


together = {} if page.size == "quick" else {"1997": of_1997}
nets = {
    "1997's cells, whole gradient": (cells_of_1997, 1),
    "today: 8 units, Adam": (today, BATCH),
}
courses = _experiments.run(page, task, together, nets, trials, most)

# %%
# The picture
# -----------

title = f"The order of {places} among {task.steps} symbols"
_experiments.draw(page, courses, task, title, paper)
published = {"1997": f"{paper:,}"}
page.report(
    (f"6{'ab'[places - 2]}, {name}", published.get(name, "none"), _experiments.summary(c, most))
    for name, c in courses.items()
)
