# SPDX-License-Identifier: BSD-3-Clause
"""fastlstm among threads, forks, environment variables and other libraries."""

from __future__ import annotations

import os
import pickle
import re
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastlstm
from support import processes

pytestmark = pytest.mark.sanitize

CPUS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
DEFAULT = processes.default_threads(CPUS)

# ---- forks ----

FORK = """
pid = os.fork()
if pid == 0:
    signal.alarm(10)  # a child that hangs dies of it
    same = all(np.array_equal(lstm(x, num_threads=n)[0], expected) for n in (2, 1, 2))
    fresh = fastlstm.LSTM(4, 200, 2, bidirectional=True, seed=0)
    fresh(np.zeros((9, 33, 4), np.float32), lengths=[9] * 33, num_threads=2)
    stream = lstm.stream(16, num_threads=2)
    same = same and np.array_equal(np.stack([stream(x_t) for x_t in x]), expected)
    os._exit(0 if same else 1)
status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
assert status == 0, f"the child ended with {status}"
assert np.array_equal(lstm(x, num_threads=2)[0], expected)
"""
BEFORE_FORK = {
    "nothing": "",
    "one thread": "lstm(x, num_threads=1)",
    "two threads": "lstm(x, num_threads=2)",
    "two threads of a pool": """
worker = threading.Thread(target=lambda: lstm(x, num_threads=2))
worker.start()
worker.join()""",
    "another library's threads": """
import ctypes
gomp = ctypes.CDLL("libgomp.so.1")
body = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda _: None)
gomp.GOMP_parallel(body, None, 2, 0)""",
    "BLAS": """
blas = fastlstm.LSTM(256, 256, seed=0, gemm="blas")
np.testing.assert_allclose(blas(x)[0], expected, rtol=0, atol=5e-6)
def again(x, num_threads): return blas(x, num_threads=num_threads)
lstm.__class__ = type("Both", (fastlstm.LSTM,), {
    "__call__": lambda self, x, **k: (blas(x, **k), fastlstm.LSTM.__call__(self, x, **k))[1]})""",
}


@pytest.mark.parametrize("before", BEFORE_FORK)
def test_fork(before: str) -> None:
    processes.check(processes.MODEL + BEFORE_FORK[before] + FORK)


def test_fork_of_a_fork() -> None:
    processes.check(
        processes.MODEL
        + "lstm(x, num_threads=2)\npid = os.fork()\n"
        + "if pid:\n    sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
        + "signal.alarm(30)\n"
        + FORK
    )


def test_multiprocessing() -> None:
    out = processes.check(
        processes.MODEL
        + """
import multiprocessing
lstm(x, num_threads=2)
with multiprocessing.get_context("fork").Pool(2) as pool:
    results = pool.starmap(lstm, [(part,) for part in np.split(x, 4, axis=1)])
print(np.array_equal(np.concatenate([y for y, _ in results], axis=1), expected))
"""
    )
    assert out == "True\n"


# ---- Python threads ----


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("num_threads", [1, 2])
@pytest.mark.parametrize("gemm", ["native", "blas"])
def test_threads_share_a_model(num_threads: int, gemm: Any) -> None:
    """Four threads at once, each with inputs of its own: large calls, which give up the GIL,
    and small ones, which keep it."""
    lstm = fastlstm.LSTM(20, 70, 2, seed=0, gemm=gemm)
    shapes = [(30, 16, 20), (2, 1, 20), (60, 3, 20), (9, 33, 20), (1, 1, 20), (120, 8, 20)]
    inputs = [random(*shapes[i % len(shapes)], seed=i) for i in range(36)]
    expected = [lstm(x, num_threads=1) for x in inputs]
    lstm.load_state_dict(lstm.state_dict())  # the first call of all packs the weights: racing

    def call(x: np.ndarray) -> Any:
        return lstm(x, num_threads=num_threads)

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(call, inputs))
    for (y, state), (y_expected, state_expected) in zip(results, expected, strict=True):
        if gemm == "native":
            assert np.array_equal(y, y_expected)
            assert np.array_equal(state, state_expected)
        else:
            # sums of 70 terms below 1 in another order: 70 * 2**-24 a gate, and a margin
            np.testing.assert_allclose(y, y_expected, rtol=0, atol=1e-5)


