# SPDX-License-Identifier: BSD-3-Clause
"""The formats by the endings of their files: what the command line goes by."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .imported import Imported


@dataclass(frozen=True)
class Format:
    """How files of one format are read and written, each by a function of a module of this room."""

    name: str
    suffixes: tuple[str, ...]
    """endings, lower case"""
    reader: str
    """"module:function", which takes a path and gives an `Imported`"""
    writer: str = ""
    """"module:function", which takes a fastlstm object and a path; "": none writes it"""
    verifier: str = ""
    """"module:function", which takes a path and gives name -> largest difference between the
    format's own engine and fastlstm on random input; "": there is no such engine"""
    several: bool = False
    """whether the writer takes name -> object as well"""
    external: bool = False
    """whether reader and verifier take `external_data`: weights in other files"""


FORMATS = (
    Format(
        "ONNX",
        (".onnx",),
        "onnx_reader:from_onnx",
        "onnx_writer:to_onnx",
        "onnx_verify:verify",
        external=True,
    ),
    Format(
        "PyTorch",
        (".pt", ".pth", ".bin"),
        "torch_format:from_torch",
        "torch_files:save_torch",
        "torch_format:verify",
        several=True,
    ),
    Format(
        "safetensors",
        (".safetensors",),
        "torch_format:from_torch",
        "torch_files:save_torch",
        "torch_format:verify",
        several=True,
    ),
    Format(
        "Keras",
        (".keras",),
        "keras_reader:from_keras",
        "keras_writer:to_keras",
        "keras_verify:verify",
    ),
    Format("Keras weights", (".weights.h5",), "keras_reader:from_keras", "keras_writer:to_keras"),
    Format("Keras HDF5", (".h5", ".hdf5"), "keras_reader:from_keras", "", "keras_verify:verify"),
    Format("TFLite", (".tflite",), "tflite_reader:from_tflite", "", "tflite_verify:verify"),
    Format("RTNeural", (".json", ".aidax"), "rtneural:from_rtneural", "rtneural:to_rtneural"),
    Format("NAM", (".nam",), "nam:from_nam"),
)


def function(place: str) -> Callable[..., Any]:
    """What "module:function" names."""
    module, _, name = place.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(f".{module}", __package__), name)
    return found


def format_of(path: str) -> Format:
    """The format that the path's ending says; ValueError lists the endings there are."""
    name = os.path.basename(path).lower()
    fit = [(end, form) for form in FORMATS for end in form.suffixes if name.endswith(end)]
    if not fit:
        ends = ", ".join(end for form in FORMATS for end in form.suffixes)
        raise ValueError(f"{path}: its name must end in one of {ends}")
    return max(fit, key=lambda pair: len(pair[0]))[1]


def read(path: str, external_data: bool = False) -> Imported:
    """What the file holds, whichever of the formats it is."""
    form = format_of(path)
    found: Imported = function(form.reader)(path, **options(form, path, external_data))
    return found


def options(form: Format, path: str, external_data: bool) -> dict[str, bool]:
    """What a reader or verifier is told beside the path; ValueError where that means nothing."""
    if not external_data:
        return {}
    if not form.external:
        raise ValueError(f"{path}: {form.name} files keep no weights in other files")
    return {"external_data": True}
