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
_WHERE = {
    "from_onnx": "onnx_reader",
    "from_torch": "torch_format",
    "save_torch": "torch_files",
    "to_onnx": "onnx_writer",
    "to_torch": "torch_format",
}

__all__ = [
    "FormatError",
    "Imported",
    "Layer",
    "Other",
    "Unsupported",
    "describe",
    "from_onnx",
    "from_torch",
    "save_torch",
    "stack",
    "to_onnx",
    "to_torch",
]

if TYPE_CHECKING:
    from .onnx_reader import from_onnx
    from .onnx_writer import to_onnx
    from .torch_files import save_torch
    from .torch_format import from_torch, to_torch
else:  # type checkers would take every name for one of ours

    def __getattr__(name):
        if name in _WHERE:
            import importlib

            return getattr(importlib.import_module(f".{_WHERE[name]}", __name__), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
