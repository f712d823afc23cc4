# SPDX-License-Identifier: BSD-3-Clause
"""Training that was stopped and goes on: model, optimiser and all else in one safetensors file."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from .. import checks, saving
from ..checks import Array
from ..file_kinds import existing, foreign
from ..layer import Layer
from ..optimizer import Optimizer
from .modules import Modules
from .watching import Stateful

KEY = "fastlstm.checkpoint"
FORMAT = 1


def save_checkpoint(
    path: str | os.PathLike[str],
    model: Stateful,
    optimizer: Optimizer | None = None,
    *,
    step: int = 0,
    **parts: Stateful,
) -> None:
    """Write all that training needs to go on with the same bits.

    The file is replaced at once: after a crash it is the old one or the new one.

    Parameters
    ----------
    path : str or os.PathLike of str
        The file.
    model : layer or model
        Its parameters, and where its dropout masks come from.
    optimizer : Optimizer, optional
        Its state, hyperparameters included.
    step : int, default 0
        Where training stands: an epoch, or an update.
    **parts
        Whatever else has ``state_dict()`` and ``load_state_dict()``: `EarlyStopping`,
        `ReduceOnPlateau`.

    Raises
    ------
    TypeError, ValueError
        A wrong argument.
    OSError
        The file cannot be written.

    Examples
    --------
    >>> import fastlstm, tempfile, pathlib
    >>> from fastlstm import nn
    >>> model = nn.Linear(3, 2, seed=0).train()
    >>> adam = fastlstm.optim.Adam(model)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     nn.save_checkpoint(pathlib.Path(folder, "ck"), model, adam, step=7)
    ...     nn.load_checkpoint(pathlib.Path(folder, "ck"), model, adam)
    7
    """
    import safetensors.numpy

    name = saving.name_of(path)
    step = checks.count("step", step, 0, 2**62)
    arrays: dict[str, Array] = {}
    for part, owner in _owners(model, optimizer, parts).items():
        for key, value in owner.state_dict().items():
            arrays[f"{part}.{key}"] = np.array(value, order="C")
    masks = {
        where: layer._seeds.bit_generator.state
        for where, layer in _layers(model, "model")
        if layer._seeds is not None
    }
    metadata = {KEY: json.dumps({"format": FORMAT, "step": step, "masks": masks})}
    saving.write(name, safetensors.numpy.save(arrays, metadata))


def load_checkpoint(
    path: str | os.PathLike[str],
    model: Stateful,
    optimizer: Optimizer | None = None,
    **parts: Stateful,
) -> int:
    """Take up training where `save_checkpoint` left it.

    All of it is taken or, when an error is raised, nothing.

    Parameters
    ----------
    path : str or os.PathLike of str
        The file.
    model, optimizer, **parts
        Made as those that were saved.

    Returns
    -------
    int
        The `step` that was saved.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        It is no checkpoint, or one of other parts or sizes.
    TypeError
        A wrong argument, or a value of another dtype.
    OSError
        It cannot be read.

    Examples
    --------
    >>> from fastlstm import nn
    >>> model = nn.Linear(3, 2, seed=0)
    >>> nn.save_checkpoint("checkpoint.safetensors", model, step=7)
    >>> nn.load_checkpoint("checkpoint.safetensors", nn.Linear(3, 2))
    7
    """
    name = existing(path)
    info, arrays = _read(name)
    owners = _owners(model, optimizer, parts)
    found: dict[str, dict[str, Array]] = {part: {} for part in owners}
    for key, value in arrays.items():
        part, _, rest = key.partition(".")
        if part not in owners:
            raise ValueError(f"{name} has a state of {part!r}, which is not there to take it")
        found[part][rest] = value
    absent = [part for part, values in found.items() if not values and owners[part].state_dict()]
    if absent:
        raise ValueError(f"{name} has no state of {', '.join(absent)}")
    layers = dict(_layers(model, "model"))
    before = {part: dict(owner.state_dict()) for part, owner in owners.items()}
    taken: list[str] = []
    try:
        seeds = {where: _generator(state) for where, state in info["masks"].items()}
        step = checks.count("step", info["step"], 0, 2**62)
        for part, owner in owners.items():
            taken.append(part)
            owner.load_state_dict(found[part])
        for where, seed in seeds.items():
            layers[where]._seeds = seed
    except BaseException as error:
        for part in taken:
            owners[part].load_state_dict(before[part])
        if isinstance(error, (KeyError, AttributeError)):
            raise ValueError(f"{name} does not fit: {error!r}") from error
        if type(error) in (TypeError, ValueError):
            raise type(error)(f"{name} does not fit {taken[-1:] or ['it']}: {error}") from error
        raise
    return step


def _owners(
    model: Stateful, optimizer: Optimizer | None, parts: dict[str, Stateful]
) -> dict[str, Stateful]:
    owners: dict[str, Stateful] = {"model": model}
    if optimizer is not None:
        owners["optimizer"] = optimizer
    owners |= parts
    for part, owner in owners.items():
        if not (hasattr(owner, "state_dict") and hasattr(owner, "load_state_dict")):
            raise TypeError(
                f"{part} must have state_dict() and load_state_dict(), got {type(owner).__name__}"
            )
    return owners


def _layers(model: object, where: str) -> Iterator[tuple[str, Layer]]:
    """Recurrent layers of a model, by their places in it."""
    if isinstance(model, Layer):
        yield where, model
    elif isinstance(model, Modules):
        for name, part in model.modules.items():
            yield from _layers(part, f"{where}.{name}")


def _generator(state: dict[str, Any]) -> np.random.Generator:
    kinds: dict[str, Any] = {
        "PCG64": np.random.PCG64,
        "PCG64DXSM": np.random.PCG64DXSM,
        "Philox": np.random.Philox,
        "SFC64": np.random.SFC64,
    }
    bits = kinds[state["bit_generator"]]()
    bits.state = state
    return np.random.Generator(bits)


def _read(name: str) -> tuple[dict[str, Any], dict[str, Array]]:
    import safetensors

    what = foreign(name)
    if what is not None:
        raise ValueError(f"{name} cannot be loaded: {what}")
    try:
        with safetensors.safe_open(name, framework="numpy") as file:
            metadata = file.metadata() or {}
            if KEY not in metadata:
                raise ValueError("it is a safetensors file, but no checkpoint of fastlstm")
            info = json.loads(metadata[KEY])
            if not isinstance(info, dict) or info.get("format") != FORMAT:
                raise ValueError(f"it is no checkpoint of format {FORMAT}")
            return info, {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (OSError, MemoryError, ImportError):
        raise
    except Exception as error:  # the file decides what goes wrong, so all of it is a bad value
        raise ValueError(f"{name} cannot be loaded: {error}") from error
