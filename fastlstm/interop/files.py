# SPDX-License-Identifier: BSD-3-Clause
"""Files as all importers open them."""

from __future__ import annotations

import os

from fastlstm.file_kinds import existing


def contents(path: str | os.PathLike[str]) -> bytes:
    """All bytes of a regular file; errors as of `existing`."""
    with open(existing(path), "rb") as file:
        return file.read()
