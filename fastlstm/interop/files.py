# SPDX-License-Identifier: BSD-3-Clause
"""Files as all importers open them."""

from __future__ import annotations

import errno
import os
import stat


def name_of(path: str | os.PathLike[str]) -> str:
    """The path of an existing regular file as a str.

    Raises
    ------
    TypeError
        It is no path.
    OSError
        There is no such file, or it is a folder.
    ValueError
        It is a device or a pipe.
    """
    name = os.fspath(path)
    if not isinstance(name, str):
        raise TypeError(f"path must be a str or an os.PathLike of one, got {type(path).__name__}")
    mode = os.stat(name).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "a model is a file, this is a folder", name)
    if not stat.S_ISREG(mode):
        raise ValueError(f"{name} must be a regular file, not a device or a pipe")
    return name


def contents(path: str | os.PathLike[str]) -> bytes:
    """All bytes of a regular file; errors as of `name_of`."""
    with open(name_of(path), "rb") as file:
        return file.read()
