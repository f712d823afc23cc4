# SPDX-License-Identifier: BSD-3-Clause
"""A trained model of Keras 2 that a package ships: the character model of textgenrnn (MIT); and the
same through TensorFlow's converter to TensorFlow Lite."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastlstm import interop

pytest.importorskip("h5py", reason="files of Keras need h5py")


@pytest.fixture(scope="module")
def folder() -> Path:
    """That of the package, which is not imported: it needs TensorFlow."""
    found = importlib.util.find_spec("textgenrnn")
    if found is None or not found.submodule_search_locations:
        pytest.skip("textgenrnn is not installed (pip install --no-deps textgenrnn)")
    return Path(found.submodule_search_locations[0])


@pytest.fixture(scope="module")
def imported(folder: Path) -> Any:
    return interop.from_keras(folder / "textgenrnn_weights.hdf5")


def test_what_the_file_holds(imported: Any) -> None:
    assert imported.version == "2.1.5"
    sizes = {name: (m.input_size, m.hidden_size) for name, m in imported.layers.items()}
    assert sizes == {"rnn_1": (100, 128), "rnn_2": (128, 128)}


def by_equations(path: Path, x: np.ndarray) -> np.ndarray:
    """rnn_1 in float64, from the file's arrays: a CuDNNLSTM's, whose matrices cuDNN takes as (H, I)
    and (H, H) in memory, and whose biases are two."""
    import h5py

    with h5py.File(path) as root:
        kernel, recurrent, bias = (
            np.float64(root["rnn_1"][name][()]) for name in root["rnn_1"].attrs["weight_names"]
        )
    of_x, of_h = np.split(kernel, 4, axis=1), np.split(recurrent, 4, axis=1)
    biases = bias.reshape(2, 4, 128).sum(axis=0)
    h = c = np.zeros((len(x), 128))
    y = []
    for t in range(x.shape[1]):
        sums = [
            x[:, t] @ np.ravel(of_x[gate]).reshape(128, 100).T + h @ of_h[gate].T + biases[gate]
            for gate in range(4)
        ]
        i, f, o = (1 / (1 + np.exp(-sums[gate])) for gate in (0, 1, 3))
        c = f * c + i * np.tanh(sums[2])
        h = o * np.tanh(c)
        y.append(h)
    return np.stack(y, axis=1)


def test_outputs_are_those_of_keras_s_equations(folder: Path, imported: Any) -> None:
    table = next(one for one in imported.others if one.name == "embedding").weights["embeddings"]
    x = table[np.random.default_rng(0).integers(0, len(table), (4, 40))]
    expected = by_equations(folder / "textgenrnn_weights.hdf5", np.float64(x))
    y, _ = imported.layers["rnn_1"](x)
    # 228 terms a sum, of at most 4 each, in 40 steps
    assert np.abs(y - expected).max() <= 40 * 228 * 4 * np.finfo(np.float32).eps / 10


def surprise(
    imported: Any, letters: dict[str, int], text: str, layers: dict[str, Any] | None = None
) -> float:
    """Nats a character of the whole model: two LSTMs, attention over all, a dense layer."""
    others = {one.name: one.weights for one in imported.others}
    layers = layers or imported.layers
    numbers, total = [0, *(letters[letter] for letter in text)], 0.0
    for t in range(1, len(numbers)):
        read = ([0] * 40 + numbers[:t])[-40:]
        rows = others["embedding"]["embeddings"][np.array([read])]
        below, _ = layers["rnn_1"](rows)
        above, _ = layers["rnn_2"](below)
        x = np.concatenate([rows, below, above], axis=-1)
        weights = np.exp(x @ others["attention"]["0"])
        seen = (x * weights / weights.sum(axis=1, keepdims=True)).sum(axis=1)
        scores = (seen @ others["output"]["kernel"] + others["output"]["bias"])[0]
        scores -= scores.max()
        total -= scores[numbers[t]] - np.log(np.exp(scores).sum())
    return total / len(text)


def test_it_knows_english(folder: Path, imported: Any) -> None:
    letters = json.loads((folder / "textgenrnn_vocab.json").read_text())
    english = surprise(imported, letters, "the best way to learn how to play the game")
    noise = surprise(imported, letters, "zq xkv jjw pqx zzv kkq xwz vbq")
    assert english < 1.5 < 5 < noise  # 0.96 and 7.7: guessing takes log 465 = 6.1


def converted(model: Any, layer: Any, reduce: bool) -> bytes:
    """One layer as TensorFlow's converter makes it a file of TensorFlow Lite, 40 steps."""
    tensorflow = pytest.importorskip("tensorflow", reason="its converter makes the file")
    keras = pytest.importorskip("tf_keras", reason="Keras 2 gives LSTMs as operators")
    made = keras.Sequential(
        [
            keras.layers.Input((40, layer.input_size), batch_size=1),
            keras.layers.LSTM(layer.hidden_size, return_sequences=True),
        ]
    )
    values = layer.weights[0]
    bias = values["bias_ih"] + values["bias_hh"]
    made.set_weights([values["weight_ih"].T, values["weight_hh"].T, bias])
    call = tensorflow.function(lambda x: made(x)).get_concrete_function(
        tensorflow.TensorSpec((1, 40, layer.input_size), tensorflow.float32)
    )
    converter = tensorflow.lite.TFLiteConverter.from_concrete_functions([call], made)
    if reduce:
        converter.optimizations = [tensorflow.lite.Optimize.DEFAULT]
    return bytes(converter.convert())


@pytest.mark.deep
@pytest.mark.parametrize("reduce", [False, True], ids=["float", "int8"])
def test_through_tensorflow_lite(folder: Path, imported: Any, reduce: bool) -> None:
    """Outputs as the interpreter's, and the English that it knew."""
    tensorflow = pytest.importorskip("tensorflow", reason="its converter makes the file")
    pytest.importorskip("tflite", reason="reading TensorFlow Lite needs the package tflite")
    layers = {}
    for name, (layer,) in imported.stacks.items():
        data = converted(imported, layer, reduce)
        found = interop.from_tflite(data)
        assert any("INT8" in note for note in found.notes) == reduce
        layers[name] = found.model
        x = np.random.default_rng(0).normal(0, 0.1, (1, 40, layer.input_size)).astype(np.float32)
        run = tensorflow.lite.Interpreter(model_content=data, num_threads=1)
        run.allocate_tensors()
        run.set_tensor(run.get_input_details()[0]["index"], x)
        run.invoke()
        theirs = run.get_tensor(run.get_output_details()[0]["index"])
        # Eight steps: this model makes of a last bit 1e-3 in 40. int8: weights, inputs and states
        # by 1/254 each, whose errors 128 units average.
        difference = np.abs(found.model(x)[0] - theirs)[:, :8].max()
        assert difference <= (0.1 if reduce else 2e-5)
    letters = json.loads((folder / "textgenrnn_vocab.json").read_text())
    text = "the best way to learn how to play the game"
    assert surprise(imported, letters, text, layers) < 1.5
