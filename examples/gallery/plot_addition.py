# SPDX-License-Identifier: BSD-3-Clause
"""
Sequence to sequence: addition
==============================

"535+61" in, "596" out, character by character: an encoder reads the question, its last state goes
to each step of a decoder. Sizes and data are those of Keras's example addition_rnn (one layer of
128 units each, questions reversed), after W. Zaremba and I. Sutskever, "Learning to execute", 2014.

Published by Keras's example: 99 % of two-digit sums after 55 epochs of 5,000 examples, of
three-digit sums after 100 epochs of 50,000. Here an epoch's examples are drawn anew, and numbers
that are asked in the test are never learned.
"""

import _common
import matplotlib.pyplot as plt
import numpy as np

import fastlstm
from fastlstm import nn

page = _common.Page(__doc__)
DIGITS = page.pick(test=1, quick=2, full=3)
HIDDEN = page.pick(test=24, quick=128, full=128)
epochs = page.pick(test=12, quick=40, full=60)
examples = page.pick(test=640, quick=5_000, full=50_000)
SYMBOLS = "0123456789+ "

# %%
# Questions and answers
# ---------------------

pairs = 10 ** (2 * DIGITS)
order = np.random.default_rng(page.seed).permutation(pairs)
to_test, to_learn = np.split(order, [min(2000, pairs // 10)])


def encoded(words, width):
    """Ids (width, N) of texts, padded with spaces."""
    return np.array([[SYMBOLS.index(c) for c in word.ljust(width)] for word in words]).T


def questions(chosen):
    """Inputs (2 DIGITS + 1, N), answers (DIGITS + 1, N)."""
    a, b = np.divmod(chosen, 10**DIGITS)
    asked = [f"{x}+{y}".ljust(2 * DIGITS + 1)[::-1] for x, y in zip(a, b, strict=True)]
    return encoded(asked, 2 * DIGITS + 1), encoded(map(str, a + b), DIGITS + 1)


# %%
# Encoder and decoder
# -------------------

one_hot = np.eye(len(SYMBOLS), dtype=np.float32)
encoder = fastlstm.LSTM(len(SYMBOLS), HIDDEN, seed=page.seed).train()
decoder = nn.SequenceModel(
    fastlstm.LSTM(HIDDEN, HIDDEN, seed=page.seed + 1),
    nn.Linear(HIDDEN, len(SYMBOLS), seed=page.seed),
    outputs="every",
).train()
model = nn.Modules(encoder=encoder, decoder=decoder)
adam = fastlstm.optim.Adam(model)
rate = nn.Cosine(5e-3, epochs * -(-examples // 128), 1e-4)


def repeated(h):
    """The encoder's last h for every step of the answer."""
    return np.repeat(h, DIGITS + 1, axis=0)


def learn(asked, answers):
    """One update; its loss."""
    _, (h, _), read = encoder.forward(one_hot[asked])
    logits, wrote = decoder.forward(repeated(h))
    loss, dlogits = nn.cross_entropy(logits, answers)
    after = decoder.backward(wrote, dlogits, input_grad=True)
    before = encoder.backward(read, dstate=(after.x.sum(axis=0, keepdims=True), None))
    grads = {f"encoder.{name}": g for name, g in before.params.items()}
    grads |= {f"decoder.{name}": g for name, g in after.params.items()}
    fastlstm.optim.clip_grad_norm(grads, 1.0)
    adam.lr = rate(adam.steps)
    adam.step(grads)
    return loss


def answered(asked):
    """The answers' ids."""
    return decoder(repeated(encoder(one_hot[asked])[1][0])).argmax(axis=-1)


asked_test, answers_test = questions(to_test)
rng, right, losses = np.random.default_rng(page.seed), [], []
for _ in _common.progress(range(epochs), epochs, "training"):
    asked, answers = questions(rng.choice(to_learn, examples))
    for at in range(0, examples, 128):
        part = slice(at, at + 128)
        losses.append(learn(asked[:, part], answers[:, part]))
    right.append(100 * float((answered(asked_test) == answers_test).all(axis=0).mean()))

# %%
# The picture
# -----------

figure, (left, table) = plt.subplots(
    1, 2, figsize=(9, 4), layout="constrained", width_ratios=(2.5, 1)
)
left.plot(1 + np.arange(epochs), right, "o-", color=_common.COLOURS[0], markersize=3)
left.axhline(99, color="#777777", linewidth=0.8)
left.annotate("Keras's example", (1, 98), va="top", fontsize=8, color="#555555")
left.set(xlabel="epoch", ylabel="sums right in %", title=f"Sums of {DIGITS} digits, never learned")
left.set_ylim(-3, 103)
table.set_axis_off()
answers = answered(asked_test[:, :8])
for row in range(answers.shape[1]):
    text = "".join(SYMBOLS[k] for k in asked_test[::-1, row]).strip()
    said = "".join(SYMBOLS[k] for k in answers[:, row]).strip()
    good = (answers[:, row] == answers_test[:, row]).all()
    colour = "#000000" if good else _common.COLOURS[1]
    mark = "right" if good else "wrong"
    table.text(0, 0.9 - 0.11 * row, f"{text} = {said}  {mark}", color=colour, family="monospace")
page.show(figure)
published = {1: "none", 2: "99 % after 55 epochs", 3: "99 % after 100 epochs"}[DIGITS]
here = f"{right[-1]:.1f} % after {epochs} epochs of {examples:,}"
page.report([(f"sums of {DIGITS} digits", published, here)])
