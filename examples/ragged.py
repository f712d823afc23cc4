# SPDX-License-Identifier: BSD-3-Clause
"""Sequences of different lengths in one call: no sorting, no packing, no price for padding."""

import numpy as np

import fastlstm

lstm = fastlstm.LSTM(12, 32, bidirectional=True, batch_first=True, seed=0)
rng = np.random.default_rng(0)
lengths = [7, 29, 0, 13]  # any order; 0 leaves the initial state untouched
x = np.full((len(lengths), max(lengths), 12), np.nan, dtype=np.float32)  # padding is never read
for row, length in zip(x, lengths, strict=True):
    row[:length] = rng.standard_normal((length, 12))

y, (h_n, c_n) = lstm(x, lengths=lengths)
for index, length in enumerate(lengths):
    if length:
        alone, (h_alone, _) = lstm(x[index, :length])  # unbatched: (T, I)
        same = np.array_equal(y[index, :length], alone) and np.array_equal(h_n[:, index], h_alone)
    else:
        same = not h_n[:, index].any()
    zeros = not y[index, length:].any()
    print(f"length {length:2}: same bits as alone: {same}; zeros after the end: {zeros}")