def test_threads_share_a_stream() -> None:
    """Calls of one stream from two threads are steps one after the other, or RuntimeErrors."""
    lstm = fastlstm.LSTM(64, 256, 2, seed=0)
    x = random(32, 64)
    stream = lstm.stream(32)
    results: list[np.ndarray] = []
    refused: list[str] = []
    start = threading.Barrier(2)

    def use() -> None:
        start.wait()
        for _ in range(60):
            try:
                results.append(stream(x))
            except RuntimeError as error:
                refused.append(str(error))

    workers = [threading.Thread(target=use) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(results) + len(refused) == 120
    assert all("another thread" in message for message in refused)
    assert results
    expected = lstm(np.broadcast_to(x, (len(results), *x.shape)))[0]
    for y in results:  # each is one of the steps, and no two are the same one
        assert sum(np.array_equal(y, step) for step in expected) >= 1
    assert len({y.tobytes() for y in results}) == len({y.tobytes() for y in expected})
    stream.reset()
    assert np.array_equal(stream(x), expected[0])


@pytest.mark.parametrize("change", ["load", "load in place", "write"])
def test_change_while_another_thread_packs(change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lstm, other = fastlstm.LSTM(3, 5, seed=0), fastlstm.LSTM(3, 5, seed=1)
    if change != "load":
        lstm.train().eval()
    x = random(4, 2, 3)
    packing, loaded = threading.Event(), threading.Event()
    pack = fastlstm.LSTM._pack

    def slow_pack(self: fastlstm.LSTM, *arguments: Any) -> Any:
        engine = pack(self, *arguments)
        packing.set()
        loaded.wait(10)
        return engine

    monkeypatch.setattr(fastlstm.LSTM, "_pack", slow_pack)
    worker = threading.Thread(target=lstm, args=(x,))
    worker.start()
    assert packing.wait(10)
    if change == "write":
        lstm.train()
        for name, values in other.parameters().items():
            lstm.parameters()[name][...] = values
        lstm.eval()
    else:
        lstm.load_state_dict(other.state_dict())
    loaded.set()
    worker.join()
    assert np.array_equal(lstm(x)[0], other(x)[0])


def test_a_cell_shares_its_step_among_threads() -> None:
    out = processes.check(
        """
        import os
        import numpy as np, fastlstm
        cell = fastlstm.LSTMCell(512, 512, seed=0)
        x = np.random.default_rng(0).standard_normal((512, 512)).astype(np.float32)
        alone = cell(x)
        before = len(os.listdir("/proc/self/task"))
        fastlstm.set_num_threads(2)
        together = cell(x)
        print(len(os.listdir("/proc/self/task")) - before)
        assert all(map(np.array_equal, alone, together))
        """,
        env={"FASTLSTM_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )
    assert int(out) == 1


def test_blas_does_not_complain_of_our_threads() -> None:
    """OpenBLAS warns on stderr when it is called from a team of threads and PyTorch is there."""
    pytest.importorskip("torch")
    done = processes.run(
        """
        import torch, numpy as np, fastlstm
        lstm = fastlstm.LSTM(200, 200, gemm="blas").train()
        x = np.zeros((50, 16, 200), np.float32)
        y, _, tape = lstm.forward(x, num_threads=2)
        lstm.backward(tape, y, num_threads=2)
        lstm.eval()(x, num_threads=2)
        """
    )
    assert (done.code, done.err) == (0, ""), str(done)


# ---- settings ----

REPORT = "import fastlstm; c = fastlstm.config(); print(c['isa'], fastlstm.get_num_threads())"


@pytest.mark.parametrize("isa", fastlstm.available_isas())
def test_isa(isa: str) -> None:
    assert processes.check(REPORT, env={"FASTLSTM_ISA": isa}).split()[0] == isa


@pytest.mark.parametrize("isa", ["sse9", "AVX2", "avx2 ", "avx2,generic", "0"])
def test_unknown_isa(isa: str) -> None:
    done = processes.run(REPORT, env={"FASTLSTM_ISA": isa})
    assert done.code == 1
    last = done.err.strip().splitlines()[-1]
    assert last.startswith("ValueError: FASTLSTM_ISA=")
    assert repr(isa) in last
    assert all(name in last for name in fastlstm.available_isas())


@pytest.mark.parametrize(
    ("env", "threads"),
    [
        ({}, DEFAULT),
        ({"FASTLSTM_ISA": "", "FASTLSTM_NUM_THREADS": "", "OMP_NUM_THREADS": ""}, DEFAULT),
        ({"OMP_NUM_THREADS": "1"}, 1),
        ({"OMP_NUM_THREADS": "3"}, 3),
        ({"OMP_NUM_THREADS": "3,2"}, 3),
        ({"OMP_NUM_THREADS": "many"}, CPUS),  # set, to what OpenMP takes for no setting
        ({"OMP_NUM_THREADS": "100000"}, 1024),
        ({"OMP_NUM_THREADS": "3", "OMP_THREAD_LIMIT": "2"}, 2),
        ({"OMP_THREAD_LIMIT": "1"}, 1),
        ({"FASTLSTM_NUM_THREADS": "5"}, 5),
        ({"FASTLSTM_NUM_THREADS": "1024"}, 1024),
        ({"FASTLSTM_NUM_THREADS": "2", "OMP_NUM_THREADS": "3"}, 2),
    ],
    ids=str,
)
def test_num_threads(env: dict[str, str], threads: int) -> None:
    assert int(processes.check(REPORT, env=env).split()[1]) == threads


@pytest.mark.parametrize(
    "value", ["0", "-1", "1025", "2.0", "two", "nan", "True", "1 2", "9" * 5000]
)
def test_bad_num_threads(value: str) -> None:
    done = processes.run(REPORT, env={"FASTLSTM_NUM_THREADS": value})
    assert done.code == 1
    assert done.err.strip().splitlines()[-1].startswith("ValueError: FASTLSTM_NUM_THREADS must be")


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity") or CPUS < 2, reason="needs two CPUs")
@pytest.mark.parametrize(("env", "threads"), [({}, 1), ({"FASTLSTM_NUM_THREADS": "2"}, 2)])
def test_affinity(env: dict[str, str], threads: int) -> None:
    def pin() -> None:
        os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])

    assert int(processes.check(REPORT, env=env, before=pin).split()[1]) == threads


@pytest.mark.parametrize(
    "env",
    [
        {"OMP_THREAD_LIMIT": "1"},
        {"OMP_THREAD_LIMIT": "3"},
        {"OMP_DYNAMIC": "true"},
        {"OMP_NUM_THREADS": "1"},
        {"OMP_WAIT_POLICY": "passive"},
        {"OMP_PROC_BIND": "true"},
    ],
    ids=str,
)
def test_fewer_threads_than_planned(env: dict[str, str]) -> None:
    """Whatever OpenMP gives, the bits are those of one thread."""
    processes.check(
        processes.MODEL
        + """
both = fastlstm.LSTM(64, 128, 2, bidirectional=True, seed=0)
part = x[:, :, :64].copy()
one = both(part, lengths=range(16), num_threads=1)
for threads in (2, 4, 7):
    assert np.array_equal(lstm(x, num_threads=threads)[0], expected)
    y, state = both(part, lengths=range(16), num_threads=threads)
    assert np.array_equal(y, one[0]) and np.array_equal(state, one[1])
""",
        env=env,
    )


# ---- imports ----


# Python's own that cost more than they are worth to somebody who wants to run a model.
HEAVY = {"argparse", "asyncio", "concurrent", "ctypes", "multiprocessing", "subprocess", "unittest"}
HEAVY |= {"importlib.metadata", "importlib.resources", "zipfile", "shutil", "tempfile"}


NOT_YET = (["torch"], ["bench"], ["interop"], ["optim"], ["reference"], ["file_kinds"])


def test_import_is_light() -> None:
    """Only NumPy comes with fastlstm, and few modules beside its own."""
    out = processes.check(
        """
        import sys
        import numpy
        before = set(sys.modules)
        import fastlstm
        print(*(set(sys.modules) - before))
        """
    )
    loaded = set(out.split())
    ours = {name for name in loaded if name.split(".")[0] == "fastlstm"}
    assert "fastlstm" in ours
    assert not {name for name in ours if name.split(".")[1:2] in NOT_YET}
    others = {name for name in loaded - ours if not re.match(r"numpy|_?cython", name)}
    assert {name.split(".")[0] for name in others} <= sys.stdlib_module_names
    assert not {name for name in others if name in HEAVY or name.split(".")[0] in HEAVY}
    assert len(others) <= 25, sorted(others)
    assert len(ours) <= 30, sorted(ours)


BLAS_LESS = """
import sys
sys.modules["scipy"] = None
import fastlstm
try:
    {call}
except ImportError as error:
    print(error)
fastlstm.LSTM(2, 3, gemm="native").save({path!r})
"""


def test_blas_without_scipy(tmp_path: Path) -> None:
    """Said when the model is made or loaded, not when it is first run."""
    path = tmp_path / "model"
    lstm = fastlstm.LSTM(2, 3, gemm="blas", seed=0)
    lstm.save(path)
    calls = [
        'fastlstm.LSTM(2, 3, gemm="blas")',
        f"fastlstm.load({str(path)!r})",
        f"import pickle; pickle.loads({pickle.dumps(lstm)!r}).stream()",
    ]
    for call in calls:
        out = processes.check(BLAS_LESS.format(call=call, path=str(tmp_path / "other")))
        assert out.startswith('gemm="blas" needs SciPy, which cannot be imported: '), out


@pytest.mark.parametrize("first", ["torch", "fastlstm"])
@pytest.mark.skipif(processes.SANITIZED, reason="torch is not built for it")
def test_beside_torch(first: str) -> None:
    """Either may be imported first; both then compute, each with two threads, by turns."""
    pytest.importorskip("torch")
    second = "fastlstm" if first == "torch" else "torch"
    processes.check(
        f"""
        import {first}
        import {second}
        import numpy as np, torch, fastlstm
        torch.set_num_threads(2)
        module = torch.nn.LSTM(256, 256)
        lstm = fastlstm.LSTM.from_torch(module)
        x = torch.randn(30, 16, 256)
        one = lstm(x, num_threads=1)[0]
        for _ in range(3):
            with torch.inference_mode():
                y = module(x)[0].numpy()
            assert np.array_equal(lstm(x, num_threads=2)[0], one)
            # sums of 512 terms below 1 in another order: 512 * 2**-24 a gate
            np.testing.assert_allclose(one, y, rtol=0, atol=3e-5)
        """
    )
