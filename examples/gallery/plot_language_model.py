# SPDX-License-Identifier: BSD-3-Clause
"""
A language model
================

What comes next? By characters in the recipe of A. Karpathy's char-rnn (2015): two layers of 128
units, the text cut into 50 columns, 50 characters of each an update, the state handed on; the last
twentieth of every column is held out. By words (``--words``) in that of W. Zaremba, I. Sutskever
and O. Vinyals, "Recurrent neural network regularization", 2014: the small model, two layers of 200
units, 20 sequences of 20 words, SGD. ``--data FILE`` names the text, such as
data/tinyshakespeare/input.txt of github.com/karpathy/char-rnn; without it, Python's language
reference.

Published: a checkpoint of char-rnn for tinyshakespeare bears a held-out loss of 1.42 nats a
character in its name; Zaremba's small model has a perplexity of 120.7 (held out) on the Penn
Treebank, which is not free.
"""

import itertools

import _common
import matplotlib.pyplot as plt
import numpy as np
from _language import LanguageModel, chunks, rows
from matplotlib.ticker import MaxNLocator

import fastlstm
from fastlstm import nn

page = _common.Page(
    __doc__,
    data="a text file",
    flags={"words": "words, not characters"},
    numbers={"epochs": "how often the text is read"},
)
words = page.flags["words"]
epochs = page.numbers["epochs"] or page.pick(test=1, quick=2, full=13 if words else 50)

# %%
# The text
# --------
# Paragraphs are parted by empty lines. Of words, the 10,000 most frequent ones of the training part
# are known; all others are one.

if page.data is not None:
    text = page.data.read_text(encoding="utf-8")
else:
    from pydoc_data.topics import topics

    text = "\n\n".join(topics.values())
text = text[: page.pick(test=30_000, quick=300_000, full=len(text))]
tokens = text.replace("\n", " <eos> ").split() if words else list(text)
hidden, batch, steps = (200, 20, 20) if words else (128, 50, 50)
if page.size == "test":
    hidden, batch, steps = 32, 20, 20
if words:
    names, counts = np.unique(tokens[: int(0.95 * len(tokens))], return_counts=True)
    known = ["<unk>", *names[np.argsort(-counts, kind="stable")][:9999]]
else:
    known = sorted(set(tokens))
number = {token: k for k, token in enumerate(known)}
ids = np.array([number.get(token, 0) for token in tokens])
if words:  # the end of the text is held out, in one column
    columns, held_out = np.split(ids, [int(0.95 * len(ids))])
    columns, held_out = rows(columns, batch), held_out[:, None]
else:
    columns = rows(ids, batch)
    columns, held_out = np.split(columns, [int(0.95 * len(columns))])

# %%
# Training
# --------
# char-rnn has RMSprop; Adam takes its place here, with half a cosine to zero. The word model has
# the paper's SGD: rate 1, halved after each epoch from the fifth on, norm cut to 5, first weights
# in [-0.1, 0.1], no dropout. Its loss is a sum over the steps, so here the rate of a mean is 20
# times larger.

model = LanguageModel(
    len(known), hidden, 2, width=hidden if words else min(64, len(known)), seed=page.seed,
    forget=None if words else 1.0,
).train()  # fmt: skip
per_epoch = (len(columns) - 1) // steps
if words:
    rng = np.random.default_rng(page.seed)
    for values in model.parameters().values():
        values[:] = rng.uniform(-0.1, 0.1, values.shape)
    optimiser = fastlstm.optim.SGD(model)
else:
    optimiser = fastlstm.optim.Adam(model)
