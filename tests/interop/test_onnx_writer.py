# SPDX-License-Identifier: BSD-3-Clause
"""fastlstm models as ONNX models: ONNX Runtime computes the same, and every bit comes back."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastlstm
from fastlstm import LSTMOptions, interop
from support import onnx_models
from support.labels import label

onnx = pytest.importorskip("onnx")
LAYERS = {"LSTM": fastlstm.LSTM, "GRU": fastlstm.GRU, "RNN": fastlstm.RNN}
CELLS = {"LSTM": fastlstm.LSTMCell, "GRU": fastlstm.GRUCell, "RNN": fastlstm.RNNCell}
SHAPES = [
    dict(zip(("num_layers", "bidirectional", "batch_first", "bias"), chosen, strict=True))
    for chosen in itertools.product((1, 3), (False, True), (False, True), (False, True))
]
RELU = {"nonlinearity": "relu", "num_layers": 2, "bidirectional": True}
BEFORE = {"reset_after": False, "num_layers": 2, "bidirectional": True}
STEPS, BATCH, INPUTS, HIDDEN = 6, 4, 3, 5


def uniform(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.uniform(-1, 1, shape).astype(np.float32)


def compare(model: Any, lengths: bool, state: bool) -> None:
    """The ONNX model in ONNX Runtime on other sizes than any that it was written with, and back."""
    rng = np.random.default_rng(3)
    proto = interop.to_onnx(model, lengths=lengths, state=state)
    x = uniform(rng, STEPS, BATCH, INPUTS)
    feeds = {"x": np.ascontiguousarray(x.transpose(1, 0, 2)) if model.batch_first else x}
    given: dict[str, Any] = {}
    if lengths:
        given["lengths"] = feeds["lengths"] = np.array([6, 3, 1, 6], np.int32)
    start = None
    if state:
        shape = (model.num_layers * (1 + model.bidirectional), BATCH, HIDDEN)
        start = tuple(uniform(rng, *shape) for _ in range(1 + model._has_c))
        feeds |= dict(zip(("h_0", "c_0"), start, strict=False))
        start = start if model._has_c else start[0]
    y, end = model(feeds["x"], start, **given)
    ours = [y, *(end if isinstance(end, tuple) else [end])]
    theirs = onnx_models.by_runtime(proto, feeds)
    # As `onnx_models.tolerance`, once a layer: weights are small, no step magnifies errors.
    operations = max(INPUTS, HIDDEN * (1 + model.bidirectional)) + HIDDEN + 12
    limit = 2 * STEPS * operations * model.num_layers * float(np.finfo(np.float32).eps)
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.shape == other.shape
        assert np.abs(mine - other).max() <= limit
    back = interop.from_onnx(proto).model
    assert list(back.state_dict()) == list(model.state_dict())
    for name, values in model.state_dict().items():
        np.testing.assert_array_equal(back.state_dict()[name], values)
    if "lstm" in model._spec.cell:
        assert back.options == model.options


@pytest.mark.parametrize("shape", SHAPES, ids=label)
@pytest.mark.parametrize("kind", LAYERS)
def test_layers(kind: str, shape: dict[str, Any]) -> None:
    at = SHAPES.index(shape)  # both flags by turns
    model = LAYERS[kind](INPUTS, HIDDEN, seed=0, **shape)
    compare(model, lengths=at % 2 == 0, state=at % 3 != 0)


def test_nonlinearity() -> None:
    compare(fastlstm.RNN(INPUTS, HIDDEN, seed=0, **RELU), lengths=True, state=True)


def test_reset_before() -> None:
    model = fastlstm.GRU(INPUTS, HIDDEN, seed=0, **BEFORE)
    compare(model, lengths=True, state=True)
    assert not interop.from_onnx(interop.to_onnx(model)).model.reset_after


OPTIONS = [
    {"peepholes": True},
    {"coupled": True, "peepholes": True},
    {"gate_clip": 0.3},
    {"gate_activation": "hard_sigmoid"},
    {"gate_activation": ("hard_sigmoid", 1 / 8, 0.5), "candidate_activation": ("elu", 0.5)},
    {"candidate_activation": ("leaky_relu", 0.25), "output_activation": ("scaled_tanh", 0.5, 0.75)},
    {"candidate_activation": "softsign", "output_activation": ("affine", 0.5, 0.25)},
    {"candidate_activation": ("thresholded_relu", 0.25), "output_activation": "relu"},
]


@pytest.mark.parametrize("options", OPTIONS, ids=label)
def test_options(options: dict[str, Any]) -> None:
    model = fastlstm.LSTM(
        INPUTS, HIDDEN, 2, bidirectional=True, options=LSTMOptions(**options), seed=0
    )
    compare(model, lengths=True, state=True)


def test_noise_of_training_is_not_written() -> None:
    noise = ("recurrent_dropout", "variational_dropout", "input_dropout", "weight_drop")
    options = LSTMOptions(**dict.fromkeys(noise, 0.5), peepholes=True)  # type: ignore[arg-type]
    model = fastlstm.LSTM(INPUTS, HIDDEN, options=options, seed=0)
    proto = interop.to_onnx(model)
    assert interop.from_onnx(proto).model.options == LSTMOptions(peepholes=True)
    x = uniform(np.random.default_rng(0), STEPS, BATCH, INPUTS)
    theirs, *_ = onnx_models.by_runtime(proto, {"x": x})
    assert np.abs(model(x)[0] - theirs).max() <= 2 * STEPS * 22 * float(np.finfo(np.float32).eps)


def test_linear_becomes_an_affine_function() -> None:
    options = LSTMOptions(candidate_activation="linear")
    back = interop.from_onnx(interop.to_onnx(fastlstm.LSTM(3, 4, options=options))).model
    assert back.options.candidate_activation == "affine"


@pytest.mark.parametrize(
    "kind, own",
    [
        *((kind, {}) for kind in CELLS),
        ("LSTM", {"options": LSTMOptions(peepholes=True, gate_clip=0.5)}),
        ("GRU", {"reset_after": False}),
    ],
    ids=label,
)
def test_cells(kind: str, own: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    cell = CELLS[kind](INPUTS, HIDDEN, seed=0, **own)
    x = uniform(rng, BATCH, INPUTS)
    start = [uniform(rng, BATCH, HIDDEN) for _ in range(1 + (kind == "LSTM"))]
    end = cell(x, tuple(start) if kind == "LSTM" else start[0])
    ours = [*end] if kind == "LSTM" else [end]
    feeds = {"x": x, **dict(zip(("h_0", "c_0"), start, strict=False))}
    proto = interop.to_onnx(cell)
    for mine, other in zip(ours, onnx_models.by_runtime(proto, feeds), strict=True):
        assert np.abs(mine - other).max() <= 2 * (INPUTS + HIDDEN + 12) * 1.2e-7
    back = interop.from_onnx(proto).model.state_dict()
    for name, values in cell.state_dict().items():
        np.testing.assert_array_equal(back[f"{name}_l0"], values)
    with pytest.raises(ValueError, match="lengths"):
        interop.to_onnx(cell, lengths=True)


def test_float64_by_the_reference() -> None:
    """ONNX Runtime has no LSTM of doubles; ONNX's own evaluator has."""
    reference = pytest.importorskip("onnx.reference")
    model = fastlstm.LSTM(INPUTS, HIDDEN, dtype=np.float64, seed=0)
    x = np.random.default_rng(0).standard_normal((STEPS, BATCH, INPUTS))
    proto = interop.to_onnx(model)
    y, _h_n, _c_n = reference.ReferenceEvaluator(proto).run(None, {"x": x})
    assert y.dtype == np.float64
    assert np.abs(y - model(x)[0]).max() <= 2 * STEPS * 20 * float(np.finfo(np.float64).eps)
    assert interop.from_onnx(proto).model.dtype == np.float64


