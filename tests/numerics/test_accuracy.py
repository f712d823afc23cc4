# SPDX-License-Identifier: BSD-3-Clause
"""The error bounds that src_c/kernels/vmath.inc.h states, measured one activation at a time.

A cell with one live gate shows that gate in c or h without a further rounding: a saturated
sigmoid is 0 or 1 and a saturated tanh 1, exactly. With no recurrent weights and a bias of zero,
the pre-activation t = x * fl(scale) that reaches the activation is known to the last bit.
"""

from __future__ import annotations

import math
import re
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pytest

import fastlstm
from support import ROOT, error_model

pytestmark = pytest.mark.sanitize

Array = np.ndarray
LOG2E = 1.44269504088896340736
SATURATED = 1e4  # exp(-1e4) is zero in both dtypes
SOURCE = ROOT / "src_c" / "kernels" / "vmath.inc.h"

# More digits than float64 are needed to judge it; not every platform has them.
extended = np.finfo(np.longdouble).eps < 1e-18
needs_extended = pytest.mark.skipif(not extended, reason="longdouble is no wider than float64 here")


class Stated(NamedTuple):
    polynomial: float
    sigmoid: float
    tanh: float


@cache
def stated(dtype: str) -> Stated:
    """The bounds in the comment of vmath.inc.h."""
    line = re.search(rf"// +{dtype}: (.*)", SOURCE.read_text())
    assert line, f"{SOURCE.name} states no bounds for {dtype}"
    found = re.findall(r"(polynomial|sigmoid|tanh) ([\d.]+e-\d+)", line[1])
    return Stated(**{name: float(value) for name, value in found})


class Probe(NamedTuple):
    """How a cell shows one activation: live weight, biases, c_0 (None: x), and where to look."""

    weight: tuple[int, int, int, int]
    bias: tuple[float, float, float, float]
    c_0: float | None
    shown_in_h: bool
    scale: float  # of z, as the weights are packed


PROBES = {
    "i": Probe((1, 0, 0, 0), (0, -SATURATED, SATURATED, 0), 0, False, -LOG2E),
    "f": Probe((0, 1, 0, 0), (-SATURATED, 0, 0, 0), 1, False, -LOG2E),
    "g": Probe((0, 0, 1, 0), (SATURATED, 0, 0, 0), 0, False, -2 * LOG2E),
    "o": Probe((0, 0, 0, 1), (-SATURATED, SATURATED, 0, 0), 1e3, True, -LOG2E),
    "tanh(c)": Probe((0, 0, 0, 0), (-SATURATED, SATURATED, 0, SATURATED), None, True, -2 * LOG2E),
}
SIGMOIDS = ("i", "f", "o")


def activate(name: str, z: Array, units: int = 1, *, bias: float = 0) -> Array:
    """The activation of z + bias as the engine computes it, in every unit: (len(z), units)."""
    probe, dtype = PROBES[name], z.dtype
    cell = fastlstm.LSTMCell(1, units, dtype=dtype, seed=0)
    biases = [b + (bias if w else 0) for b, w in zip(probe.bias, probe.weight, strict=True)]
    cell.load_state_dict(
        {
            "weight_ih": np.repeat(probe.weight, units)[:, None].astype(dtype),
            "weight_hh": np.zeros((4 * units, units), dtype),
            "bias_ih": np.repeat(biases, units).astype(dtype),
            "bias_hh": np.zeros(4 * units, dtype),
        }
    )
    h_0 = np.zeros((len(z), units), dtype)
    c_0 = np.repeat(z[:, None], units, 1) if probe.c_0 is None else np.full_like(h_0, probe.c_0)
    x = z[:, None] if any(probe.weight) else np.zeros((len(z), 1), dtype)
    h, c = cell(x, (h_0, c_0))
    return h if probe.shown_in_h else c


def exact(name: str, t: Array, wide: Any) -> Array:
    """1 / (1 + 2^t) or 2 / (1 + 2^t) - 1 in the type `wide`."""
    t = t.astype(wide)
    with np.errstate(over="ignore"):
        if name in SIGMOIDS:
            return 1 / (1 + np.exp2(t))
        return -np.tanh(t * (np.log(wide(2)) / 2))  # the same, without cancellation at zero


def packed(name: str, z: Array) -> Array:
    """t of z: the weight 1 is scaled in float64 and rounded once, the product once more."""
    return z * z.dtype.type(PROBES[name].scale)


