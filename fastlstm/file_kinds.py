# SPDX-License-Identifier: BSD-3-Clause
"""What a file is, by its first bytes: nothing in it is run or unpickled."""

from __future__ import annotations

import errno
import json
import os
import stat
import zipfile
from typing import BinaryIO

from .saving import name_of

_FROM_TORCH = (
    "give torch.load(path, weights_only=True) to fastlstm.LSTM.from_state_dict if it is a state "
    "dict or a checkpoint, the module to fastlstm.LSTM.from_torch if it is one"
)
_FROM_ARRAYS = "give its arrays, by torch's names, to fastlstm.LSTM.from_state_dict"
_FROM_KERAS = "fastlstm.interop.from_keras(path) reads it"
_UNPACK = "unpack it first"
_LONGEST_HEADER = 100_000_000  # bytes; the safetensors package reads no longer one

# First bytes, what such a file is, what to do with it.
_STARTS: list[tuple[bytes, str, str]] = [
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file, of Keras (.h5) for example", _FROM_KERAS),
    (b"\x93NUMPY", "a NumPy array (.npy)", _FROM_ARRAYS),
    (b"version https://git-lfs", "a pointer of Git LFS", "get the file itself with git lfs pull"),
    (b"GGUF", "a GGUF file", _FROM_ARRAYS),
    (b"\x1f\x8b", "a gzip archive", _UNPACK),
    (b"BZh", "a bzip2 archive", _UNPACK),
    (b"\xfd7zXZ\0", "an xz archive", _UNPACK),
    (b"(\xb5/\xfd", "a zstd archive", _UNPACK),
]
# After b"\x80" and the protocol of a pickle: the number that torch.save wrote first before 1.6.
_TORCH_MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
# After the version of an ONNX model (field 1): tags of its producer, domain, graph or operators.
_ONNX_TAGS = b"\x12\x1a\x22\x28\x32\x3a\x42"


def existing(path: str | os.PathLike[str]) -> str:
    """The path of a regular file as a str: whoever opens a pipe may wait for ever.

    Raises
    ------
    TypeError
        It is no path.
    OSError
        There is no such file, or it is a folder.
    ValueError
        It is a device or a pipe.
    """
    name = name_of(path)
    mode = os.stat(name).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "a model is a file, this is a folder", name)
    if not stat.S_ISREG(mode):
        raise ValueError(f"{name} cannot be loaded: it is a device or a pipe, no file")
    return name


def foreign(name: str) -> str | None:
    """What the file is and what to do with it; None for what may be a whole safetensors file.

    Raises OSError where it cannot be read.
    """
    with open(name, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        start = file.read(512)
        header = int.from_bytes(start[:8], "little")
        if start[8:9] == b"{" and header < 1 << 32:  # safetensors: length, then JSON
            if 8 + header > size:
                return f"it is a safetensors file cut short, or with a damaged header: {size} bytes"
            whole = _safetensors_size(file, header)
            if whole <= size:
                return None
            return f"it is a safetensors file cut short: it has {size} of {whole} bytes"
        what, advice = _kind(start, file)
    if not what:
        return None
    return f"it is {what}" + (f": {advice}" if advice else "")


def _safetensors_size(file: BinaryIO, header: int) -> int:
    """Bytes that the header asks for, or 0 where it is damaged."""
    if header > _LONGEST_HEADER:
        return 0
    file.seek(8)
    try:
        entries = json.loads(file.read(header))
        entries.pop("__metadata__", None)
        ends = [int(entry["data_offsets"][1]) for entry in entries.values()]
        return 8 + header + max(ends)
    except (MemoryError, OSError):
        raise
    except Exception:  # the file decides what goes wrong
        return 0


def _kind(start: bytes, file: BinaryIO) -> tuple[str, str]:
    """What the file is, or "", and what to do with it, or ""."""
    if not start:
        return "empty", ""
    for signature, what, advice in _STARTS:
        if start.startswith(signature):
            return what, advice
    if start[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return _zip_kind(file)
    if start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        if start[2:].startswith(_TORCH_MAGIC):
            return "a file of torch.save from before PyTorch 1.6", _FROM_TORCH
        return "a pickle", "unpickle it only if you trust its source"
    if start[257:262] == b"ustar":
        return "a tar archive", _UNPACK
    if start[4:8] == b"TFL3":
        return "a TensorFlow Lite model", "fastlstm.interop.from_tflite(path) reads it"
    if start[:1] == b"\x08" and len(start) > 2 and start[1] <= 32 and start[2] in _ONNX_TAGS:
        return "an ONNX model", "fastlstm.interop.from_onnx(path) reads it"
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text[:1] in (b"{", b"["):
        return "JSON", "give its lists, by torch's names, to from_state_dict with dtype=np.float32"
    if text[:1] == b"<":
        return "XML or HTML", "if it was downloaded, it may be an error page"
    return "", ""


def _zip_kind(file: BinaryIO) -> tuple[str, str]:
    """A zip archive by the names in it."""
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError):
        return "a zip archive, as torch.save writes, that was cut short or damaged", ""
    if names and all(name.endswith(".npy") for name in names):
        return "a NumPy archive (.npz)", (
            "give np.load(path) to fastlstm.LSTM.from_state_dict if its names are torch's"
        )
    if any(name.endswith(".weights.h5") for name in names):
        return "a Keras model (.keras)", _FROM_KERAS
    if any("/code/" in name or name.endswith("constants.pkl") for name in names):
        return "a TorchScript file", (
            "give torch.jit.load(path).state_dict() to fastlstm.LSTM.from_state_dict"
        )
    if any(name.rpartition("/")[2] == "data.pkl" for name in names):
        return "a file of torch.save", _FROM_TORCH
    if any("exported_program" in name or name.endswith("archive_format") for name in names):
        return "a program of torch.export", (
            "give torch.export.load(path).state_dict to fastlstm.LSTM.from_state_dict"
        )
    return "a zip archive", _UNPACK
