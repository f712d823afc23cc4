# SPDX-License-Identifier: BSD-3-Clause
"""The specification of the LSTM's variants: against ONNX Runtime, which has them forward, against
finite differences, and against the plain LSTM; all but ONNX Runtime's part in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastlstm import LSTMOptions, reference
from fastlstm.options import ACTIVATIONS, LAYER_NORMS
from fastlstm.reference.activations import DEFAULTS, activation
from support import option_runs
from support.option_checks import STEP, check_differences, clear
from support.option_runs import Case

# Of what is compared, in float64.
ROUNDING = 1e-12

EACH: list[dict[str, Any]] = [
    {"peepholes": True},
    {"coupled": True},
    {"coupled": True, "peepholes": True},
    {"forget_gate": False},
    {"forget_gate": False, "peepholes": True},
    {"gate_clip": 0.8},
    {"gate_clip": 0.8, "peepholes": True},
    {"cell_clip": 0.5},
    {"cell_clip": 0.5, "peepholes": True, "coupled": True, "gate_clip": 0.7},
    {"proj_clip": 0.2},
    *(
        {"layer_norm": form, "norm_epsilon": 0.3, **others}
        for form in LAYER_NORMS
        for others in (
            {},
            {"peepholes": True},
            {"forget_gate": False, "peepholes": True, "cell_clip": 0.5},
            {"coupled": True, "gate_clip": 0.8, "proj_clip": 0.2},
        )
    ),
    *(
        {place: name}
        for place in ("gate_activation", "candidate_activation", "output_activation")
        for name in ACTIVATIONS
        if (place[:4], name) not in (("gate", "sigmoid"), ("cand", "tanh"), ("outp", "tanh"))
    ),
    {"candidate_activation": ("hard_sigmoid", 1 / 6, 0.4)},
    {"candidate_activation": ("leaky_relu", 0.3)},
    {"candidate_activation": ("thresholded_relu", 0.2)},
    {"candidate_activation": ("elu", 0.6)},
    {"gate_activation": ("scaled_tanh", 1.7159, 2 / 3)},
    {"gate_activation": ("affine", 0.4, -0.2)},
]


@pytest.mark.parametrize("options", EACH, ids=str)
def test_finite_differences_of_each_option(options: dict[str, Any]) -> None:
    sizes = (4, 3, 2, 3, 2, True, True, True, True)
    chosen = LSTMOptions(**options)
    proj_size = 2 if chosen.proj_clip else 0
    check_differences(clear(lambda seed: Case(*sizes, chosen, "float64", seed, proj_size)))


@pytest.mark.parametrize("seed", range(60))
def test_finite_differences_of_random_options(seed: int) -> None:
    options = option_runs.random_options(np.random.default_rng(seed))
    rng = np.random.default_rng((seed, 1))
    sizes = [int(n) for n in rng.integers(1, 4, 4)]
    flags = [bool(flag) for flag in rng.random(2) < 0.5]
    layers = int(rng.integers(1, 3))

    def case_of(attempt: int) -> Case:
        return Case(*sizes, layers, *flags, True, True, options, "float64", attempt)  # type: ignore[misc]

    check_differences(clear(case_of))


def test_random_options_cover_all() -> None:
    found = [option_runs.random_options(np.random.default_rng(seed)) for seed in range(60)]
    for name in ("peepholes", "coupled", "forget_gate"):
        assert {getattr(options, name) for options in found} == {False, True}
    for name in ("gate_clip", "cell_clip"):
        assert len({getattr(options, name) is None for options in found}) == 2
    used = {parts[0] for options in found for parts in options._activations()}
    assert used == set(ACTIVATIONS)
    assert all(options.equations() == options for options in found)


def test_defaults_are_the_plain_lstm() -> None:
    case = Case(5, 4, 3, 6, 2, True, True, True, True, LSTMOptions(), "float64", 0)
    i = case.inputs()
    given: dict[str, Any] = {"state": i.state, "lengths": i.lengths}
    plain = reference.lstm_forward(i.x, i.params, **given)
    grads = reference.lstm_backward(
        i.x, i.params, dy=i.dy, dstate=i.dstate, dcells=i.dcells, **given
    )
    wanted = option_runs.named([*plain, grads.x, grads.h_0, grads.c_0], grads.params)
    for name, value in option_runs.expected(case).items():
        np.testing.assert_allclose(value, wanted[name], rtol=0, atol=ROUNDING)


def test_the_engine_s_options_are_the_reference_s() -> None:
    for name, numbers in ACTIVATIONS.items():
        assert tuple(n for n in DEFAULTS[name] if n is not None) == numbers
    fields = dict.fromkeys(LSTMOptions.__dataclass_fields__)
    assert {name: getattr(LSTMOptions(), name) for name in fields} == reference.options.DEFAULTS


def test_bad_options() -> None:
    params = (
        Case(1, 1, 2, 3, 1, True, False, False, False, LSTMOptions(), "float64", 0).inputs().params
    )
    with pytest.raises(ValueError, match="no options holes"):
        reference.lstm_forward(np.zeros((1, 1, 2)), params, options={"holes": 1})
    with pytest.raises(ValueError, match="coupled gates need a forget gate"):
        reference.lstm_forward(
            np.zeros((1, 1, 2)), params, options={"coupled": True, "forget_gate": False}
        )
    with pytest.raises(ValueError, match=r"an activation must be one of sigmoid, .*, got 'gelu'"):
        activation("gelu")


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_slopes_are_derivatives(name: str) -> None:
    for numbers in [(), (0.7,), (0.7, 0.3)][: 1 + len(ACTIVATIONS[name])]:
        f, slope = activation((name, *numbers))
        z = np.random.default_rng(0).uniform(-6, 6, 1000)  # no corner lies within a step of these
        differences = (f(z + STEP) - f(z - STEP)) / (2 * STEP)
        np.testing.assert_allclose(slope(z), differences, rtol=0, atol=1e-9)
        odd = np.array([np.nan, np.inf, -np.inf, 0.0, 1e300, -1e300])
        with np.errstate(invalid="ignore", over="ignore"):
            values = f(odd)
        assert np.isnan(values[0])
        if name != "softsign":  # infinity over infinity
            assert not np.isnan(values[1:]).any()


# ---- ONNX Runtime ----

NAMES = {
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
    "hard_sigmoid": "HardSigmoid",
    "relu": "Relu",
    "leaky_relu": "LeakyRelu",
    "thresholded_relu": "ThresholdedRelu",
    "elu": "Elu",
    "softsign": "Softsign",
    "softplus": "Softplus",
    "scaled_tanh": "ScaledTanh",
    "affine": "Affine",
}  # it has no linear one; affine with 1 and 0 is the same


def onnx_results(case: Case) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """y, h_n and c_n of one layer and direction."""
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    i, o = case.inputs(), case.options
    assert i.state is not None

    def gates(name: str) -> np.ndarray:  # i o f c
        i_, f_, g_, o_ = np.split(i.params[name], 4)
        return np.concatenate([i_, o_, f_, g_])

    feeds = {"X": i.x, "W": gates("weight_ih_l0")[None], "R": gates("weight_hh_l0")[None]}
    feeds["B"] = np.concatenate([gates("bias_ih_l0"), gates("bias_hh_l0")])[None]
    feeds |= {"initial_h": i.state[0], "initial_c": i.state[1]}
    inputs = ["X", "W", "R", "B", "", "initial_h", "initial_c"]
    if i.lengths is not None:
        feeds["sequence_lens"] = i.lengths.astype(np.int32)
        inputs[4] = "sequence_lens"
        feeds["X"] = np.nan_to_num(i.x)
    if o.peepholes:
        holes = [i.params[f"weight_c{gate}_l0"] for gate in "iof"]
        feeds["P"] = np.concatenate(holes)[None]
        inputs.append("P")
    parts = o._activations()
    attributes: dict[str, Any] = {"hidden_size": case.hidden_size}
    attributes["activations"] = [NAMES[name] for name, _, _ in parts]
    for letter, at in (("alpha", 1), ("beta", 2)):
        # One number for each activation that has such a number, in their order.
        numbers = [part[at] for part in parts if len(ACTIVATIONS[part[0]]) >= at]
        if numbers:
            attributes[f"activation_{letter}"] = numbers
    if o.gate_clip is not None:
        attributes["clip"] = o.gate_clip
    attributes["input_forget"] = int(o.coupled)
    helper, real = onnx.helper, onnx.TensorProto.FLOAT
    outputs = ["Y", "Y_h", "Y_c"]
    node = helper.make_node("LSTM", inputs, outputs, **attributes)
    types = [
        helper.make_tensor_value_info(
            name, onnx.TensorProto.INT32 if value.dtype == np.int32 else real, value.shape
        )
        for name, value in feeds.items()
    ]
    results = [helper.make_tensor_value_info(name, real, None) for name in outputs]
    graph = helper.make_graph([node], "lstm", types, results)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    session = runtime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    y, h_n, c_n = session.run(None, feeds)
    return y[:, 0], h_n, c_n


@pytest.mark.parametrize("seed", range(60))
def test_agrees_with_onnx_runtime(seed: int) -> None:
    """Lengths too; its rows of length 0 and what it has past a sequence's end are its own."""
    rng = np.random.default_rng((seed, 4))
    options = option_runs.random_options(rng).config()
    for name in ("cell_clip", "layer_norm", "norm_epsilon", "forget_gate"):
        options.pop(name, None)  # it has none of these, and no way to be without a forget gate
    chosen = LSTMOptions(**options)
    if "linear" in {name for name, _, _ in chosen._activations()}:
        options = {k: "affine" if v == "linear" else v for k, v in options.items()}
        chosen = LSTMOptions(**options)
    sizes = [int(n) for n in rng.integers(1, 9, 4)]
    case = Case(*sizes, 1, True, False, True, False, chosen, "float32", seed)  # type: ignore[misc]
    result = option_runs.expected(case)
    # It computes in float32; a number near a corner of thresholded_relu would jump.
    if option_runs.least_distance(case) < 1e-5:
        pytest.skip("too near to a jump")
    for name, theirs in zip(("y", "h_n", "c_n"), onnx_results(case), strict=True):
        scale = max(1.0, float(np.abs(result[name]).max()))
        np.testing.assert_allclose(theirs, result[name], rtol=0, atol=1e-5 * scale, err_msg=name)
