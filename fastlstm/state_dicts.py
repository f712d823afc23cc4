# SPDX-License-Identifier: BSD-3-Clause
"""Models from state dicts and checkpoints, whose names and shapes say what they are of."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from . import checks, weights
from .checks import Array
from .options import LSTMOptions
from .spec import CELLS, NORMS, PEEPHOLES, Spec

_KIND = "(?:weight_(?:ih|hh|hr|ci|cf|co)|bias_(?:ih|hh))"
_NORM = "weight_n[xhc]?|bias_nc"
_NAME = re.compile(f"({_KIND}|{_NORM})(?:_l([0-9]{{1,4}})(_reverse)?)?")
# What parametrizations, pruning and weight_norm keep in place of a weight.
_PARTS = re.compile(
    rf"(.*\.|)(?:parametrizations\.({_KIND}\w*)\..*|({_KIND}\w*)_(?:orig|mask|g|v|u))", re.DOTALL
)
_WRAPPERS = re.compile(r"(?:module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
_DEPTH = 4  # of mappings in each other that a checkpoint is looked through for


@dataclass
class Found:
    """Names in one mapping that belong to one layer, or to something like it."""

    mapping: Mapping[Any, Any]
    path: str  # how to get from what was given to the mapping: "['state_dict']"
    prefix: str
    names: list[str] = field(default_factory=list)  # without the prefix
    parts: set[str] = field(default_factory=set)  # weights of which the mapping has parts only
    values: dict[str, Array] = field(default_factory=dict)  # what was read already
    lists: set[str] = field(default_factory=set)  # names whose values were lists of numbers

    def read(self, name: str) -> Array:
        """The value of a name, which the mapping is asked for once; a list becomes float64."""
        if name not in self.values:
            key = self.prefix + name
            value = self.mapping[key]
            if isinstance(value, (list, tuple)):
                self.lists.add(name)
                self.values[name] = _numbers(key, value)
            else:
                self.values[name] = weights.to_numpy(key, value)
        return self.values[name]

    def is_layer(self) -> bool:
        """Whether names are there that every layer has; others may have a ``weight_n``, too."""
        return bool(self.parts) or any("_ih" in name or "_hh" in name for name in self.names)

    def gates(self) -> int:
        """Rows of a recurrent weight for each hidden unit: 4 for an LSTM; 0 if they do not say."""
        for name in self.names:
            if name.startswith("weight_hh"):
                shape, wide = self.read(name).shape, name.replace("hh", "hr")
                reader = self.read(wide).shape if wide in self.names else shape  # its columns are H
                both = len(shape) == 2 and len(reader) == 2 and reader[1] > 0
                return shape[0] // reader[1] if both else 0
        return 0

    def __str__(self) -> str:
        return f"{self.prefix!r}" + (f" in state_dict{self.path}" if self.path else "")


def model_of(
    state_dict: object,
    prefix: object,
    dtype: DTypeLike | None,
    kind: str,
    cell: str,
    options: LSTMOptions | None = None,
) -> tuple[dict[str, Any], dict[str, Array]]:
    """The constructor's arguments that names and shapes say, and the parameters.

    `kind` is what messages call the layer, `cell` what it is to `Spec`; what `options` name must
    have its weights. Raises as `LSTM.from_state_dict`.
    """
    if not isinstance(state_dict, Mapping):
        hint = ": hand over its state_dict()" if hasattr(state_dict, "state_dict") else ""
        raise TypeError(f"state_dict must be a mapping, got {type(state_dict).__name__}{hint}")
    if prefix is not None and not isinstance(prefix, str):
        raise TypeError(f"prefix must be a str or None, got {type(prefix).__name__}")
    wanted = None if dtype is None else checks.real_dtype(dtype)
    found = _chosen(search(state_dict), prefix, state_dict, kind, CELLS[cell].gates)
    names = _layer_names(found, kind)
    config, shapes = _sizes(found, names, cell, options)
    arrays = {name: _converted(found, names[name], wanted) for name in shapes}
    if wanted is None:
        wide = any(array.dtype == np.float64 for array in arrays.values())
        wanted = checks.FLOAT64 if wide else checks.FLOAT32
    return {**config, "dtype": wanted}, arrays


def search(state_dict: Mapping[Any, Any]) -> list[Found]:
    """Every layer by its names, in the outermost mappings that have any."""
    found: list[Found] = []
    todo, seen = [(state_dict, "", 0)], [state_dict]
    while todo:
        mapping, path, depth = todo.pop(0)
        groups: dict[str, Found] = {}
        keys = [key for key in mapping if isinstance(key, str)]
        for key in keys:
            head, dot, last = key.rpartition(".")
            part = _PARTS.fullmatch(key)
            if part:
                group = groups.setdefault(part[1], Found(mapping, path, part[1]))
                group.parts.add(part[2] or part[3])
            elif _NAME.fullmatch(last):
                group = groups.setdefault(head + dot, Found(mapping, path, head + dot))
                group.names.append(last)
        layers = [group for group in groups.values() if group.is_layer()]
        found += layers
        if layers or depth == _DEPTH:
            continue
        for key in keys:
            value = mapping[key]
            if isinstance(value, Mapping) and all(value is not other for other in seen):
                seen.append(value)
                todo.append((value, f"{path}[{key!r}]", depth + 1))
    return found


def _chosen(
    found: list[Found],
    prefix: str | None,
    state_dict: Mapping[Any, Any],
    kind: str,
    gates: int,
) -> Found:
    """The one that the prefix means, or the only one."""
    if not found:
        names = weights.listed([repr(key) for key in state_dict], 8) or "nothing"
        raise ValueError(f"state_dict has no {kind}, no name such as weight_ih_l0: it has {names}")
    if prefix is None:
        fit = found if len(found) == 1 else [f for f in found if f.gates() in (0, gates)]
        fit = fit or found
    else:
        fit = [f for f in found if f.prefix in (prefix, f"{prefix}." if prefix else "")]
        bare = _bare(prefix)
        fit = fit or [f for f in found if _bare(f.prefix) == bare]
    if len(fit) == 1:
        return fit[0]
    if not fit:
        raise ValueError(f"prefix must be one of {_places(found)}, got {prefix!r}")
    if prefix is None:
        raise ValueError(f"state_dict has several {kind}s: prefix must be one of {_places(fit)}")
    raise ValueError(f"prefix {prefix!r} fits several {kind}s: hand over one of {_places(fit)}")


def _places(found: list[Found]) -> str:
    return weights.listed(sorted(str(f) for f in found))


def _bare(prefix: str) -> str:
    """Without what DataParallel, torch.compile and the like put into names; ends with a dot."""
    return _WRAPPERS.sub("", f"{prefix}." if prefix and not prefix.endswith(".") else prefix)


def _layer_names(found: Found, kind: str) -> dict[str, str]:
    """Name of each parameter of a layer -> its name there; ValueError where names are none's."""
    prefix = found.prefix
    if found.parts:
        raise ValueError(
            f"state_dict has only parts of {prefix}{min(found.parts)}, which a parametrization or "
            f"pruning makes a weight of: use {kind}.from_torch(module), or remove it from the "
            "module first (remove_parametrizations, prune.remove)"
        )
    names: dict[str, str] = {}
    unexpected = []
    for key in found.mapping:
        if not isinstance(key, str) or not key.startswith(prefix):
            continue
        match = _NAME.fullmatch(key[len(prefix) :])
        if match is None:
            unexpected.append(key)
            continue
        name = f"{match[1]}_l{int(match[2] or 0)}{match[3] or ''}"
        odd = match[1] == "weight_hr" and kind != "LSTM"
        if odd or name in names or match[0] not in (name, name.removesuffix("_l0")):
            unexpected.append(key)
        names.setdefault(name, match[0])
    if unexpected:
        raise ValueError(
            f"state_dict has names beside those of its {kind} under {prefix!r}: "
            f"{weights.listed(unexpected)}; hand over a mapping without them if they belong to "
            "something else"
        )
    return names


