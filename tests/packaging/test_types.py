# SPDX-License-Identifier: BSD-3-Clause
"""What type checkers say of users' code: nothing of right code, something of each wrong line."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from support import ROOT

# Whatever a user writes by the README. Lines that end in "# wrong" are, each for itself.
CODE = """
from typing import assert_type

import numpy as np

import fastlstm
from fastlstm import LSTM, Gradients, LSTMCell, Stream, Tape

lstm = LSTM(3, 4, num_layers=2, dtype=np.float64, seed=0)
x = np.zeros((5, 2, 3))
y, (h_n, c_n) = lstm(x, lengths=[5, 3])
y, state, cells = lstm(x, (h_n, c_n), return_cells=True)
y, (h_n, c_n), tape = lstm.train().forward(x)
grads = lstm.backward(tape, y, (None, c_n))
assert_type(grads, Gradients)
adam = fastlstm.optim.Adam(lstm, lr=1e-3)
adam.lr = 0.1
adam.step(grads)
fastlstm.optim.clip_grad_norm(grads.params, 1.0)
stream = lstm.eval().stream(2)
assert_type(stream, Stream)
h_t = stream(x[0]) + 1
stream.state = stream.state
cell = LSTMCell(3, 4)
h, c = cell(x[0])
assert_type(cell.stream(2), Stream)
assert_type(LSTM.from_state_dict(lstm.state_dict(), "rnn.", dtype="float32"), LSTM)
loaded: LSTM = fastlstm.load("model")
rnn = fastlstm.RNN(3, 4, nonlinearity="relu", dtype=np.float64)
y, h_n = rnn(x, h_n, lengths=[5, 3])
y, h_n, tape = rnn.forward(x, h_n)
print(fastlstm.RNNCell(3, 4, nonlinearity="relu")(x[0], h_n[0]).shape)
print(h_n.shape, rnn.backward(tape, y, h_n).params["weight_ih_l0"] + 1, rnn.nonlinearity)
assert_type(fastlstm.RNN.from_state_dict(rnn.state_dict()), fastlstm.RNN)
lstm.save("model")
print(lstm.weight_ih_l0.shape, cell.bias_hh.sum(), lstm.parameters()["weight_hh_l1"] + 1)
print(fastlstm.__version__, fastlstm.get_num_threads() + 1, lstm.hidden_size + 1)
tape = Tape()


class Mine(LSTM):
    extra: int = 3


mine = Mine(1, 2)
assert_type(Mine.from_torch(object()), Mine)
print(mine.extra + 1, mine.training, mine.dtype)

fastlstm.LSTMM(1, 2)  # wrong
fastlstm.optim.Adam(lstm, lr="x")  # wrong
fastlstm.optim.Adamm(lstm)  # wrong
lstm.hiden_size + 1  # wrong
lstm.weight_ih_l0.shap  # wrong
lstm.hiden_size = 3  # wrong
lstm.weight_ih_l0 = x  # wrong
cell.hiden_size  # wrong
LSTM("3", 4)  # wrong
LSTM(3, 4, gemm="magic")  # wrong
fastlstm.RNN(3, 4, nonlinearity="elu")  # wrong
fastlstm.RNNCell(3, 4)(x[0], (h_n, h_n))  # wrong
cell(x[0], h_n)  # wrong
rnn(x, (h_n, c_n))  # wrong
rnn(x)[1].shap  # wrong
lstm(x, lenghts=[5, 3])  # wrong
lstm([[1.0]])  # wrong
stream([[1.0]])  # wrong
stream(x, x)  # wrong
stream.batch_size  # wrong
grads.w  # wrong
fastlstm.set_num_threads("2")  # wrong
fastlstm.load(3)  # wrong
LSTM.from_state_dict([1])  # wrong
LSTM.from_state_dict({}, prefix=3)  # wrong
cell.from_torchh(lstm)  # wrong
fastlstm.torch.acelerate(lstm)  # wrong
"""


def wrong_lines() -> set[int]:
    return {n for n, line in enumerate(CODE.splitlines(), 1) if line.endswith("# wrong")}


def complaints(folder: Path, *command: str) -> dict[int, str]:
    """Line of the users' code -> what a checker says of it first."""
    (folder / "user.py").write_text(CODE)
    done = subprocess.run(
        [sys.executable, "-m", *command, "user.py"],
        cwd=folder,
        env=os.environ | {"MYPYPATH": str(ROOT), "MYPY_CACHE_DIR": str(folder / "cache")},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 1, f"{done.stdout}\n{done.stderr}"
    found: dict[int, str] = {}
    for line in done.stdout.splitlines():
        match = re.search(r"user\.py:(\d+)(?::\d+)?(?:: | - )error: (.*)", line)
        if match:
            found.setdefault(int(match[1]), match[2])
    return found


def test_mypy(tmp_path: Path) -> None:
    found = complaints(
        tmp_path, "mypy", "--strict", "--follow-imports=silent", "--config-file=", "--no-pretty"
    )
    assert found.keys() == wrong_lines(), found


def test_pyright(tmp_path: Path) -> None:
    if importlib.util.find_spec("basedpyright") is None:
        pytest.skip("basedpyright is not installed")
    (tmp_path / "pyrightconfig.json").write_text(
        f'{{"typeCheckingMode": "standard", "extraPaths": ["{ROOT}"]}}'
    )
    found = complaints(tmp_path, "basedpyright", "--pythonpath", sys.executable)
    assert found.keys() == wrong_lines(), found
