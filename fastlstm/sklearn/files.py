# SPDX-License-Identifier: BSD-3-Clause
"""Fitted estimators in safetensors files: arrays and JSON, nothing pickled."""

from __future__ import annotations

import dataclasses
import json
import os
from typing import Any

import numpy as np

from .. import nn, saving
from ..checks import Array
from ..file_kinds import foreign
from .base import SequenceEstimator
from .classifier import LSTMClassifier
from .forecaster import LSTMForecaster
from .regressor import LSTMRegressor

KEY = "fastlstm.sklearn"
FORMAT = 1
KINDS = {kind.__name__: kind for kind in (LSTMClassifier, LSTMRegressor, LSTMForecaster)}
SCHEDULES = {kind.__name__: kind for kind in (nn.Constant, nn.Cosine, nn.Exponential, nn.StepDecay)}
# Attributes beside the model: numbers, lists and arrays.
FITTED = (
    "n_features_in_", "n_iter_", "loss_curve_", "validation_loss_curve_", "classes_", "_flat",
    "_seed", "_mean", "_deviation", "_known", "_of_class",
)  # fmt: skip


def save(estimator: SequenceEstimator, path: str | os.PathLike[str]) -> None:
    """Write a fitted estimator of `KINDS` to `path`: all of it, or what was there stays."""
    import safetensors.numpy

    kind = next((k for k in KINDS if type(estimator) is KINDS[k]), None)
    if kind is None:
        raise TypeError(f"only {', '.join(KINDS)} can be saved, got {type(estimator).__name__}")
    params = {name: _plain(name, value) for name, value in estimator.get_params(deep=False).items()}
    fitted = {
        name: _plain(name, getattr(estimator, name)) for name in FITTED if hasattr(estimator, name)
    }
    model = estimator.model_
    info = {"format": FORMAT, "class": kind, "params": params, "fitted": fitted}
    info["model"] = {
        "beside": model.head.in_features
        - model.recurrent._directions * model.recurrent._spec.outputs,
        "inputs": model.recurrent.input_size,
        "outputs": model.head.out_features,
    }
    data = safetensors.numpy.save(
        {name: np.ascontiguousarray(v) for name, v in model.state_dict().items()},
        {KEY: json.dumps(info)},
    )
    saving._write(saving.name_of(path), data)


def load(path: str | os.PathLike[str]) -> Any:
    """Read an estimator that its `save` wrote.

    Parameters
    ----------
    path : str or os.PathLike of str
        The file.

    Returns
    -------
    LSTMClassifier, LSTMRegressor or LSTMForecaster
        Fitted; its predictions are the same bits.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        It holds no estimator, or is damaged.
    OSError
        It cannot be read.
    """
    import safetensors

    name = saving.name_of(path)
    os.stat(name)
    what = foreign(name)
    if what is not None:
        raise ValueError(f"{name} cannot be loaded: {what}")
    try:
        with safetensors.safe_open(name, framework="numpy") as file:
            text = (file.metadata() or {}).get(KEY)
            if text is None:
                raise ValueError("it is a safetensors file, but holds no estimator")
            arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        return _made(json.loads(text), arrays)
    except (OSError, MemoryError, ImportError):
        raise
    except Exception as error:  # the file decides what goes wrong, so all of it is a bad value
        raise ValueError(f"{name} cannot be loaded: {error}") from error


def _made(info: Any, arrays: dict[str, Array]) -> SequenceEstimator:
    if info["format"] != FORMAT:
        raise ValueError(f"its format is {info['format']!r}, and this fastlstm reads {FORMAT}")
    params = {name: _back(value) for name, value in info["params"].items()}
    estimator = KINDS[info["class"]](**params)
    sizes = info["model"]
    hidden = arrays["recurrent.weight_hh_l0"].shape
    inputs, outputs = arrays["recurrent.weight_ih_l0"].shape[1], len(arrays["head.weight"])
    if (sizes["inputs"], sizes["outputs"]) != (inputs, outputs) or hidden[0] % params[
        "hidden_size"
    ]:
        raise ValueError("its sizes do not fit its arrays")
    estimator.n_features_in_ = inputs
    estimator._new_model(outputs, sizes["beside"])
    estimator.model_.load_state_dict(arrays)
    for name, value in info["fitted"].items():
        if name not in FITTED:
            raise ValueError(f"it has a value of {name!r}, which no estimator has")
        setattr(estimator, name, _back(value))
    return estimator


def _plain(name: str, value: Any) -> Any:
    """A value as JSON holds it; what is no number, string or list, as {kind: ...}."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, np.generic):
        return _plain(name, value.item())
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufU":
        return {"array": value.tolist(), "dtype": value.dtype.str}
    if isinstance(value, np.ndarray) and all(isinstance(v, str) for v in value.flat):
        return {"array": value.tolist(), "dtype": "O"}
    if isinstance(value, (list, tuple)):
        return {type(value).__name__: [_plain(name, v) for v in value]}
    if isinstance(value, dict):
        return {"dict": [[_plain(name, k), _plain(name, v)] for k, v in value.items()]}
    if type(value).__name__ in SCHEDULES and dataclasses.is_dataclass(value):
        return {"schedule": type(value).__name__, "fields": dataclasses.asdict(value)}  # type: ignore[arg-type]
    if isinstance(value, nn.WarmUp):
        return {"warm_up": _plain(name, value.then), "steps": value.steps}
    if isinstance(value, np.random.RandomState):
        return None  # where it stood is of no use to a model that is fitted
    raise TypeError(f"{name} cannot be saved: {type(value).__name__} is no number, string or list")


def _back(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if "array" in value:
        return np.array(value["array"], dtype=np.dtype(value["dtype"]))
    if "list" in value:
        return [_back(v) for v in value["list"]]
    if "tuple" in value:
        return tuple(_back(v) for v in value["tuple"])
    if "dict" in value:
        return {_back(k): _back(v) for k, v in value["dict"]}
    if "warm_up" in value:
        return nn.WarmUp(_back(value["warm_up"]), value["steps"])
    return SCHEDULES[value["schedule"]](**value["fields"])