def _sizes(
    found: Found, names: Mapping[str, str], cell: str, options: LSTMOptions | None
) -> tuple[dict[str, Any], dict[str, tuple[int, ...]]]:
    """Arguments, and the shape of every parameter, which are all there in these shapes."""
    prefix, gates = found.prefix, CELLS[cell].gates
    layers = 1 + max(int(match[2] or 0) for match in map(_NAME.fullmatch, names) if match)
    both = any(name.endswith("_reverse") for name in names)
    bias = any(name.startswith(("bias_ih", "bias_hh")) for name in names)
    _check_options(prefix, names, gates, options)
    projected = any(name.startswith("weight_hr") for name in names)
    expected = Spec(
        cell, 1, 2, layers, 1 + both, bias, proj_size=int(projected), options=options
    ).shapes
    hints = weights.lone_biases(names, names)
    missing = [name for name in expected if name not in names]
    if not names.keys() & set(names.values()):  # a cell's
        missing = [name.removesuffix("_l0") for name in missing]
        hints = [hint.replace("_l0", "") for hint in hints]
    if missing:
        under = f" under {prefix!r}" if prefix else ""
        problems = [f"missing{under}: {weights.listed(missing)}", *hints]
        raise ValueError("state_dict does not fit: " + "; ".join(problems))
    shapes = {name: found.read(there).shape for name, there in names.items()}
    w_hh, w_ih = shapes["weight_hh_l0"], shapes["weight_ih_l0"]
    if projected:
        hidden, proj_size = _projection(found, names, shapes)
    else:
        hidden, proj_size = w_hh[1] if len(w_hh) == 2 else 0, 0
    if len(w_hh) != 2 or len(w_ih) != 2 or w_hh[0] != gates * hidden:
        like = {4: "four gates, as an LSTM has", 3: "three gates, as a GRU has"}
        like[1] = "one gate, as an RNN has"
        rows = w_hh[0] / w_hh[1] if len(w_hh) == 2 and w_hh[1] else 0
        other = f": {like[rows]}" if rows in like and rows != gates else ""
        height = f"{gates} H" if gates > 1 else "H"
        width = f"{proj_size}" if projected else "H"
        raise ValueError(
            f"{prefix}{names['weight_hh_l0']} must have shape ({height}, {width}) and "
            f"{prefix}{names['weight_ih_l0']} ({height}, I), got {w_hh} and {w_ih}{other}"
        )
    expected = Spec(
        cell, w_ih[1], hidden, layers, 1 + both, bias, proj_size=proj_size, options=options
    ).shapes
    wrong = [
        f"{prefix}{names[name]} has shape {shapes[name]}, must have {shape}"
        for name, shape in expected.items()
        if shapes[name] != shape
    ]
    if wrong:
        raise ValueError("state_dict does not fit: " + "; ".join(wrong))
    config = {"input_size": w_ih[1], "hidden_size": hidden, "num_layers": layers}
    config |= {"proj_size": proj_size} if projected else {}
    return {**config, "bias": bias, "bidirectional": both}, expected


