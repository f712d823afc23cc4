# SPDX-License-Identifier: BSD-3-Clause
"""Training over many steps, among threads, forks and signals."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest

import fastlstm
from support import helpers, processes
from support import training_runs as runs
from support.memory import MALLINFO, assert_no_growth, needs_mallinfo, traced
from support.training_runs import Named

pytestmark = pytest.mark.sanitize

# ---- memory ----

# Each defines `step(i)`: the i-th of many training steps.
STEPS = {
    "shapes": """
        lstms = [
            fastlstm.LSTM(3, 5, seed=0).train(),
            fastlstm.LSTM(7, 33, 2, bidirectional=True, dropout=0.3, seed=0).train(),
        ]
        rng = np.random.default_rng(0)
        x = rng.standard_normal((20 * 10 * 7,)).astype(np.float32)
        shapes = rng.integers(0, [21, 11], (STEPS, 2)).tolist()
        def step(i):
            lstm, (t, b) = lstms[i % 2], shapes[i]
            part = x[: t * b * lstm.input_size].reshape(t, b, lstm.input_size)
            lengths = [i % (t + 1)] * b if i % 3 else None
            y, state, tape = lstm.forward(part, lengths=lengths)
            grads = lstm.backward(tape, y, state, input_grad=i % 5 > 0)
            if i % 7 == 0:
                lstm.backward(tape, y, into=grads, num_threads=2)""",
    "a tape for all shapes": """
        lstm = fastlstm.LSTM(7, 20, 2, dropout=0.3, seed=0).train()
        rng = np.random.default_rng(0)
        x = rng.standard_normal((20 * 10 * 7,)).astype(np.float32)
        shapes = rng.integers(0, [21, 11], (STEPS, 2)).tolist()
        tape = fastlstm.Tape()
        optimiser = fastlstm.optim.Adam(lstm.parameters(), lr=1e-3)
        def step(i):
            t, b = shapes[i]
            part = x[: t * b * 7].reshape(t, b, 7)
            y, state, same = lstm.forward(part, tape=tape)
            assert same is tape
            optimiser.step(lstm.backward(tape, y).params)""",
    "batches in parts, two threads": """
        lstm = fastlstm.LSTM(7, 20, seed=0).train()
        x = np.ones((9, 130, 7), np.float32)
        def step(i):
            y, state, tape = lstm.forward(x[: i % 10, : 30 + i % 100], num_threads=2)
            lstm.backward(tape, y, num_threads=2)""",
    "modes": """
        x = np.ones((2, 2, 9), np.float32)
        def step(i):
            lstm = fastlstm.LSTM(9, 1 + i % 40, 1 + i % 2, seed=0).train()
            y, state, tape = lstm.forward(x)
            lstm.backward(tape, y)
            lstm.eval()(x)
            lstm.train().load_state_dict(lstm.state_dict())
            pickle.loads(pickle.dumps(lstm)).forward(x)""",
    "refusals": """
        lstm = fastlstm.LSTM(3, 5, seed=0).train()
        x = np.ones((4, 2, 3), np.float32)
        y, state, tape = lstm.forward(x)
        into = {name: np.zeros_like(p) for name, p in lstm.parameters().items()}
        wrong = [
            lambda: lstm.forward(x[..., 1:]), lambda: lstm.forward(x, seed=-1),
            lambda: lstm.backward(tape, x), lambda: lstm.backward(tape, y, (y, y)),
            lambda: lstm.backward(tape, y, into={}), lambda: lstm.backward(fastlstm.Tape()),
            lambda: lstm.backward(tape, y, into={**into, "bias_ih_l0": y}),
            lambda: lstm.forward(np.broadcast_to(x[:1, :1], (2**40, 1, 3))),
        ]
        def step(i):
            try:
                wrong[i % len(wrong)]()
            except (TypeError, ValueError, MemoryError):
                return
            raise AssertionError("not refused")""",
}


@needs_mallinfo
@pytest.mark.parametrize("what", STEPS)
def test_no_growth(what: str) -> None:
    """When 1,000 steps are taken again and again they leave behind less than 10 bytes each: the
    smallest leak would be of 16. (The first time a tape keeps what its largest batch took.)"""
    assert_no_growth("step", STEPS[what], count=1000, warm=1000)


@needs_mallinfo
def test_large_blocks_are_kept_within_bounds() -> None:
    """Weights and tapes of many megabytes, let go every step: some are kept for the next, no more
    than 256 MiB of them, and not ever more."""
    out = processes.check(
        "import numpy as np, fastlstm\n"
        + MALLINFO
        + """
