# SPDX-License-Identifier: BSD-3-Clause
"""Models from the files that `LSTM.save` writes."""

from __future__ import annotations

import inspect
import json
import os
import warnings
from typing import Any

from . import checks
from .gru import GRU
from .lstm import LSTM
from .rnn import RNN
from .saving import FORMAT, KEY

_KINDS: dict[str, type[LSTM] | type[RNN] | type[GRU]] = {"LSTM": LSTM, "RNN": RNN, "GRU": GRU}
_NAMES = " or ".join(f"fastlstm.{name}" for name in _KINDS)


def load(path: str | os.PathLike[str]) -> Any:
    """Read a model from the file that its `save` wrote.

    Parameters
    ----------
    path : str or os.PathLike of str
        The file.

    Returns
    -------
    LSTM, RNN or GRU
        What was saved; type checkers take it for what the caller declares.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        It is no safetensors file, or not one of ours, or damaged; the message says of which kind it
        is, and what to do with that.
    OSError
        It cannot be read, or is a folder.
    TypeError
        The path is neither a str nor an os.PathLike of one.

    Examples
    --------
    >>> import numpy as np
    >>> import fastlstm
    >>> gru, x = fastlstm.GRU(3, 4, seed=0), np.ones((5, 2, 3), np.float32)
    >>> gru.save("model.safetensors")
    >>> loaded = fastlstm.load("model.safetensors")
    >>> bool((loaded(x)[0] == gru(x)[0]).all())
    True
    """
    import safetensors

    from . import file_kinds

    name = file_kinds.existing(path)
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
            model = _from_config(metadata[KEY], file)
            params = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            model.load_state_dict(params)
            return model
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


def _from_config(text: str, file: Any) -> LSTM | RNN | GRU:
    """The model that the file's metadata describe, made only if its arrays have those sizes."""
    config = json.loads(text)
    if not isinstance(config, dict):
        raise ValueError(f"it holds no model of {_NAMES}")
    version = config.pop("format", 1)
    if type(version) is not int or not 1 <= version <= FORMAT:
        raise ValueError(
            f"its format is {version!r}, and this fastlstm reads formats 1 to {FORMAT}: "
            "a later one may have written it"
        )
    kind = _KINDS.get(str(config.pop("class", None)))
    if kind is None:
        raise ValueError(f"it holds no model of {_NAMES}")
    if kind is RNN and "nonlinearity" not in config:
        raise ValueError("it does not say which nonlinearity its RNN has")
    known = inspect.signature(kind).parameters.keys() - {"seed"}
    strange = sorted(config.keys() - known)
    if strange:
        raise ValueError(
            f"a {kind.__name__} takes no {' and no '.join(strange)}: a later fastlstm may have "
            "written it"
        )
    layers = [key for key in file.keys() if key.startswith("weight_hh_")]  # noqa: SIM118
    directions = 2 if config.get("bidirectional") is True else 1
    if len(layers) != directions * checks.count("num_layers", config.get("num_layers"), 1):
        raise ValueError(f"num_layers = {config['num_layers']} does not fit its arrays")
    shape = tuple(file.get_slice("weight_ih_l0").get_shape())
    sizes = ("hidden_size", "input_size")
    hidden, inputs = (checks.count(name, config.get(name), 1) for name in sizes)
    if shape != (kind._cell.gates * hidden, inputs):
        raise ValueError(f"its sizes do not fit weight_ih_l0 of shape {shape}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # whoever made the model has been warned about dropout
        return kind(**config, seed=0)
