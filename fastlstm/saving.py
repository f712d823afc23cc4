# SPDX-License-Identifier: BSD-3-Clause
"""Models into safetensors files, with the configuration in the file's metadata."""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Mapping
from typing import Any

from .checks import Array

KEY = "fastlstm"
FORMAT = 1  # of the metadata; files without a number are of format 1, the first


def name_of(path: object) -> str:
    name = os.fspath(path) if isinstance(path, os.PathLike) else path
    if not isinstance(name, str):
        raise TypeError(f"path must be a str or an os.PathLike of one, got {type(path).__name__}")
    return name


def save(
    kind: str,
    config: Mapping[str, Any],
    params: dict[str, Array],
    path: str | os.PathLike[str],
) -> None:
    """Write the parameters and the configuration of a model, whose class is called `kind`, to
    `path`: all of them, or what was there stays.

    The file is written under a name of its own beside `path` and then renamed. What a link names is
    replaced, not the link; a file that is replaced hands on its mode, a new one has that of any new
    file.

    Raises TypeError for another kind of path, OSError where it cannot be written.
    """
    import safetensors.numpy

    name = name_of(path)
    metadata = {KEY: json.dumps({"format": FORMAT, "class": kind, **config})}
    write(name, safetensors.numpy.save(params, metadata))


def write(name: str, data: bytes) -> None:
    """The bytes into a file, which from one moment to the next is the new one."""
    try:
        old = os.stat(name)
    except FileNotFoundError:
        if not name:
            raise
        old = None
    if old is not None and not stat.S_ISREG(old.st_mode):  # a device, a pipe, or an error
        with open(name, "wb") as file:
            file.write(data)
        return
    if old is not None:
        with open(name, "r+b"):  # refused as any writing to it would be
            pass
    target = os.path.realpath(name) if os.path.islink(name) else name
    draft = os.path.join(os.path.dirname(target), f".fastlstm-{os.urandom(8).hex()}.tmp")
    try:
        # open's own mode for new files: what the umask leaves of 0o666
        with open(draft, "xb") as file:
            if old is not None:
                _hand_on(old, file.fileno())
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(draft)
        raise


def _hand_on(old: os.stat_result, to: int) -> None:
    """Owner, as far as this process may set it, and mode."""
    new = os.fstat(to)
    if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
        with contextlib.suppress(OSError):
            os.fchown(to, old.st_uid, old.st_gid)
    with contextlib.suppress(OSError):
        os.fchmod(to, stat.S_IMODE(old.st_mode))
