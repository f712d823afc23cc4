# SPDX-License-Identifier: BSD-3-Clause
"""Names of test cases that are the same in every process, as pytest-xdist needs them."""

from __future__ import annotations

import re


def label(value: object) -> str:
    """What a value looks like, without its address."""
    return re.sub(" at 0x[0-9a-f]+", "", repr(value))
