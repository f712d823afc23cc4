# SPDX-License-Identifier: BSD-3-Clause
"""What stands between formats: layers, gate orders, and what an importer returns."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import fastlstm
from fastlstm import LSTMOptions, interop
from fastlstm.interop import gates
from fastlstm.interop.errors import library, reading
from support.labels import label

MODELS = [
    fastlstm.LSTM(3, 4, 2, bidirectional=True, batch_first=True, proj_size=2, seed=0),
    fastlstm.LSTM(3, 4, 3, bias=False, dropout=0.25, seed=0),
    fastlstm.LSTM(3, 4, options=LSTMOptions(peepholes=True, cell_clip=2.0), seed=0),
    fastlstm.LSTM(3, 4, 2, options=LSTMOptions(layer_norm="separate"), seed=0),
    fastlstm.LSTM(3, 4, 12, dtype=np.float64, seed=0),
    fastlstm.GRU(3, 4, 2, bidirectional=True, seed=0),
    fastlstm.GRU(3, 4, reset_after=False, seed=0),
    fastlstm.GRUCell(3, 4, reset_after=False, seed=0),
    fastlstm.RNN(3, 4, 2, nonlinearity="relu", seed=0),
    fastlstm.LSTMCell(3, 4, seed=0),
    fastlstm.LSTMCell(3, 4, options=LSTMOptions(peepholes=True, cell_clip=2.0), seed=0),
    fastlstm.GRUCell(3, 4, bias=False, seed=0),
    fastlstm.RNNCell(3, 4, nonlinearity="relu", dtype=np.float64, seed=0),
]


@pytest.mark.parametrize("model", MODELS, ids=label)
def test_there_and_back(model: Any) -> None:
    layers = interop.describe(model, "it")
    assert len(layers) == getattr(model, "num_layers", 1)
    assert sum(layer.parameters for layer in layers) == sum(
        values.size for values in model.state_dict().values()
    )
    back = interop.stack(layers)
    assert type(back) is type(model)
    assert repr(back) == repr(model)
    for (name, mine), (same, other) in zip(
        back.state_dict().items(), model.state_dict().items(), strict=True
    ):
        assert name == same
        np.testing.assert_array_equal(mine, other)


def test_what_is_described() -> None:
    with pytest.raises(TypeError, match="model must be"):
        interop.describe(fastlstm.LSTM)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="got int"):
        interop.describe(3)  # type: ignore[arg-type]


def layer(**changes: Any) -> interop.Layer:
    (one,) = interop.describe(fastlstm.LSTM(4, 4, seed=0), "one")
    return dataclasses.replace(one, **changes)


@pytest.mark.parametrize(
    "above, why",
    [
        (layer(kind="rnn", weights=interop.describe(fastlstm.RNN(4, 4))[0].weights), "kind"),
        (interop.describe(fastlstm.LSTM(4, 5))[0], "hidden_size"),
        (interop.describe(fastlstm.LSTM(3, 4))[0], "3 inputs"),
        (interop.describe(fastlstm.LSTM(4, 4, bidirectional=True))[0], "bidirectional"),
        (interop.describe(fastlstm.LSTM(4, 4, dtype=np.float64))[0], "dtype"),
        (layer(options=LSTMOptions(coupled=True)), "options"),
        (layer(go_backwards=True), "reads from the last step"),
        (layer(batch_first=True), "batch_first"),
        (layer(has_lengths=True), "has_lengths"),
        (interop.describe(fastlstm.LSTMCell(4, 4))[0], "cell"),
    ],
    ids=label,
)
def test_what_is_no_stack(above: interop.Layer, why: str) -> None:
    with pytest.raises(ValueError, match=f"no stack: .*{why}"):
        interop.stack([layer(), above])


def test_repr_is_short() -> None:
    assert repr(layer()) == "<Layer 'one': lstm, 4 to 4, float32>"


def test_no_stack_on_a_last_step() -> None:
    with pytest.raises(ValueError, match="last step alone"):
        interop.stack([layer(return_sequences=False), layer()])
    model = interop.stack([layer(), layer(return_sequences=False)])
    assert model.num_layers == 2  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="got none"):
        interop.stack([])


def test_lacking_biases_become_zeros() -> None:
    below = interop.describe(fastlstm.LSTM(4, 4, bias=False, seed=1))[0]
    model = interop.stack([below, layer()])
    assert model.bias
    assert not model.state_dict()["bias_ih_l0"].any()
    assert model.state_dict()["bias_ih_l1"].any()


@pytest.mark.parametrize(
    "changes, why",
    [
        ({"kind": "lstmp"}, "kind must be one of"),
        ({"weights": []}, "got 0"),
        ({"weights": [{}]}, "weight_ih is missing"),
        ({"hidden_size": 5}, "weight_ih must have shape"),
        ({"proj_size": 2}, "weights must be"),
        ({"options": LSTMOptions(peepholes=True)}, "weight_ci"),
    ],
    ids=label,
)
def test_what_is_no_layer(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        layer(**changes)


def test_mixed_dtypes_are_no_layer() -> None:
    (weights,) = layer().weights
    for name in weights:
        wide = {**weights, name: weights[name].astype(np.float64)}
        with pytest.raises(ValueError, match="they must have one"):
            layer(weights=[wide])
    whole = {name: values.astype(np.float16) for name, values in weights.items()}
    with pytest.raises(ValueError, match="must be float32 or float64"):
        layer(weights=[whole])


# ---- gates ----


@pytest.mark.parametrize(
    "form, kind", [(form, kind) for form, kinds in gates.ORDERS.items() for kind in kinds]
)
def test_orders_are_permutations(form: str, kind: str) -> None:
    order, torchs = gates.ORDERS[form][kind], gates.ORDERS["torch"][kind]
    assert sorted(order) == sorted(torchs)
    rows = np.arange(len(order) * 2 * 3).reshape(-1, 3)
    there = gates.from_torch(rows, kind, form)
    np.testing.assert_array_equal(gates.to_torch(there, kind, form), rows)
    bias = rows[:, 0]
    blocks = dict(zip(order, np.split(gates.from_torch(bias, kind, form), len(order)), strict=True))
    for gate, expected in zip(torchs, np.split(bias, len(order)), strict=True):
        np.testing.assert_array_equal(blocks[gate], expected)


def test_a_width_that_is_no_multiple_of_the_gates() -> None:
    with pytest.raises(ValueError, match="4 gates of equal size"):
        gates.reorder(np.zeros(7), "lstm", "onnx", "torch")


# ---- what an importer returns ----


def imported(**changes: Any) -> interop.Imported:
    first = layer(name="first", go_backwards=True, has_state=True)
    dense = interop.Other("dense", "dense", {"units": 2}, {"kernel": np.zeros((4, 2))})
    given: dict[str, Any] = {
        "stacks": {"first": [first]},
        "others": [dense],
        "order": ["first", "dense"],
        "notes": ["a note"],
    }
    return interop.Imported("m.any", "Any", "a maker", "7", **{**given, **changes})


def test_table() -> None:
    lines = repr(imported(unsupported={"second": "it has a clip"})).splitlines()
    assert lines[0] == "m.any: Any (a maker, 7)"
    assert lines[1].split() == ["name", "layer", "parameters", "in", "the", "file"]
    assert lines[2].startswith(
        "  first  LSTM(4, 4, dtype=float32)         160  reads from the last"
    )
    assert lines[2].endswith("is given a state")
    assert lines[3:] == ["others: 1 dense", "unsupported: second: it has a clip", "note: a note"]
    assert json.loads(json.dumps(imported().summary()))["layers"][0]["parameters"] == 160


def test_the_only_model() -> None:
    assert repr(imported().model) == "LSTM(4, 4, dtype=float32)"
    with pytest.raises(ValueError, match=r"several recurrent layers: .*first, second"):
        _ = imported(unsupported={"second": "why"}).model
    with pytest.raises(interop.Unsupported, match=r"m\.any: second: why"):
        imported(stacks={}, unsupported={"second": "why"})


# ---- errors, and what is imported when ----


def test_errors_name_file_and_place() -> None:
    error = interop.FormatError("a.onnx", "lstm", "it is odd")
    assert str(error) == "a.onnx: lstm: it is odd"
    assert isinstance(error, ValueError)
    with pytest.raises(interop.FormatError, match="a: b: division by zero"), reading("a", "b"):
        _ = 1 / 0
    with pytest.raises(FileNotFoundError), reading("a"):
        open("no/such/file")  # noqa: SIM115
    with pytest.raises(interop.FormatError, match="no such"), reading("a", opened=True):
        raise OSError("no such")


def test_a_missing_library() -> None:
    with pytest.raises(ImportError, match=r'is needed to fly: pip install "fastlstm\[wings\]"'):
        library("no_such_library", "wings", "fly")


def test_formats_are_imported_late() -> None:
    code = (
        "import sys, fastlstm; fastlstm.interop.from_onnx; fastlstm.interop.from_torch; "
        "print(*{name.split('.')[0] for name in sys.modules})"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"onnx", "torch", "keras", "h5py", "onnxruntime"} & set(out.stdout.split())
    with pytest.raises(AttributeError, match="no attribute 'from_nothing'"):
        _ = interop.from_nothing  # type: ignore[attr-defined]
    assert all(hasattr(interop, name) for name in dir(interop))
