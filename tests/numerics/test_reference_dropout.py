# SPDX-License-Identifier: BSD-3-Clause
"""The dropout of the specification: its random numbers, its masks, and where they act."""

from __future__ import annotations

import numpy as np
import pytest

from fastlstm import reference
from support import helpers

ONES = 0xFFFFFFFF

# The answers that the authors of Philox publish: counter, key, words.
KNOWN_ANSWERS = [
    ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    ([ONES] * 4, [ONES] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        [0xA4093822, 0x299F31D0],
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ),
]


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN_ANSWERS)
def test_philox_known_answers(counter: list[int], key: list[int], words: list[int]) -> None:
    actual = reference.philox4x32(counter, key)
    assert actual.dtype == np.uint32
    assert actual.tolist() == words


def test_philox_of_many_counters_is_that_of_each() -> None:
    counters = np.random.default_rng(0).integers(0, 2**32, (3, 5, 4), np.uint32)
    words = reference.philox4x32(counters, (7, ONES))
    assert words.shape == counters.shape
    for place in np.ndindex(3, 5):
        np.testing.assert_array_equal(
            words[place], reference.philox4x32(counters[place], (7, ONES))
        )


@pytest.mark.parametrize("seed", [0, 5, 0x0123456789ABCDEF, 2**64 - 1])
@pytest.mark.parametrize("layer", [0, 2])
def test_mask_element_by_element(layer: int, seed: int) -> None:
    p = 0.3
    mask = reference.dropout_mask(seed, layer, 3, 5, 11, p)
    assert mask.shape == (3, 5, 11)
    key = seed % 2**32, seed // 2**32
    for t, b, k in np.ndindex(mask.shape):
        word = int(reference.philox4x32([k // 4, t, b, layer], key)[k % 4])
        assert mask[t, b, k] == (1 / (1 - p) if word // 2**8 / 2**24 >= p else 0), (t, b, k)


def test_mask_of_a_part_is_part_of_the_mask() -> None:
    whole = reference.dropout_mask(1, 0, 9, 7, 13, 0.5)
    np.testing.assert_array_equal(reference.dropout_mask(1, 0, 4, 3, 6, 0.5), whole[:4, :3, :6])
    for other in ((2, 0), (2**32 + 1, 0), (1, 1)):
        assert np.mean(reference.dropout_mask(*other, 9, 7, 13, 0.5) == whole) < 0.7


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_mask_keeps_the_share_that_it_should(p: float) -> None:
    mask = reference.dropout_mask(3, 1, 50, 40, 100, p)
    kept = mask != 0
    for axis in range(3):  # along each axis by itself too: no row or feature is favoured
        others = tuple({0, 1, 2} - {axis})
        count = mask.size / mask.shape[axis]
        deviations = (kept.mean(axis=others) - (1 - p)) / np.sqrt(p * (1 - p) / count)
        assert np.abs(deviations).max() < 5


def test_mask_boundary_is_kept() -> None:
    """u >= p, with p exactly one of the u, whose 24th bit is set in one and clear in others."""
    for k, word in enumerate(KNOWN_ANSWERS[0][2]):
        u = word // 2**8 * 2.0**-24
        assert reference.dropout_mask(0, 0, 1, 1, 4, u)[0, 0, k] == 1 / (1 - u)
        assert reference.dropout_mask(0, 0, 1, 1, 4, np.nextafter(u, 1))[0, 0, k] == 0


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_mask_of_all_and_of_none(dtype: str) -> None:
    for p, value in ((0.0, 1), (1.0, 0)):
        mask = reference.dropout_mask(3, 0, 4, 5, 6, p, dtype)
        assert mask.dtype == dtype
        np.testing.assert_array_equal(mask, np.full((4, 5, 6), value))
    scaled = reference.dropout_mask(3, 0, 4, 5, 6, 0.3, dtype)
    assert set(scaled.ravel()) == {np.dtype(dtype).type(0), np.dtype(dtype).type(1 / 0.7)}


@pytest.mark.parametrize("p", [-0.1, 1.5, float("nan")])
def test_dropout_out_of_range_is_refused(p: float) -> None:
    with pytest.raises(ValueError, match="dropout"):
        reference.dropout_mask(0, 0, 1, 1, 1, p)


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_seed_out_of_range_is_refused(seed: int) -> None:
    with pytest.raises(ValueError, match="seed"):
        reference.dropout_mask(seed, 0, 1, 1, 1, 0.5)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_acts_between_layers_only(bidirectional: bool) -> None:
    """Three layers with dropout are three models of one layer with masks between them."""
    config = helpers.Config(
        6, 3, 4, 5, 3, bidirectional=bidirectional, with_state=True, lengths=(6, 0, 4)
    )
    rng = np.random.default_rng(0)
    params = helpers.random_params(config, rng)
    x, (h_0, c_0), lengths = helpers.random_inputs(config, rng)
    seed, p, directions = 2**40 + 3, 0.4, config.num_directions
    whole = reference.lstm_forward(
        x, params, state=(h_0, c_0), lengths=lengths, dropout=p, seed=seed
    )
    y = x
    for layer in range(3):
        own = {n.replace(f"_l{layer}", "_l0"): v for n, v in params.items() if f"_l{layer}" in n}
        rows = slice(layer * directions, (layer + 1) * directions)
        one = reference.lstm_forward(
            y, own, state=(h_0[rows], c_0[rows]), lengths=lengths, dropout=p, seed=seed
        )
        np.testing.assert_array_equal(whole.h_n[rows], one.h_n)
        np.testing.assert_array_equal(whole.c_n[rows], one.c_n)
        y = one.y * reference.dropout_mask(seed, layer, 6, 3, 5 * directions, p)
    np.testing.assert_array_equal(whole.y, one.y)
    np.testing.assert_array_equal(whole.cells, one.cells)


def test_without_dropout_the_seed_does_not_matter() -> None:
    config = helpers.Config(5, 3, 4, 5, num_layers=2)
    rng = np.random.default_rng(0)
    params, x = helpers.random_params(config, rng), helpers.random_inputs(config, rng).x
    plain = reference.lstm_forward(x, params)
    for name, actual in reference.lstm_forward(x, params, dropout=0.0, seed=9)._asdict().items():
        np.testing.assert_array_equal(actual, getattr(plain, name))
    seeds = [reference.lstm_forward(x, params, dropout=0.5, seed=seed).y for seed in (0, 1)]
    assert np.all(seeds[0] != seeds[1])
