# SPDX-License-Identifier: BSD-3-Clause
"""Keras as a live oracle: what its models give, and what is made of them and of their files."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastlstm
from fastlstm import interop
from fastlstm.interop import keras_verify
from support import ROOT, keras_models
from support.keras_models import TOLERANCE, largest_difference
from support.labels import label

pytest.importorskip("h5py", reason="files of Keras need h5py")
os.environ.setdefault("KERAS_BACKEND", "torch")
pytest.importorskip("keras", reason="Keras is an optional oracle")
keras = keras_models.keras()
pytestmark = pytest.mark.filterwarnings("ignore")  # those of Keras


def check(seed: int, folder: Path, module: Any = keras) -> None:
    """One random model, whole: live, and from one of its files."""
    made, x = keras_models.model(module, seed)
    expected = made.predict(x, verbose=0)
    for source in (made, keras_models.saved(made, folder)[seed % 2]):
        chain = interop.from_keras(source).sequential()
        assert largest_difference(expected, chain(x)) <= TOLERANCE, (seed, repr(chain))


@pytest.mark.parametrize("seed", range(8))
def test_random_models(seed: int, tmp_path: Path) -> None:
    check(seed, tmp_path)


@pytest.mark.deep
@pytest.mark.parametrize("first", range(100, 400, 50))
def test_many_random_models(first: int, tmp_path: Path) -> None:
    for seed in range(first, first + 50):
        check(seed, tmp_path)


@pytest.mark.parametrize("seed", range(6))
def test_streams(seed: int) -> None:
    made, x = keras_models.model(keras, seed, streams=True)
    chain = interop.from_keras(made).sequential()
    whole = chain(x)
    assert largest_difference(made.predict(x, verbose=0), whole) <= TOLERANCE
    stream = chain.stream(len(x))
    cut = x.shape[1] // 2
    parts = [stream(part) for part in (x[:, :cut], x[:, cut:], x[:, :0]) if part.shape[1]]
    assert largest_difference(whole, np.concatenate(parts, axis=1)) <= TOLERANCE


_OTHER_BACKEND = """
import sys
import numpy as np
from fastlstm import interop
from support import keras_models
module = keras_models.keras()
assert module.backend.backend() == "numpy"
for seed in range(int(sys.argv[1]), int(sys.argv[2])):
    made, x = keras_models.model(module, seed)
    y = interop.from_keras(made).sequential()(x)
    difference = keras_models.largest_difference(made.predict(x, verbose=0), y)
    assert difference <= keras_models.TOLERANCE, (seed, difference)
