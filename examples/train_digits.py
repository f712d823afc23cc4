# SPDX-License-Identifier: BSD-3-Clause
"""Handwritten digits, row by row: validation, early stopping, a schedule; run again, it goes on."""

import sys
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

import fastlstm
from fastlstm import nn

EPOCHS, BATCH, FILE = 40, 32, Path("digits.checkpoint")
digits = load_digits()
x, labels = (digits.images / 16).astype(np.float32), digits.target
train, valid, test = np.split(np.random.default_rng(0).permutation(len(x)), [1200, 1500])

lstm = fastlstm.LSTM(8, 64, batch_first=True, bidirectional=True, seed=0)
model = nn.SequenceModel(lstm, nn.Linear(128, 10, seed=0), dropout=0.2)
adam = fastlstm.optim.Adam(model.train())
schedule = nn.WarmUp(nn.Cosine(5e-3, EPOCHS * len(train) // BATCH), 50)
stopping = nn.EarlyStopping(model, patience=8)
start = nn.load_checkpoint(FILE, model, adam, stopping=stopping) if FILE.exists() else 0

for epoch in range(start, int(sys.argv[1]) if sys.argv[1:] else EPOCHS):
    for batch in nn.batches(x[train], labels[train], size=BATCH, seed=(0, epoch)):
        logits, tape = model.forward(batch.x)
        loss, dlogits = nn.cross_entropy(logits, batch.y)
        adam.lr = schedule(adam.steps)
        adam.step(model.backward(tape, dlogits))
    loss, _ = nn.cross_entropy(model(x[valid]), labels[valid])
    print(f"epoch {epoch + 1:2}: validation loss {loss:.6f}")
    stop = stopping.update(loss)
    nn.save_checkpoint(FILE, model, adam, step=epoch + 1, stopping=stopping)
    if stop:
        break
stopping.restore()
print(f"test accuracy {np.mean(model.eval()(x[test]).argmax(axis=1) == labels[test]):.2%}")
