# SPDX-License-Identifier: BSD-3-Clause
"""
Anomalies in a stream
=====================

A net that has learned what comes next in healthy data is surprised by what is not: P. Malhotra et
al., "Long short term memory networks for anomaly detection in time series", ESANN 2015. Three
sensors of a machine, made by a rule, sample by sample: the stream of an LSTM predicts the next
values, and an error far above those of healthy data is an alarm. Faults of four kinds change no
more than what a threshold on the values cannot see.

Published: no figure for these data.
"""

import time

import _common
import matplotlib.pyplot as plt
import numpy as np

import fastlstm
from fastlstm import nn

page = _common.Page(__doc__)
SENSORS, HIDDEN, STEPS, STREAMS = 3, 32, 100, 16
updates = page.pick(test=30, quick=600, full=3000)
length = page.pick(test=3000, quick=12_000, full=60_000)
FAULTS = ("phase jumps", "a sensor freezes", "slower by a fifth", "two sensors swapped")

# %%
# The machine
# -----------
# A speed that wanders, harmonics of it in three sensors, noise.


def healthy(rng, count, slower=None):
    """Values (T, 3); `slower` (T,) divides the speed."""
    wander = np.convolve(rng.standard_normal(count + 400), np.ones(400) / 20, mode="valid")[:count]
    speed = 0.25 * (1 + 0.03 * wander) / (1 if slower is None else slower)
    angle = np.cumsum(speed) + rng.uniform(0, 2 * np.pi)
    waves = [np.sin(angle) + 0.3 * np.sin(3 * angle), np.cos(angle + 0.4), np.sin(2 * angle + 1)]
    return (np.stack(waves, axis=1) + 0.08 * rng.standard_normal((count, SENSORS))).astype(
        np.float32
    )


def with_faults(rng, count, every=600, lasting=40):
    """Values, and for each fault its kind and first step."""
    starts = np.arange(every, count - lasting, every)
    starts += rng.integers(0, 100, len(starts))
    kinds = np.arange(len(starts)) % len(FAULTS)
    slower = np.ones(count)
    for start, kind in zip(starts, kinds, strict=True):
        if kind == 2:
            slower[start : start + lasting] = 1.2
    x = healthy(rng, count, slower)
    for start, kind in zip(starts, kinds, strict=True):
        part = x[start : start + lasting]
        if kind == 0:
            part[:] = x[start + 9 : start + 9 + lasting]
        elif kind == 1:
            part[:, 1] = part[0, 1]
        elif kind == 3:
            part[:, [0, 1]] = part[:, [1, 0]]
    return x, list(zip(starts, kinds, strict=True))


# %%
# Training on healthy data
# ------------------------

rng = np.random.default_rng(page.seed)
model = nn.SequenceModel(
    fastlstm.LSTM(SENSORS, HIDDEN, seed=page.seed),
    nn.Linear(HIDDEN, SENSORS, seed=page.seed),
    outputs="every",
).train()
adam, rate = fastlstm.optim.Adam(model), nn.Cosine(1e-2, updates)
series = np.stack([healthy(rng, 20 * STEPS) for _ in range(STREAMS)], axis=1)
state = None
for k in _common.progress(range(updates), updates, "training"):
    at = (k * STEPS) % (len(series) - STEPS)
    if at < STEPS:
        state = None  # the series begins again
    y, tape = model.forward(series[at : at + STEPS], state)
    _, dy = nn.mse(y, series[at + 1 : at + STEPS + 1])
    grads = model.backward(tape, dy)
    fastlstm.optim.clip_grad_norm(grads.params, 1.0)
    adam.lr = rate(k)
    adam.step(grads)
    state = tape.state
model.eval()

# %%
# Streaming
# ---------
# The score is a mean over the last samples of the squared errors, each in variances of its sensor;
# the alarm is at the largest score of healthy data. A threshold on values is set in the same way.


def scores(x):
    """Of each sample, by a stream; and seconds a sample."""
    stream, expected, found, mean = model.recurrent.stream(), None, np.zeros(len(x)), 0.0
    began = time.perf_counter()
    for k, sample in enumerate(x):
        if expected is not None:
            mean += 0.2 * (float(np.mean((sample - expected) ** 2 / variance)) - mean)
        found[k] = mean
        expected = model.head(stream(sample[None]))[0]
    return found, (time.perf_counter() - began) / len(x)


variance = 1.0
calm = healthy(rng, length)
y = model(calm[:-1, None])[:, 0]
variance = ((calm[1:] - y) ** 2)[100:].mean(axis=0)
limit = scores(calm)[0][100:].max()
x, faults = with_faults(rng, length)
score, seconds = scores(x)


def caught(alarm):
    """Delay of each fault in steps, NaN if missed; and false alarms by 10,000 samples."""
    delays, free = [], np.ones(length, bool)
    free[:100] = False
    for start, _ in faults:
        hits = np.flatnonzero(alarm[start : start + 60])
        delays.append(hits[0] if len(hits) else np.nan)
        free[start : start + 120] = False
    return np.array(delays, float), 1e4 * alarm[free].mean()


ways = {"LSTM": score > limit, "threshold on values": np.abs(x).max(axis=1) > np.abs(calm).max()}
found = {way: caught(alarm) for way, alarm in ways.items()}

# %%
# The picture
# -----------

figure, (top, low) = plt.subplots(2, 1, figsize=(12, 5.5), layout="constrained", sharex=True)
shown = slice(500, min(length, 3100))
for sensor in range(SENSORS):
    line = x[shown, sensor] + 3 * sensor
    top.plot(np.arange(length)[shown], line, color=_common.COLOURS[sensor], linewidth=0.6)
low.plot(np.arange(length)[shown], score[shown], color="#000000", linewidth=0.8, label="score")
low.axhline(limit, color=_common.COLOURS[1], linestyle="--", label="alarm")
for start, kind in faults:
    if shown.start <= start < shown.stop:
        for axes in (top, low):
            axes.axvspan(start, start + 40, color=_common.COLOURS[4], alpha=0.35)
        top.annotate(FAULTS[kind], (start, 7.7), fontsize=8)
top.set(
    ylabel="sensors, moved apart", ylim=(-2, 8.6), title="What a threshold on values cannot see"
)
low.set(yscale="log", xlabel="sample", ylabel="squared error in variances")
low.legend(loc="upper left", fontsize=8)
page.show(figure)
rows = []
for way, (delays, false) in found.items():
    hit = np.isfinite(delays)
    after = f", median delay in samples: {np.nanmedian(delays):.0f}" if hit.any() else ""
    here = f"{hit.sum()} of {len(hit)} faults{after}; false alarms: {false:.1f} in 10,000 samples"
    rows.append((way, "none", here))
rows.append(("time of a sample, stream and head", "none", f"{1e6 * seconds:.1f} us"))
page.report(rows)