sizes = []
x = np.ones((40, 40, 8), np.float32)
for i in range(60):
    lstm = fastlstm.LSTM(8, 100 + 37 * (i % 7), seed=0).train()
    y, _, tape = lstm.forward(x[: 1 + (i * 7) % 40, : 1 + (i * 13) % 40])
    lstm.backward(tape, y)
    del lstm, y, tape
    sizes.append(in_use(and_pool=True))
print(max(sizes[:20]) - sizes[0], max(sizes[40:]) - sizes[0])""",
        env={"OMP_NUM_THREADS": "1"},
    )
    early, late = map(int, out.split())
    assert late < 256 << 20
    assert late < max(2 * early, 64 << 20)


@pytest.mark.skipif(processes.SANITIZED, reason="tracemalloc sees the same, only slower")
def test_a_step_with_a_tape_allocates_its_results_only() -> None:
    lstm = fastlstm.LSTM(16, 64, 2, seed=0).train()
    x = np.ones((50, 32, 16), np.float32)
    tape, into = fastlstm.Tape(), {n: np.zeros_like(p) for n, p in lstm.parameters().items()}

    def step() -> None:
        y, _, same = lstm.forward(x, tape=tape)
        assert same is tape
        grads = lstm.backward(tape, y, into=into, input_grad=False)
        assert all(grads.params[name] is a for name, a in into.items())

    for _ in range(3):
        step()
    memory = tape._memory
    assert memory is not None
    nbytes, place = tape.nbytes, np.frombuffer(memory, np.uint8).ctypes.data
    results = 4 * (50 * 32 * 64 + 2 * 2 * 2 * 32 * 64)  # y and four states
    growth, peak = traced(step, warm=5, count=20)
    scraps = 20 * 512  # Python keeps tuples that are let go for later, up to 2,000
    assert growth < scraps
    assert peak < results + scraps + 10_000
    assert tape._memory is memory
    assert (tape.nbytes, np.frombuffer(memory, np.uint8).ctypes.data) == (nbytes, place)


# ---- threads ----


def test_two_threads_train_two_models() -> None:
    """At once, with two threads each: what comes out is what comes out alone."""
    configs = [
        helpers.Config(12, 40, 8, 48, 2, bidirectional=True),
        helpers.Config(20, 16, 8, 130, lengths=tuple(k % 21 for k in range(16)), dtype="float64"),
    ]
    start = Barrier(2)

    def train(at: int, *, wait: bool) -> Named:
        problem = runs.problem_of(configs[at], at, dropout=0.2 if at == 0 else 0.0)
        lstm = runs.model_of(problem)
        tape = fastlstm.Tape()
        if wait:
            start.wait()
        for turn in range(12):
            problem.options["seed"] = turn
            _, tape = runs.forward(lstm, problem, tape=tape, num_threads=1 + turn % 2)
            grads = runs.backward(lstm, tape, problem, num_threads=1 + turn % 2)
            for name, p in lstm.parameters().items():
                p -= lstm.dtype.type(1e-3) * grads[name]
        return lstm.state_dict()

    alone = [train(at, wait=False) for at in range(2)]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda at: train(at, wait=True), range(2)))
    for ours, theirs in zip(together, alone, strict=True):
        for name, p in ours.items():
            np.testing.assert_array_equal(p, theirs[name], err_msg=name)


def test_threads_share_a_model_and_a_tape() -> None:
    """Forward passes of one model, and backward passes from one tape, from four threads."""
    problem = runs.problem_of(helpers.Config(15, 34, 8, 40, 2, bidirectional=True), 0, dropout=0.3)
    for mode in (True, False):
        lstm = runs.model_of(problem).train(mode)
        _, tape = runs.forward(lstm, problem)
        expected = runs.backward(lstm, tape, problem)

        def work(turn: int, lstm=lstm, tape=tape, expected=expected) -> None:
            mine = runs.forward(lstm, problem)[1] if turn % 2 else tape
            grads = runs.backward(lstm, mine, problem, num_threads=1 + turn % 3)
            for name, a in grads.items():
                np.testing.assert_array_equal(a, expected[name], err_msg=name)

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(work, range(16)))


# ---- forks ----

TRAIN = """
import os, signal, threading, traceback
import numpy as np, fastlstm

