# SPDX-License-Identifier: BSD-3-Clause
"""Real cases that nobody on this project wrote, converted to torch's parameter names.

`LOADERS` maps the name of each case to a function that reads it from the shared data. A loader
refuses, with `UnsupportedError`, what a plain LSTM cannot do and whatever it does not understand.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from support.helpers import shared_data

Params = dict[str, np.ndarray]

# Where the gates i f g o of torch stand in the blocks of others.
ONNX_GATES = (0, 2, 3, 1)  # i o f c
KERAS_GATES = (0, 1, 2, 3)  # i f c o
KINDS = ("gate_activation", "candidate_activation", "output_activation")


class UnsupportedError(Exception):
    """The case needs an option that does not exist yet; the text says which."""


@dataclass(frozen=True)
class Case:
    """One call of an LSTM and what must come out of it.

    `expected` holds some of y (T, B, D*H), h_n and c_n (D*L, B, H). `head` is what the model of
    the case does with y before the comparison. A case that runs in reverse only is the reverse
    half of a bidirectional LSTM: `reverse_half` says that `expected` holds that half alone.
    `options` are those of ``LSTMOptions``.
    """

    x: np.ndarray
    params: Params
    expected: dict[str, np.ndarray]
    tol: float
    state: tuple[np.ndarray, np.ndarray] | None = None
    lengths: list[int] | None = None
    reverse_half: bool = False
    options: dict[str, Any] | None = None
    head: Callable[[np.ndarray], np.ndarray] = field(default=lambda y: y)

    @property
    def lstm_arguments(self) -> dict[str, Any]:
        """The arguments that make fastlstm.LSTM fit the case."""
        rows, input_size = self.params["weight_ih_l0"].shape
        return {
            "input_size": input_size,
            "hidden_size": rows // 4,
            "num_layers": sum(name.startswith("weight_hh") for name in self.params)
            // (2 if self.bidirectional else 1),
            "bias": "bias_ih_l0" in self.params,
            "bidirectional": self.bidirectional,
            "options": self.options,
        }

    @property
    def bidirectional(self) -> bool:
        return "weight_hh_l0_reverse" in self.params

    def compared(self, y: np.ndarray, h_n: np.ndarray, c_n: np.ndarray) -> dict[str, np.ndarray]:
        """The part of an engine's results that `expected` is about."""
        if self.reverse_half:
            y, h_n, c_n = y[..., y.shape[-1] // 2 :], h_n[1:], c_n[1:]
        results = {"y": self.head(y), "h_n": h_n, "c_n": c_n}
        return {name: results[name] for name in self.expected}


def layer(
    w: np.ndarray, r: np.ndarray, b_w: np.ndarray | None, b_r: np.ndarray | None, gates: Any
) -> Params:
    """One layer of torch from weights (4H, I), (4H, H) and biases (4H,) with other gate blocks."""

    def reorder(a: np.ndarray) -> np.ndarray:
        blocks = np.split(np.asarray(a, np.float64), 4)
        return np.concatenate([blocks[g] for g in gates])

    params = {"weight_ih_l0": reorder(w), "weight_hh_l0": reorder(r)}
    if b_w is not None:
        params["bias_ih_l0"] = reorder(b_w)
        params["bias_hh_l0"] = reorder(np.zeros_like(b_w) if b_r is None else b_r)
    return params


def peepholes(p: Any) -> Params:
    """Those of ONNX, one after another, i o f; {} for None."""
    parts = [] if p is None else np.split(np.asarray(p, np.float64), 3)
    return dict(zip(("weight_ci_l0", "weight_co_l0", "weight_cf_l0"), parts, strict=bool(parts)))


def both_directions(params: Params) -> Params:
    """The same weights in both directions."""
    return params | {f"{name}_reverse": value for name, value in params.items()}


def in_reverse(case: Case) -> Case:
    """The case of one layer and direction, run from the last step to the first instead."""
    state = case.state
    if state is not None:
        state = np.concatenate([state[0]] * 2), np.concatenate([state[1]] * 2)
    return replace(case, params=both_directions(case.params), state=state, reverse_half=True)


def states(h_0: Any, c_0: Any, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray] | None:
    """Both states, where one or both may be missing."""
    if h_0 is None and c_0 is None:
        return None
    h, c = (np.zeros(shape) if a is None else np.asarray(a, np.float64) for a in (h_0, c_0))
    return h.reshape(shape), c.reshape(shape)


def require(condition: bool, reason: str) -> None:
    if not condition:
        raise UnsupportedError(reason)


# ---------------------------------------------------------------------------------------------
# golden: the test suites of ONNX Runtime, Keras and TFLite
# ---------------------------------------------------------------------------------------------


@functools.cache
def golden_entries() -> dict[str, dict[str, Any]]:
    with open(shared_data("golden/golden_cases.json"), encoding="utf-8") as file:
        return {entry["name"]: entry for entry in json.load(file)}


def golden(name: str) -> Case:
    entry = golden_entries()[name]
    source = name.split("/")[0]
    convert = {"ort": golden_ort, "keras": golden_keras, "tflite": golden_tflite}[source]
    return convert(entry["inputs"], entry["expected"], entry["tol"])


def golden_ort(inputs: dict[str, Any], expected: dict[str, Any], tol: float) -> Case:
    options = dict(zip(KINDS, inputs["activations_fgh"], strict=True))
    options |= {"gate_clip": inputs["clip"], "coupled": inputs["input_forget"]}
    options["peepholes"] = inputs["P_iof"] is not None
    x = np.asarray(inputs["X"], np.float64)
    steps, batch, _ = x.shape
    r = np.asarray(inputs["R_iofc"])
    hidden = r.shape[1]
    b_w, b_r = (None, None) if inputs["B"] is None else np.split(np.asarray(inputs["B"]), 2)
    params = layer(np.asarray(inputs["W_iofc"]), r, b_w, b_r, ONNX_GATES)
    params |= peepholes(inputs["P_iof"])
    directions = 2 if inputs["direction"] == "bidirectional" else 1
    y = np.reshape(expected["Y"], (steps, directions, batch, hidden))
    case = Case(
        x=x,
        params=both_directions(params) if directions == 2 else params,
        state=states(inputs["initial_h"], inputs["initial_c"], (directions, batch, hidden)),
        lengths=inputs["sequence_lens"],
        expected={
            "y": y.swapaxes(1, 2).reshape(steps, batch, directions * hidden),
            "h_n": np.reshape(expected["Y_h"], (directions, batch, hidden)),
            "c_n": np.reshape(expected["Y_c"], (directions, batch, hidden)),
        },
        tol=tol,
        options=options,
    )
    return in_reverse(case) if inputs["direction"] == "reverse" else case


def golden_keras(inputs: dict[str, Any], expected: dict[str, Any], tol: float) -> Case:
    require(inputs["mask"] is None, "a mask inside the sequence is not supported")
    require(inputs["calls_stateful"] == 1, "stateful layers are not supported")
    require(not inputs["return_sequences"], "this loader reads the last output only")
    x = np.asarray(inputs["x_btI"], np.float64).swapaxes(0, 1)
    hidden = inputs["units"]
    bias = np.full(4 * hidden, inputs["bias_const"])
    if inputs["unit_forget_bias"]:
        bias[hidden : 2 * hidden] = 1
    params = layer(
        np.full((4 * hidden, x.shape[2]), inputs["kernel_const"]),
        np.full((4 * hidden, hidden), inputs["recurrent_const"]),
        bias,
        None,
        KERAS_GATES,
    )
    case = Case(
        x=x,
        params=params,
        state=states(inputs["h0"], inputs["c0"], (1, x.shape[1], hidden)),
        expected={"h_n": np.asarray(expected["out"])[None]},
        tol=tol,
    )
    return in_reverse(case) if inputs["go_backwards"] else case


def golden_tflite(inputs: dict[str, Any], expected: dict[str, Any], tol: float) -> Case:
    known = {"x_tbI", "reverse", "cell_clip"} | {kind + gate for kind in "WRb" for gate in "ifgo"}
    require(set(inputs) <= known, f"{sorted(set(inputs) - known)} are not supported yet")
    x = np.asarray(inputs["x_tbI"], np.float64)
    steps, batch, _ = x.shape
    hidden = len(inputs["Wi"])
    params = layer(
        np.concatenate([inputs[f"W{gate}"] for gate in "ifgo"]),
        np.concatenate([inputs[f"R{gate}"] for gate in "ifgo"]),
        np.concatenate([inputs.get(f"b{gate}", np.zeros(hidden)) for gate in "ifgo"]),
        None,
        (0, 1, 2, 3),
    )
    case = Case(
        x=x,
        params=params,
        expected={"y": np.reshape(expected["Y"], (steps, batch, hidden))},
        tol=tol,
        options={"cell_clip": inputs["cell_clip"] or None},
    )
    return in_reverse(case) if inputs["reverse"] else case


# ---------------------------------------------------------------------------------------------
# onnx_node: the node tests of the ONNX standard
# ---------------------------------------------------------------------------------------------


def onnx_node(name: str) -> Case:
    onnx = pytest.importorskip("onnx")
    folder = shared_data("onnx_node") / name
    graph = onnx.load(folder / "model.onnx").graph
    (node,) = graph.node
    options = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    require(set(options) <= {"hidden_size", "layout"}, f"attributes {sorted(options)}")

    def tensors(kind: str, names: list[str]) -> dict[str, np.ndarray]:
        data = folder / "test_data_set_0"
        files = {wanted: data / f"{kind}_{i}.pb" for i, wanted in enumerate(names)}
        return {
            wanted: onnx.numpy_helper.to_array(onnx.load_tensor(f)) for wanted, f in files.items()
        }

    given = tensors("input", [value.name for value in graph.input])
    wanted = tensors("output", [value.name for value in graph.output])
    slots = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")
    inputs = {slot: given[used] for slot, used in zip(slots, node.input, strict=False) if used}
    outputs = {
        slot: wanted[o] for slot, o in zip(("y", "h_n", "c_n"), node.output, strict=False) if o
    }
    require(len(inputs["W"]) == 1, "this loader reads one direction only")

    x = inputs["X"].astype(np.float64)
    if options.get("layout", 0) == 1:  # (B, T, I); Y (B, T, D, H); states (B, D, H)
        x = x.swapaxes(0, 1)
        to_torch = {"y": lambda a: a[:, :, 0].swapaxes(0, 1), "h_n": lambda a: a.swapaxes(0, 1)}
    else:  # (T, B, I); Y (T, D, B, H); states (D, B, H)
        to_torch = {"y": lambda a: a[:, 0], "h_n": lambda a: a}
    b_w, b_r = np.split(inputs["B"][0], 2) if "B" in inputs else (None, None)
    holes = inputs["P"][0] if "P" in inputs else None
    shape = (1, x.shape[1], inputs["R"].shape[2])
    lengths = inputs.get("sequence_lens")
    return Case(
        x=x,
        params=layer(inputs["W"][0], inputs["R"][0], b_w, b_r, ONNX_GATES) | peepholes(holes),
        state=states(inputs.get("initial_h"), inputs.get("initial_c"), shape),
        lengths=None if lengths is None else lengths.tolist(),
        options={"peepholes": holes is not None},
        expected={slot: to_torch[slot](value) for slot, value in outputs.items()},
        tol=1e-5,
    )


# ---------------------------------------------------------------------------------------------
# keras_js: layers of Keras 2 with random weights
# ---------------------------------------------------------------------------------------------


def keras_js(index: int) -> Case:
    with open(shared_data("keras_js/lstm_0_to_4.json"), encoding="utf-8") as file:
        entry = json.load(file)[f"recurrent.LSTM.{index}"]

    def array(tensor: dict[str, Any]) -> np.ndarray:
        return np.reshape(np.asarray(tensor["data"], np.float64), tensor["shape"])

    kernel, recurrent, bias = (array(tensor) for tensor in entry["weights"])
    params = layer(kernel.T, recurrent.T, bias, None, KERAS_GATES)
    out = array(entry["expected"])
    backwards = index in (3, 4)
    if index in (2, 4):  # return_sequences; Keras returns them in the order of processing
        expected = {"y": (out[::-1] if backwards else out)[:, None]}
    else:
        expected = {"h_n": out[None, None]}
    case = Case(
        x=array(entry["input"])[:, None],
        params=params,
        # What Keras 2 does by default, but for one layer.
        options={"gate_activation": "hard_sigmoid"}
        if index != 1
        else dict.fromkeys(KINDS, "sigmoid"),
        expected=expected,
        tol=1e-6,
    )
    return in_reverse(case) if backwards else case


# ---------------------------------------------------------------------------------------------
# rtneural: trained audio models, a sequence of one sample per step
# ---------------------------------------------------------------------------------------------


def rtneural_samples(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Input and output of the model, (T, 1, 1) each."""
    x, y = (np.loadtxt(shared_data(f"rtneural/{name}_{kind}_python.csv")) for kind in "xy")
    return x[:, None, None], y[:, None, None]


def rtneural_dense(spec: dict[str, Any]) -> Callable[[np.ndarray], np.ndarray]:
    """A dense layer, kernel (inputs, outputs), in NumPy."""
    kernel, bias = (np.asarray(w) for w in spec["weights"])
    activations: dict[str, Callable[[np.ndarray], np.ndarray]] = {"": np.asarray, "tanh": np.tanh}
    activation = activations[spec["activation"]]
    return lambda a: activation(a @ kernel + bias)


def rtneural_keras(name: str) -> Case:
    with open(shared_data(f"rtneural/{name}.json"), encoding="utf-8") as file:
        specs = json.load(file)["layers"]
    x, y = rtneural_samples(name)
    *before, lstm, last = specs
    require(lstm["type"] == "lstm" and last["type"] == "dense", "not the expected layers")
    for spec in before:
        x = rtneural_dense(spec)(x)
    kernel, recurrent, bias = (np.asarray(w) for w in lstm["weights"])
    return Case(
        x=x,
        params=layer(kernel.T, recurrent.T, bias, None, KERAS_GATES),
        head=rtneural_dense(last),
        expected={"y": y},
        tol=1e-6,
    )


def rtneural_torch(name: str) -> Case:
    with open(shared_data(f"rtneural/{name}.json"), encoding="utf-8") as file:
        weights = {key: np.asarray(value) for key, value in json.load(file).items()}
    x, y = rtneural_samples(name)
    # `lstm` (one layer) feeds `lstm2` (three layers) of the same size: one LSTM of four layers.
    params = {}
    for key, value in weights.items():
        module, _, parameter = key.partition(".")
        if module in ("lstm", "lstm2"):
            kind, _, number = parameter.rpartition("_l")
            params[f"{kind}_l{int(number) + (module == 'lstm2')}"] = value
    return Case(
        x=x,
        params=params,
        head=lambda out: out @ weights["dense.weight"].T + weights["dense.bias"],
        expected={"y": y},
        tol=1e-6,
    )


GOLDEN = (
    "ort/ForwardSimpleWeightsNoBiasTwoRows",
    "ort/ReverseSimpleWeightsNoBiasTwoRows",
    "ort/BidirectionalSimpleWeightsNoBiasTwoRows",
    "ort/ForwardPeepHole",
    "ort/BidirectionalBasic",
    "ort/ForwardHiddenState",
    "ort/ForwardCellState",
    "keras/correctness",
    "keras/go_backwards",
    "keras/initial_state",
    "tflite/NoCifgNoPeepholeNoProjection_fw",
    "tflite/NoCifgNoPeepholeNoProjection_bw",
)
ONNX_NODE = (
    "test_lstm_batchwise",
    "test_lstm_defaults",
    "test_lstm_with_initial_bias",
    "test_lstm_with_peepholes",
)

LOADERS: dict[str, Callable[[], Case]] = {
    **{name: functools.partial(golden, name) for name in GOLDEN},
    **{f"onnx/{name}": functools.partial(onnx_node, name) for name in ONNX_NODE},
    **{f"keras_js/{index}": functools.partial(keras_js, index) for index in range(5)},
    **{f"rtneural/{n}": functools.partial(rtneural_keras, n) for n in ("lstm", "lstm_1d")},
    "rtneural/lstm_torch": functools.partial(rtneural_torch, "lstm_torch"),
}
