# SPDX-License-Identifier: BSD-3-Clause
"""
Both directions or one
======================

An LSTM that reads a sequence from both ends against one of as many weights that reads it forwards:
A. Graves and J. Schmidhuber, "Framewise phoneme classification with bidirectional LSTM and other
neural network architectures", Neural Networks 18, 2005. TIMIT, which they used, is not free; here
it is JapaneseVowels (Kudo, Toyama and Shimbo 1999; UCI Machine Learning Repository, CC BY 4.0):
which of nine speakers said it? ``--data FOLDER`` names the folder of JapaneseVowels_TRAIN.ts and
_TEST.ts of timeseriesclassification.com. Without it, scikit-learn's scans of digits are read row by
row.

Published: their main finding, that bidirectional nets outperform those of one direction.
JapaneseVowels: 98.86 % by eleven LSTMs together, of a project of the University of Groningen
(github.com/postnubilaphoebus/Jap_Speak_Recog).
"""

import _classify
import _common
import matplotlib.pyplot as plt
import numpy as np

page = _common.Page(__doc__, data="folder of JapaneseVowels_TRAIN.ts and JapaneseVowels_TEST.ts")
epochs = page.pick(test=3, quick=25, full=40)
trials = page.trials or page.pick(test=1, quick=3, full=10)

# %%
# Data
# ----

if page.data is not None:
    what = "JapaneseVowels"
    x, labels = _classify.read_ts(page.data / "JapaneseVowels_TRAIN.ts")
    x_test, labels_test = _classify.read_ts(page.data / "JapaneseVowels_TEST.ts")
else:
    from sklearn.datasets import load_digits

    what = "digits, row by row"
    scans = load_digits()
    x, x_test = list(scans.images[:1000]), list(scans.images[1000:])
    labels, labels_test = scans.target[:1000], scans.target[1000:]
    if page.size == "test":
        x, labels, x_test, labels_test = x[:200], labels[:200], x_test[:200], labels_test[:200]
x, x_test = _classify.scaled(x, x_test)
(y, y_test), names = _classify.numbered(labels, labels_test)

# %%
# Training
# --------
# 44 units in each direction or 68 in one have about as many weights.

kinds = {"both directions": (44, True), "one direction": (68, False)}
jobs = [(name, trial) for name in kinds for trial in range(trials)]
accuracy = {name: [] for name in kinds}
for name, trial in _common.progress(jobs, len(jobs), "trainings"):
    hidden, both = kinds[name]
    seed = 100 * page.seed + trial
    model = _classify.classifier(
        x[0].shape[1], hidden, len(names), bidirectional=both, dropout=0.3, seed=seed
    )

    def look(model):
        """Test accuracy in per cent."""
        return float(100 * np.mean(_classify.logits(model, x_test).argmax(axis=1) == y_test))

    accuracy[name].append(_classify.train(model, x, y, epochs, seed=seed, look=look))

# %%
# The picture
# -----------
# Lines are means of the trials, bands go from the worst to the best.

figure, axes = plt.subplots(figsize=(7, 4.3), layout="constrained")
for k, (name, found) in enumerate(accuracy.items()):
    at, found = np.arange(1, epochs + 1), np.array(found)
    style = {"color": _common.COLOURS[k], "linestyle": _common.DASHES[k], "label": name}
    axes.plot(at, found.mean(axis=0), **style)
    axes.fill_between(at, found.min(axis=0), found.max(axis=0), color=_common.COLOURS[k], alpha=0.2)
axes.set(xlabel="epoch", ylabel="right of the test set in %", title=what)
axes.set_ylim(max(0, min(np.min(found[:, 1:] if epochs > 3 else found)
                         for found in map(np.array, accuracy.values())) - 3), 101)  # fmt: skip
axes.legend(loc="lower right")
page.show(figure)
last = {name: [course[-1] for course in found] for name, found in accuracy.items()}
page.report(
    (
        f"{what}, {name}",
        "98.86 %, eleven nets" if page.data is not None else "none",
        f"{np.mean(ends):.1f} % in the mean of {len(ends)} ({min(ends):.1f} to {max(ends):.1f})",
    )
    for name, ends in last.items()
)
