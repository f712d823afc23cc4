# SPDX-License-Identifier: BSD-3-Clause
"""The rooms of the tests: none is the library of another, and the smoke run's list is sound."""

from __future__ import annotations

import ast

import pytest

from support import ROOT, readme, tiers


def test_no_test_module_serves_as_a_library() -> None:
    paths = list((ROOT / "tests").rglob("*.py"))
    tests = {path.stem for path in paths if path.stem.startswith("test_")}
    assert len(tests) > 50
    for path in paths:
        assert not readme.imported(path.read_text()) & tests, f"{path} imports a test module"
    assert readme.imported("def f():\n    from test_bits import x") & tests


@pytest.mark.parametrize("key", tiers.EVERY)
def test_what_is_chosen_exists(key: str) -> None:
    module, _, test = key.partition("::")
    path = ROOT / "tests" / module
    assert path.is_file(), f"{key}: tests/support/tiers.py names a module that is not there"
    names = {n.name for n in ast.parse(path.read_text()).body if isinstance(n, ast.FunctionDef)}
    assert not test or test in names, f"{key}: support/tiers.py names a test that its module lacks"


def test_nothing_is_chosen_twice() -> None:
    assert len(tiers.EVERY) == sum(map(len, tiers.SMOKE.values()))


def test_every_nth_case_is_chosen() -> None:
    smoke = tiers.Smoke()
    module, test = "numerics/test_engine.py", "test_agrees_with_the_reference"
    chosen = [smoke.has(module, test) for _ in range(150)]
    assert chosen == [i % tiers.EVERY[f"{module}::{test}"] == 0 for i in range(150)]
    assert smoke.has("unit/test_streams.py", "whatever it holds")
    assert not smoke.has(module, "test_large_layers")
