# SPDX-License-Identifier: BSD-3-Clause
"""
A guitar amplifier from its sound
=================================

A net learns what an amplifier does to a guitar from a recording of both ends: A. Wright, E.-P.
Damskägg and V. Välimäki, "Real-time black-box modelling with recurrent neural
networks", DAFx 2019.
As there, an LSTM of 32 units reads the sample, a linear layer adds to it, and the loss is the
error-to-signal ratio after a filter that raises high frequencies; updates are 2048 samples long
after 1000 that settle the state. Guitar and amplifier are made by a rule: plucked strings; a
filter, an unsymmetrical tanh whose bias follows the loudness, another filter. ``--data FOLDER``
names one with in.wav and out.wav (16 bits, one channel).

Published: ratios of some per cent and below, in real time, for amplifiers that were not measured
here.
"""

import time

import _common
import matplotlib.pyplot as plt
import numpy as np
from scipy.io import wavfile
from scipy.signal import lfilter

import fastlstm
from fastlstm import nn

page = _common.Page(__doc__, data="folder of in.wav and out.wav")
HIDDEN, STEPS, SETTLE = page.pick(test=8, quick=16, full=32), 2048, 1000
epochs = page.pick(test=8, quick=120, full=300)
seconds = page.pick(test=1, quick=8, full=60)

# %%
# Guitar and amplifier
# --------------------


