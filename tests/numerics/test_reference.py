# SPDX-License-Identifier: BSD-3-Clause
"""The specification against PyTorch, against arithmetic done by hand, and at its edges."""

from __future__ import annotations

import subprocess
import sys
from math import log

import numpy as np
import pytest

from fastlstm import reference
from support import helpers

NUM_CONFIGS = 150

# Both sides round to 2^-53 about K = I + H times in each pre-activation, and a step hands its error
# on damped by the forget gate. Measured over the configurations here: 1e-14; a wrong term shows
# at 1e-3 or more. Cells may exceed 1, hence relative to max(1, |c|).
TOLERANCE = 1e-12


def config_of(seed: int) -> tuple[helpers.Config, np.random.Generator]:
    rng = np.random.default_rng(seed)
    return helpers.random_config(rng), rng


@pytest.mark.parametrize("seed", range(NUM_CONFIGS))
def test_agrees_with_torch(seed: int) -> None:
    config, rng = config_of(seed)
    params = helpers.random_params(config, rng)
    inputs = helpers.random_inputs(config, rng)
    ours = helpers.reference_forward(config, params, inputs)
    theirs = helpers.torch_forward(config, params, inputs, dtype="float64")
    for name in theirs._fields:
        actual, expected = getattr(ours, name), getattr(theirs, name)
        assert actual.dtype == np.float64
        np.testing.assert_allclose(
            actual, expected, rtol=TOLERANCE, atol=TOLERANCE, err_msg=f"{name} of {config}"
        )


def test_random_configurations_cover_every_option() -> None:
    configs = [config_of(seed)[0] for seed in range(NUM_CONFIGS)]
    for option in ("bias", "batch_first", "bidirectional", "with_state"):
        assert {getattr(config, option) for config in configs} == {False, True}, option
    assert {config.num_layers for config in configs} == {1, 2, 3}
    assert {config.dtype for config in configs} == {"float32", "float64"}
    for size in helpers.LARGE_SIZES:
        assert min(getattr(config, size) for config in configs) == 1, size
        assert max(getattr(config, size) for config in configs) > 70, size
    ragged = [config for config in configs if config.lengths is not None]
    assert any(0 in config.lengths for config in ragged)
    assert any(max(config.lengths) < config.steps for config in ragged)
    assert any(list(config.lengths) != sorted(config.lengths, reverse=True) for config in ragged)
    assert len(ragged) < len(configs)


def test_one_step_by_hand() -> None:
    # Pre-activations chosen so that all gates differ and come out as fractions: sigmoid(log r) =
    # r / (1 + r) and tanh(log r) = (r^2 - 1) / (r^2 + 1). Every term carries a share of them.
    target = np.array([log(3), -log(3), log(2), log(4)])  # i = 3/4, f = 1/4, g = 3/5, o = 4/5
    x, h_0 = 2.0, 0.5
    params = {
        "weight_ih": (target / 4 / x)[:, None],
        "weight_hh": (target / 4 / h_0)[:, None],
        "bias_ih": target / 8,
        "bias_hh": target * 3 / 8,
    }
    # f c_0 + i g = log 2 makes the last tanh a fraction too: h = 4/5 * 3/5.
    c_0 = 4 * (log(2) - 3 / 4 * 3 / 5)
    h, c = reference.cell_forward([[x]], [[h_0]], [[c_0]], params)
    np.testing.assert_allclose(c, [[log(2)]], rtol=1e-15)
    np.testing.assert_allclose(h, [[12 / 25]], rtol=1e-15)


def test_two_steps_by_hand() -> None:
    # x drives g only, through weight log 2; i, f and o see nothing and are 1/2. x = 1 gives
    # g = 3/5, x = 0 gives 0, so c is 3/10, 3/20 going up and 0, 3/10 going down the sequence.
    params = {}
    for suffix in ("", "_reverse"):
        params[f"weight_ih_l0{suffix}"] = np.array([[0.0], [0.0], [log(2)], [0.0]])
        params[f"weight_hh_l0{suffix}"] = np.zeros((4, 1))
    result = reference.lstm_forward([[[1.0]], [[0.0]]], params)
    cells = np.array([[[0.3, 0.3]], [[0.15, 0.0]]])
    np.testing.assert_allclose(result.cells, cells, rtol=1e-15)
    np.testing.assert_allclose(result.y, np.tanh(cells) / 2, rtol=1e-15)
    np.testing.assert_allclose(result.c_n, [[[0.15]], [[0.3]]], rtol=1e-15)
    np.testing.assert_allclose(result.h_n, np.tanh([[[0.15]], [[0.3]]]) / 2, rtol=1e-15)


