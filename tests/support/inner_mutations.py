# SPDX-License-Identifier: BSD-3-Clause
"""Files that are whole outside and damaged inside: entries of archives, values of JSON."""

from __future__ import annotations

import copy
import io
import json
import random
import zipfile
from pathlib import Path
from typing import Any

from fastlstm.interop import formats
from support import mutations

_VALUES: list[Any] = [
    None, True, False, -1, 0, 1, 2, 3, 1 << 31, 1 << 70, -(1 << 40), 0.5, 1e308, -1e-320,
    float("nan"), float("inf"), "", "LSTM", "relu", "\u00e9\0/..", [], {}, [[]], [[[1.0]]],
    {"class_name": "LSTM", "config": {}},
]  # fmt: skip


def read(path: Path) -> None:
    """A file through the importer that its name says, and all that can be asked of the result."""
    found = formats.read(str(path))
    assert repr(found)
    json.dumps(found.summary())
    if not found.branches and not found.unsupported:
        found.sequential()


def of_json(data: bytes, rng: random.Random) -> bytes:
    """JSON with some of its values changed, moved or left out."""
    found = json.loads(data)
    for _ in range(rng.choice([1, 1, 2, 3, 6])):
        _change(found, rng)
    return json.dumps(found).encode()


def _change(found: Any, rng: random.Random) -> None:
    """One value that is found on a walk by chance."""
    holder = found
    while True:
        keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        if not keys:
            return
        key = rng.choice(keys)
        if not isinstance(holder[key], (dict, list)) or rng.random() < 0.15:
            break
        holder = holder[key]
    how = rng.randrange(8)
    if how == 0:
        del holder[key]
    elif how == 1:
        other = rng.choice(keys)
        holder[key], holder[other] = holder[other], holder[key]
    elif how == 2 and isinstance(holder, list):
        holder.insert(key, copy.deepcopy(holder[key]))
    elif how == 3 and isinstance(holder, dict):
        holder[rng.choice(["name", "units", "class_name", "extra"])] = holder.pop(key)
    elif how == 4:
        holder[key] = [holder[key]]
    else:
        holder[key] = copy.deepcopy(rng.choice(_VALUES))


def of_entries(data: bytes, rng: random.Random) -> bytes:
    """A zip archive whose checksums are right, with one of its files changed or left out."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
    at = rng.randrange(len(entries))
    name, inside = entries[at]
    how = rng.randrange(12)
    if how == 0:
        del entries[at]
    elif how == 1:
        entries.append((name, mutations.of_bytes(inside, rng)))
    elif how < 7 and name.endswith(".json"):
        entries[at] = name, of_json(inside, rng)
    else:
        entries[at] = name, mutations.of_bytes(inside, rng)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for entry, inside in entries:
            archive.writestr(zipfile.ZipInfo(entry), inside, rng.choice([0, zipfile.ZIP_DEFLATED]))
    return packed.getvalue()
