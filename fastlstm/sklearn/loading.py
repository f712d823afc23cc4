# SPDX-License-Identifier: BSD-3-Clause
"""Estimators from the files that their `save` wrote."""

from __future__ import annotations

import json
import os
from typing import Any

from ..checks import Array
from ..file_kinds import existing, foreign
from .base import SequenceEstimator
from .classifier import LSTMClassifier
from .files import FITTED, FORMAT, KEY, back
from .forecaster import LSTMForecaster
from .regressor import LSTMRegressor

KINDS = {kind.__name__: kind for kind in (LSTMClassifier, LSTMRegressor, LSTMForecaster)}


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

    Examples
    --------
    >>> import numpy as np
    >>> import fastlstm.sklearn
    >>> X, y = np.random.default_rng(0).standard_normal((20, 5, 2)), [0, 1] * 10
    >>> model = fastlstm.sklearn.LSTMClassifier(max_iter=2, random_state=0).fit(X, y)
    >>> model.save("classifier.safetensors")
    >>> loaded = fastlstm.sklearn.load("classifier.safetensors")
    >>> bool((loaded.predict_proba(X) == model.predict_proba(X)).all())
    True
    """
    import safetensors

    name = existing(path)
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
    params = {name: back(value) for name, value in info["params"].items()}
    estimator = KINDS[info["class"]](**params)
    sizes = info["model"]
    hidden = arrays["recurrent.weight_hh_l0"].shape
    inputs, outputs = arrays["recurrent.weight_ih_l0"].shape[1], len(arrays["head.weight"])
    if (sizes["inputs"], sizes["outputs"]) != (inputs, outputs) or hidden[0] % params[
        "hidden_size"
    ]:
        raise ValueError("its sizes do not fit its arrays")
    directions = 2 if params["bidirectional"] else 1
    layers = sum(key.startswith("recurrent.weight_hh_") for key in arrays)
    if layers != directions * params["num_layers"]:
        raise ValueError(f"num_layers = {params['num_layers']} does not fit its arrays")
    estimator.n_features_in_ = inputs
    estimator._new_model(outputs, sizes["beside"])
    estimator.model_.load_state_dict(arrays)
    for name, value in info["fitted"].items():
        if name not in FITTED:
            raise ValueError(f"it has a value of {name!r}, which no estimator has")
        setattr(estimator, name, back(value))
    return estimator
