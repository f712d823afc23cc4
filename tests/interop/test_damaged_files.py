# SPDX-License-Identifier: BSD-3-Clause
"""Damaged and hostile files: an error that names file and place, in bounded time and memory, with
nothing read but the file."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastlstm
from fastlstm import interop
from support import mutations, onnx_models

onnx = pytest.importorskip("onnx")


def exported(folder: Path) -> Path:
    """An ONNX file with some of everything: a stack, a chain of weights, a branch, peepholes."""
    options = fastlstm.LSTMOptions(peepholes=True, gate_clip=0.5)
    below = interop.to_onnx(fastlstm.LSTM(2, 3, 2, options=options, seed=0), state=True)
    node = onnx.helper.make_node
    weights = {name: f"again_{name}" for name in ("W", "R")}
    rng = np.random.default_rng(0)
    arrays = {"W": rng.random((3, 3, 3), np.float32), "R": rng.random((1, 9, 9), np.float32)}
    inside = onnx.helper.make_graph(
        [
            node("Concat", ["w"] * 1, ["w_whole"], axis=0),
            node("Reshape", ["w_whole", "shape"], ["w_flat"]),
            node("Unsqueeze", ["w_flat", "zero"], [weights["W"]]),
            node("RNN", ["y", weights["W"], weights["R"]], ["z"], hidden_size=9),
        ],
        "branch", [], [onnx.helper.make_tensor_value_info("z", 1, None)],
        [
            onnx.numpy_helper.from_array(value, name)
            for name, value in {
                "w": arrays["W"], weights["R"]: arrays["R"],
                "shape": np.array([9, 3]), "zero": np.array([0]),
            }.items()
        ],
    )  # fmt: skip
    below.graph.node.append(node("If", ["flag"], ["out"], then_branch=inside, else_branch=inside))
    below.graph.input.append(onnx.helper.make_tensor_value_info("flag", 9, []))
    below.graph.output.append(onnx.helper.make_tensor_value_info("out", 1, None))
    path = folder / "model.onnx"
    path.write_bytes(below.SerializeToString())
    return path


def chained(folder: Path) -> Path:
    """A chain: an embedding, two stacks, a dense layer, an activation, the last step."""
    step = onnx.helper.make_node
    rng = np.random.default_rng(0)
    shapes = {
        "E": (5, 2), "W1": (2, 8, 2), "R1": (2, 8, 2), "W2": (1, 8, 4), "R2": (1, 8, 2),
        "D": (2, 3), "b": (3,),
    }  # fmt: skip
    arrays: dict[str, np.ndarray] = {k: rng.random(v, np.float32) for k, v in shapes.items()}
    arrays |= {"s": np.array([0, 0, -1]), "one": np.array([1]), "last": np.array(-1)}
    nodes = [
        step("Gather", ["E", "i"], ["x"]),
        step("Transpose", ["x"], ["xt"], perm=[1, 0, 2]),
        step("LSTM", ["xt", "W1", "R1"], ["y4"], hidden_size=2, direction="bidirectional"),
        step("Transpose", ["y4"], ["yt"], perm=[0, 2, 1, 3]),
        step("Reshape", ["yt", "s"], ["y"]),
        step("LSTM", ["y", "W2", "R2"], ["z4"], hidden_size=2),
        step("Squeeze", ["z4", "one"], ["z"]),
        step("Gather", ["z", "last"], ["h"], axis=0),
        step("MatMul", ["h", "D"], ["d"]),
        step("Add", ["d", "b"], ["e"]),
        step("LeakyRelu", ["e"], ["out"], alpha=0.2),
    ]
    model = onnx_models.model_of(nodes, {"i": np.zeros((3, 4), np.int64)}, ["out"], arrays)
    path = folder / "chain.onnx"
    path.write_bytes(model.SerializeToString())
    assert not interop.from_onnx(path).branches
    return path


def saved(folder: Path, ending: str) -> Path:
    path = folder / f"model{ending}"
    layers = {"a": fastlstm.LSTM(1, 2, 2, seed=0), "b": fastlstm.GRU(1, 1, seed=0)}
    interop.save_torch(layers, path)
    return path


READ = "support.inner_mutations:read"
BYTES, FIELDS = "support.mutations:of_bytes", "support.onnx_mutations:of_fields"
ENTRIES = "support.inner_mutations:of_entries"
FORMATS = {
    "ONNX bytes": (exported, READ, BYTES),
    "ONNX fields": (exported, READ, FIELDS),
    "ONNX chain": (chained, READ, FIELDS),
    "safetensors": (lambda f: saved(f, ".safetensors"), READ, BYTES),
    "torch": (lambda f: saved(f, ".pt"), READ, BYTES),
    "torch entries": (lambda f: saved(f, ".pt"), READ, ENTRIES),
}


def make(name: str, folder: Path) -> tuple[Path, str, str]:
    if name.startswith("torch"):
        pytest.importorskip("torch")
    build, reader, mutation = FORMATS[name]
    return build(folder), reader, mutation


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "torch entries"])
def test_some_mutants(name: str, tmp_path: Path) -> None:
    file, reader, mutation = make(name, tmp_path)
    count = 40 if name == "torch" else 150  # a file of torch.save takes 20 ms
    mutations.assert_survives(reader, file, count, mutation=mutation)


@pytest.mark.deep
@pytest.mark.parametrize("name", FORMATS)
def test_ten_thousand_mutants(name: str, tmp_path: Path) -> None:
    file, reader, mutation = make(name, tmp_path)
    mutations.assert_survives(reader, file, 10_000, mutation=mutation)


@pytest.mark.deep
@pytest.mark.parametrize("ending", [".onnx", ".safetensors", ".pt"])
def test_memory_of_a_large_file(ending: str, tmp_path: Path) -> None:
    """64 MiB, of which an importer may take ten times as much and no more."""
    path = tmp_path / f"large{ending}"
    model = fastlstm.LSTM(1024, 1024, 2, seed=0)
    if ending == ".onnx":
        interop.to_onnx(model, path)
    else:
        pytest.importorskip("torch")
        interop.save_torch({"a": model}, path)
    reader = f"fastlstm.interop:from_{'onnx' if ending == '.onnx' else 'torch'}"
    nothing = "support.mutations:of_nothing"
    mutations.assert_survives(reader, path, 1, mutation=nothing, each=60, refused=0)


# ---- hostile files, by hand ----


def constants(nodes: list[Any], arrays: dict[str, np.ndarray]) -> Any:
    """A model whose LSTM gets W from these nodes."""
    node = onnx_models.Node("LSTM", {"X": np.zeros((2, 1, 3), np.float32)})
    arrays = {**arrays, "R": np.zeros((1, 16, 4), np.float32)}
    layer = onnx.helper.make_node("LSTM", ["X", "W", "R"], ["Y"], hidden_size=4)
    return onnx_models.model_of([*nodes, layer], node.feeds(), ["Y"], arrays)


def refused(model: Any, match: str) -> None:
    with pytest.raises(interop.FormatError, match=match):
        interop.from_onnx(model)


def test_constants_that_grow_are_refused() -> None:
    """Thirty times twice as long as before: 3 GB of 12 bytes."""
    step = onnx.helper.make_node
    names = ["a", *[f"t{at}" for at in range(29)], "W"]
    nodes = [
        step("Concat", [below, below], [above], axis=2)
        for below, above in itertools.pairwise(names)
    ]
    refused(constants(nodes, {"a": np.zeros((1, 16, 1), np.float32)}), "many times the bytes")
    many = np.zeros(100_000, np.int64)
    gather = [step("Gather", ["a", "many"], ["W"], axis=0)]
    refused(
        constants(gather, {"a": np.zeros((1, 16, 100), np.float32), "many": many}), "many times"
    )


def test_shapes_beyond_the_bytes_are_refused() -> None:
    model = constants([], {"W": np.zeros((1, 16, 3), np.float32)})
    tensor = next(t for t in model.graph.initializer if t.name == "W")
    tensor.dims[0] = 1 << 40
    refused(model, "W: its shape")


def test_circles_and_depth() -> None:
    step = onnx.helper.make_node
    circle = [step("Identity", ["b"], ["W"]), step("Identity", ["W"], ["b"])]
    refused(constants(circle, {}), "not constant")
    names = ["a", *[f"t{at}" for at in range(5000)], "W"]
    chain = [step("Identity", [below], [above]) for below, above in itertools.pairwise(names)]
    refused(constants(chain, {"a": np.zeros((1, 16, 3), np.float32)}), "nested too deeply")


def test_the_place_is_named(tmp_path: Path) -> None:
    model = constants([], {"W": np.zeros((1, 16, 3), np.float32)})
    model.graph.node[0].name = "inner lstm"
    model.graph.node[0].attribute[0].i = 5
    path = tmp_path / "odd.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(interop.FormatError) as caught:
        interop.from_onnx(path)
    assert str(caught.value).startswith(f"{path}: inner lstm: hidden_size is 5")
    assert (caught.value.file, caught.value.place) == (str(path), "inner lstm")


@pytest.mark.parametrize(
    "attributes, match",
    [
        ({"direction": "sideways"}, "direction must be"),
        ({"direction": "bidirectional"}, "of 1 directions"),
        ({"activations": ["Sigmoid", "Tanh"]}, "activations must name 3"),
        ({"activations": ["Sigmoid", "Mish", "Tanh"]}, "'Mish' is none of"),
        ({"clip": -1.0}, "clip must be > 0"),
    ],
)
def test_wrong_attributes(attributes: dict[str, Any], match: str) -> None:
    model = constants([], {"W": np.zeros((1, 16, 3), np.float32)})
    node = model.graph.node[0]
    for name, value in attributes.items():
        node.attribute.append(onnx.helper.make_attribute(name, value))
    refused(model, match)


def test_what_is_no_model(tmp_path: Path) -> None:
    for data in (b"", b"\0" * 100, b"PK\x03\x04", b"{}"):
        with pytest.raises(interop.FormatError):
            interop.from_onnx(data)
    with pytest.raises(TypeError, match="path, bytes or"):
        interop.from_onnx(3)
    with pytest.raises(IsADirectoryError):
        interop.from_onnx(tmp_path)
    with pytest.raises(FileNotFoundError):
        interop.from_onnx(tmp_path / "none.onnx")


def test_a_model_without_recurrent_nodes() -> None:
    step = onnx.helper.make_node
    x = {"X": np.zeros((2, 2), np.float32)}
    nodes = [
        step("MatMul", ["X", "X"], ["a"]),
        step("Sigmoid", ["a"], ["s"]),
        step("Tanh", ["s"], ["Y"]),
    ]
    with pytest.raises(interop.FormatError, match="unrolled into gates"):
        interop.from_onnx(onnx_models.model_of(nodes, x, ["Y"], {}))
    with pytest.raises(interop.FormatError, match="no LSTM, GRU or RNN node"):
        interop.from_onnx(onnx_models.model_of([step("Relu", ["X"], ["Y"])], x, ["Y"], {}))


def test_weights_that_a_call_gives() -> None:
    node = onnx_models.random_node(0, "LSTM")
    node.fed += ("W",)
    with pytest.raises(interop.Unsupported, match="W is not constant: it is an input"):
        interop.from_onnx(node.model())


# ---- weights in other files ----


def apart(folder: Path, location: str, data: bytes) -> Path:
    """A model whose W lies in another file."""
    w = np.arange(48, dtype=np.float32).reshape(1, 16, 3)
    model = constants([], {"W": w})
    tensor = next(t for t in model.graph.initializer if t.name == "W")
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", str(w.nbytes))):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    folder.mkdir(exist_ok=True)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    there = folder / location
    there.parent.mkdir(exist_ok=True, parents=True)
    there.write_bytes(data or w.tobytes())
    return folder / "model.onnx"


def test_external_weights_are_read_if_told(tmp_path: Path) -> None:
    path = apart(tmp_path / "here", "weights.bin", b"")
    with pytest.raises(interop.Unsupported, match=r"read it with external_data=True.*--external-d"):
        interop.from_onnx(path)
    imported = interop.from_onnx(path, external_data=True)
    assert imported.model.weight_ih_l0[0].tolist() == [0, 1, 2]
    with pytest.raises(interop.Unsupported, match="give the model's path instead"):
        interop.from_onnx(path.read_bytes(), external_data=True)


def test_external_weights_elsewhere_are_not(tmp_path: Path) -> None:
    for location in ("../outside.bin", str(tmp_path / "outside.bin")):
        path = apart(tmp_path / "here", location, b"")
        with pytest.raises(interop.FormatError, match="not in the model's folder"):
            interop.from_onnx(path, external_data=True)
    path = apart(tmp_path / "here", "link.bin", b"")
    (path.parent / "link.bin").unlink()
    (path.parent / "link.bin").symlink_to(tmp_path / "outside.bin")
    with pytest.raises(interop.FormatError, match="not in the model's folder"):
        interop.from_onnx(path, external_data=True)


def test_external_weights_that_are_too_short(tmp_path: Path) -> None:
    path = apart(tmp_path / "here", "weights.bin", b"1234")
    with pytest.raises(interop.FormatError, match="asks for bytes"):
        interop.from_onnx(path, external_data=True)
