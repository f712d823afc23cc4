# SPDX-License-Identifier: BSD-3-Clause
"""Sequences to classes: files in the .ts format, and a classifier that is trained."""

import numpy as np

import fastlstm
from fastlstm import nn


def read_ts(path):
    """Sequences (T, I) and labels of a .ts file: a line each, channels and label parted by ':'."""
    sequences, labels = [], []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    start = [line.strip().lower() for line in lines].index("@data") + 1
    for line in filter(None, map(str.strip, lines[start:])):
        *channels, label = line.split(":")
        columns = [np.array(channel.split(","), dtype=np.float32) for channel in channels]
        sequences.append(np.stack(columns, axis=1))
        labels.append(label)
    return sequences, labels


def numbered(*lists):
    """Labels of all lists as 0, 1, ... by their order, and the names."""
    names = sorted({label for labels in lists for label in labels})
    return [np.array([names.index(label) for label in labels]) for labels in lists], names


def scaled(train, *others):
    """Every channel with mean 0 and deviation 1 over all steps of the training set."""
    steps = np.concatenate(train)
    mean, deviation = steps.mean(axis=0), steps.std(axis=0) + 1e-6
    return [
        [((x - mean) / deviation).astype(np.float32) for x in set_] for set_ in (train, *others)
    ]


def classifier(inputs, hidden, classes, *, bidirectional, dropout=0.0, layers=1, seed=0):
    """A recurrent layer whose last output a linear one reads."""
    lstm = fastlstm.LSTM(
        inputs, hidden, layers, bidirectional=bidirectional, batch_first=True, seed=seed,
        dropout=dropout if layers > 1 else 0.0, options={"forget_bias": 1.0},
    )  # fmt: skip
    width = hidden * (1 + bidirectional)
    return nn.SequenceModel(lstm, nn.Linear(width, classes, seed=seed), dropout=dropout)


def train(model, x, labels, epochs, *, lr=3e-3, size=16, seed=0, look=None):
    """Adam with half a cosine and clipping; what `look` gives after each epoch."""
    adam = fastlstm.optim.Adam(model.train())
    rate = nn.WarmUp(nn.Cosine(lr, epochs * -(-len(x) // size)), 10)
    seen = []
    for epoch in range(epochs):
        for batch in nn.batches(x, labels, size=size, seed=(seed, epoch), buckets=4):
            logits, tape = model.forward(batch.x, lengths=batch.lengths, seed=adam.steps)
            _, dlogits = nn.cross_entropy(logits, batch.y)
            grads = model.backward(tape, dlogits)
            fastlstm.optim.clip_grad_norm(grads.params, 1.0)
            adam.lr = rate(adam.steps)
            adam.step(grads)
        if look is not None:
            seen.append(look(model.eval()))
            model.train()
    model.eval()
    return seen


def logits(model, x):
    """(N, C), in the order of x."""
    batches = nn.batches(x, size=256, shuffle=False)
    return np.concatenate([model(batch.x, lengths=batch.lengths) for batch in batches])