def test_ragged_batch_is_its_sequences_one_by_one() -> None:
    rng = np.random.default_rng(1)
    config = helpers.Config(
        6, 5, 3, 4, num_layers=2, bidirectional=True, with_state=True, lengths=(2, 0, 6, 1, 5)
    )
    params = helpers.random_params(config, rng)
    x, (h_0, c_0), lengths = helpers.random_inputs(config, rng)
    batch = reference.lstm_forward(x, params, state=(h_0, c_0), lengths=lengths)
    for row, length in enumerate(lengths):
        one = slice(row, row + 1)
        alone = reference.lstm_forward(
            x[:length, one], params, state=(h_0[:, one], c_0[:, one]), lengths=None
        )
        for name in ("y", "cells"):
            whole = getattr(batch, name)[:, one]
            np.testing.assert_allclose(whole[:length], getattr(alone, name), rtol=0, atol=1e-15)
            assert np.all(whole[length:] == 0)
        for name in ("h_n", "c_n"):
            expected = getattr(alone, name)
            np.testing.assert_allclose(getattr(batch, name)[:, one], expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize(("steps", "batch"), [(0, 3), (4, 3), (4, 0), (0, 0)])
def test_nothing_to_read_returns_the_initial_state(steps: int, batch: int) -> None:
    rng = np.random.default_rng(2)
    config = helpers.Config(steps, batch, 5, 4, num_layers=2, bidirectional=True, with_state=True)
    x, (h_0, c_0), _ = helpers.random_inputs(config, rng)
    result = reference.lstm_forward(
        x, helpers.random_params(config, rng), state=(h_0, c_0), lengths=[0] * batch
    )
    np.testing.assert_array_equal(result.y, np.zeros((steps, batch, 8)))
    np.testing.assert_array_equal(result.cells, np.zeros((steps, batch, 8)))
    np.testing.assert_array_equal(result.h_n, h_0)
    np.testing.assert_array_equal(result.c_n, c_0)


def test_cells_and_outputs_end_in_the_final_states() -> None:
    rng = np.random.default_rng(3)
    config = helpers.Config(4, 3, 2, 5, num_layers=2, bidirectional=True)
    x, _, _ = helpers.random_inputs(config, rng)
    result = reference.lstm_forward(x, helpers.random_params(config, rng))
    for sequence, final in ((result.y, result.h_n), (result.cells, result.c_n)):
        np.testing.assert_array_equal(sequence[-1, :, :5], final[2])
        np.testing.assert_array_equal(sequence[0, :, 5:], final[3])


def test_nan_travels_forwards_in_its_own_sequence() -> None:
    rng = np.random.default_rng(4)
    config = helpers.Config(5, 3, 4, 6)
    params = helpers.random_params(config, rng)
    clean, _, _ = helpers.random_inputs(config, rng)
    x = clean.copy()
    x[2, 1, 0] = np.nan
    result = reference.lstm_forward(x, params)
    expected = reference.lstm_forward(clean, params)
    reached = np.zeros(result.y.shape, bool)
    reached[2:, 1] = True
    np.testing.assert_array_equal(np.isnan(result.y), reached)
    np.testing.assert_array_equal(result.y[~reached], expected.y[~reached])
    np.testing.assert_array_equal(np.isnan(result.h_n[0]).all(axis=-1), [False, True, False])


def test_infinity_saturates_or_becomes_nan_as_in_torch() -> None:
    rng = np.random.default_rng(5)
    config = helpers.Config(4, 3, 3, 40, dtype="float64")
    params = helpers.random_params(config, rng)
    inputs = helpers.random_inputs(config, rng)
    inputs.x[1, 0, 0] = np.inf
    inputs.x[1, 1, :2] = (
        np.inf,
        -np.inf,
    )  # opposite terms in one sum: NaN in about half of the units
    ours = helpers.reference_forward(config, params, inputs)
    theirs = helpers.torch_forward(config, params, inputs)
    assert np.isfinite(ours.y[:, 0]).all()
    assert 0 < np.isnan(ours.y[1, 1]).sum() < 40
    for name in theirs._fields:
        np.testing.assert_allclose(
            getattr(ours, name), getattr(theirs, name), rtol=TOLERANCE, atol=TOLERANCE
        )


def test_sigmoid_is_accurate_in_both_tails() -> None:
    x = np.array([-np.inf, -800.0, -700.0, -40.0, 0.0, 40.0, 800.0, np.inf, np.nan])
    with np.errstate(all="raise", under="ignore"):
        actual = reference.sigmoid(x)
    expected = [0, 0, np.exp(-700.0), np.exp(-40.0), 0.5, 1, 1, 1, np.nan]
    np.testing.assert_allclose(actual, expected, rtol=1e-15)


@pytest.mark.parametrize("dtype", ["float32", "float64", "longdouble"])
def test_dtype_is_that_of_the_whole_computation(dtype: str) -> None:
    rng = np.random.default_rng(6)
    config = helpers.Config(30, 2, 9, 8, num_layers=2, with_state=True, lengths=(30, 7))
    params = helpers.random_params(config, rng)
    inputs = helpers.random_inputs(config, rng)
    result = helpers.reference_forward(config, params, inputs, dtype=dtype)
    exact = helpers.reference_forward(config, params, inputs, dtype="longdouble")
    assert {a.dtype for a in result} == {np.dtype(dtype)}
    for coarser in ("float32", "float64"):
        if np.finfo(coarser).eps > np.finfo(dtype).eps:
            assert np.mean(result.y[:7] != result.y[:7].astype(coarser)) > 0.9
    # A few units of the last place of 1, far below one unit of the next coarser type.
    np.testing.assert_allclose(result.y, exact.y, rtol=0, atol=20 * np.finfo(dtype).eps)


@pytest.mark.parametrize("lengths", [[1, 2], [1, 2, 3, 4], [1, -1, 2], [1, 5, 2], 3])
def test_lengths_that_do_not_fit_are_refused(lengths: object) -> None:
    config = helpers.Config(4, 3, 2, 2)
    rng = np.random.default_rng(7)
    params = helpers.random_params(config, rng)
    with pytest.raises(ValueError, match="lengths"):
        reference.lstm_forward(np.zeros((4, 3, 2)), params, lengths=lengths)


def test_needs_numpy_only() -> None:
    # Loaded from its file, so that the package around it plays no part.
    script = (
        "import importlib.util as util, sys\n"
        f"spec = util.spec_from_file_location('reference', {reference.__file__!r})\n"
        "module = sys.modules['reference'] = util.module_from_spec(spec)\n"
        "spec.loader.exec_module(module)\n"
        "assert module.rnn_forward and 'numpy' in sys.modules\n"
        "print(sorted(m for m in sys.modules if m.split('.')[0] in ('fastlstm', 'torch')))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr
