# SPDX-License-Identifier: BSD-3-Clause
"""What Keras's files hold: a configuration, a version, arrays. Nothing of them is run.

There are three kinds: ``.keras``, a zip archive of two JSON files and an HDF5 file; ``.h5`` of a
whole model, its configuration an attribute; and files of weights alone. Arrays lie under the
layer's name, in lists of names (Keras 2 and `.h5` of Keras 3), or under paths of classes (all other
files of Keras 3 and ``.keras`` of Keras 2).
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from .errors import FormatError, library, reading

Array = NDArray[Any]
_DEEPEST = 64  # groups in each other
_MOST_OBJECTS = 200_000  # of one file
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
            return _hdf5(path, file, size)
        if start.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"{":
            with reading(path):
                config = json.loads(file.read().decode("utf-8-sig"))
            version = config.get("keras_version", "")
            return Contents(path, config, version if isinstance(version, str) else "")
    what = "is empty" if not size else "begins as none of them does"
    raise FormatError(path, "", f"must be a .keras, .h5 or .json file of Keras: it {what}")


def _archive(path: str, file: BinaryIO, size: int) -> Contents:
    """A .keras file. Its entries are read by name into memory, nothing is unpacked."""
    with reading(path), zipfile.ZipFile(file) as archive:
        config = json.loads(_entry(path, archive, "config.json", size))
        metadata = json.loads(_entry(path, archive, "metadata.json", size))
        weights = _entry(path, archive, "model.weights.h5", size)
        version = metadata.get("keras_version", "") if isinstance(metadata, dict) else ""
    inside = f"{path}: model.weights.h5"
    found = _hdf5(inside, io.BytesIO(weights), len(weights))
    return Contents(
        path, config, version if isinstance(version, str) else "", None, found.paths, found.names
    )


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


def _hdf5(path: str, file: BinaryIO, size: int) -> Contents:
    h5py = library("h5py", "keras", "read HDF5 files of Keras")
    with _library_errors(path), h5py.File(file, "r") as root:
        version = _text(root, "keras_version")
        text = _text(root, "model_config", size)
        with reading(path, "model_config"):
            config = json.loads(text) if text else None
        sets = _Datasets(h5py, path, root, size)
        base = "model_weights/" if "model_weights" in sets.groups else ""
        top = sets.groups.get("model_weights", root)
        if "layer_names" in top.attrs or "layer_names0" in top.attrs:
            lists = {}
            for name in _list(top, "layer_names", size):
                group = sets.groups.get(base + name)
                if group is None:
                    raise FormatError(path, base + name, "is named in layer_names and not there")
                inside = [
                    (own, f"{base}{name}/{own}") for own in _list(group, "weight_names", size)
                ]
                lists[name] = [(own, sets.read(place)) for own, place in inside]
            return Contents(path, config, version, lists)
        paths = {_plain(place): sets.read(place) for place in sets.datasets}
        names = {
            _plain(place).removesuffix("/vars"): _text(group, "name")
            for place, group in sets.groups.items()
            if place.endswith("vars") and "name" in group.attrs
        }
    if not paths:
        raise FormatError(path, "", "holds no arrays: it is no file of Keras, or an empty one")
    return Contents(path, config, version, None, paths, names)


@contextlib.contextmanager
def _library_errors(path: str) -> Iterator[None]:
    """The HDF5 library says OSError to damaged files: they become the file's."""
    with reading(path):
        try:
            yield
        except OSError as error:
            raise FormatError(path, "", str(error).split("\n")[0]) from error


def _plain(place: str) -> str:
    """The path of an array as all files but those of the first Keras 3 and of Windows have it."""
    return place.replace("\\", "/").replace("_layer_checkpoint_dependencies/", "layers/")


class _Datasets:
    """Groups and arrays of an HDF5 file, by path; links to elsewhere are not followed."""

    def __init__(self, h5py: Any, path: str, root: Any, size: int) -> None:
        self._path, self._size, self._left = path, size, _EXPANSION * size
        self.groups: dict[str, Any] = {}
        self.datasets: dict[str, Any] = {}

        def visit(name: str, found: Any) -> None:
            if name.count("/") > _DEEPEST or len(self.groups) + len(self.datasets) > _MOST_OBJECTS:
                raise FormatError(path, name, "too many groups, or too deep in each other")
            (self.groups if isinstance(found, h5py.Group) else self.datasets)[name] = found

        root.visititems(visit)  # hard links only, each object once

    def read(self, place: str) -> Array:
        """An array, whose size the file's bears out."""
        found = self.datasets.get(place)
        if found is None:
            raise FormatError(self._path, place, "is no array in the file")
        if found.is_virtual or found.external:
            raise FormatError(self._path, place, "lies in another file, which is not read")
        dtype = found.dtype
        if found.shape is None or dtype.kind not in "fiu" or dtype.fields:
            raise FormatError(self._path, place, f"must be an array of numbers, has dtype {dtype}")
        wanted, stored = found.size * dtype.itemsize, found.id.get_storage_size()
        squeezed = found.chunks is not None and found.id.get_create_plist().get_nfilters()
        if wanted > (stored * 1000 if squeezed else stored) or wanted > self._left:
            what = f"must have {wanted} bytes by its shape {found.shape}, the file holds {stored}"
            raise FormatError(self._path, place, what)
        self._left -= wanted
        with reading(self._path, place):
            array: Array = np.asarray(found[()])
        return array


def _text(holder: Any, name: str, most: int = 4096) -> str:
    """An attribute that is text; "" where there is none."""
    if name not in holder.attrs:
        return ""
    _check_attribute(holder, name, most)
    found = holder.attrs[name]
    if isinstance(found, bytes):
        return found.decode("utf-8")
    return found if isinstance(found, str) else ""


def _check_attribute(holder: Any, name: str, most: int) -> None:
    """Its size is not beyond the file's."""
    found = holder.attrs.get_id(name)
    if math.prod(found.shape) * found.dtype.itemsize > max(most, 4096):
        raise ValueError(f"its attribute {name} is larger than the file")


def _list(holder: Any, name: str, most: int) -> list[str]:
    """An attribute that lists names, in one piece or in several (name0, name1 ...)."""
    pieces = [name] if name in holder.attrs else []
    while not pieces or pieces[-1] != name:
        piece = f"{name}{len(pieces)}"
        if piece not in holder.attrs:
            break
        pieces.append(piece)
    found: list[Any] = []
    for piece in pieces:
        _check_attribute(holder, piece, most)
        found += np.asarray(holder.attrs[piece]).ravel().tolist()
    return [item.decode("utf-8") if isinstance(item, bytes) else str(item) for item in found]
