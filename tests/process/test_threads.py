# SPDX-License-Identifier: BSD-3-Clause
"""Threads that the system refuses, binds or does not carry over a fork; defaults that follow."""

from __future__ import annotations

import os

import pytest

from support import processes

pytestmark = pytest.mark.sanitize

CPUS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

# `everything(threads)` packs, runs forward and backward with so many threads; `same` compares bits.
MODEL = """
import os, resource, sys, threading
import numpy as np, fastlstm
from fastlstm import _core
x = np.random.default_rng(0).standard_normal((12, 64, 64)).astype(np.float32)
lstm = fastlstm.LSTM(64, 128, 2, bidirectional=True, seed=0).train()
plain = fastlstm.LSTM(64, 256, seed=0)

def everything(threads, lstm=lstm):
    fastlstm.set_num_threads(threads)
    lstm.load_state_dict(lstm.state_dict())  # packs again
    plain.load_state_dict(plain.state_dict())
    y, state, tape = lstm.forward(x)
    grads = lstm.backward(tape, y)
    return [y, *state, grads.x, *grads.params.values(), plain(x)[0], plain(x[:, :1])[0]]

def same(results):
    return all(map(np.array_equal, results, expected))

expected = everything(1)
virtual = int(open("/proc/self/statm").read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
def allow(more):  # bytes of address space
    resource.setrlimit(resource.RLIMIT_AS, (virtual + more,) * 2)
"""
ONE_THREAD = {"FASTLSTM_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
no_address_space = pytest.mark.skipif(
    processes.SANITIZED, reason="a sanitizer takes all address space"
)


# ---- refused ----


@no_address_space
@pytest.mark.parametrize("more", [48 << 20, 128 << 20, 300 << 20])
def test_no_address_space(more: int) -> None:
    """ulimit -v: no thread fits, some, or more."""
    processes.check(
        MODEL + f"allow({more})\nfor _ in range(3): assert same(everything(64))", env=ONE_THREAD
    )


@pytest.mark.parametrize("threads", [1, 2, 5, 30])
def test_no_more_threads(threads: int) -> None:
    """ulimit -u, which root is not subject to. A user's other processes count as well."""
    processes.check(
        MODEL
        + f"""
limit = {threads}
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
else:
    limit = 1  # the user has others already
resource.setrlimit(resource.RLIMIT_NPROC, (limit, limit))
for _ in range(3): assert same(everything(64))
assert len(os.listdir("/proc/self/task")) <= limit or limit == 1
""",
        env=ONE_THREAD,
    )


@no_address_space
def test_refused_later() -> None:
    """A smaller team lets threads end, which are refused when a larger one wants them again."""
    processes.check(
        MODEL
        + """
assert same(everything(48))
assert same(everything(2))
virtual = int(open("/proc/self/statm").read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
allow(80 << 20)
for threads in (48, 2, 32, 64): assert same(everything(threads))
""",
        env=ONE_THREAD,
    )


@no_address_space
def test_refused_to_many_at_once() -> None:
    """Threads of Python start teams at the same time, and there is room for some."""
    processes.check(
        MODEL
        + """
lstms = [fastlstm.LSTM(64, 256, seed=0) for _ in range(6)]
for one in lstms: assert np.array_equal(one(x, num_threads=1)[0], expected[-2])
start, good = threading.Barrier(6), []
def use(one):
    start.wait()
    for threads in (6, 2, 6):
        good.append(np.array_equal(one(x, num_threads=threads)[0], expected[-2]))
for turn in range(60):
    workers = [threading.Thread(target=use, args=(one,)) for one in lstms]
    for worker in workers: worker.start()
    for worker in workers: worker.join()
    if turn == 0:
        virtual = int(open("/proc/self/statm").read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        allow(160 << 20)
assert len(good) == 60 * 18 and all(good)
""",
        env=ONE_THREAD,
    )


def test_a_refusal_is_planned_for() -> None:
    """Calls soon after one that was refused threads split their work among those that there are."""
    processes.check(
        MODEL
        + """
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
assert "one thread" not in plain.explain(20, 64, num_threads=2)
resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
def planned():
    plain(x, num_threads=2)
    return plain.explain(20, 64, num_threads=2)
assert any("one thread" in planned() for _ in range(100)), planned()  # it is believed for a second
""",
        env=ONE_THREAD,
    )


@no_address_space
@pytest.mark.parametrize(
    "env",
    [
        {"OMP_STACKSIZE": "1G"},
        {"OMP_STACKSIZE": " 1024 m "},
        {"OMP_STACKSIZE": "1048576"},
        {"OMP_STACKSIZE": "1073741824B"},
        {"GOMP_STACKSIZE": "1048576K"},
        {"OMP_STACKSIZE": "much", "GOMP_STACKSIZE": "1G"},
        {"OMP_STACKSIZE": "-1"},
        {"OMP_STACKSIZE": "1"},
        {"OMP_STACKSIZE": "1T"},
        {"OMP_STACKSIZE": "99999999999999999999G"},
    ],
    ids=str,
)
def test_stack_size(env: dict[str, str]) -> None:
    """Threads are tried with the stacks that they will have."""
    processes.check(
        MODEL + f"allow({300 << 20})\nfor n in (2, 64): assert same(everything(n))",
        env=ONE_THREAD | env,
    )


def test_a_team_has_a_bound() -> None:
    """Whatever number of threads the core is asked for."""
    processes.check(
        MODEL
        + """
engine = plain._engine()
assert engine.plan(200, 20000, 80000)["threads"] <= 1024
""",
        env=ONE_THREAD,
    )


# ---- bound ----

REPORT = "import fastlstm; print(fastlstm.get_num_threads(), fastlstm.config()['cpus'])"


def first_cpus(count: int) -> list[int]:
    return sorted(os.sched_getaffinity(0))[:count] if hasattr(os, "sched_getaffinity") else [0]


@pytest.mark.parametrize(
    ("env", "cpus"),
    [
        ({"OMP_PROC_BIND": "false"}, CPUS),
        ({"OMP_PROC_BIND": "true"}, CPUS),
        ({"OMP_PROC_BIND": "close"}, CPUS),
        ({"OMP_PROC_BIND": "spread"}, CPUS),
        ({"OMP_PLACES": "threads"}, CPUS),
        ({"OMP_PLACES": f"{{{first_cpus(1)[0]}}}"}, 1),
        ({"OMP_PLACES": f"{{{first_cpus(1)[0]}}},{{{first_cpus(1)[0]}}}"}, 1),
        ({"OMP_PLACES": ",".join(f"{{{cpu}}}" for cpu in first_cpus(2))}, min(CPUS, 2)),
        ({"GOMP_CPU_AFFINITY": str(first_cpus(1)[0])}, 1),
        ({"GOMP_CPU_AFFINITY": " ".join(map(str, first_cpus(2)))}, min(CPUS, 2)),
    ],
    ids=str,
)
def test_bound_threads(env: dict[str, str], cpus: int) -> None:
    """OpenMP binds the first thread to one CPU, whose mask says nothing of the others then."""
    threads = processes.default_threads(cpus)
    assert processes.check(REPORT, env=env) == f"{threads} {cpus}\n"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs an affinity mask")
def test_bound_threads_of_a_smaller_mask() -> None:
    def pin() -> None:
        os.sched_setaffinity(0, first_cpus(1))

    assert processes.check(REPORT, env={"OMP_PROC_BIND": "true"}, before=pin) == "1 1\n"


# ---- after a fork ----


def test_a_forked_child_says_that_it_has_one_thread() -> None:
    processes.check(
        MODEL
        + """
import signal, warnings
fastlstm.set_num_threads(2)
assert "2 threads" in plain.explain(50, 16)
pid = os.fork()
if pid == 0:
    signal.alarm(30)
    warnings.simplefilter("error")
    try:
        assert fastlstm.get_num_threads() == 1
        assert fastlstm.config()["threads"] == 1
        assert "one thread" in plain.explain(50, 16)
        assert "one thread" in plain.explain(50, 16, num_threads=2)
        fastlstm.set_num_threads(1)  # changes nothing
        for n, error, part in ((4, RuntimeWarning, "forked child"), (0, ValueError, "n must"),
                               ("2", TypeError, "n must")):
            try:
                fastlstm.set_num_threads(n)
                raise SystemExit(f"{n} was taken")
            except error as e:
                assert part in str(e), e
            assert fastlstm.get_num_threads() == 1
        assert np.array_equal(plain(x, num_threads=2)[0], expected[-2])
        assert len(os.listdir("/proc/self/task")) == 1
        code = 0
    except BaseException as error:
        print(repr(error), file=sys.stderr)
        code = 1
    os._exit(code)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
assert fastlstm.get_num_threads() == 2
assert "2 threads" in plain.explain(50, 16)
""",
        env=ONE_THREAD,
    )


def test_a_spawned_child_has_its_own_threads() -> None:
    """As the warning says."""
    processes.check(
        """
        import multiprocessing, fastlstm
        if __name__ == "__main__":
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                assert pool.apply(fastlstm.get_num_threads) == 3
        """,
        env={"FASTLSTM_NUM_THREADS": "3"},
    )
