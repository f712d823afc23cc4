# SPDX-License-Identifier: BSD-3-Clause
"""Models in and out: recurrent layers of other formats as fastlstm's, and back.

Nothing here is imported with fastlstm, and a format's own library only by the function that needs
it.
"""

from typing import TYPE_CHECKING

from .description import Layer, describe, stack
from .errors import FormatError, Unsupported
from .imported import Imported, Other

# Name -> the module that it stands in, imported when the name is first asked for.
_WHERE: dict[str, str] = {
    "from_keras": "keras_reader",
    "from_nam": "nam",
    "from_rtneural": "rtneural",
    "from_tflite": "tflite_reader",
    "to_keras": "keras_writer",
    "to_rtneural": "rtneural",
}

__all__ = [
    "FormatError",
    "Imported",
    "Layer",
    "Other",
    "Unsupported",
    "describe",
    "from_keras",
    "from_nam",
    "from_rtneural",
    "from_tflite",
    "stack",
    "to_keras",
    "to_rtneural",
]

if not TYPE_CHECKING:  # which else would take every name for one of ours

    def __getattr__(name):
        if name in _WHERE:
            import importlib

            return getattr(importlib.import_module(f".{_WHERE[name]}", __name__), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
