# SPDX-License-Identifier: BSD-3-Clause
"""Trained models that packages on PyPI ship: their recurrent layers in one call, outputs equal."""

from __future__ import annotations

import importlib
import importlib.util
import pickle
from pathlib import Path

import numpy as np
import pytest

from fastlstm import interop
from support import onnx_models

EPS = float(np.finfo(np.float32).eps)


def folder(package: str, install: str) -> Path:
    """Where a package lies; it is not imported."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(f"{package} is not installed: pip install --no-deps {install}")
    return Path(spec.submodule_search_locations[0])


def silero(name: str) -> Path:
    return folder("silero_vad", "silero-vad") / "data" / name


# File -> its LSTMs: with a state that a call feeds and, for the first call, without.
SILERO = {
    "silero_vad.onnx": 4,
    "silero_vad_half.onnx": 2,
    "silero_vad_16k_op15.onnx": 2,
    "silero_vad_16k_sequence.onnx": 1,
    "silero_vad_openvino_16k.onnx": 1,
}


@pytest.mark.parametrize("name", SILERO)
def test_silero_vad(name: str) -> None:
    """LSTMs in nested branches, their weights out of Slice, Concat and Unsqueeze, in the file's own
    engine and here. A state's weights reach some 5, so a step magnifies errors up to some twenty
    times what `onnx_models.tolerance` allows for."""
    pytest.importorskip("onnxruntime")
    from fastlstm.interop import onnx_verify

    file = silero(name)
    imported = interop.from_onnx(file)
    assert [repr(layer) for layer in imported.layers.values()] == (
        ["LSTM(128, 128, dtype=float32)"] * SILERO[name]
    )
    assert sum(layers[0].has_state for layers in imported.stacks.values()) == max(
        1, SILERO[name] // 2
    )
    differences = onnx_verify.verify(file)
    limit = 20 * 2 * 9 * (128 + 128 + 12) * EPS
    assert differences.keys() == imported.layers.keys()
    assert max(differences.values()) <= limit


def test_silero_vad_in_its_graph() -> None:
    """What the whole model feeds its LSTM, on noise, through ours."""
    onnx = pytest.importorskip("onnx")
    file = silero("silero_vad_16k_sequence.onnx")
    model = onnx.load(file)
    (node,) = [node for node in model.graph.node if node.op_type == "LSTM"]
    for name in (node.input[0], node.output[0]):
        model.graph.output.append(
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        )
    rng = np.random.default_rng(0)
    feeds = {}
    for value in model.graph.input:
        sizes = [dim.dim_value or 4 for dim in value.type.tensor_type.shape.dim]
        feeds[value.name] = rng.uniform(-0.5, 0.5, sizes).astype(np.float32)
    *_, x, y = onnx_models.by_runtime(model, feeds)
    state = tuple(feeds[name] for name in node.input[5:7])
    ours, _ = interop.from_onnx(file).model(x, state)
    assert np.abs(ours - y[:, 0]).max() <= 20 * 2 * len(x) * (128 + 128 + 12) * EPS


def test_silero_vad_without_a_layer() -> None:
    with pytest.raises(interop.FormatError, match="unrolled into gates"):
        interop.from_onnx(silero("silero_vad_op18_ifless.onnx"))


def test_silero_vad_as_safetensors() -> None:
    """A later training of the network, as a state dict with an LSTMCell in it: each gate resembles
    the same gate of the ONNX file, and no other."""
    pytest.importorskip("onnx")
    cell = interop.from_torch(silero("silero_vad_16k.safetensors")).layers["lstm_cell"]
    layer = next(iter(interop.from_onnx(silero("silero_vad_16k_op15.onnx")).layers.values()))
    for name in ("weight_ih", "weight_hh", "bias_ih"):
        one, other = (
            np.stack([block.reshape(-1) for block in np.split(values, 4)])
            for values in (cell.state_dict()[name], layer.state_dict()[f"{name}_l0"])
        )
        likeness = np.corrcoef(one, other)[:4, 4:]
        assert (likeness.argmax(axis=1) == range(4)).all(), name
        assert likeness.diagonal().min() > 0.5, name


def test_resemblyzer() -> None:
    """The speaker encoder: three LSTM layers, then a dense layer, relu, and a norm."""
    torch = pytest.importorskip("torch")
    file = folder("resemblyzer", "resemblyzer") / "pretrained.pt"
    imported = interop.from_torch(file, batch_first=True)
    assert repr(imported.model) == "LSTM(40, 256, num_layers=3, batch_first=True, dtype=float32)"
    dense = next(other for other in imported.others if other.name == "linear")
    mels = np.random.default_rng(0).uniform(0, 1, (2, 160, 40)).astype(np.float32)
    _, (h_n, _) = imported.model(mels)
    raw = np.maximum(h_n[-1] @ dense.weights["weight"].T + dense.weights["bias"], 0)
    ours = raw / np.linalg.norm(raw, axis=1, keepdims=True)

    weights = torch.load(file, map_location="cpu", weights_only=True)["model_state"]
    module = torch.nn.LSTM(40, 256, 3, batch_first=True)
    module.load_state_dict(
        {name[5:]: value for name, value in weights.items() if name.startswith("lstm.")}
    )
    with torch.no_grad():
        hidden = module(torch.from_numpy(mels))[1][0][-1]
        raw = torch.relu(hidden @ weights["linear.weight"].T + weights["linear.bias"])
        theirs = (raw / raw.norm(dim=1, keepdim=True)).numpy()
    # Embeddings have length 1; a step of a trained encoder forgets, so that errors of some twenty
    # steps add up, each of a sum of 512 terms.
    assert np.abs(ours - theirs).max() <= 20 * 512 * EPS


def test_g2pm() -> None:
    """Readings of Chinese characters: two directions over sentences of any length, in NumPy. Its
    weights lie in a pickle, which the package itself reads; the importer takes arrays."""
    files = folder("g2pM", "g2pM")
    package = importlib.import_module("g2pM").G2pM()
    state = pickle.loads((files / "np_ckpt.pkl").read_bytes())
    imported = interop.from_torch(state, batch_first=True)
    model = imported.layers["lstm"]
    hidden = model.hidden_size
    assert repr(model) == (
        f"LSTM({model.input_size}, {hidden}, batch_first=True, bidirectional=True, dtype=float32)"
    )
    rng = np.random.default_rng(0)
    lengths = [20, 13, 1]
    words = rng.integers(0, len(package.embeddings), (3, 20))
    x = package.get_embedding(words)
    ours, _ = model(x, lengths=lengths)
    steps = {
        True: (package.fw_lstm_cell, x),
        False: (package.bw_lstm_cell, package.reverse_sequence(x, lengths)),
    }
    parts = []
    for forward, (cell, given) in steps.items():
        state_of, outputs = None, []
        for t in range(20):
            state_of = cell(given[:, t], state_of)
            outputs.append(state_of[0])
        whole = np.stack(outputs, axis=1)
        parts.append(whole if forward else package.reverse_sequence(whole, lengths))
    theirs = np.concatenate(parts, axis=-1)
    for row, count in enumerate(lengths):
        # Theirs is in float64: some twenty steps of sums of I + H terms in float32.
        limit = 20 * (model.input_size + hidden) * EPS
        assert np.abs(ours[row, :count] - theirs[row, :count]).max() <= limit


def test_dksplit() -> None:
    """A splitter of words: three layers of two directions, quantised by ONNX Runtime. Its weights
    are those of an LSTM whose floats are made here by hand."""
    onnx = pytest.importorskip("onnx")
    file = folder("dksplit", "dksplit") / "models" / "dksplit-int8.onnx"
    imported = interop.from_onnx(file)
    assert repr(imported.model) == (
        "LSTM(384, 384, num_layers=3, bidirectional=True, dtype=float32)"
    )
    assert any("dequantised" in note for note in imported.notes)
    graph = onnx.load(file).graph
    (layers,) = imported.stacks.values()
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    nodes = [node for node in graph.node if node.op_type == "DynamicQuantizeLSTM"]
    for node, layer in zip(nodes, layers, strict=True):
        for at, name in ((1, "weight_ih"), (2, "weight_hh")):
            whole, scale, zero = (arrays[node.input[n]] for n in (at, 6 + 2 * at, 7 + 2 * at))
            for direction in range(2):
                rows = (whole[direction].astype(np.int64) - zero[direction]) * scale[direction]
                i, o, f, c = np.split(rows.T.astype(np.float32), 4)
                found = layer.weights[direction][name]
                np.testing.assert_array_equal(found, np.concatenate([i, f, c, o]))
