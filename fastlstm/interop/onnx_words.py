# SPDX-License-Identifier: BSD-3-Clause
"""What attributes of ONNX's recurrent operators mean, in both directions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastlstm import LSTMOptions
from fastlstm.options import ACTIVATIONS, Activation

# ONNX's activations, in lower case, since files spell them either way, -> ours.
_NAMES = {
    "Sigmoid": "sigmoid",
    "Tanh": "tanh",
    "HardSigmoid": "hard_sigmoid",
    "Relu": "relu",
    "LeakyRelu": "leaky_relu",
    "ThresholdedRelu": "thresholded_relu",
    "Elu": "elu",
    "Softsign": "softsign",
    "Softplus": "softplus",
    "ScaledTanh": "scaled_tanh",
    "Affine": "affine",
}
_OURS = {theirs.lower(): ours for theirs, ours in _NAMES.items()}
_THEIRS = {ours: theirs for theirs, ours in _NAMES.items()}
USUAL = {"lstm": ("Sigmoid", "Tanh", "Tanh"), "gru": ("Sigmoid", "Tanh"), "rnn": ("Tanh",)}
# Options that inference does not see.
_TRAINING = {
    "forget_bias", "recurrent_dropout", "variational_dropout", "input_dropout", "weight_drop",
}  # fmt: skip
_FLOAT32_MOST = 3.4028234e38  # no value is beyond: ONNX Runtime's default of clip


class Unknown(ValueError):
    """What the operator may do and fastlstm does not."""


def activations(
    kind: str, names: Sequence[str], alpha: Sequence[float], beta: Sequence[float], directions: int
) -> list[Activation]:
    """The activations of a node, the same ones in both directions.

    alpha and beta are consumed in the order of the activations, each by those that have one.
    """
    usual = USUAL[kind]
    chosen = list(names) or [*usual] * directions
    if len(chosen) == len(usual) and directions == 2:
        raise ValueError(f"activations must name {2 * len(usual)}, got {', '.join(chosen)}")
    if len(chosen) != len(usual) * directions:
        raise ValueError(f"activations must name {len(usual) * directions}, got {len(chosen)}")
    alphas, betas = iter(alpha), iter(beta)
    found: list[Activation] = []
    for name in chosen:
        ours = _OURS.get(name.lower())
        if ours is None:
            raise Unknown(f"activation {name!r} is none of {', '.join(_NAMES)}")
        first = ACTIVATIONS[ours]
        numbers = [
            _written(next(values, default))
            for values, default in zip((alphas, betas), first, strict=False)
        ]
        found.append((ours, *numbers) if tuple(numbers) != first else ours)
    half = len(usual)
    if directions == 2 and found[:half] != found[half:]:
        raise Unknown(f"its directions have different activations: {', '.join(chosen)}")
    return found[:half]


def clip_of(value: float | None) -> float | None:
    """The clip of a node, None where it bounds nothing."""
    if value is None or value >= _FLOAT32_MOST or value == 0:
        return None
    if not value > 0:
        raise ValueError(f"clip must be > 0, got {value}")
    return _written(value)


def _written(value: float) -> float:
    """A float32 as somebody wrote it: 0.2, which ONNX keeps as 0.20000000298. They are one number
    to a float32 model."""
    return float(str(np.float32(value)))


def lstm_options(
    chosen: Sequence[Activation], clip: float | None, coupled: bool, peepholes: bool
) -> LSTMOptions | None:
    """Of a node with these; None where it is the plain LSTM."""
    options = LSTMOptions(
        peepholes=peepholes,
        coupled=coupled,
        gate_clip=clip,
        gate_activation=chosen[0],
        candidate_activation=chosen[1],
        output_activation=chosen[2],
    )
    return options.equations()


def attributes_of(options: LSTMOptions, directions: int) -> dict[str, Any]:
    """The attributes that say an LSTM's options; Unknown where the operator cannot.

    `linear` is an affine function of slope 1, which ONNX has.
    """
    given = options.config()
    known = {
        "peepholes", "coupled", "gate_clip", "gate_activation",
        "candidate_activation", "output_activation",
    }  # fmt: skip
    if beyond := [name for name in given if name not in known | _TRAINING]:
        raise Unknown(f"ONNX's LSTM has no {', '.join(beyond)}")
    found: dict[str, Any] = {}
    if options.gate_clip is not None:
        found["clip"] = float(options.gate_clip)
    if options.coupled:
        found["input_forget"] = 1
    names: list[str] = []
    alpha: list[float] = []
    beta: list[float] = []
    for name in ("gate_activation", "candidate_activation", "output_activation"):
        value = getattr(options, name)
        kind, *numbers = (value,) if isinstance(value, str) else value
        if kind == "linear":
            kind, numbers = "affine", [1.0, 0.0]
        numbers = numbers or list(ACTIVATIONS[kind])
        names.append(_THEIRS[kind])
        alpha += numbers[:1]
        beta += numbers[1:2]
    if tuple(names) != USUAL["lstm"]:
        found["activations"] = names * directions
        if alpha:
            found["activation_alpha"] = alpha * directions
        if beta:
            found["activation_beta"] = beta * directions
    return found