"""


@pytest.mark.deep
def test_another_backend() -> None:
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests"), *filter(None, sys.path)])
    environment = {**os.environ, "KERAS_BACKEND": "numpy", "PYTHONPATH": path}
    command = [sys.executable, "-W", "ignore", "-c", _OTHER_BACKEND, "400", "500"]
    subprocess.run(command, env=environment, check=True, timeout=600)


def all_steps(layer: Any, model: Any, x: np.ndarray) -> np.ndarray:
    """What a fastlstm object gives for a layer of Keras, batch first."""
    y, _ = model(x)
    return y[:, -1] if not layer.return_sequences else y


@pytest.mark.parametrize("reset_after", [True, False], ids=label)
@pytest.mark.parametrize("bias", [True, False], ids=label)
def test_gru_both_ways(reset_after: bool, bias: bool) -> None:
    layer = keras.layers.GRU(4, reset_after=reset_after, use_bias=bias, return_sequences=True)
    x = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32)
    layer(x)
    keras_models.fill(layer, np.random.default_rng(1))
    model = interop.from_keras(layer).model
    expected = layer(x).detach().numpy()
    assert largest_difference(expected, all_steps(layer, model, x)) <= TOLERANCE


def test_stateful_layers_leave_states_out(tmp_path: Path) -> None:
    for kind in ("LSTM", "GRU"):
        inner = getattr(keras.layers, kind)(4, stateful=True, return_sequences=True)
        made = keras.Sequential([keras.layers.Input(batch_shape=(2, 5, 3)), inner])
        keras_models.fill(made, np.random.default_rng(0))
        x = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32)
        inner.reset_states()
        expected = made.predict(x, verbose=0)
        for source in (made, inner, keras_models.saved(made, tmp_path)[kind == "GRU"]):
            found = interop.from_keras(source)
            assert any("stateful" in note for note in found.notes)
            assert largest_difference(expected, found.sequential()(x)) <= TOLERANCE


def test_stacked_cells_and_directions_that_differ(tmp_path: Path) -> None:
    layers = keras.layers
    x = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32)
    cells = [layers.LSTMCell(4), layers.GRUCell(5), layers.LSTMCell(3)]
    stacked = layers.RNN(cells, return_sequences=True, go_backwards=True)
    made = keras.Sequential([layers.Input((5, 3)), stacked, layers.RNN(layers.GRUCell(2))])
    keras_models.fill(made, np.random.default_rng(0))
    for source in (made, *keras_models.saved(made, tmp_path)):
        found = interop.from_keras(source)
        names = [*(f"{stacked.name}/{at}" for at in range(3)), made.layers[1].name]
        assert [*found.layers] == names
        assert largest_difference(made.predict(x, verbose=0), found.sequential()(x)) <= TOLERANCE
    both = layers.Bidirectional(
        layers.LSTM(4, return_sequences=True),
        backward_layer=layers.LSTM(3, return_sequences=True, go_backwards=True, activation="relu"),
    )
    made = keras.Sequential([layers.Input((5, 3)), both])
    keras_models.fill(made, np.random.default_rng(0))
    for source in (made, keras_models.saved(made, tmp_path)[0]):
        found = interop.from_keras(source)
        first, second = (model(x)[0] for model in found.layers.values())
        turned = [*found.layers.values()][1](x[:, ::-1])[0][:, ::-1]
        assert found.stacks[f"{both.name}/backward_layer"][0].go_backwards
        y = np.concatenate([first, turned], axis=-1)
        assert largest_difference(made.predict(x, verbose=0), y) <= TOLERANCE
        assert largest_difference(y[..., 4:], second) > TOLERANCE
        with pytest.raises(interop.Unsupported, match="directions that differ"):
            found.sequential()


def test_models_in_models(tmp_path: Path) -> None:
    layers = keras.layers
    deepest = keras.Sequential([layers.Input((5, 4)), layers.GRU(3, return_sequences=True)])
    inner = keras.Sequential(
        [
            layers.Input((5, 3)),
            layers.LSTM(4, return_sequences=True, name="below"),
            layers.BatchNormalization(),
            deepest,
            layers.Dense(2, trainable=False),
        ],
        name="inner",
    )
    entrance = layers.Input((5, 3))
    made = keras.Model(entrance, layers.LSTM(2)(layers.Dropout(0.1)(inner(entrance))))
    keras_models.fill(made, np.random.default_rng(0))
    x = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32)
    for source in (made, *keras_models.saved(made, tmp_path)):
        found = interop.from_keras(source)
        assert "inner/below" in found.layers
        assert largest_difference(made.predict(x, verbose=0), found.sequential()(x)) <= TOLERANCE


@pytest.mark.parametrize("kind", ["LSTM", "Bidirectional", "Sequential"])
def test_a_layer_of_two_models(kind: str, tmp_path: Path) -> None:
    """Files have its arrays once."""
    layers = keras.layers
    shared = layers.LSTM(2, return_sequences=True)
    shared = layers.Bidirectional(shared) if kind == "Bidirectional" else shared
    wide = 4 if kind == "Bidirectional" else 2
    if kind == "Sequential":
        shared = keras.Sequential([layers.Input((5, 2)), shared])
    own = [
        keras.Sequential([layers.Input((5, wide)), layers.Dense(wide), shared]) for _ in range(2)
    ]
    entrance = layers.Input((5, wide))
    made = keras.Model(entrance, own[1](own[0](entrance)))
    keras_models.fill(made, np.random.default_rng(0))
    x = np.random.default_rng(0).normal(size=(2, 5, wide)).astype(np.float32)
    for source in (made, *keras_models.saved(made, tmp_path)):
        found = interop.from_keras(source)
        assert len(found.layers) == 2
        assert largest_difference(made.predict(x, verbose=0), found.sequential()(x)) <= TOLERANCE


def test_adapters_are_added_up(tmp_path: Path) -> None:
    """A live layer with LoRA has its kernel in parts; a file has it whole."""
    layers = keras.layers
    dense, table = layers.Dense(3), layers.Embedding(7, 4)
    made = keras.Sequential([layers.Input((5,), dtype="int32"), table, layers.LSTM(4), dense])
    for layer in (dense, table):
        layer.enable_lora(2)
    keras_models.fill(made, np.random.default_rng(0))
    x = np.random.default_rng(0).integers(0, 7, (2, 5))
    for source in (made, *keras_models.saved(made, tmp_path)[:1]):
        y = interop.from_keras(source).sequential()(x)
        assert largest_difference(made.predict(x, verbose=0), y) <= TOLERANCE


def test_what_is_no_chain(tmp_path: Path) -> None:
    layers = keras.layers
    entrance = layers.Input((5, 3))
    states = layers.LSTM(4, return_state=True, return_sequences=True, name="encoder")(entrance)
    decoded = layers.LSTM(4, name="decoder")(states[0], initial_state=states[1:])
    made = keras.Model(entrance, decoded)
    for source in (made, keras_models.saved(made, tmp_path)[1]):
        found = interop.from_keras(source)
        assert [*found.layers] == ["encoder", "decoder"]
        with pytest.raises(interop.Unsupported, match="no plain chain: decoder has 3 inputs"):
            found.sequential()
    odd = keras.Sequential([layers.Input((5, 3)), layers.LSTM(2, activation="gelu")])
    with pytest.raises(interop.Unsupported, match="candidate_activation must be one of"):
        interop.from_keras(odd)
    mixed = keras.Sequential([layers.Input((5, 3)), *odd.layers, layers.RepeatVector(2)])
    mixed.add(layers.LSTM(2, name="good"))
    found = interop.from_keras(mixed)
    assert [*found.layers] == ["good"]
    assert len(found.unsupported) == 1
    with pytest.raises(interop.Unsupported, match="candidate_activation"):
        found.sequential()


ROUND_TRIPS: list[tuple[Any, dict[str, Any]]] = [
    (fastlstm.LSTM, {"num_layers": 2, "bidirectional": True, "dropout": 0.2, "batch_first": True}),
    (fastlstm.LSTM, {"bias": False}),
    (fastlstm.LSTM, {"options": {"gate_activation": ("hard_sigmoid", 1 / 6, 0.5),
                                 "candidate_activation": "relu", "output_activation": "relu"}}),
    (fastlstm.GRU, {"num_layers": 2, "bidirectional": True, "dtype": np.float64}),
    (fastlstm.GRU, {"reset_after": False}),
    (fastlstm.RNN, {"nonlinearity": "relu"}),
]  # fmt: skip


@pytest.mark.parametrize(
    "kind, config", ROUND_TRIPS, ids=lambda value: getattr(value, "__name__", None) or label(value)
)
def test_round_trips(kind: Any, config: dict[str, Any], tmp_path: Path) -> None:
    """Every bit comes back where Keras has both biases; else where the second one is 0."""
    model = kind(3, 4, seed=0, **config)
    keeps = kind is fastlstm.GRU and config.get("reset_after", True)
    if not keeps and model.bias:
        with pytest.warns(UserWarning, match="one bias"):
            interop.to_keras(model)
        values = model.state_dict()
        model.load_state_dict({key: 0 * v if "bias_hh" in key else v for key, v in values.items()})
    made = interop.to_keras(model)
    x = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(model.dtype)
    y, _ = model(x if model.batch_first else x.transpose(1, 0, 2))
    y = y if model.batch_first else y.transpose(1, 0, 2)
    assert largest_difference(made.predict(x, verbose=0), y) <= TOLERANCE
    interop.to_keras(model, tmp_path / "model.keras")
    interop.to_keras(model, tmp_path / "model.weights.h5")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert largest_difference(loaded.predict(x, verbose=0), y) <= TOLERANCE
    made.load_weights(tmp_path / "model.weights.h5")
    for source in (made, tmp_path / "model.keras", loaded):
        stacks = interop.from_keras(source).stacks
        back = interop.stack([layer for layers in stacks.values() for layer in layers])
        for name, values in model.state_dict().items():
            np.testing.assert_array_equal(back.state_dict()[name], values, err_msg=name)


def test_verify(tmp_path: Path) -> None:
    made, _ = keras_models.model(keras, 3)
    path = keras_models.saved(made, tmp_path)[0]
    differences = keras_verify.verify(path)
    assert differences.keys() == interop.from_keras(path).layers.keys()
    assert max(differences.values()) <= TOLERANCE


@pytest.mark.deep
def test_keras_2(tmp_path: Path) -> None:
    """Files and live models of Keras 2, which TensorFlow runs."""
    pytest.importorskip("tf_keras", reason="Keras 2 is an optional oracle")
    module = keras_models.keras("tf_keras")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for seed in range(60):
            check(seed, tmp_path, module)