def guitar(rng, rate):
    """Plucked strings: harmonics that fade the sooner the higher they are."""
    x = np.zeros(seconds * rate)
    for start in range(0, len(x), rate // 4):
        t = np.arange(min(rate, len(x) - start)) / rate
        pitch = 82.4 * 2 ** (rng.integers(0, 30) / 12)
        loud = rng.uniform(0.1, 0.6)
        for k in range(1, 1 + int(min(12, 8000 // pitch))):
            wave = np.sin(2 * np.pi * k * pitch * t + rng.uniform(0, 6.3))
            x[start : start + len(t)] += loud / k * np.exp(-t * (2 + k)) * wave
    return np.clip(x, -1, 1)


def amplifier(x):
    """A bias that follows the loudness within some ms makes the clipping unsymmetrical."""
    driven = 6 * (x - lfilter([0.02], [1, -0.98], x))
    sag = lfilter([0.002], [1, -0.998], np.abs(driven))
    clipped = np.tanh(driven - 0.4 * sag) + 0.25 * np.tanh(2 * driven + 0.5)
    return 0.6 * lfilter([0.35], [1, -0.65], clipped)


if page.data is None:
    rate = 22_050
    sound = guitar(np.random.default_rng(page.seed), rate)
    wanted = amplifier(sound)
else:
    (rate, sound), (_, wanted) = (wavfile.read(page.data / f"{end}.wav") for end in ("in", "out"))
    sound, wanted = (np.asarray(s[: seconds * rate], float) / 32768 for s in (sound, wanted))
sound, wanted = sound.astype(np.float32), wanted.astype(np.float32)
split = int(0.8 * len(sound))

# %%
# Training
# --------


def raised(x):
    """The filter before the loss: x_t - 0.85 x_(t-1), by the first axis."""
    return x - 0.85 * np.concatenate((np.zeros_like(x[:1]), x[:-1]))


def ratio(y, wanted):
    """Error-to-signal ratio."""
    return float(np.sum(raised(y - wanted) ** 2) / np.sum(raised(wanted) ** 2))


def loss(y, wanted):
    """That ratio and its gradient."""
    error, power = raised(y - wanted), np.sum(raised(wanted) ** 2) + 1e-3
    slope = 2 * error / power
    back = slope - 0.85 * np.concatenate((slope[1:], np.zeros_like(slope[:1])))
    return float(np.sum(error**2) / power), back.astype(np.float32)


model = nn.SequenceModel(
    fastlstm.LSTM(1, HIDDEN, seed=page.seed),
    nn.Linear(HIDDEN + 1, 1, seed=page.seed),
    outputs="every",
).train()
adam = fastlstm.optim.Adam(model)
span = SETTLE + STEPS
pieces = split // span
columns = [s[: pieces * span].reshape(pieces, span).T[..., None].copy() for s in (sound, wanted)]
batch = 8
rates = nn.WarmUp(nn.Cosine(1e-2, epochs * -(-pieces // batch)), 10)
rng, losses, tape = np.random.default_rng(page.seed), [], None
for _ in _common.progress(range(epochs), epochs, "training"):
    for chosen in np.array_split(rng.permutation(pieces), -(-pieces // batch)):
        x, out = columns[0][:, chosen], columns[1][:, chosen]
        _, state = model.recurrent(x[:SETTLE])
        x, out = x[SETTLE:], out[SETTLE:]
        y, tape = model.forward(x, state, beside=x, tape=tape)
        value, dy = loss(y, out)
        grads = model.backward(tape, dy)
        fastlstm.optim.clip_grad_norm(grads.params, 1.0)
        adam.lr = rates(adam.steps)
        adam.step(grads)
        losses.append(value)
model.eval()

# %%
# Played in blocks of 64 samples
# ------------------------------
# The state goes from block to block, as in a plug-in. Against it the best curve without a memory, a
# polynomial.

x_test, out_test = sound[split:, None], wanted[split:, None]
state, blocks = None, []
began = time.perf_counter()
for at in range(0, len(x_test) - 63, 64):
    block = x_test[at : at + 64, None]
    y, state = model.recurrent(block, state, num_threads=1)
    blocks.append(model.head(np.concatenate((y, block), axis=2))[:, 0])
lasted = time.perf_counter() - began
played = np.concatenate(blocks)
out_test = out_test[: len(played)]
curve = np.polynomial.Polynomial.fit(sound[:split], wanted[:split], 9)
others = {
    f"LSTM of {HIDDEN} units": played[:, 0],
    "curve without a memory": curve(x_test[: len(played), 0]),
}
ratios = {way: ratio(y[SETTLE:], out_test[SETTLE:, 0]) for way, y in others.items()}
speed = len(played) / rate / lasted

# %%
# The picture
# -----------

figure, (left, middle, last) = plt.subplots(1, 3, figsize=(15, 4), layout="constrained")
left.plot(100 * np.array(losses), color=_common.COLOURS[0])
left.set(yscale="log", xlabel="update", ylabel="error to signal in %", title="Training")
start = SETTLE + int(np.argmax(np.abs(x_test[SETTLE : len(played) - 400])))
at = slice(start, start + 300)
t = 1e3 * np.arange(300) / rate
middle.plot(t, out_test[at, 0], color="#000000", linewidth=2.5, label="amplifier")
for k, (way, y) in enumerate(others.items()):
    middle.plot(t, y[at], color=_common.COLOURS[k], linestyle=_common.DASHES[k], label=way)
middle.set(xlabel="time in ms", ylabel="amplitude", title="A note that was not learned")
middle.legend(fontsize=8, loc="upper right")
middle.set_ylim(top=1.5)
window = np.hanning(2048)
start = min(start, len(played) - 2048)
for k, y in enumerate([out_test[:, 0], *others.values()]):
    power = 20 * np.log10(np.abs(np.fft.rfft(window * y[start : start + 2048])) + 1e-6)
    colour, dash = ("#000000", "-") if k == 0 else (_common.COLOURS[k - 1], _common.DASHES[k - 1])
    last.plot(np.fft.rfftfreq(2048, 1e3 / rate), power, color=colour, linestyle=dash, linewidth=0.8)
last.set(xlabel="frequency in kHz", ylabel="magnitude in dB", title="Its spectrum")
page.show(figure)
page.report(
    [
        *(
            (f"error to signal, {way}", "none", f"{100 * value:.2f} %")
            for way, value in ratios.items()
        ),
        ("played in blocks of 64 samples, one thread", "real time", f"{speed:.1f} times real time"),
    ]
)
