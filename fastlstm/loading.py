# SPDX-License-Identifier: BSD-3-Clause
"""Models from the files that `LSTM.save` writes."""

from __future__ import annotations

import errno
import json
import os
import stat
import warnings
from typing import Any

from . import checks
from .lstm import LSTM
from .saving import FORMAT, KEY, name_of


def load(path: str | os.PathLike[str]) -> LSTM:
    """The `LSTM` that `LSTM.save` wrote to `path`.

    Raises
        FileNotFoundError   there is no such file
        ValueError          it is no safetensors file, or not one of ours, or damaged; the message
                            says of which kind it is, and what to do with that
        OSError             it cannot be read, or is a folder
        TypeError           the path is neither a str nor an os.PathLike of one
    """
    import safetensors

    from . import file_kinds

    name = name_of(path)
    mode = os.stat(name).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "a model is a file, this is a folder", name)
    if not stat.S_ISREG(mode):
        raise ValueError(f"{name} cannot be loaded: it is a device or a pipe, no file")
    what = file_kinds.foreign(name)
    if what is not None:
        raise ValueError(f"{name} cannot be loaded: {what}")
    try:
        with safetensors.safe_open(name, framework="numpy") as file:
            metadata = file.metadata() or {}
            if KEY not in metadata:
                raise ValueError(
                    "it is a safetensors file without a fastlstm configuration: give "
                    "safetensors.numpy.load_file(path) to fastlstm.LSTM.from_state_dict, or to "
                    "load_state_dict of a model"
                )
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
    except ImportError:  # SciPy is missing
        raise
    except Exception as error:  # the file decides what goes wrong, so all of it is a bad value
        raise ValueError(f"{name} cannot be loaded: {error}") from error


def _from_config(text: str, file: Any) -> LSTM:
    """The model that the file's metadata describe, made only if its arrays have those sizes."""
    config = json.loads(text)
    if not isinstance(config, dict):
        raise ValueError("it holds no fastlstm.LSTM")
    version = config.pop("format", 1)
    if type(version) is not int or not 1 <= version <= FORMAT:
        raise ValueError(
            f"its format is {version!r}, and this fastlstm reads formats 1 to {FORMAT}: "
            "a later one may have written it"
        )
    if config.pop("class", None) != "LSTM":
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
