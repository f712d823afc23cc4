# SPDX-License-Identifier: BSD-3-Clause
"""A trained torch.nn.LSTM in fastlstm: hand it over, check it, keep it in a file."""

import tempfile
from pathlib import Path

import numpy as np
import torch

import fastlstm

torch.manual_seed(0)
module = torch.nn.LSTM(40, 96, num_layers=2, bidirectional=True, batch_first=True)
lstm = fastlstm.LSTM.from_torch(module)

x = np.random.default_rng(0).standard_normal((4, 50, 40), dtype=np.float32)
with torch.inference_mode():
    expected = module(torch.from_numpy(x))[0].numpy()
y, (h_n, c_n) = lstm(x)
print(
    f"y {y.shape}, h_n {h_n.shape}; largest difference to PyTorch {np.abs(y - expected).max():.1e}"
)

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "model.safetensors"
    lstm.save(path)
    again = fastlstm.load(path)  # a machine that does this needs no PyTorch
    print(f"saved {path.stat().st_size:,} bytes; same bits: {np.array_equal(again(x)[0], y)}")
