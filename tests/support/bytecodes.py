# SPDX-License-Identifier: BSD-3-Clause
"""Something happens before a bytecode of our Python code, as a signal's handler would run there."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import fastlstm

OURS = str(Path(fastlstm.__file__).parent)


@contextlib.contextmanager
def before_bytecode(n: int, act: Callable[[], object]) -> Iterator[None]:
    """Calls `act` once, before the n-th bytecode (from 0) of ours that runs inside."""
    left = n

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal left
        if not frame.f_code.co_filename.startswith(OURS):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            left -= 1
            if left < 0:
                sys.settrace(None)
                act()
        return trace

    outer = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(outer)
