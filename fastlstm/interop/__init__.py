# SPDX-License-Identifier: BSD-3-Clause
"""Models in and out: recurrent layers of ONNX, Keras, PyTorch, TensorFlow Lite, RTNeural and NAM.

A reader (``from_...``) finds every LSTM, GRU and RNN of a model and gives an `Imported`: the
fastlstm objects by name, what stands around them, and notes on what was changed or is lost. A
writer (``to_...``) takes a fastlstm object.

>>> import fastlstm
>>> from fastlstm import interop
>>> lstm = fastlstm.LSTM(3, 4, num_layers=2, seed=0)
>>> checkpoint = {f"encoder.{name}": array for name, array in lstm.state_dict().items()}
>>> found = interop.from_torch(checkpoint, batch_first=True)
>>> found
state dict: PyTorch state dict
  name     layer                                                      parameters  in the file
  encoder  LSTM(3, 4, num_layers=2, batch_first=True, dtype=float32)         304
note: encoder: names with the prefix 'encoder.'
>>> model = found.model  # the only one; found.layers["encoder"] otherwise

``found.sequential()`` is the whole chain as a function, dense layers and all, where the file is a
plain chain. From a shell: ``python -m fastlstm inspect FILE``, ``convert`` and ``verify``. Each
format has a page of its own in the documentation, "Models of other formats".

Nothing here is imported with fastlstm, and a format's own library only by the function that needs
it; without it that function raises an ImportError that says what to install.
"""

from typing import TYPE_CHECKING

from .description import Layer, describe, stack
from .errors import FormatError, Unsupported
from .imported import Imported, Other

# Name -> the module that it stands in, imported when the name is first asked for.
_WHERE = {
    "from_keras": "keras_reader",
    "from_nam": "nam",
    "from_onnx": "onnx_reader",
    "from_rtneural": "rtneural",
    "from_tflite": "tflite_reader",
    "from_torch": "torch_format",
    "save_torch": "torch_files",
    "to_keras": "keras_writer",
    "to_onnx": "onnx_writer",
    "to_rtneural": "rtneural",
    "to_torch": "torch_format",
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
    "from_onnx",
    "from_rtneural",
    "from_tflite",
    "from_torch",
    "save_torch",
    "stack",
    "to_keras",
    "to_onnx",
    "to_rtneural",
    "to_torch",
]

if TYPE_CHECKING:
    from .keras_reader import from_keras
    from .keras_writer import to_keras
    from .nam import from_nam
    from .onnx_reader import from_onnx
    from .onnx_writer import to_onnx
    from .rtneural import from_rtneural, to_rtneural
    from .tflite_reader import from_tflite
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