def test_files(tmp_path: Path) -> None:
    model = fastlstm.LSTM(INPUTS, HIDDEN, seed=0)
    proto = interop.to_onnx(model, tmp_path / "model.onnx")
    onnx.checker.check_model(str(tmp_path / "model.onnx"), full_check=True)
    assert (tmp_path / "model.onnx").read_bytes() == proto.SerializeToString()
    imported = interop.from_onnx(tmp_path / "model.onnx")
    assert imported.producer == f"fastlstm {fastlstm.__version__}"
    assert "LSTM(3, 5, dtype=float32)" in repr(imported)


@pytest.mark.parametrize(
    "model, why",
    [
        (fastlstm.LSTM(3, 4, proj_size=2), "projection"),
        (fastlstm.LSTM(3, 4, options=LSTMOptions(cell_clip=1.0)), "cell_clip"),
        (fastlstm.LSTM(3, 4, options=LSTMOptions(forget_gate=False)), "forget_gate"),
        (fastlstm.LSTM(3, 4, options=LSTMOptions(layer_norm="sums")), "layer_norm"),
        (fastlstm.LSTM(3, 4, options=LSTMOptions(zoneout_h=0.5)), "zoneout_h"),
    ],
    ids=["projection", "cell_clip", "forget_gate", "layer_norm", "zoneout"],
)
def test_what_onnx_has_not(model: Any, why: str) -> None:
    with pytest.raises(interop.Unsupported, match=why):
        interop.to_onnx(model)


def test_what_is_no_model() -> None:
    with pytest.raises(TypeError, match="model must be"):
        interop.to_onnx(fastlstm.LSTM)  # type: ignore[arg-type]


@pytest.mark.deep
@pytest.mark.parametrize("block", range(4))
def test_hundreds(block: int) -> None:
    """Random shapes of every kind, and of LSTMs random options."""
    rng = np.random.default_rng(block)
    for _ in range(75):
        kind = str(rng.choice([*LAYERS]))
        shape: dict[str, Any] = dict(SHAPES[int(rng.integers(len(SHAPES)))])
        if kind == "LSTM" and rng.random() < 0.7:
            chosen = rng.choice(len(OPTIONS), 2, replace=False)
            shape["options"] = LSTMOptions(**{**OPTIONS[chosen[0]], **OPTIONS[chosen[1]]})
        elif kind == "RNN":
            shape["nonlinearity"] = str(rng.choice(["tanh", "relu"]))
        elif kind == "GRU":
            shape["reset_after"] = bool(rng.integers(2))
        model = LAYERS[kind](INPUTS, HIDDEN, seed=int(rng.integers(1 << 30)), **shape)
        compare(model, lengths=bool(rng.integers(2)), state=bool(rng.integers(2)))