def _check_options(
    prefix: str, names: Mapping[str, str], gates: int, options: LSTMOptions | None
) -> None:
    """There are no parameters but those that the options name."""
    peepholes, form = (False, None) if options is None else (options.peepholes, options.layer_norm)
    for name, there in names.items():
        kind, needs = name.partition("_l")[0], ""
        if kind in PEEPHOLES and not peepholes:
            what, needs = "a peephole's weight", "peepholes=True"
        for other, parts in NORMS.items():
            if kind in parts and other != form:
                what, needs = "of a layer normalisation", f"layer_norm={other!r}"
        if needs:
            how = f"hand over options=LSTMOptions({needs}, ...)"
            only = "only an LSTM has them"
            raise ValueError(f"{prefix}{there} is {what}: {how if gates == 4 else only}")


def _projection(
    found: Found, names: Mapping[str, str], shapes: Mapping[str, tuple[int, ...]]
) -> tuple[int, int]:
    """H and P, which the first projection says."""
    w_hr = shapes["weight_hr_l0"]
    if len(w_hr) != 2 or not 0 < w_hr[0] < w_hr[1]:
        raise ValueError(
            f"{found.prefix}{names['weight_hr_l0']} must have shape (P, H) with 0 < P < H, "
            f"got {w_hr}"
        )
    return w_hr[1], w_hr[0]


def _numbers(key: str, value: object) -> Array:
    """A list of numbers, or of lists of them, as float64."""
    try:
        numbers = np.asarray(value)
        if numbers.dtype.kind in "fiu":
            return numbers.astype(np.float64)
        reason = f"one of {numbers.dtype}"
    except MemoryError:
        raise
    except Exception as error:
        reason = str(error)
    raise TypeError(f"{key} must be an array or a list of numbers, got {reason}")


def _converted(found: Found, name: str, dtype: np.dtype[Any] | None) -> Array:
    """The value in `dtype`; where that is None, in its own, which float64 holds."""
    value, key = found.read(name), found.prefix + name
    if dtype is None:
        if name in found.lists:
            raise TypeError(
                f"{key} is a list of numbers: say of which dtype, np.float32 for example"
            )
        if value.dtype.kind != "f" or not np.can_cast(value.dtype, np.float64):
            raise TypeError(f"{key} must have a float dtype of 64 bits at most, got {value.dtype}")
        return value
    if value.dtype.kind != "f":
        raise TypeError(f"{key} must have a float dtype, got {value.dtype}")
    with np.errstate(over="ignore"):
        converted = value.astype(dtype)
    if np.any(np.isinf(converted) & np.isfinite(value)):
        raise ValueError(f"{key} has values that are beyond {dtype}")
    return converted
