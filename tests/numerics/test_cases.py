# SPDX-License-Identifier: BSD-3-Clause
"""The reference and the engine against numbers that other projects published."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from fastlstm import reference
from support import cases
from support.helpers import shared_data

Engine = Callable[[cases.Case], dict[str, np.ndarray]]


def run_reference(case: cases.Case) -> dict[str, np.ndarray]:
    given = {"state": case.state, "lengths": case.lengths, "options": case.options}
    result = reference.lstm_forward(case.x, case.params, **given)
    return case.compared(result.y, result.h_n, result.c_n)


def run_fastlstm(case: cases.Case) -> dict[str, np.ndarray]:
    import fastlstm

    lstm = fastlstm.LSTM(**case.lstm_arguments)
    lstm.load_state_dict({name: np.float32(value) for name, value in case.params.items()})
    state = None if case.state is None else (np.float32(case.state[0]), np.float32(case.state[1]))
    y, (h_n, c_n) = lstm(np.float32(case.x), state, lengths=case.lengths)
    return case.compared(y, h_n, c_n)


@pytest.fixture(params=[run_reference, run_fastlstm], ids=["reference", "fastlstm"])
def engine(request: pytest.FixtureRequest) -> Engine:
    return request.param


def load(name: str) -> cases.Case:
    try:
        return cases.LOADERS[name]()
    except cases.UnsupportedError as reason:
        pytest.skip(str(reason))


def check(results: dict[str, np.ndarray], case: cases.Case) -> None:
    assert case.expected
    for name, expected in case.expected.items():
        actual = results[name]
        assert actual.shape == expected.shape, name
        np.testing.assert_allclose(actual, expected, rtol=0, atol=case.tol, err_msg=name)


@pytest.mark.parametrize("name", cases.LOADERS)
def test_published_numbers(name: str, engine: Engine) -> None:
    case = load(name)
    check(engine(case), case)


def test_every_published_case_is_listed() -> None:
    assert set(cases.golden_entries()) == set(cases.GOLDEN)
    folders = {folder.name for folder in shared_data("onnx_node").iterdir() if folder.is_dir()}
    assert folders == set(cases.ONNX_NODE)
