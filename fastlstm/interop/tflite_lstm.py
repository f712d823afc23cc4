# SPDX-License-Identifier: BSD-3-Clause
"""Recurrent operators of TensorFlow Lite, each as a `Layer`.

An LSTM's operator has 24 inputs, -1 for those that are left out::

    0      x
    1-4    weights of x for i, f, c, o, (H, I) each       i left out: CIFG, i = 1 - f
    5-8    weights of h, (H, P)
    9-11   peepholes of i, f, o, (H,)
    12-15  biases of i, f, c, o
    16-17  projection (P, H), and its bias
    18-19  h and c, which the interpreter keeps
    20-23  coefficients of layer normalisation for i, f, c, o

The one of two directions has those of the first at 1 to 17, those of the second at 18 to 34, states
at 35 to 38, and what a second input needs from 39 on; it has no layer normalisation.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastlstm import LSTMOptions

from .description import Layer
from .errors import FormatError, Unsupported
from .tflite_graph import Array, Model, Operator, Subgraph

KINDS = {
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "lstm",
    "BIDIRECTIONAL_SEQUENCE_LSTM": "lstm",
    "LSTM": "lstm",
    "UNIDIRECTIONAL_SEQUENCE_RNN": "rnn",
    "BIDIRECTIONAL_SEQUENCE_RNN": "rnn",
    "WHILE": "loop",
}
_GATES = "ifgo"
_ACTIVATIONS = {0: "linear", 1: "relu", 4: "tanh"}


class _Inputs:
    """Constants of an operator, by the places of its inputs."""

    def __init__(self, model: Model, graph: Subgraph, operator: Operator, name: str) -> None:
        self.file, self.name = model.file, name
        self._model = model
        self._graph, self._operator = graph, operator

    def has(self, at: int) -> bool:
        """Whether the input is there."""
        return at < len(self._operator.inputs) and self._operator.inputs[at] >= 0

    def array(self, at: int, ndim: int) -> Array:
        """The constant, which must be there with so many axes."""
        if not self.has(at):
            raise FormatError(self.file, self.name, f"input {at} is missing")
        found = self._graph.constant(self._operator.inputs[at])
        if found is None:
            raise Unsupported(self.file, self.name, f"input {at} is computed by the graph")
        if found.ndim != ndim or found.dtype.kind != "f":
            what = f"input {at} must have {ndim} axes of floats, got {found.dtype}, {found.shape}"
            raise FormatError(self.file, self.name, what)
        self._model.spend(self.name, found.nbytes)
        return found


def layer(model: Model, graph: Subgraph, operator: Operator, name: str) -> Layer:
    """What the operator does. Raises Unsupported for what fastlstm does not have."""
    inputs = _Inputs(model, graph, operator, name)
    both = operator.kind.startswith("BIDIRECTIONAL")
    schema = model.schema
    if operator.kind.endswith("RNN"):
        made = schema.BidirectionalSequenceRNNOptions() if both else schema.SequenceRNNOptions()
        return _rnn(inputs, operator.options(made), both)
    if operator.kind == "LSTM":
        options = operator.options(schema.LSTMOptions())
        if options is not None and options.KernelType() != schema.LSTMKernelType.FULL:
            raise Unsupported(model.file, name, "the BASIC kernel of LSTM, quantised to 16 bits")
    elif both:
        options = operator.options(schema.BidirectionalSequenceLSTMOptions())
    else:
        options = operator.options(schema.UnidirectionalSequenceLSTMOptions())
    if hasattr(options, "DiagonalRecurrentTensors") and options.DiagonalRecurrentTensors():
        raise Unsupported(model.file, name, "diagonal recurrent weights")
    if both and any(inputs.has(at) for at in range(39, 48)):
        raise Unsupported(model.file, name, "an auxiliary input")
    starts = (1, 18) if both else (1,)
    sides = [_side(inputs, start, None if both else 20) for start in starts]
    coupled = {side.pop("coupled") for side in sides}
    if len(coupled) > 1 or len({frozenset(side["weights"]) for side in sides}) > 1:
        raise Unsupported(model.file, name, "two directions of different kinds")
    weights = [side["weights"] for side in sides]
    first = weights[0]
    chosen = _options(inputs, options, coupled.pop(), first)
    h, c = (35, 36) if both else (18, 19)
    kept = all(inputs.has(at) and graph.is_variable(operator.inputs[at]) for at in (h, c))
    return Layer(
        "lstm",
        name,
        first["weight_ih"].shape[1],
        len(first["weight_ih"]) // 4,
        weights,
        len(first["weight_hr"]) if "weight_hr" in first else 0,
        chosen,
        batch_first=not _flag(options, "TimeMajor", not both),
        merge_mode="concat" if not both or _flag(options, "MergeOutputs", False) else None,
        stateful=kept and operator.kind != "LSTM",
    )


def _flag(options: Any, name: str, default: bool) -> bool:
    return bool(getattr(options, name)()) if hasattr(options, name) else default


def _side(inputs: _Inputs, start: int, norms: int | None) -> dict[str, Any]:
    """Weights of one direction, gates one after another; whether i is 1 - f."""
    coupled = not inputs.has(start)
    found: dict[str, Array] = {}

    def gates(first: int, ndim: int, sign: int) -> Array:
        """Of i, f, g, o. Where i is 1 - f, sigmoid(-z), it has f's with the sign changed."""
        own = [inputs.array(first + 1, ndim) * sign] if coupled else [inputs.array(first, ndim)]
        own += [inputs.array(first + at, ndim) for at in (1, 2, 3)]
        if len({array.shape for array in own}) > 1:
            shapes = ", ".join(str(array.shape) for array in own)
            what = f"inputs {first} to {first + 3} must have one shape, got {shapes}"
            raise FormatError(inputs.file, inputs.name, what)
        return np.concatenate(own)

    found["weight_ih"] = gates(start, 2, -1)
    found["weight_hh"] = gates(start + 4, 2, -1)
    found["bias_ih"] = gates(start + 11, 1, -1)
    found["bias_hh"] = np.zeros_like(found["bias_ih"])
    units = len(found["weight_ih"]) // 4
    if inputs.has(start + 9):
        forget = inputs.array(start + 9, 1)
        found["weight_ci"] = -forget if coupled else inputs.array(start + 8, 1)
        found["weight_cf"], found["weight_co"] = forget, inputs.array(start + 10, 1)
    if inputs.has(start + 15):
        found["weight_hr"] = inputs.array(start + 15, 2)
        if len(found["weight_hr"]) >= units:
            what = f"a projection of {units} units to {len(found['weight_hr'])}: must be fewer"
            raise Unsupported(inputs.file, inputs.name, what)
        if inputs.has(start + 16) and inputs.array(start + 16, 1).any():
            raise Unsupported(inputs.file, inputs.name, "a bias of its projection")
    if norms is not None and inputs.has(norms + 1):
        found["weight_n"] = gates(norms, 1, 1)
    return {"coupled": coupled, "weights": found}


