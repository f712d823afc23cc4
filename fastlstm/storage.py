# SPDX-License-Identifier: BSD-3-Clause
"""Models in safetensors files, with the configuration in the file's metadata."""

from __future__ import annotations

import json
import os
import warnings
from typing import TYPE_CHECKING, Any

from . import checks

if TYPE_CHECKING:
    from .lstm import LSTM

KEY = "fastlstm"


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ImportError as error:
        raise ImportError(
            "saving and loading needs the safetensors package: pip install fastlstm[safetensors]"
        ) from error
    return safetensors


def _name(path: object) -> str:
    name = os.fspath(path) if isinstance(path, os.PathLike) else path
    if not isinstance(name, str):
        raise TypeError(f"path must be a str or an os.PathLike of one, got {type(path).__name__}")
    return name


def save(lstm: LSTM, path: str | os.PathLike[str]) -> None:
    """Write parameters and configuration to `path`, as any file is written: what was there is lost.

    Raises TypeError for another kind of path, OSError where it cannot be written, ImportError
    without the safetensors package.
    """
    name = _name(path)
    metadata = {KEY: json.dumps({"class": "LSTM", **lstm.config()})}
    data = _safetensors().numpy.save(lstm.state_dict(), metadata)
    with open(name, "wb") as file:
        file.write(data)


def load(path: str | os.PathLike[str]) -> LSTM:
    """The `LSTM` that `LSTM.save` wrote to `path`.

    Raises
        FileNotFoundError   there is no such file
        ValueError          it is no safetensors file, or not one of ours, or damaged
        OSError             it cannot be read
        TypeError           the path is neither a str nor an os.PathLike of one
        ImportError         the safetensors package is not installed
    """
    name = _name(path)
    safetensors = _safetensors()
    try:
        with safetensors.safe_open(name, framework="numpy") as file:
            metadata = file.metadata() or {}
            if KEY not in metadata:
                raise ValueError("it has no fastlstm configuration: use load_state_dict")
            lstm = _from_config(metadata[KEY], file)
            params = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            lstm.load_state_dict(params)
            return lstm
    except OSError as error:
        if error.filename is None:  # the library's own words lack it
            raise type(error)(f"{name} cannot be read: {error}") from error
        raise
    except MemoryError as error:
        raise MemoryError(f"{name}: {error}") from error
    except Exception as error:  # the file decides what goes wrong, so all of it is a bad value
        raise ValueError(f"{name} cannot be loaded: {error}") from error


def _from_config(text: str, file: Any) -> LSTM:
    """The model that the file's metadata describe, made only if its arrays have those sizes."""
    from .lstm import LSTM

    config = json.loads(text)
    if not isinstance(config, dict) or config.pop("class", None) != "LSTM":
        raise ValueError("it holds no fastlstm.LSTM")
    layers = [key for key in file.keys() if key.startswith("weight_hh_")]  # noqa: SIM118
    directions = 2 if config.get("bidirectional") is True else 1
    if len(layers) != directions * checks.count("num_layers", config.get("num_layers"), 1):
        raise ValueError(f"num_layers = {config['num_layers']} does not fit its arrays")
    shape = tuple(file.get_slice("weight_ih_l0").get_shape())
    if shape != (4 * config.get("hidden_size", 0), config.get("input_size", 0)):
        raise ValueError(f"its sizes do not fit weight_ih_l0 of shape {shape}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # whoever made the model has been warned about dropout
        return LSTM(**config, seed=0)
