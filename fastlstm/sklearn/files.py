# SPDX-License-Identifier: BSD-3-Clause
"""Fitted estimators in safetensors files: arrays and JSON, nothing pickled."""

from __future__ import annotations

import dataclasses
import json
import os
from typing import Any

import numpy as np

from .. import nn, saving

KEY = "fastlstm.sklearn"
FORMAT = 1
SCHEDULES = {kind.__name__: kind for kind in (nn.Constant, nn.Cosine, nn.Exponential, nn.StepDecay)}
# Attributes beside the model: numbers, lists and arrays.
FITTED = (
    "n_features_in_", "n_iter_", "loss_curve_", "validation_loss_curve_", "classes_", "_flat",
    "_seed", "_names", "_mean", "_deviation", "_known", "_of_class",
)  # fmt: skip


def save(estimator: Any, path: str | os.PathLike[str]) -> None:
    """Write a fitted estimator to `path`: all of it, or what was there stays."""
    import safetensors.numpy

    kind = type(estimator)
    if not kind.__module__.startswith("fastlstm.sklearn."):
        raise TypeError(f"only estimators of fastlstm.sklearn can be saved, got {kind.__name__}")
    params = {name: plain(name, value) for name, value in estimator.get_params(deep=False).items()}
    fitted = {
        name: plain(name, getattr(estimator, name)) for name in FITTED if hasattr(estimator, name)
    }
    model = estimator.model_
    info = {"format": FORMAT, "class": kind.__name__, "params": params, "fitted": fitted}
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
    saving.write(saving.name_of(path), data)


def plain(name: str, value: Any) -> Any:
    """A value as JSON holds it; what is no number, string or list, as {kind: ...}."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, np.generic):
        return plain(name, value.item())
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufU":
        return {"array": value.tolist(), "dtype": value.dtype.str}
    if isinstance(value, np.ndarray) and all(isinstance(v, str) for v in value.flat):
        return {"array": value.tolist(), "dtype": "O"}
    if isinstance(value, (list, tuple)):
        return {type(value).__name__: [plain(name, v) for v in value]}
    if isinstance(value, dict):
        return {"dict": [[plain(name, k), plain(name, v)] for k, v in value.items()]}
    if type(value).__name__ in SCHEDULES and dataclasses.is_dataclass(value):
        return {"schedule": type(value).__name__, "fields": dataclasses.asdict(value)}  # type: ignore[arg-type]
    if isinstance(value, nn.WarmUp):
        return {"warm_up": plain(name, value.then), "steps": value.steps}
    if isinstance(value, np.random.RandomState):
        return None  # where it stood is of no use to a model that is fitted
    raise TypeError(f"{name} cannot be saved: {type(value).__name__} is no number, string or list")


def back(value: Any) -> Any:
    """What `plain` was given."""
    if not isinstance(value, dict):
        return value
    if "array" in value:
        return np.array(value["array"], dtype=np.dtype(value["dtype"]))
    if "list" in value:
        return [back(v) for v in value["list"]]
    if "tuple" in value:
        return tuple(back(v) for v in value["tuple"])
    if "dict" in value:
        return {back(k): back(v) for k, v in value["dict"]}
    if "warm_up" in value:
        return nn.WarmUp(back(value["warm_up"]), value["steps"])
    return SCHEDULES[value["schedule"]](**value["fields"])