def gradients(threads, model=None):
    lstm = model or fastlstm.LSTM(16, 128, 2, dropout=0.5, seed=0).train()
    y, _, tape = lstm.forward(x, seed=1, num_threads=threads)
    grads = lstm.backward(tape, y, num_threads=threads)
    return [y, grads.x, grads.h_0, grads.c_0, *grads.params.values()]

def same(a, b):
    return all(np.array_equal(p, q) for p, q in zip(a, b, strict=True))

x = np.random.default_rng(0).standard_normal((30, 40, 16)).astype(np.float32)
expected = gradients(1)
"""


@pytest.mark.parametrize("threads", [1, 2])
def test_fork(threads: int) -> None:
    """A child trains on with the parent's model and tape, and so does the parent."""
    processes.check(
        TRAIN
        + f"""
lstm = fastlstm.LSTM(16, 128, 2, dropout=0.5, seed=0).train()
y, _, tape = lstm.forward(x, seed=1, num_threads={threads})
assert same(gradients({threads}, lstm), expected)
pid = os.fork()
if pid == 0:
    signal.alarm(20)  # a child that hangs dies of it
    fine = all(same(gradients(n, lstm), expected) for n in (2, 1, 3))
    fine = fine and np.array_equal(lstm.backward(tape, y, num_threads=2).x, expected[1])
    fine = fine and same(gradients(2), expected)
    os._exit(0 if fine else 1)
status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
assert status == 0, f"the child ended with {{status}}"
assert same(gradients({threads}, lstm), expected)
"""
    )


# ---- interrupts ----

LONG = {
    "large layer": "fastlstm.LSTM(16, 1024, seed=0), (1500, 1, 16)",
    "small layer, many steps": "fastlstm.LSTM(4, 40, seed=0), (500_000, 1, 4)",
    "layers and directions": (
        "fastlstm.LSTM(4, 32, 2, bidirectional=True, dropout=0.3, seed=0), (8000, 40, 4)"
    ),
}


@pytest.mark.parametrize(
    ("what", "threads"),
    [(what, threads) for what in LONG for threads in (1, 2) if "many" not in what or threads == 1],
)
def test_interrupt(what: str, threads: int) -> None:
    """Ctrl-C ends a pass in its midst; model and tape go on working, but for a tape that the
    interrupted pass was to fill."""
    out = processes.check(
        TRAIN
        + f"""
lstm, shape = {LONG[what]}
lstm.train()
few = np.random.default_rng(0).standard_normal((20, *shape[1:])).astype(np.float32)
x = few
before = gradients(1, lstm)
long = np.broadcast_to(few[:1], shape)
y, _, tape = lstm.forward(long, seed=1)
dy = np.broadcast_to(y[-1:], y.shape)
expected = lstm.backward(tape, dy)
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
def interrupted(call):
    for _ in range(20):  # on a busy machine the signal may come before the pass or after it
        timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        frames = []
        try:
            call()
            timer.join()
        except KeyboardInterrupt as error:
            frames = traceback.extract_tb(error.__traceback__)
        timer.join()
        if frames and frames[-1].filename.endswith("_core.pyx"):  # the core has seen it
            return
    raise SystemExit("the core was never interrupted")
interrupted(lambda: lstm.backward(tape, dy, num_threads={threads}))
assert same(gradients({threads}, lstm), before)
again = lstm.backward(tape, dy, num_threads={threads})
assert np.array_equal(again.x, expected.x)
assert same(again.params.values(), expected.params.values())
interrupted(lambda: lstm.forward(long, tape=tape, num_threads={threads}))
try:
    lstm.backward(tape, dy)
    print("the tape is taken for complete")
except ValueError:
    pass
assert same(gradients({threads}, lstm), before)
""",
        timeout=120,
    )
    assert out == ""
