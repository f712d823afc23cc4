# SPDX-License-Identifier: BSD-3-Clause
"""Small files that are made to cost much: each is refused before it does."""

from __future__ import annotations

import json
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastlstm import interop
from fastlstm.interop import formats

EMPTY = b"[]," * 300_000


def refused(path: Path, match: str) -> None:
    """By the importer of its ending, for less than ten times the file and 8 MiB."""
    formats.format_of(str(path))
    tracemalloc.start()
    try:
        with pytest.raises(interop.FormatError, match=match):
            formats.read(str(path))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most <= 10 * path.stat().st_size + (8 << 20)


@pytest.mark.parametrize("ending", [".json", ".nam"])
@pytest.mark.parametrize(
    "text",
    [
        b'{"layers": [' + EMPTY + b"0]}",
        b'{"weights": ' + b"[" * 900_000,
        b"{" + b",".join(b'"%d":0' % n for n in range(400_000)) + b"}",
    ],
    ids=["lists", "depth", "names"],
)
def test_json_that_is_all_brackets(text: bytes, ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"model{ending}"
    path.write_bytes(text)
    refused(path, "too many lists or names for its size")


def test_rtneural_counts_layers_and_arrays(tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    path.write_text(json.dumps({"layers": [{"type": "lstm", "weights": [1.5] * 100_000}]}))
    refused(path, "up to 16 arrays")
    path.write_text(json.dumps({"layers": [{"type": "odd"}] * 2000}))
    refused(path, "layers: must be up to 1000, got 2000")
    path.write_text(json.dumps({"layers": [{"type": "lstm", "weights": [1.0, 2.0, 3.0]}]}))
    refused(path, "kernels must have two axes")


def archive(path: Path, entries: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, data in entries.items():
            packed.writestr(name, data)


def test_keras_archives(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    whole = {"config.json": b"{}", "metadata.json": b"{}", "model.weights.h5": b""}
    archive(path, {**whole, "config.json": b"[" + EMPTY * 20 + b"0]"})
    refused(path, "config.json: says that it has")
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("config.json", b"[" + EMPTY + b"0]")
    refused(path, "too many lists or names")


# What a pickle says to make two thousand million bytes.
MANY = b"\nJ" + struct.pack("<i", 2_000_000_000) + b"\x85R."


@pytest.mark.parametrize("module", ["builtins", "__builtin__"])
@pytest.mark.parametrize("packed", [True, False], ids=["archive", "alone"])
def test_a_pickle_that_makes_bytes(module: str, packed: bool, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    path = tmp_path / "model.pt"
    data = b"\x80\x02c" + module.encode() + b"\nbytearray" + MANY
    path.write_bytes(data)
    if packed:
        archive(path, {"archive/data.pkl": data, "archive/version": b"3\n"})
        refused(path, "makes a bytearray")
    else:
        with pytest.raises(interop.FormatError):  # for what it is, before it is read
            interop.from_torch(path)


def test_layers_that_share_an_array(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    inner, outer = torch.ones(400, 100), torch.ones(400, 10)
    names = [f"l{at}.weight" for at in range(50)]
    state = {f"{name}_hh_l0": inner for name in names} | {f"{name}_ih_l0": outer for name in names}
    torch.save(state, tmp_path / "model.pt")
    refused(tmp_path / "model.pt", "many times the bytes of the whole file")
    assert len(interop.from_torch(state).layers) == 50  # of one who has them already


def test_onnx_counts_nodes(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    graph = onnx.GraphProto()
    inside = graph.node.add(op_type="If").attribute.add(name="then_branch", type=5).g
    for holder in (graph, inside):
        del graph.node[1:]
        holder.node.extend([onnx.NodeProto()] * 200_001)
        proto = onnx.ModelProto(ir_version=8, graph=graph)
        with pytest.raises(interop.FormatError, match="more than 200000 nodes"):
            interop.from_onnx(proto)


class Shared:
    """A TensorFlow Lite file whose vectors name one table again and again."""

    def __init__(self, **counts: int) -> None:
        import flatbuffers
        from ai_edge_litert import schema_py_generated as schema

        self.schema, self.made = schema, flatbuffers.Builder(1024)
        self.counts = {"subgraphs": 1, "operators": 1, "inputs": 1, "bytes": 0, **counts}

    def table(self, kind: str, **fields: Any) -> int:
        getattr(self.schema, f"{kind}Start")(self.made)
        for name, value in fields.items():
            getattr(self.schema, f"{kind}Add{name}")(self.made, value)
        return int(getattr(self.schema, f"{kind}End")(self.made))

    def vector(self, values: list[int], put: Callable[[int], None] | None = None) -> int:
        self.made.StartVector(4, len(values), 4)
        for value in reversed(values):
            (put or self.made.PrependUOffsetTRelative)(value)
        return int(self.made.EndVector())

    def write(self, path: Path) -> Path:
        counts, numbers = self.counts, self.made.PrependInt32
        data = self.made.CreateByteVector(b"\1" * max(counts["bytes"], 1))
        buffers = self.vector([self.table("Buffer", Data=data), self.table("Buffer")])
        shape = self.vector([max(counts["bytes"], 1)], numbers)
        scale = self.table("QuantizationParameters", Scale=self.vector([1], numbers))
        int8 = self.schema.TensorType.INT8
        tensor = self.table("Tensor", Shape=shape, Type=int8, Buffer=0, Quantization=scale)
        tensors = self.vector([tensor] * counts.get("tensors", 1))
        inputs = self.vector([*range(counts.get("tensors", 1))] * counts["inputs"], numbers)
        operator = self.table("Operator", Inputs=inputs, Outputs=self.vector([-1], numbers))
        operators = self.vector([operator] * counts["operators"])
        graph = self.table("SubGraph", Tensors=tensors, Operators=operators)
        code = self.vector([self.table("OperatorCode")])
        model = self.table(
            "Model", Version=3, OperatorCodes=code, Buffers=buffers,
            Subgraphs=self.vector([graph] * counts["subgraphs"]),
        )  # fmt: skip
        self.made.Finish(model, b"TFL3")
        path.write_bytes(bytes(self.made.Output()))
        return path


@pytest.mark.parametrize(
    "counts, match",
    [
        ({"operators": 100_000}, "vectors are longer together than the file"),
        ({"operators": 3000, "inputs": 3000}, "vectors are longer together than the file"),
        ({"operators": 1000, "subgraphs": 1000}, "vectors are longer together than the file"),
        ({"bytes": 1 << 20, "tensors": 100}, "many times the bytes of the whole file"),
    ],
    ids=["operators", "inputs", "subgraphs", "buffers"],
)
def test_tables_that_are_named_again(counts: dict[str, int], match: str, tmp_path: Path) -> None:
    for package in ("tflite", "ai_edge_litert"):
        pytest.importorskip(package, reason="files of TensorFlow Lite")
    refused(Shared(**counts).write(tmp_path / "model.tflite"), match)


def test_a_file_that_is_named_as_the_standard_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process that reads HDF5 is told "-" where the bytes come by a pipe."""
    h5py = pytest.importorskip("h5py", reason="files of Keras need h5py")
    monkeypatch.chdir(tmp_path)
    with h5py.File("-", "w") as root:
        for at, shape in enumerate(((3, 8), (2, 8), (8,))):
            root[f"layers/lstm/cell/vars/{at}"] = np.ones(shape, np.float32)
    assert interop.from_keras("-", recurrent_activation="sigmoid").model.hidden_size == 2
