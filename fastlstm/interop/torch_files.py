# SPDX-License-Identifier: BSD-3-Clause
"""Files of PyTorch's state dicts: torch.save's and safetensors."""

from __future__ import annotations

import io
import operator
import os
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

import fastlstm
from fastlstm import file_kinds, loading, saving

from . import files
from .description import Array, Model, describe
from .errors import FormatError, library, reading
from .imported import Imported

# How a pickle asks for the class.
_BYTES = (b"cbuiltins\nbytearray\n", b"c__builtin__\nbytearray\n")
# Names of dtypes in safetensors files -> how NumPy reads their bytes (bfloat16: as integers).
_DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4",
    "I16": "<i2", "I8": "i1", "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?",
}  # fmt: skip


def save_torch(models: Model | Mapping[str, Model], path: str | os.PathLike[str]) -> None:
    """Write the state dict of a model, or of several under their names, for PyTorch.

    Parameters
    ----------
    models : model, or mapping of str to model
        What to write; names become prefixes, as those of modules.
    path : str or os.PathLike of str
        A file of torch.save (.pt, .pth, .bin), or a .safetensors file, which for one model holds
        its configuration too: `fastlstm.load` reads it.

    Raises
    ------
    OSError
        It cannot be written.
    ImportError
        PyTorch is needed and not installed.

    Examples
    --------
    >>> import torch
    >>> import fastlstm
    >>> from fastlstm import interop
    >>> interop.save_torch({"encoder": fastlstm.GRU(3, 4, bias=False, seed=0)}, "model.pt")
    >>> {name: tensor.shape for name, tensor in torch.load("model.pt").items()}
    {'encoder.weight_ih_l0': torch.Size([12, 3]), 'encoder.weight_hh_l0': torch.Size([12, 4])}
    """
    name = saving.name_of(path)
    if isinstance(models, Mapping):
        arrays = {
            f"{prefix}.{key}": values
            for prefix, model in models.items()
            for key, values in model.state_dict().items()
        }
    else:
        arrays = models.state_dict()
    if name.lower().endswith(".safetensors"):
        if not isinstance(models, Mapping) and hasattr(models, "save"):
            models.save(name)
            return
        import safetensors.numpy

        saving.write(name, safetensors.numpy.save(arrays))
        return
    torch = library("torch", "torch", "write files of PyTorch")
    buffer = io.BytesIO()
    tensors = {key: torch.from_numpy(values.copy()) for key, values in arrays.items()}
    torch.save(tensors, buffer)
    saving.write(name, buffer.getvalue())


def loaded(file: str) -> Mapping[str, Any] | Imported:
    """The mapping that a file holds, or what it is if it is one of ours."""
    if file.lower().endswith(".safetensors"):
        return _safetensors(file)
    torch = library("torch", "torch", "read files of torch.save (a .safetensors file needs none)")
    what = file_kinds.foreign(file)
    if what is not None and "torch.save" not in what:
        raise FormatError(file, "", what)
    data = files.contents(file)
    try:
        with reading(file, opened=True):
            _bounded(data)
            found = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except FormatError as error:
        if "weights_only" in error.what or "Weights only" in error.what:
            raise FormatError(
                file,
                "",
                "it holds more than weights (whole modules, for example), which only unpickling, "
                "that runs its code, would read: save module.state_dict() instead",
            ) from error
        raise
    if isinstance(found, Mapping):
        return found
    raise FormatError(file, "", f"it must hold a state dict, got {type(found).__name__}")


def _bounded(data: bytes) -> None:
    """Refuse an archive whose entries unpack to many times its size, and a pickle that makes bytes
    of a number, as many as it likes: PyTorch's reader of weights alone lets it."""
    pickles = [data]
    if zipfile.is_zipfile(io.BytesIO(data)):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            if sum(entry.file_size for entry in entries) > 2 * len(data) + (1 << 20):
                raise ValueError("its entries unpack to many times its bytes")
            pickles = [archive.read(each) for each in entries if each.filename.endswith(".pkl")]
    if any(made in pickle for pickle in pickles for made in _BYTES):
        raise ValueError("it makes a bytearray, which no state dict has")


def _safetensors(file: str) -> Mapping[str, Any] | Imported:
    """The arrays of a safetensors file; a model of ours with what it says."""
    import safetensors

    what = file_kinds.foreign(file)
    if what is not None:
        raise FormatError(file, "", what)
    with reading(file), safetensors.safe_open(file, framework="numpy") as opened:
        ours = saving.KEY in (opened.metadata() or {})
    if ours:
        with reading(file):
            model = loading.load(file)
            name = type(model).__name__.lower()
            version = f"fastlstm {fastlstm.__version__}"
            return Imported(
                file, "safetensors", version, "", {name: describe(model, name)}, order=[name]
            )
    found: dict[str, Array] = {}
    with reading(file):
        deserialize: Any = safetensors.deserialize
        for name, entry in sorted(deserialize(files.contents(file)), key=operator.itemgetter(0)):
            if entry["dtype"] not in _DTYPES:
                continue
            array = np.frombuffer(entry["data"], _DTYPES[entry["dtype"]]).reshape(entry["shape"])
            if entry["dtype"] == "BF16":  # the upper half of a float32
                array = (array.astype(np.uint32) << 16).view(np.float32)
            found[name] = array
    return found
