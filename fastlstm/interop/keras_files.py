# SPDX-License-Identifier: BSD-3-Clause
"""What Keras's files hold: a configuration, a version, arrays. Nothing of them is run.

There are three kinds: ``.keras``, a zip archive of two JSON files and an HDF5 file; ``.h5`` of a
whole model, its configuration an attribute; and files of weights alone. Arrays lie under the
layer's name, in lists of names (Keras 2 and `.h5` of Keras 3), or under paths of classes (all other
files of Keras 3 and ``.keras`` of Keras 2).
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import math
import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from .errors import FormatError, library, reading
from .json_files import parsed

Array = NDArray[Any]
_EXPANSION = 8  # bytes of contents for each byte of a compressed file, at most


@dataclass(frozen=True, eq=False)
class Contents:
    """What a file of Keras holds."""

    file: str
    config: Any = None
    """of the model, from JSON; None where the file has weights alone"""
    version: str = ""
    lists: dict[str, list[tuple[str, Array]]] | None = None
    """layer -> names and arrays, in files that have such lists"""
    paths: dict[str, Array] = field(default_factory=dict)
    """path -> array, in files without lists"""
    names: dict[str, str] = field(default_factory=dict)
    """path of a layer -> its own name, where such a file says it"""


def read(path: str) -> Contents:
    """The contents of a file.

    Raises FormatError where it is none of Keras's, or damaged; OSError where it cannot be read.
    """
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        start = file.read(8)
        file.seek(0)
        if start.startswith(b"PK"):
            return _archive(path, file, size)
        if start == b"\x89HDF\r\n\x1a\n":
            return _hdf5(path, None, size)
        if start.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"{":
            with reading(path):
                config = parsed(file.read())
            version = config.get("keras_version", "")
            return Contents(path, config, version if isinstance(version, str) else "")
    what = "is empty" if not size else "begins as none of them does"
    raise FormatError(path, "", f"must be a .keras, .h5 or .json file of Keras: it {what}")


def _archive(path: str, file: BinaryIO, size: int) -> Contents:
    """A .keras file. Its entries are read by name into memory, nothing is unpacked."""
    with _damaged(path), zipfile.ZipFile(file) as archive:
        config = parsed(_entry(path, archive, "config.json", size))
        metadata = parsed(_entry(path, archive, "metadata.json", size))
        weights = _entry(path, archive, "model.weights.h5", size)
        version = metadata.get("keras_version", "") if isinstance(metadata, dict) else ""
    inside = f"{path}: model.weights.h5"
    found = _hdf5(inside, weights, len(weights))
    return Contents(
        path, config, version if isinstance(version, str) else "", None, found.paths, found.names
    )


@contextlib.contextmanager
def _damaged(path: str) -> Iterator[None]:
    """zipfile says OSError to some damaged archives: they become the file's."""
    with reading(path):
        try:
            yield
        except OSError as error:
            raise FormatError(path, "", str(error)) from error


def _entry(path: str, archive: zipfile.ZipFile, name: str, size: int) -> bytes:
    try:
        entry = archive.getinfo(name)
    except KeyError:
        has = ", ".join(sorted(archive.namelist())[:8]) or "nothing"
        what = f"is missing: a .keras file has it, this archive {has}"
        raise FormatError(path, name, what) from None
    most = _EXPANSION * size
    if entry.file_size > most:
        what = f"says that it has {entry.file_size} bytes, more than {most}, in {size} bytes"
        raise FormatError(path, name, what)
    with archive.open(entry) as inside:
        found = inside.read(entry.file_size + 1)
    if len(found) != entry.file_size:
        raise FormatError(path, name, f"must have {entry.file_size} bytes, has {len(found)}")
    return found


def _hdf5(path: str, data: bytes | None, size: int) -> Contents:
    """An HDF5 file, or one in memory, read in another process: see `hdf5_child`."""
    header, body = _child(path, data, size)
    if "error" in header:
        place, what = header["error"]
        raise FormatError(path, place, what)
    text = header["config"]
    with reading(path, "model_config"):
        config = parsed(text) if text else None
    arrays = _arrays(header, body)
    if "lists" in header:
        lists = {
            name: [(own[0], next(arrays)) for own in listed]
            for name, listed in header["lists"].items()
        }
        return Contents(path, config, header["version"], lists)
    paths = {_plain(place): next(arrays) for place, *_ in header["paths"]}
    names = {_plain(place).removesuffix("/vars"): own for place, own in header["names"].items()}
    if not paths:
        raise FormatError(path, "", "holds no arrays: it is no file of Keras, or an empty one")
    return Contents(path, config, header["version"], None, paths, names)


def _child(path: str, data: bytes | None, size: int) -> tuple[dict[str, Any], memoryview]:
    """What the other process puts out: its line of JSON, and the bytes of arrays."""
    status, output = _process(path, data, size)
    line, _, body = output.partition(b"\n")
    if status or not line:
        signals = {number.value: number.name for number in signal.Signals}
        why = signals.get(-status, f"status {status}")
        raise FormatError(path, "", f"the HDF5 library fails on it ({why}): it is damaged")
    return json.loads(line), memoryview(body)


def _process(path: str, data: bytes | None, size: int) -> tuple[int, bytes]:
    """How `hdf5_child` ends, minus the number of the signal that killed it, and what it puts out.

    Tests of many files put a process that is forked in its place.
    """
    if importlib.util.find_spec("h5py") is None:
        library("h5py", "keras", "read HDF5 files of Keras")
    program = os.path.join(os.path.dirname(__file__), "hdf5_child.py")
    command = [sys.executable, "-P", program, os.path.abspath(path) if data is None else "-"]
    command.append(str(size))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    environment["OPENBLAS_NUM_THREADS"] = "1"
    try:
        done = subprocess.run(
            command,
            input=b"" if data is None else data,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            timeout=60 + size / 1e6,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise FormatError(path, "", "the HDF5 library does not come to an end with it") from None
    return done.returncode, done.stdout


def _arrays(header: dict[str, Any], body: memoryview) -> Iterator[Array]:
    """The arrays that the header names, one after another."""
    listed = [own for rows in header.get("lists", {}).values() for own in rows]
    at = 0
    for _, kind, shape in listed or header.get("paths", []):
        dtype = np.dtype("<u2" if kind == "bfloat16" else kind)
        count = math.prod(shape)
        array: Array = np.frombuffer(body, dtype, count, at).reshape(shape)
        at += count * dtype.itemsize
        if kind == "bfloat16":  # the upper half of a float32
            yield (array.astype(np.uint32) << 16).view(np.float32)
            continue
        yield array.astype(dtype.newbyteorder("="))


def _plain(place: str) -> str:
    """The path of an array as all files but those of the first Keras 3 and of Windows have it."""
    return place.replace("\\", "/").replace("_layer_checkpoint_dependencies/", "layers/")
