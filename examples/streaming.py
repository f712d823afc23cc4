# SPDX-License-Identifier: BSD-3-Clause
"""A signal that never ends: the state lives in the stream, chunks may have any length."""

from time import perf_counter

import numpy as np

import fastlstm

lstm = fastlstm.LSTM(input_size=6, hidden_size=64, num_layers=2, seed=0)
signal = np.random.default_rng(0).standard_normal((1000, 1, 6), dtype=np.float32)
whole, (h_n, c_n) = lstm(signal)

stream = lstm.stream()
start = perf_counter()
steps = np.stack([stream(x_t).copy() for x_t in signal])  # (1, 6) -> (1, 64), a step at a time
microseconds = (perf_counter() - start) / len(signal) * 1e6

stream.reset()
chunks = [stream(chunk).copy() for chunk in np.split(signal, [1, 8, 300, 301])]

print(f"step by step, same bits as in one call: {np.array_equal(steps, whole)}")
print(f"in chunks of any length, same bits: {np.array_equal(np.concatenate(chunks), whole)}")
print(f"state after the last step, same bits: {np.array_equal(stream.state[0], h_n)}")
print(f"{microseconds:.1f} us a step")