cosine = nn.WarmUp(nn.Cosine(1e-2, epochs * per_epoch), max(1, per_epoch // 4))
losses, tests = [], []
total = epochs * per_epoch
counted = _common.progress(range(total), total, "training")
for epoch in range(epochs):
    state = None
    for x, following in chunks(columns, steps):
        update = next(counted, None)
        loss, grads, state = model.learn(x, following, state)
        if words:
            scaled_clip = 5 / steps
            fastlstm.optim.clip_grad_norm(grads, scaled_clip)
            optimiser.lr = steps * 0.5 ** max(0, epoch - 3)
        else:
            fastlstm.optim.clip_grad_norm(grads, 5.0)
            optimiser.lr = cosine(optimiser.steps)
        optimiser.step(grads)
        losses.append(loss)
    tests.append(model.loss(held_out))
model.eval()

# %%
# A paragraph's last word
# -----------------------
# The model reads a held-out paragraph and fills in what was taken away, streamed symbol by symbol.

if words:
    pieces = [" ".join(tokens[int(0.95 * len(tokens)) :]).replace("<eos>", "\n")]
else:
    pieces = ["".join(known[k] for k in column) for column in held_out.T]
gap = "\n \n" if words else "\n\n"
parted = [" ".join(part.split()) for piece in pieces for part in piece.split(gap)[1:-1]]
paragraphs = [part for part in parted if 60 < len(part) < 600]
right_words = 0
for paragraph in paragraphs[: page.pick(test=3, quick=40, full=400)]:
    beginning, _, last = paragraph.rpartition(" ")
    asked = last.strip(".,:;!?`*()\"'").lower()
    one, guess, logits = model.stream(), "", None
    for token in beginning.split() if words else beginning + " ":
        logits = one(number.get(token, 0))
    for _ in range(1 if words else 20):
        best = known[int(logits.argmax())]
        if not words and best in " \n":
            break
        guess += best
        logits = one(number[best])
    right_words += guess.strip(".,:;!?`*()\"'").lower() == asked
asked_for = min(len(paragraphs), page.pick(test=3, quick=40, full=400))
if asked_for:
    print(f"last words filled in rightly: {right_words} of {asked_for}; the last one:")
    print(f"  ...{beginning[-60:]} [{last}]: {guess}")

# %%
# Writing on
# ----------

rng, one, written = np.random.default_rng(page.seed), model.stream(), []
token = int(held_out[0, 0])
for _ in range(page.pick(test=20, quick=200, full=400)):
    logits = one(token) / 0.8
    p = np.exp(logits - logits.max())
    token = int(rng.choice(len(known), p=p / p.sum()))
    written.append(known[token])
print((" " if words else "").join(written).replace("<eos>", "\n"))

# %%
# What context is worth
# ---------------------
# The loss of the k-th symbol after a start from a state of zeros, in the mean of near ks.

span = min(256, len(held_out) - 1)
count = len(held_out) // (span + 1)
pieces = held_out[: count * (span + 1)].reshape(count, span + 1, -1)
pieces = pieces.swapaxes(0, 1).reshape(span + 1, -1)
y, _ = model.lstm(model.table(pieces[:-1]))
logits = model.head(y)
by_position = [nn.cross_entropy(logits[k], pieces[k + 1])[0] for k in range(span)]
edges = np.unique(np.geomspace(1, span + 1, 24).astype(int))
context = [
    (np.mean((k, m - 1)), np.mean(by_position[k - 1 : m - 1])) for k, m in itertools.pairwise(edges)
]

# %%
# The picture
# -----------

unit = "word" if words else "character"
figure, (left, middle) = plt.subplots(1, 2, figsize=(11.5, 4.2), layout="constrained")
width = max(1, len(losses) // 100)
smooth = np.convolve(losses, np.ones(width) / width, mode="valid")
at = (width + np.arange(len(smooth))) / per_epoch
left.plot(at, smooth, color=_common.COLOURS[0], label="training, smoothed")
left.plot(1 + np.arange(epochs), tests, "o--", color=_common.COLOURS[1], label="held out")
if not words:
    left.axhline(1.42, color="#777777", linewidth=0.8)
    place = {"xycoords": ("axes fraction", "data"), "va": "top"}
    left.annotate("char-rnn, tinyshakespeare", (0.01, 1.42), fontsize=8, color="#555555", **place)
left.set(xlabel="epoch", ylabel=f"nats a {unit}", title="Loss")
left.set_ylim(bottom=None if words else min(1.3, *losses))
left.xaxis.set_major_locator(MaxNLocator(integer=True))
left.legend()
middle.plot(*zip(*context, strict=True), "o-", color=_common.COLOURS[2], markersize=4)
middle.set(xscale="log", xlabel=f"{unit}s read before", ylabel=f"nats a {unit}")
middle.set_xticks((1, 10, 100), ("1", "10", "100"))
middle.set_title("Loss by length of the context, held out")
page.show(figure)
here = f"{tests[-1]:.3f} nats after {epochs} epochs"
if words:
    here += f", perplexity {np.exp(tests[-1]):.1f}"
name = page.data.stem if page.data is not None else "Python's reference"
published = "120.7 on another text" if words else "1.42 on tinyshakespeare"
page.report([(f"{name} by {unit}s, held out", published, here)])
