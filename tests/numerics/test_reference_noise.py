# SPDX-License-Identifier: BSD-3-Clause
"""The specification of noise: its masks, where they act, and its gradients, in float64."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fastlstm import LSTMOptions, reference
from fastlstm.options import NOISE
from fastlstm.reference.noise import NAMES, Noise
from fastlstm.reference.options import completed
from support import option_runs
from support.option_checks import check_differences, clear
from support.option_runs import Case

# Of what is compared, in float64.
ROUNDING = 1e-12
SIZES = (4, 3, 2, 3, 2, True, True, True, True)
EACH: list[dict[str, Any]] = [
    *({name: 0.4} for name in NOISE),
    dict.fromkeys(NOISE, 0.3),
    {"zoneout_c": 0.4, "cell_clip": 0.5, "peepholes": True, "output_activation": "softsign"},
    {"recurrent_dropout": 0.4, "coupled": True},
    {**dict.fromkeys(NOISE, 0.3), "layer_norm": "sums", "norm_epsilon": 0.3, "peepholes": True},
    {**dict.fromkeys(NOISE, 0.3), "layer_norm": "separate", "norm_epsilon": 0.3, "peepholes": True},
    {"recurrent_dropout": 0.4, "zoneout_c": 0.3, "forget_gate": False},
]


@pytest.mark.parametrize("noise", [None, 5], ids=["inference", "training"])
@pytest.mark.parametrize("options", EACH, ids=str)
def test_finite_differences(options: dict[str, Any], noise: int | None) -> None:
    for proj_size in (0, 2):
        chosen = LSTMOptions(**options)

        def case_of(seed: int, chosen: LSTMOptions = chosen, proj_size: int = proj_size) -> Case:
            return Case(*SIZES, chosen, "float64", seed, proj_size, noise)  # type: ignore[arg-type]

        check_differences(clear(case_of))


@pytest.mark.parametrize("seed", range(20))
def test_finite_differences_with_other_options(seed: int) -> None:
    rng = np.random.default_rng((seed, 5))
    noise = option_runs.random_noise(rng)
    options = replace(option_runs.random_options(rng), **noise)
    flags = [bool(flag) for flag in rng.random(2) < 0.5]

    def case_of(attempt: int) -> Case:
        return Case(4, 3, 2, 3, 2, *flags, True, True, options, "float64", attempt, seed % 3, seed)

    check_differences(clear(case_of))


def test_kinds_of_masks_differ() -> None:
    """From each other, and from those of other layers and directions."""
    noise = Noise(completed(dict.fromkeys(NOISE, 0.5)), 7)
    masks = [noise.mask(name, place, (6, 5, 40), np.float64) for name in NAMES for place in (0, 1)]
    masks.append(reference.dropout_mask(7, 0, 6, 5, 40, 0.5))
    for at, mask in enumerate(masks):
        for other in masks[:at]:
            same = float(np.mean(mask == other))
            assert abs(same - 0.5) < 5 * 0.5 / np.sqrt(mask.size)


@pytest.mark.parametrize("p", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("name", ["zoneout_c", "zoneout_h"])
def test_zoneout_holds_with_probability_p(name: str, p: float) -> None:
    options = completed({name: p})
    params = {"weight_hh": np.zeros((160, 40))}
    found = Noise(options, 3).of_cell(0, 50, 30, params)
    if p == 0:
        assert not found
        return
    held = found[name]
    assert set(np.unique(held)) <= {0.0, 1.0}
    assert abs(held.mean() - p) <= 5 * np.sqrt(p * (1 - p) / held.size)


def test_one_step_of_zoneout() -> None:
    """h reads c~, which zoneout then mixes with the old c."""
    case = Case(1, 4, 3, 5, 1, True, False, True, False, LSTMOptions(), "float64", 2)
    i = case.inputs()
    assert i.state is not None
    plain = option_runs.expected(case)
    options = LSTMOptions(zoneout_c=0.25, zoneout_h=0.5)
    found = option_runs.expected(replace(case, options=options))
    c, h = 0.25 * i.state[1] + 0.75 * plain["c_n"], 0.5 * i.state[0] + 0.5 * plain["h_n"]
    np.testing.assert_allclose(found["c_n"], c, rtol=0, atol=ROUNDING)
    np.testing.assert_allclose(found["h_n"], h, rtol=0, atol=ROUNDING)


def test_no_dropout_at_inference() -> None:
    plain = Case(*SIZES, LSTMOptions(), "float64", 2)  # type: ignore[arg-type]
    dropouts = dict.fromkeys([name for name in NOISE if "zoneout" not in name], 0.5)
    other = replace(plain, options=LSTMOptions(**dropouts))
    for name, value in option_runs.expected(plain).items():
        np.testing.assert_allclose(option_runs.expected(other)[name], value, rtol=0, atol=ROUNDING)
    assert np.abs(option_runs.expected(replace(other, noise=1))["y"] - value_of(plain)).max() > 0.1


def value_of(case: Case) -> np.ndarray:
    return option_runs.expected(case)["y"]


def test_all_is_held_or_dropped() -> None:
    case = Case(*SIZES, LSTMOptions(zoneout_c=1.0, zoneout_h=1.0), "float64", 2, 0, 4)  # type: ignore[arg-type]
    i = case.inputs()
    assert i.state is not None
    for noise in (None, 4):
        found = option_runs.expected(replace(case, noise=noise))
        assert np.array_equal(found["h_n"], i.state[0])
        assert np.array_equal(found["c_n"], i.state[1])
    dropouts = dict.fromkeys([name for name in NOISE if "zoneout" not in name], 1.0)
    found = option_runs.expected(replace(case, options=LSTMOptions(**dropouts)))
    assert np.isfinite(found["y"]).all()
    assert not found["dx"].any()
    assert not found["dweight_hh_l0"].any()