def points(dtype: str) -> Array:
    """Where activations bend, their tails, all magnitudes and both sides of zero, sorted."""
    rng = np.random.default_rng(0)
    sign = rng.choice([-1.0, 1.0], 20_000)
    z = [
        np.linspace(-25, 25, 60_001),
        rng.uniform(-2, 2, 60_000),
        rng.uniform(-100, 100, 20_000),
        sign * 10 ** rng.uniform(-10, 1, 20_000),
        sign * 10 ** rng.uniform(1, 30, 20_000),
    ]
    return np.unique(np.concatenate(z).astype(dtype))


@needs_extended
@pytest.mark.parametrize("units", [1, 2, 5, 16])  # narrow panels and whole ones
@pytest.mark.parametrize("name", PROBES)
def test_activation_is_within_its_bound(isa: str, dtype: str, name: str, units: int) -> None:
    z = points(dtype)
    shown = activate(name, z, units)
    assert (shown == shown[:, :1]).all(), "units differ"
    bound = stated(dtype).sigmoid if name in SIGMOIDS else stated(dtype).tanh
    error = np.abs(shown[:, 0] - exact(name, packed(name, z), np.longdouble))
    worst = int(error.argmax())
    assert error[worst] <= bound, f"{error[worst]:.3g} at z = {z[worst]!r}, stated {bound}"
    # What the bound promises is not far from what there is: else it wants tightening.
    assert error[worst] > bound / 3


@needs_extended
@pytest.mark.parametrize("name", PROBES)
def test_activation_of_the_unscaled_argument(isa: str, dtype: str, name: str) -> None:
    # Packing rounds the scale and the product: t is off by up to 2 u |t|, z by 2 u |z|, which
    # matters most where |z| sigmoid'(z) = 0.224 or |z| tanh'(z) = 0.448 is largest.
    z = points(dtype)
    bound, most = (
        (stated(dtype).sigmoid, 0.224) if name in SIGMOIDS else (stated(dtype).tanh, 0.448)
    )
    wide = z.astype(np.longdouble)
    with np.errstate(over="ignore"):
        expected = 1 / (1 + np.exp(-wide)) if name in SIGMOIDS else np.tanh(wide)
    error = np.abs(activate(name, z)[:, 0] - expected).max()
    assert error <= bound + most * np.finfo(dtype).eps


@pytest.mark.deep
@pytest.mark.parametrize("name", PROBES)
def test_every_float32_is_within_the_bound(isa: str, name: str) -> None:
    # Both signs, 2^-5 to 2^4: below, a sigmoid is 1/2 and a tanh z; above, both are saturated.
    bound = stated("float32").sigmoid if name in SIGMOIDS else stated("float32").tanh
    ends = np.array([2.0**k for k in range(-5, 5)], np.float32).view(np.int32)
    for first, last in pairwise(ends.tolist()):
        for start in range(first, last, 1 << 21):
            z = np.arange(start, start + (1 << 21), dtype=np.int32).view(np.float32)
            for signed in (z, -z):
                shown = activate(name, signed)[:, 0]
                expected = exact(name, packed(name, signed), np.float64)
                assert np.abs(shown - expected).max() <= bound
                assert np.abs(shown).max() <= 1


@pytest.mark.parametrize("name", PROBES)
def test_saturation(isa: str, dtype: str, name: str) -> None:
    limit = float(np.finfo(dtype).max / 4)  # the packed scale is 2.9 at most
    most = 2e2 if dtype == "float32" else 2e3
    z = np.array([most, 1e5, 1e10, 1e30, limit], dtype)
    low = 0 if name in SIGMOIDS else -1
    assert (activate(name, z, 3) == 1).all()
    assert (activate(name, -z, 3) == low).all()
    assert np.isnan(activate(name, np.array([np.nan], dtype), 3)).all()

    def at(infinity: float) -> Array:
        if name == "tanh(c)":
            return activate(name, np.full(2, infinity, dtype), 3)
        # As x, infinity would make NaN of the weights that are zero.
        return activate(name, np.zeros(2, dtype), 3, bias=infinity)

    assert (at(np.inf) == 1).all()
    assert (at(-np.inf) == low).all()


