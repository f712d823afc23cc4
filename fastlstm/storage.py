# SPDX-License-Identifier: BSD-3-Clause
"""Models in safetensors files, with the configuration in the file's metadata."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

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


def save(lstm: LSTM, path: str | os.PathLike[str]) -> None:
    """Write parameters and configuration to `path`."""
    metadata = {KEY: json.dumps({"class": "LSTM", **lstm.config()})}
    _safetensors().numpy.save_file(lstm.state_dict(), os.fspath(path), metadata)


def load(path: str | os.PathLike[str]) -> LSTM:
    """The `LSTM` that `LSTM.save` wrote to `path`.

    Raises
        FileNotFoundError   there is no such file
        ValueError          it is no safetensors file, or not one of ours, or damaged
        ImportError         the safetensors package is not installed
    """
    from .lstm import LSTM

    safetensors = _safetensors()
    name = os.fspath(path)
    try:
        with safetensors.safe_open(name, framework="numpy") as file:
            metadata = file.metadata() or {}
            params = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except safetensors.SafetensorError as error:
        raise ValueError(f"{name} is not a sound safetensors file: {error}") from error
    try:
        config = json.loads(metadata[KEY])
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"{name} has no fastlstm configuration; load its arrays with load_state_dict"
        ) from error
    if not isinstance(config, dict) or config.pop("class", None) != "LSTM":
        raise ValueError(f"{name} holds no fastlstm.LSTM")
    try:
        lstm = LSTM(**config, seed=0)
    except TypeError as error:
        raise ValueError(f"{name} has a configuration that does not fit: {error}") from error
    lstm.load_state_dict(params)
    return lstm
