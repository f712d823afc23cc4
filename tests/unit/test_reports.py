# SPDX-License-Identifier: BSD-3-Clause
"""What fastlstm says of itself: repr, config, explain, show_config, the command line; and what
state it leaves a stream and the caller's thread in."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastlstm
from fastlstm import _core
from support.refusals import C_0, H_0, LSTM, B, H, L, X, random

pytestmark = pytest.mark.sanitize


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (fastlstm.LSTM(3, 4), "LSTM(3, 4, dtype=float32)"),
        (
            fastlstm.LSTM(3, 4, 2, False, True, 0.5, True, dtype=float, gemm="blas"),
            "LSTM(3, 4, num_layers=2, bias=False, batch_first=True, dropout=0.5, "
            "bidirectional=True, gemm='blas', dtype=float64)",
        ),
        (fastlstm.LSTMCell(3, 4), "LSTMCell(3, 4, dtype=float32)"),
        (fastlstm.LSTMCell(3, 4, False, dtype=float), "LSTMCell(3, 4, bias=False, dtype=float64)"),
    ],
)
def test_repr(model: Any, text: str) -> None:
    assert repr(model) == text


def test_config_makes_the_same_model() -> None:
    lstm = fastlstm.LSTM(3, 4, 2, dropout=0.5, bidirectional=True, dtype="float64", gemm="native")
    config = lstm.config()
    assert repr(fastlstm.LSTM(**config)) == repr(lstm)
    config["hidden_size"] = 9  # a dict of the caller's own
    assert lstm.config()["hidden_size"] == 4


def test_useless_dropout_warns() -> None:
    with pytest.warns(UserWarning, match="num_layers=1"):
        fastlstm.LSTM(3, 4, dropout=0.5)


def test_dropout_is_idle() -> None:
    lossy = fastlstm.LSTM(4, 6, 2, dropout=1.0, seed=0)
    assert np.array_equal(lossy(X)[0], LSTM(X)[0])


# ---- explain ----

SIZE = r"[\d.]+(e\+\d+)? (bytes|KiB|MiB|GiB)"
LINES = {
    "kernels": r"(avx512|avx2|generic), (float32|float64)",
    "split": r"one thread|\d+ threads: .+",
    "panels": r"(1 panel|\d+ panels) of \d+ units?(, 1 of \d+ units?)?, "
    r"recurrent products in (one partial sum|\d partial sums)",
    "projection": r"inside each step|\d+ steps ahead of the recurrence, by (our kernel|BLAS)",
    "blocks": r"\d+ steps of a layer at a time",
    "limit": r"nothing to do|(multiply-adds|activations and the chain of steps), "
    r"\d+% of the multiply-add peak expected|"
    r"reading weights from (memory|(second|third)-level cache), \d+% of its rate expected",
    "workspace": SIZE,
    "weights": rf"{SIZE} packed",
}


def explained(lstm: fastlstm.LSTM, steps: int, batch: int, **options: Any) -> dict[str, str]:
    first, *rest = lstm.explain(steps, batch, **options).splitlines()
    assert first == f"{lstm!r} on T={steps}, B={batch}"
    lines = dict(re.split(r"\s+", line, maxsplit=1) for line in rest)
    assert list(lines) == list(LINES)
    for name, pattern in LINES.items():
        assert re.fullmatch(pattern, lines[name]), lines[name]
    return lines


@pytest.mark.parametrize("batch", [0, 1, 7, 64])
@pytest.mark.parametrize("steps", [0, 1, 100])
@pytest.mark.parametrize("threads", [None, 1, 2, 64])
def test_explain_fits_any_plan(steps: int, batch: int, threads: int | None, isa: str) -> None:
    for options in ({}, {"num_layers": 2, "bidirectional": True, "dtype": "float64"}):
        for hidden in (1, 3, 20, 200):
            lstm = fastlstm.LSTM(5, hidden, seed=0, **options)
            lines = explained(lstm, steps, batch, num_threads=threads)
            assert lines["kernels"] == f"{isa}, {lstm.dtype}"
            used = int((re.match(r"(\d+) threads", lines["split"]) or [0, 1])[1])
            assert used <= (threads or fastlstm.get_num_threads())


def test_explain_counts_panels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastlstm.runtime._isa", "generic")  # 4 lanes everywhere
    for hidden, words in (
        (1, "1 panel of 1 unit"),
        (4, "1 panel of 4 units"),
        (5, "1 panel of 4 units, 1 of 1 unit"),
        (8, "2 panels of 4 units"),
        (10, "2 panels of 4 units, 1 of 2 units"),
    ):
        assert explained(fastlstm.LSTM(3, hidden), 9, 1)["panels"].split(", rec")[0] == words


def test_explain_tells_plans_apart() -> None:
    large = fastlstm.LSTM(512, 512, seed=0)
    assert explained(large, 100, 1, num_threads=1)["split"] == "one thread"
    assert "hidden units in 2 parts" in explained(large, 100, 1, num_threads=2)["split"]
    assert "batch in 2 parts" in explained(large, 100, 128, num_threads=2)["split"]
    both = fastlstm.LSTM(64, 64, bidirectional=True, seed=0)  # small: no reason to share weights
    assert "directions side by side" in explained(both, 100, 1, num_threads=2)["split"]
    assert "ahead" in explained(large, 100, 1)["projection"]
    assert explained(both, 100, 128)["projection"] == "inside each step"
    blas = fastlstm.LSTM(512, 512, seed=0, gemm="blas")
    assert "by BLAS" in explained(blas, 100, 1)["projection"]
    # 4 H (I + H) + 4 H floats, and no more than a hundredth of it for anything else
    size, unit = explained(large, 100, 1)["weights"].split()[:2]
    assert unit == "MiB"
    assert 1 <= float(size) * 2**20 / (4 * 4 * 512 * (512 + 512 + 1)) < 1.01


def test_explain_names_the_limit() -> None:
    _core.assume_caches("fast")
    try:
        limits = {
            name: explained(fastlstm.LSTM(size, size, seed=0), steps, batch, num_threads=1)["limit"]
            for name, size, steps, batch in (
                ("dense", 256, 100, 64),
                ("one row", 512, 100, 1),
                ("one row, large", 1600, 3, 1),
                ("tiny", 3, 100, 1),
            )
        }
    finally:
        _core.assume_caches("cpu")
    assert limits["dense"].startswith("multiply-adds")
    assert "third-level cache" in limits["one row"]
    assert "memory" in limits["one row, large"]
    assert "chain" in limits["tiny"]
    for text in limits.values():
        assert 0 < int(re.findall(r"(\d+)%", text)[0]) <= 100


# ---- config ----


def test_config(capsys: pytest.CaptureFixture[str]) -> None:
    config = fastlstm.config()
    assert config["version"] == fastlstm.__version__
    assert config["isa"] in config["isas"]
    assert config["isas"] == fastlstm.available_isas()
    assert config["isas"][-1] == "generic"
    assert config["threads"] == fastlstm.get_num_threads()
    assert config["numpy"] == np.__version__
    assert config["cpu"]
    assert ("avx512vl" in config["cpu_features"]) == ("avx512" in config["isas"])
    assert ("avx2" in config["cpu_features"]) >= ("avx2" in config["isas"])
    assert config["openmp"].startswith("OpenMP 20")
    fastlstm.show_config()
    printed = capsys.readouterr().out
    for part in (config["version"], config["isa"], config["cpu"], config["blas"]):
        assert str(part) in printed


SYSFS = Path("/sys/devices/system/cpu/cpu0/cache")


@pytest.mark.skipif(not SYSFS.is_dir(), reason="the system tells nothing of caches")
def test_caches_are_those_of_the_system(capsys: pytest.CaptureFixture[str]) -> None:
    caches = fastlstm.config()["caches"]
    told = dict.fromkeys((1, 2, 3), 0)
    for folder in SYSFS.glob("index*"):
        if (folder / "type").read_text().strip() != "Instruction":
            size = (folder / "size").read_text().strip()
            told[int((folder / "level").read_text())] = int(size.removesuffix("K")) << 10
    fastlstm.show_config()
    printed = capsys.readouterr().out
    for ours, theirs in zip(caches, told.values(), strict=True):
        assert ours in (0, theirs)  # 0: the processor does not tell
        assert (f"{ours >> 10} KiB" if ours else "unknown") in printed


def test_threads_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastlstm.runtime._threads", 1)  # put back after the test
    for count in (3, np.int64(1), 1024):
        fastlstm.set_num_threads(count)
        assert fastlstm.get_num_threads() == count
        assert fastlstm.config()["threads"] == count
    assert type(fastlstm.get_num_threads()) is int


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fastlstm", *arguments], capture_output=True, text=True, timeout=60
    )


def test_info() -> None:
    done = command("info")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"fastlstm      {fastlstm.__version__} ")
    assert f"available: {', '.join(fastlstm.available_isas())}" in done.stdout
    assert not done.stderr


@pytest.mark.parametrize("arguments", [(), ("nothing",), ("info", "more")], ids=str)
def test_bad_command(arguments: tuple[str, ...]) -> None:
    done = command(*arguments)
    assert done.returncode == 2
    assert "usage: python -m fastlstm" in done.stderr
    assert "Traceback" not in done.stderr


# ---- a stream's state, and the caller's thread ----


def test_stream_state() -> None:
    stream = LSTM.stream(B)
    assert [s.shape for s in stream.state] == [(L, B, H)] * 2
    assert not any(s.any() for s in stream.state)
    stream(X[:3])
    h, c = stream.state
    expected = LSTM(X[:3])[1]
    assert np.array_equal(h, expected[0])
    assert np.array_equal(c, expected[1])
    h[...] = 9  # a copy
    assert np.array_equal(stream.state[0], expected[0])

    rest = stream(X[3:])
    stream.state = expected
    assert np.array_equal(stream(X[3:]), rest)
    stream.state = [H_0, C_0]
    assert np.array_equal(stream(X), LSTM(X, (H_0, C_0))[0])
    stream.reset()
    assert np.array_equal(stream(X), LSTM(X)[0])
    with pytest.raises(ValueError, match="h_0"):
        stream.state = (H_0[:1], C_0)
    with pytest.raises(TypeError, match="c_0"):
        stream.state = (0 * H_0, C_0.astype(float))
    assert np.array_equal(stream.state[0], LSTM(X)[1][0]), "half of a bad state was taken"


def test_streams_are_apart() -> None:
    one, other = LSTM.stream(B), LSTM.stream(B)
    for x_t, y_t in zip(X, LSTM(X)[0], strict=True):
        assert np.array_equal(one(x_t), y_t)
    assert not other.state[0].any()


def test_stream_keeps_its_parameters() -> None:
    lstm = fastlstm.LSTM(4, 6, 2, seed=0)
    stream = lstm.stream(B)
    expected = lstm(X)[0]
    lstm.load_state_dict({name: 0 * value for name, value in lstm.state_dict().items()})
    assert np.array_equal(stream(X), expected)
    del lstm
    stream.reset()
    assert np.array_equal(stream(X), expected)


def test_no_stream_of_two_directions() -> None:
    with pytest.raises(ValueError, match="bidirectional"):
        fastlstm.LSTM(3, 4, bidirectional=True).stream()


def denormals_are_kept() -> bool:
    tiny = np.full(64, np.finfo(np.float32).smallest_normal)
    return bool((tiny / np.float32(2)).all())


@pytest.mark.parametrize("threads", [1, 2])
def test_denormals_of_the_caller(threads: int) -> None:
    """Inside, denormals are flushed; what the caller computes next is none of our business."""
    assert denormals_are_kept(), "somebody else has changed the mode of this thread"
    lstm = fastlstm.LSTM(64, 256, seed=0)
    x = 1e-42 * random(40, 32, 64)
    lstm(x, num_threads=threads)
    assert denormals_are_kept()
    lstm.stream(32, num_threads=threads)(x[0])
    assert denormals_are_kept()
    with pytest.raises(ValueError):
        lstm(x[..., 1:])
    assert denormals_are_kept()