@pytest.mark.parametrize("training", [False, True])
def test_weights_out_of_range(isa: str, dtype: str, training: bool) -> None:
    """Kernels scale weights by log2(e), of gate g by twice that. Where a finite weight would become
    another number by that, it is refused, and all else is right: those just within too."""
    largest = float(np.finfo(dtype).max)
    cell = fastlstm.LSTMCell(1, 1, dtype=dtype, seed=0).train(training)
    zero, one = np.zeros(1, dtype), np.ones(1, dtype)
    none = {name: np.zeros_like(value) for name, value in cell.state_dict().items()}
    for gate in range(4):
        limit = largest * math.log(2) / (2 if gate == 2 else 1)
        for name in none:
            for weight, fits in ((0.999 * limit, True), (1.001 * limit, False), (-largest, False)):
                params = {key: value.copy() for key, value in none.items()}
                params[name][gate] = weight
                cell.load_state_dict(params)
                if fits:
                    h, c = cell(zero, (zero, zero))
                    assert np.isfinite([h, c]).all(), name
                else:
                    with pytest.raises(ValueError, match="weights must be below"):
                        cell(zero, (zero, zero))
    # Two products that nearly cancel.
    params = {key: value.copy() for key, value in none.items()}
    params["weight_ih"][2], params["weight_hh"][2] = 0.99 * largest / 3, -0.97 * largest / 3
    cell.load_state_dict(params)
    assert cell(one, (one, zero))[1] == 0.5
    params["bias_ih"][:] = np.inf  # not finite: it travels
    cell.load_state_dict(params)
    assert (cell(zero, (zero, zero))[1] == 1).all()


@pytest.mark.parametrize("name", PROBES)
def test_range_zero_and_order(isa: str, dtype: str, name: str) -> None:
    z = points(dtype)
    shown = activate(name, z)[:, 0]
    assert shown.max() == 1
    assert shown.min() == (0 if name in SIGMOIDS else -1)
    at_zero = activate(name, np.zeros(2, dtype))
    assert (at_zero == (0.5 if name in SIGMOIDS else 0)).all()
    # Rounding may turn neighbours round: a sigmoid by a unit in the last place of 1; a tanh, the
    # product of 1 - b and of 1 / (1 + b), is rounded four times by eps / 2 at most, near -1.
    eps = np.finfo(dtype).eps
    assert np.diff(shown).min() >= -(eps / 2 if name in SIGMOIDS else 2 * eps)
    assert (np.abs(activate(name, -z)[:, 0] + shown - (name in SIGMOIDS)) <= 4 * eps).all()


@needs_extended
@pytest.mark.parametrize("name", SIGMOIDS)
def test_a_closing_sigmoid_keeps_its_digits(isa: str, dtype: str, name: str) -> None:
    # 1 / (1 + e) is relatively accurate however small: e is off by the polynomial and, in its
    # evaluation, by eps / 2 in the last and about as much in the earlier operations; the sum and
    # the division add eps / 2 each. (Down to -80: below -87 float32 has denormals only.)
    z = np.linspace(-80, -5, 40_001).astype(dtype)
    expected = exact(name, packed(name, z), np.longdouble)
    error = np.abs(activate(name, z)[:, 0] / expected - 1).max()
    assert error <= stated(dtype).polynomial + 2 * np.finfo(dtype).eps


def coefficients(dtype: str) -> list[np.longdouble]:
    """Of the polynomial in vmath.inc.h, constant first, as rounded to the dtype."""
    body = SOURCE.read_text().split("vreal exp2_fraction(vreal r)")[1].split("#endif")[0]
    part = body.split("#else")[1 if dtype == "float32" else 0]
    pairs = re.findall(r"vfma\(vset1\(([^)]+)\), r, vset1\(([^)]+)\)\)", part)
    texts = [text.rstrip("f") for odd, even in pairs for text in (even, odd)]
    assert len(texts) == {"float32": 6, "float64": 12}[dtype]
    return [np.longdouble(np.dtype(dtype).type(text)) for text in texts]


@needs_extended
def test_polynomial_is_within_its_bound(dtype: str) -> None:
    r = np.linspace(-0.5, 0.5, 20_001, dtype=np.longdouble)
    value = np.zeros_like(r)
    for coefficient in reversed(coefficients(dtype)):
        value = value * r + coefficient
    error = float(np.abs(value / np.exp2(r) - 1).max())
    assert coefficients(dtype)[0] == 1, "2^0 is exact"
    # The stated bound of float64 is that of the coefficients as written; as doubles they are off
    # by half a unit each, which weighs most in the linear term: u |r| ln 2 / 2 and a little.
    rounded = 0 if dtype == "float32" else 0.3 * np.finfo(dtype).eps / 2
    assert error <= stated(dtype).polynomial + rounded, f"{error:.3g}"


def test_error_model_allows_for_the_stated_bounds(dtype: str) -> None:
    assert stated(dtype).sigmoid <= error_model.SIGMOID_BOUND[dtype]
    assert stated(dtype).tanh <= 2 * error_model.SIGMOID_BOUND[dtype]
