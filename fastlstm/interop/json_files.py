# SPDX-License-Identifier: BSD-3-Clause
"""JSON files of models: their numbers as arrays."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import FormatError, reading
from .files import contents

Array = NDArray[Any]
_EXPANSION = 8  # bytes of lists and names for each byte of text, at most
_SLACK = 4 << 20  # bytes of them that any file may have


def parsed(data: bytes | str) -> Any:
    """What JSON holds; ValueError where it takes many times its bytes: empty lists, for example."""
    text = data if isinstance(data, str) else data.decode("utf-8-sig")
    needed = 64 * (text.count("[") + text.count("{")) + 100 * text.count(":")
    if needed > _EXPANSION * len(text) + _SLACK:
        raise ValueError("it has too many lists or names for its size")
    return json.loads(text)


def read(source: Any) -> tuple[str, Mapping[str, Any]]:
    """A file's name and the mapping in it; a mapping is taken as it is.

    Raises FormatError where there is none, OSError where the file cannot be read, TypeError for
    something else than a path or a mapping.
    """
    if isinstance(source, Mapping):
        return "mapping", source
    if not isinstance(source, (str, os.PathLike)):
        raise TypeError(f"source must be a path or a mapping, got {type(source).__name__}")
    path = os.fspath(source)
    data = contents(path)
    with reading(path):
        found = parsed(data)
    if not isinstance(found, Mapping):
        raise FormatError(path, "", f"must hold a JSON object, got {type(found).__name__}")
    return path, found


def array(file: str, place: str, value: Any) -> Array:
    """Numbers, or lists of them in each other, in float32; FormatError where they are none."""
    with reading(file, place):
        found = np.asarray(value)
    if found.dtype.kind not in "fiu":
        raise FormatError(file, place, "must be numbers, or lists of them of one length")
    with np.errstate(over="ignore"):
        made = found.astype(np.float32)
    if not np.isfinite(made).all():
        raise FormatError(file, place, "must be finite numbers of float32")
    return made


def number(file: str, place: str, value: Any) -> float:
    """A finite number."""
    plain = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not plain or not abs(value) < 1e30:
        raise FormatError(file, place, f"must be a finite number, got {value!r:.40}")
    return float(value)


def whole(file: str, place: str, value: Any, least: int = 0, most: int = 1 << 24) -> int:
    """An integer within bounds; the only or last one of a list, too."""
    while isinstance(value, list) and value:
        value = value[-1]
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise FormatError(
            file, place, f"must be an integer from {least} to {most}, got {value!r:.40}"
        )
    return value
