# SPDX-License-Identifier: BSD-3-Clause
"""Reads an HDF5 file of Keras in a process of its own.

The HDF5 library may crash or run for ever on a damaged file, so `keras_files` runs this module as a
program: ``hdf5_child.py PATH SIZE``, the file in standard input where PATH is "-". What it puts out
is a line of JSON (a version, a configuration, names and shapes, or an error), and the bytes of the
arrays. It imports nothing of fastlstm.
"""

from __future__ import annotations

import importlib
import io
import json
import math
import resource
import sys
from typing import Any

_DEEPEST = 64  # groups in each other
_MOST_OBJECTS = 200_000  # of one file
_EXPANSION = 8  # bytes of arrays for each byte of the file, at most
_SQUEEZED = 1000  # bytes of an array for each byte that is stored of it, at most


class DamagedError(Exception):
    """Where something is wrong with the file, and what."""


class Datasets:
    """Groups and arrays of a file, by path; links to elsewhere are not followed."""

    def __init__(self, h5py: Any, root: Any, size: int) -> None:
        self._left = _EXPANSION * size
        self.groups: dict[str, Any] = {}
        self.datasets: dict[str, Any] = {}
        self.arrays: list[Any] = []

        def visit(name: str, found: Any) -> None:
            if name.count("/") > _DEEPEST or len(self.groups) + len(self.datasets) > _MOST_OBJECTS:
                raise DamagedError(name[:200], "too many groups, or too deep in each other")
            (self.groups if isinstance(found, h5py.Group) else self.datasets)[name] = found

        root.visititems(visit)  # hard links only, each object once

    def read(self, place: str) -> list[Any]:
        """Type and shape of an array, whose size the file's bears out; its bytes are kept."""
        found = self.datasets.get(place)
        if found is None:
            raise DamagedError(place, "is no array in the file")
        if found.is_virtual or found.external:
            raise DamagedError(place, "lies in another file, which is not read")
        dtype = found.dtype
        short = dtype.kind == "V" and dtype.itemsize == 2 and not dtype.subdtype  # bfloat16
        if found.shape is None or (dtype.kind not in "fiu" and not short) or dtype.fields:
            raise DamagedError(place, f"must be an array of numbers, has dtype {dtype}")
        wanted, stored = found.size * dtype.itemsize, found.id.get_storage_size()
        squeezed = found.chunks is not None and found.id.get_create_plist().get_nfilters()
        if wanted > (stored * _SQUEEZED if squeezed else stored) or wanted > self._left:
            what = f"must have {wanted} bytes by its shape {found.shape}, the file holds {stored}"
            raise DamagedError(place, what)
        self._left -= wanted
        array = found[()]
        self.arrays.append(array)
        return ["bfloat16" if short else array.dtype.str, list(array.shape)]


def text(holder: Any, name: str, most: int = 4096) -> str:
    """An attribute that is text; "" where there is none."""
    if name not in holder.attrs:
        return ""
    _check(holder, name, most)
    found = holder.attrs[name]
    if isinstance(found, bytes):
        return found.decode("utf-8")
    return found if isinstance(found, str) else ""


def names(holder: Any, name: str, most: int) -> list[str]:
    """An attribute that lists names, in one piece or in several (name0, name1 ...)."""
    pieces = [name] if name in holder.attrs else []
    while not pieces or pieces[-1] != name:
        piece = f"{name}{len(pieces)}"
        if piece not in holder.attrs:
            break
        pieces.append(piece)
    found: list[Any] = []
    for piece in pieces:
        _check(holder, piece, most)
        value = holder.attrs[piece]
        found += value.ravel().tolist() if hasattr(value, "ravel") else [value]
    return [item.decode("utf-8") if isinstance(item, bytes) else str(item) for item in found]


def _check(holder: Any, name: str, most: int) -> None:
    """An attribute's size is not beyond the file's."""
    found = holder.attrs.get_id(name)
    if math.prod(found.shape) * found.dtype.itemsize > max(most, 4096):
        raise DamagedError(name, "the attribute is larger than the file")


def read(h5py: Any, file: Any, size: int) -> tuple[dict[str, Any], list[Any]]:
    """What `keras_files.Contents` is made of, and the arrays in the order of their names."""
    with h5py.File(file, "r") as root:
        header: dict[str, Any] = {
            "version": text(root, "keras_version"),
            "config": text(root, "model_config", size),
        }
        sets = Datasets(h5py, root, size)
        base = "model_weights/" if "model_weights" in sets.groups else ""
        top = sets.groups.get("model_weights", root)
        if "layer_names" in top.attrs or "layer_names0" in top.attrs:
            lists = {}
            for name in names(top, "layer_names", size):
                group = sets.groups.get(base + name)
                if group is None:
                    raise DamagedError(base + name, "is named in layer_names and not there")
                own = names(group, "weight_names", size)
                lists[name] = [[one, *sets.read(f"{base}{name}/{one}")] for one in own]
            return {**header, "lists": lists}, sets.arrays
        paths = [[place, *sets.read(place)] for place in sets.datasets]
        called = {
            place: text(group, "name")
            for place, group in sets.groups.items()
            if place.endswith("vars") and "name" in group.attrs
        }
        return {**header, "paths": paths, "names": called}, sets.arrays


def _limit(size: int) -> None:
    """Of this process's memory and time, whatever the library does."""
    with open("/proc/self/statm", encoding="ascii") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + 12 * size + (64 << 20),) * 2)
    used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    seconds = int(used) + 2 + size // (20 << 20)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))


def main() -> None:
    """Read the file that the arguments name, and write what it holds."""
    h5py = importlib.import_module("h5py")

    path, size = sys.argv[1], int(sys.argv[2])
    file: Any = io.BytesIO(sys.stdin.buffer.read()) if path == "-" else open(path, "rb")  # noqa: SIM115
    arrays: list[Any] = []
    try:
        _limit(size)
        header, arrays = read(h5py, file, size)
    except DamagedError as error:
        header = {"error": list(error.args)}
    except Exception as error:  # the file decides what goes wrong
        header = {"error": ["", str(error).strip().split("\n")[0] or type(error).__name__]}
    sys.stdout.buffer.write(json.dumps(header).encode("ascii") + b"\n")
    for array in arrays:
        sys.stdout.buffer.write(array.tobytes())
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
