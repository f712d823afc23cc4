# SPDX-License-Identifier: BSD-3-Clause
"""
What somebody is doing
======================

Human activity from a wearable's accelerometer and gyroscope. ``--data FOLDER`` names the folder of

- BasicMotions_TRAIN.ts and BasicMotions_TEST.ts of timeseriesclassification.com: standing,
  walking, running, badminton, 40 sequences to learn and 40 to test; or
- "UCI HAR Dataset" (Anguita et al. 2013): six activities of 30 people, 128 steps of nine channels.

Without it, motions made by a rule: four activities of other frequencies and strengths, under noise.

Published: BasicMotions 100 % by several methods (Ruiz et al. 2021); UCI HAR 91.65 % by an LSTM of
two layers (G. Chevalier, "LSTMs for human activity recognition", 2016). The test set decides
nothing here: epochs and sizes are given, and the last weights are the ones that count.
"""

import _classify
import _common
import matplotlib.pyplot as plt
import numpy as np

page = _common.Page(__doc__, data='folder of the .ts files, or "UCI HAR Dataset"')

# %%
# Data
# ----


def made(rng, count):
    """Sequences (100, 6) and their activities: a wave and its double by the activity, and noise."""
    kinds = {
        "standing": (0.0, 0.0),
        "walking": (1.0, 1.8),
        "running": (2.0, 2.8),
        "badminton": (1.6, 0.9),
    }
    x, labels, time = [], [], np.arange(100)[:, None] / 20
    for k in range(count):
        name = list(kinds)[k % 4]
        strength, frequency = kinds[name]
        phase, turned = rng.uniform(0, 2 * np.pi, 6), rng.uniform(0.6, 1.4, 6)
        angle = 2 * np.pi * frequency * rng.uniform(0.85, 1.15) * time + phase
        wave = strength * turned * (np.sin(angle) + 0.5 * np.sin(2 * angle))
        x.append((wave + 0.7 * rng.standard_normal((100, 6))).astype(np.float32))
        labels.append(name)
    return x, labels


def har(folder, part):
    """Sequences (128, 9) and activities of one part of the UCI HAR data set."""
    files = sorted((folder / part / "Inertial Signals").glob("*.txt"))
    x = np.stack([np.loadtxt(file, dtype=np.float32) for file in files], axis=2)
    names = dict(line.split() for line in (folder / "activity_labels.txt").read_text().splitlines())
    labels = (folder / part / f"y_{part}.txt").read_text().split()
    return list(x), [names[label].lower().replace("_", " ") for label in labels]


epochs, hidden, layers = page.pick(test=25, quick=100, full=100), 32, 1
if page.data is None:
    what, published = "motions made by a rule", "none"
    rng = np.random.default_rng(page.seed)
    count = page.pick(test=40, quick=80, full=80)
    (x, labels), (x_test, labels_test) = made(rng, count), made(rng, 200)
elif (page.data / "activity_labels.txt").exists():
    what, published = "UCI HAR", "91.65 %"
    (x, labels), (x_test, labels_test) = har(page.data, "train"), har(page.data, "test")
    epochs, layers = page.pick(test=1, quick=8, full=25), 2
else:
    what, published = "BasicMotions", "100 %"
    x, labels = _classify.read_ts(page.data / "BasicMotions_TRAIN.ts")
    x_test, labels_test = _classify.read_ts(page.data / "BasicMotions_TEST.ts")
x, x_test = _classify.scaled(x, x_test)
(y, y_test), names = _classify.numbered(labels, labels_test)

# %%
# Training
# --------
# Five nets from other first weights; they also vote, with their logarithms of probabilities.

size = 8 if len(x) < 1000 else 64
trials = page.trials or page.pick(test=1, quick=5, full=5)
accuracy, votes = [], 0.0
for trial in _common.progress(range(trials), trials, "trainings"):
    model = _classify.classifier(
        x[0].shape[1],
        hidden,
        len(names),
        layers=layers,
        bidirectional=True,
        dropout=0.3,
        seed=trial,
    )
    _classify.train(model, x, y, epochs, lr=5e-3, size=size, seed=100 * page.seed + trial)
    logits = _classify.logits(model, x_test)
    votes = votes + logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    accuracy.append(float(100 * np.mean(logits.argmax(axis=1) == y_test)))
found = votes.argmax(axis=1)
together = float(100 * np.mean(found == y_test))

# %%
# The picture
# -----------
# A sequence of each activity, and what the nets say of the test set.

shown = min(len(names), 4)
figure = plt.figure(figsize=(12, 5), layout="constrained")
waves, table = figure.subfigures(1, 2, width_ratios=(1.2, 1))
for k, axes in enumerate(np.atleast_1d(waves.subplots(shown, 1, sharex=True, sharey=True))):
    sequence = x_test[int(np.flatnonzero(y_test == k)[0])]
    for c in range(3):
        axes.plot(sequence[:, c], color=_common.COLOURS[c], linewidth=1, label="xyz"[c])
    axes.set_title(names[k], fontsize=9, loc="left")
axes.set_xlabel("step")
axes.legend(ncols=3, fontsize=8, loc="lower right")
waves.supylabel("first three channels, in standard deviations", fontsize=9)
counts = np.zeros((len(names), len(names)), int)
np.add.at(counts, (y_test, found), 1)
axes = table.subplots()
axes.imshow(counts, cmap="Blues", vmax=1.6 * counts.max())
for (row, column), count in np.ndenumerate(counts):
    axes.text(column, row, count, ha="center", va="center")
axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
axes.set_yticks(range(len(names)), names)
axes.set(xlabel="what the nets say", ylabel="what it is", title=f"{what}: {together:.2f} % right")
axes.spines[:].set_visible(False)
page.show(figure)
each = f"{np.mean(accuracy):.2f} % in the mean ({min(accuracy):.2f} to {max(accuracy):.2f})"
page.report(
    [
        (f"{what}, one net", published, each),
        (f"{what}, {trials} nets", published, f"{together:.2f} %"),
    ]
)
