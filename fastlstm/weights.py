# SPDX-License-Identifier: BSD-3-Clause
"""Parameters: names and shapes as in torch's state dict, first values, loading and checking."""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

from . import _core, checks
from .checks import Array
from .options import LSTMOptions
from .spec import PEEPHOLES, Spec

Value = TypeVar("Value")  # of a parameter: an array, or its address


class LoadResult(NamedTuple):
    """What `load_state_dict` with ``strict=False`` passed over."""

    missing_keys: list[str]
    unexpected_keys: list[str]


def initial(spec: Spec, seed: object) -> dict[str, Array]:
    """Uniform in (-1/sqrt(H), 1/sqrt(H)), as torch's recurrent layers, but ones and zeros for what
    a layer normalisation multiplies by and adds; read-only arrays.

    Raises MemoryError where they and their packed copy cannot fit into this machine.
    """
    shapes, dtype = spec.shapes, spec.dtype
    total = 2 * dtype.itemsize * sum(math.prod(shape) for shape in shapes.values())
    checks.fits(total)
    try:
        if isinstance(seed, (bool, np.bool_)):
            raise TypeError
        rng = np.random.default_rng(seed)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise type(error)(
            f"seed must be None, an integer >= 0 or else what numpy.random.default_rng takes, "
            f"got {seed!r}"
        ) from error
    bound = 1.0 / math.sqrt(spec.hidden_size)
    params = {}
    for name, shape in shapes.items():
        if name.partition("_l")[0] in spec.norms:
            values = (np.zeros if name.startswith("bias") else np.ones)(shape, dtype)
        else:
            values = rng.random(shape, dtype=dtype.type)
            values *= dtype.type(2 * bound)
            values -= dtype.type(bound)
        values.flags.writeable = False
        params[name] = values
    return params


def set_forget_bias(spec: Spec, params: _core.Parameters, options: LSTMOptions | None) -> None:
    """Where options have a `forget_bias`, put it into the forget gate's block of bias_ih, and zeros
    into that of bias_hh. Raises ValueError where there are no biases."""
    if options is None or options.forget_bias is None:
        return
    if not spec.bias:
        raise ValueError("options with a forget_bias need bias=True")
    found = {}
    for name, values in params.arrays.items():
        if name.startswith(("bias_ih", "bias_hh")):
            changed = values.copy()
            block = changed[spec.hidden_size : 2 * spec.hidden_size]
            block[:] = options.forget_bias if name.startswith("bias_ih") else 0
            changed.flags.writeable = False
            found[name] = changed
    params.load(found)


def by_layer(spec: Spec, arrays: Mapping[str, Value]) -> list[tuple[Value | None, ...]]:
    """What the core takes for each layer and direction: (w_ih, w_hh, b_ih, b_hh, w_hr), None for
    what is not there, and behind them the peepholes and what normalises, if there are some. The
    names may be those of a cell, which lack the ending."""
    peepholes = PEEPHOLES if spec.has_peepholes else ()
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr", *peepholes, *spec.norms)
    ends = spec.suffixes if "weight_hh_l0" in arrays else [""]
    return [tuple(arrays.get(name + end) for name in names) for end in ends]


def to_numpy(name: str, value: Any) -> Array:
    """A tensor, an array, or anything with __array__ or DLPack, as an array."""
    checks.no_mask(name, value)
    if str(getattr(value, "device", "")) == "meta":
        raise TypeError(f"{name} must hold values, got a tensor on the meta device")
    try:
        if hasattr(value, "detach") and hasattr(value, "cpu"):  # a torch tensor
            value = value.detach().cpu()
            if str(value.dtype) == "torch.bfloat16":  # NumPy has none; float32 holds it exactly
                value = value.float()
            return np.asarray(value.numpy())
        if isinstance(value, np.ndarray) or hasattr(value, "__array__"):
            return np.asarray(value)
        if hasattr(value, "__dlpack__"):
            return np.from_dlpack(value)
        return np.asarray(memoryview(value))
    except MemoryError:
        raise
    except Exception as error:
        raise TypeError(f"{name} must be an array, got {type(value).__name__}: {error}") from error


def listed(names: Sequence[object], most: int = 40) -> str:
    """The names in a row, the first `most` of them."""
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(str(name) for name in names[:most]) + rest


def lone_biases(names: Container[str], of: Iterable[str]) -> list[str]:
    """What to do about biases, of `of`, that are in `names` without the other one of their layer:
    one line of text, or none."""
    lone, partners = [], []
    for name in of:
        for kind, other in (("bias_ih", "bias_hh"), ("bias_hh", "bias_ih")):
            partner = other + name[len(kind) :]
            if name.startswith(kind) and name in names and partner not in names:
                lone.append(name)
                partners.append(partner)
    if not lone:
        return []
    return [
        f"{listed(partners)} missing beside {listed(lone)}: give zeros for what is missing where "
        "a layer has one bias, or the sum of both"
    ]


def checked_state(
    state_dict: Mapping[str, Any],
    shapes: Mapping[str, tuple[int, ...]],
    dtype: np.dtype[Any],
    strict: bool,
) -> tuple[dict[str, Array], LoadResult]:
    """Copies of the parameters found, read-only; all that is wrong goes into one error.

    Raises TypeError where state_dict is no mapping or a value's dtype would lose digits, ValueError
    for names missing or unexpected (strict), for nothing that fits and for wrong shapes (always).
    """
    if not isinstance(state_dict, Mapping):
        raise TypeError(f"state_dict must be a mapping, got {type(state_dict).__name__}")
    given = dict.fromkeys(state_dict)
    present = dict.fromkeys(name for name in shapes if name in given)
    missing = [name for name in shapes if name not in present]
    unexpected = [str(name) for name in given if name not in shapes]
    found: dict[str, Array] = {}
    misshapen, mistyped = [], []
    for name in present:
        shape = shapes[name]
        value = to_numpy(name, state_dict[name])
        if value.shape == shape and value.dtype.kind == "f" and np.can_cast(value.dtype, dtype):
            found[name] = value = np.array(value, dtype=dtype, order="C")
            value.flags.writeable = False
        elif value.shape == shape:
            mistyped.append(f"{name} has dtype {value.dtype}, the model {dtype}")
        if value.shape != shape:  # of the copy too: the original is in other hands
            misshapen.append(f"{name} has shape {value.shape}, must have {shape}")
    problems = list(misshapen)
    if missing and (strict or not present):
        problems.append(f"missing: {listed(missing)}")
    if unexpected and (strict or not present):
        problems.append(f"unexpected: {listed(unexpected)}")
    if strict:
        problems += lone_biases(present, shapes)
    if problems:
        raise ValueError("state_dict does not fit: " + "; ".join([*problems, *mistyped]))
    if mistyped:
        raise TypeError(
            "state_dict would lose digits: " + "; ".join(mistyped) + "; convert the values first"
        )
    return found, LoadResult(missing, unexpected)