def _options(inputs: _Inputs, options: Any, coupled: bool, weights: Any) -> LSTMOptions | None:
    code = options.FusedActivationFunction() if options is not None else 4
    if code not in _ACTIVATIONS:
        raise Unsupported(inputs.file, inputs.name, f"activation number {code} of its cell")
    own: dict[str, Any] = {"peepholes": "weight_ci" in weights, "coupled": coupled}
    own |= dict.fromkeys(("candidate_activation", "output_activation"), _ACTIVATIONS[code])
    for name, getter in (("cell_clip", "CellClip"), ("proj_clip", "ProjClip")):
        limit = getattr(options, getter)() if options is not None else 0.0
        if limit > 0 and (name != "proj_clip" or "weight_hr" in weights):
            own[name] = limit
    if "weight_n" in weights:
        own |= {"layer_norm": "sums", "norm_epsilon": 1e-8}
    chosen = LSTMOptions(**own)
    return None if chosen == LSTMOptions() else chosen


def _rnn(inputs: _Inputs, options: Any, both: bool) -> Layer:
    """Inputs are x, then of each direction (H, I), (H, H), (H,), and its h."""
    code = options.FusedActivationFunction() if options is not None else 4
    if code not in (1, 4):
        what = f"activation number {code}: an RNN has tanh or relu"
        raise Unsupported(inputs.file, inputs.name, what)
    if both and any(inputs.has(at) for at in range(9, 12)):
        raise Unsupported(inputs.file, inputs.name, "an auxiliary input")
    weights = []
    for start in (1, 5) if both else (1,):
        bias = inputs.array(start + 2, 1)
        weights.append(
            {
                "weight_ih": inputs.array(start, 2),
                "weight_hh": inputs.array(start + 1, 2),
                "bias_ih": bias,
                "bias_hh": np.zeros_like(bias),
            }
        )
    units, wide = weights[0]["weight_ih"].shape
    return Layer(
        "rnn",
        inputs.name,
        wide,
        units,
        weights,
        nonlinearity=_ACTIVATIONS[code],
        batch_first=not _flag(options, "TimeMajor", False),
        merge_mode="concat" if not both or _flag(options, "MergeOutputs", False) else None,
        stateful=True,
    )
