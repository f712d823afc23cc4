# SPDX-License-Identifier: BSD-3-Clause
"""Recurrent layers of Keras, on its torch backend, and the models of fastlstm that are the same.

`tests/conftest.py` names the backend before anything imports Keras.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastlstm
from fastlstm import LSTMOptions

keras = pytest.importorskip("keras", reason="Keras is an optional oracle")

# Keras multiplies in float32 whatever it is given; ours are float64. In a step sums of 10 terms,
# which by the sizes of the tests and `random_weight` are 4 together, take a rounding each, and
# activations two more. A unit's recurrent weights are 1 together at most: 6 steps' errors add up.
TOLERANCE = 6 * (10 + 2) * 4 * float(np.finfo(np.float32).eps) / 2

# Keras's activation -> that of `LSTMOptions`.
ACTIVATIONS: dict[str, Any] = {
    "tanh": "tanh",
    "sigmoid": "sigmoid",
    "relu": "relu",
    "elu": "elu",
    "softsign": "softsign",
    "softplus": "softplus",
    "linear": "linear",
    "leaky_relu": ("leaky_relu", 0.2),
    "hard_sigmoid": ("hard_sigmoid", 1 / 6, 0.5),
    "keras2_hard_sigmoid": "hard_sigmoid",
}


def hard_sigmoid(z: Any) -> Any:
    """That of Keras 2, which Keras 3 has no more."""
    return keras.ops.clip(0.2 * z + 0.5, 0, 1)


def activation(name: str) -> Any:
    """What a layer of Keras takes for a name of `ACTIVATIONS`."""
    return hard_sigmoid if name == "keras2_hard_sigmoid" else name


def numpy_of(value: Any) -> Any:
    """A tensor of Keras, or a list or tuple of some."""
    if isinstance(value, (list, tuple)):
        return [numpy_of(one) for one in value]
    return np.asarray(keras.ops.convert_to_numpy(value))


def built(layer: Any, features: int, seed: int = 0) -> Any:
    """The layer with random weights, biases included, which are zeros at first."""
    layer.build((None, None, features))
    rng = np.random.default_rng(seed)
    layer.set_weights([random_weight(rng, value) for value in layer.get_weights()])
    return layer


def random_weight(rng: np.random.Generator, value: np.ndarray) -> np.ndarray:
    return rng.uniform(-0.2, 0.2, value.shape)


def parameters(layer: Any) -> dict[str, np.ndarray]:
    """Of one direction, by the names of a cell: Keras orders the GRU's gates z, r, h."""
    kernel, recurrent, *biases = (np.asarray(value) for value in layer.get_weights())
    width = recurrent.shape[1]
    if biases and biases[0].ndim == 2:  # a GRU with both biases
        biases = list(biases[0])
    elif biases:
        biases = [biases[0], np.zeros(width)]
    order = np.arange(width)
    if isinstance(layer, keras.layers.GRU):
        z, r, h = np.split(order, 3)
        order = np.concatenate([r, z, h])
    found = {"weight_ih": kernel.T[order], "weight_hh": recurrent.T[order]}
    return found | dict(zip(("bias_ih", "bias_hh"), (b[order] for b in biases), strict=False))


def options_of(layer: Any) -> LSTMOptions:
    """Of an LSTM of Keras, whose `activation` stands for two of ours."""
    names = [
        "keras2_hard_sigmoid" if one is hard_sigmoid else one.__name__
        for one in (layer.recurrent_activation, layer.activation)
    ]
    gates, other = (ACTIVATIONS[name] for name in names)
    return LSTMOptions(gate_activation=gates, candidate_activation=other, output_activation=other)


def model(layer: Any, *others: Any) -> Any:
    """Ours in float64 for a layer, or for the two of a Bidirectional; batch first, as Keras."""
    given: dict[str, Any] = {}
    kind: Any = fastlstm.LSTM
    if isinstance(layer, keras.layers.LSTM):
        given["options"] = options_of(layer)
    elif isinstance(layer, keras.layers.GRU):
        kind, given = fastlstm.GRU, {"reset_after": layer.reset_after}
    else:
        kind, given["nonlinearity"] = fastlstm.RNN, layer.activation.__name__
    found = kind(
        layer.get_weights()[0].shape[0],
        layer.units,
        bias=layer.use_bias,
        batch_first=True,
        bidirectional=bool(others),
        dtype="float64",
        **given,
    )
    arrays = {}
    for end, one in zip(("_l0", "_l0_reverse"), (layer, *others), strict=False):
        arrays |= {name + end: value for name, value in parameters(one).items()}
    found.load_state_dict(arrays)
    return found


def states(model: Any, state: Any) -> list[np.ndarray]:
    """h, and c where there is one, of a model of one layer and direction."""
    return [part[0] for part in (state if model._has_c else (state,))]


def close(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)
