# SPDX-License-Identifier: BSD-3-Clause
"""Layers of Keras that look like others and compute something else: no wrong number comes out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastlstm import interop
from support.labels import label


def arrays(*shapes: tuple[int, ...]) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.normal(0, 0.5, shape).astype(np.float32) for shape in shapes]


LSTM = {"class_name": "LSTM", "config": {"name": "lstm", "units": 2, "return_sequences": True}}
WEIGHTS = {"lstm": arrays((3, 8), (2, 8), (8,))}


def imported(*layers: dict[str, Any], version: str = "3.0", **more: Any) -> interop.Imported:
    """A Sequential of an LSTM and what follows it, with the arrays that are named."""
    config = {"class_name": "Sequential", "config": {"layers": [LSTM, *layers]}}
    return interop.from_keras(config, WEIGHTS | more, version=version)


@pytest.mark.parametrize(
    "home",
    [{"registered_name": "mine>LSTM"}, {"module": "mine.layers"}, {"module": "kerassic"}],
    ids=label,
)
def test_a_class_of_another_package(home: dict[str, str]) -> None:
    with pytest.raises(interop.Unsupported, match=r"no recurrent layer, but \w+(\.layers)?>LSTM"):
        interop.from_keras({**LSTM, **home}, WEIGHTS["lstm"])
    inner = {"class_name": "Bidirectional", "config": {"name": "both", "layer": {**LSTM, **home}}}
    found = imported(inner)
    assert ">LSTM is none that fastlstm has" in found.unsupported["both"]
    cell = {"class_name": "RNN", "config": {"name": "rnn", "cell": {**LSTM, **home}}}
    assert ">LSTM is none that fastlstm has" in imported(cell).unsupported["rnn"]


@pytest.mark.parametrize("module", ["keras.layers", "keras", "tf_keras.src.layers", None])
def test_classes_of_keras(module: str | None) -> None:
    own = {**LSTM, "module": module, "registered_name": None}
    assert interop.from_keras(own, WEIGHTS["lstm"]).model.hidden_size == 2


POLICIES: list[dict[str, Any]] = [
    {"dtype": {"class_name": "QuantizedDTypePolicy", "config": {"mode": "int8"}}},
    {"dtype": "int8_from_float32"},
    {"quantization_config": {"class_name": "Int8QuantizationConfig", "config": {}}},
]


@pytest.mark.parametrize("policy", POLICIES, ids=label)
def test_integers_with_scales_elsewhere(policy: dict[str, Any]) -> None:
    config = {"name": "dense", "units": 2, **policy}
    kernel = np.full((2, 2), 100, np.int8)
    given = [kernel, *arrays((2,), (2,))]
    found = imported({"class_name": "Dense", "config": config}, dense=given)
    assert [other.kind[:8] for other in found.others] == ["Dense in"]
    assert len(found.others[0].weights) == 3
    with pytest.raises(interop.Unsupported, match="Dense in int8"):
        found.sequential()


def test_axes_that_are_normalised_together() -> None:
    norm = {"class_name": "LayerNormalization", "config": {"name": "norm", "axis": [1, 2]}}
    found = imported(norm, norm=arrays((5, 2), (5, 2)))
    with pytest.raises(interop.Unsupported, match=r"axes \[1, 2\] together"):
        found.sequential()
    norm["config"] = {"name": "norm", "rms_scaling": True}
    with pytest.raises(interop.Unsupported, match="LayerNormalization by rms"):
        imported(norm, norm=arrays((2,))).sequential()


@pytest.mark.parametrize("kind", ["GlobalMaxPooling1D", "GlobalAveragePooling1D"])
def test_pooling_keeps_an_axis(kind: str) -> None:
    x = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32)
    kept = imported({"class_name": kind, "config": {"name": "pool", "keepdims": True}})
    plain = imported({"class_name": kind, "config": {"name": "pool"}})
    for lengths in (None, [5, 2]):
        if lengths is None or "Average" in kind:
            y = kept.sequential()(x, lengths=lengths)
            np.testing.assert_array_equal(y, plain.sequential()(x, lengths=lengths)[:, None])


def test_a_sequence_of_sequences() -> None:
    over = {"class_name": "TimeDistributed", "config": {"name": "steps", "layer": LSTM}}
    found = imported(over, steps=arrays((2, 8), (2, 8), (8,)))
    assert found.unsupported["steps"].startswith("TimeDistributed of LSTM")
    with pytest.raises(interop.Unsupported, match="TimeDistributed of LSTM"):
        found.sequential()


@pytest.mark.parametrize("tensor", [0, 1, 2])
def test_a_state_as_output(tensor: int) -> None:
    entry = {"class_name": "InputLayer", "config": {"name": "x"}, "inbound_nodes": []}
    calls = {"inbound_nodes": [[["x", 0, 0, {}]]]}
    inner = {"layers": [entry, {**LSTM, **calls}], "output_layers": [["lstm", 0, tensor]]}
    found = interop.from_keras({"class_name": "Functional", "config": inner}, {"x": [], **WEIGHTS})
    assert found.branches == ("its output is a state of lstm" if tensor else "")


def test_whose_hard_sigmoid() -> None:
    config = {**LSTM["config"], "recurrent_activation": "hard_sigmoid"}  # type: ignore[dict-item]
    layer = {"class_name": "LSTM", "config": config}
    with pytest.raises(interop.FormatError, match="which hard_sigmoid"):
        interop.from_keras(layer, WEIGHTS["lstm"])


def test_bfloat16_in_hdf5(tmp_path: Path) -> None:
    """Keras writes bfloat16 as two bytes without a meaning: the upper halves of float32."""
    h5py = pytest.importorskip("h5py", reason="files of Keras need h5py")
    wide = [array.view(np.uint32) >> 16 << 16 for array in WEIGHTS["lstm"]]
    with h5py.File(tmp_path / "model.weights.h5", "w") as root:
        for at, array in enumerate(wide):
            data = (array >> 16).astype("<u2").view("V2")
            root[f"layers/lstm/cell/vars/{at}"] = data
    found = interop.from_keras(tmp_path / "model.weights.h5", recurrent_activation="sigmoid")
    kernel = found.model.weight_ih_l0
    np.testing.assert_array_equal(kernel, wide[0].view(np.float32).T)


@pytest.mark.parametrize("name", ["float16", "mixed_float16", "bfloat16"])
def test_half_precision_is_told(name: str) -> None:
    policy = {"class_name": "DTypePolicy", "config": {"name": name}}
    for dtype in (name, policy):
        config = {**LSTM["config"], "dtype": dtype}  # type: ignore[dict-item]
        found = interop.from_keras({"class_name": "LSTM", "config": config}, WEIGHTS["lstm"])
        assert any(f"computes it in {name}" in note for note in found.notes)
