# SPDX-License-Identifier: BSD-3-Clause
"""The fuzzers: a few seconds of each with cases that are always the same, and minutes of new ones.

What failed is run again with the command in the message; see the package `fuzz`.
"""

from __future__ import annotations

import pytest

import fuzz
from fuzz import driver
from support import processes

pytestmark = pytest.mark.sanitize

# Cases of a quick run: some seconds each.
QUICK = {
    "hooks": 1000,
    "races": 50,
    "signals": 120,
    "allocations": 40,
    "limits": 10,
    "operators": 1500,
    "files": 500,
}
DEEP_SECONDS = 180
DEEP_LEAST = {"files": 10_000}  # cases, however long they take


def check(done: driver.Done) -> None:
    if done.skipped:
        pytest.skip(done.text)
    print(done.text)
    assert done.ok, done.text


def test_every_fuzzer_has_cases() -> None:
    assert set(QUICK) == set(fuzz.NAMES)


@pytest.mark.parametrize("name", fuzz.NAMES)
def test_quick(name: str) -> None:
    # Under sanitizers each takes many times as long, and other runs are made of more of them.
    cases = QUICK[name] // (5 if processes.SANITIZED else 1)
    check(driver.run(name, seed=11, cases=cases, seconds=120))


@pytest.mark.deep
@pytest.mark.parametrize("name", fuzz.NAMES)
def test_deep(name: str) -> None:
    check(driver.run(name, seed=driver.new_seed(), seconds=DEEP_SECONDS))


@pytest.mark.deep
@pytest.mark.parametrize("name", DEEP_LEAST)
def test_many(name: str) -> None:
    check(driver.run(name, seed=driver.new_seed(), cases=DEEP_LEAST[name], seconds=3600))


def test_a_failure_says_which_case_it_was() -> None:
    """Also where the process dies."""
    code = f"""
    import os, sys
    sys.path.insert(0, {driver.TESTS!r})
    import fuzz.files
    def case(rng):
        if rng.random() < 0.2:
            os.abort()
    fuzz.files.case = case
    from fuzz.driver import work
    work()
    """
    done = driver.run("files", seed=1, cases=100, seconds=60, code=code)
    assert not done.ok
    case = int(done.text.split("--first ")[1].split()[0])
    again = driver.run("files", seed=1, first=case, cases=1, seconds=60, code=code)
    assert not again.ok
    before = driver.run("files", seed=1, cases=case, seconds=60, code=code)
    assert before.ok
