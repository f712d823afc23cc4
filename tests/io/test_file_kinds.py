# SPDX-License-Identifier: BSD-3-Clause
"""`load` says what a file of another kind is, and runs nothing in it."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

import fastlstm

STATE = fastlstm.LSTM(3, 5, seed=0).state_dict()


class Bomb:
    """Goes off where somebody unpickles it."""

    def __reduce__(self) -> Any:
        return exec, ("raise SystemExit('unpickled')",)


def torch_file(what: Callable[[Any], Any], **options: Any) -> bytes:
    torch = pytest.importorskip("torch")
    buffer = io.BytesIO()
    torch.save(what(torch), buffer, **options)
    return buffer.getvalue()


def scripted(how: str) -> bytes:
    torch = pytest.importorskip("torch")
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.LSTM(3, 5)), buffer)
    return buffer.getvalue()


def exported(how: str) -> bytes:
    torch = pytest.importorskip("torch")
    buffer = io.BytesIO()
    torch.export.save(torch.export.export(torch.nn.Linear(2, 2), (torch.ones(1, 2),)), buffer)
    return buffer.getvalue()


def onnx_model(how: str) -> bytes:
    helper = pytest.importorskip("onnx").helper
    node = helper.make_node("LSTM", ["x", "W", "R"], ["y"], hidden_size=5)
    graph = helper.make_graph([node], "g", [], [])
    producer = {"a producer": "pytorch", "none": ""}[how]
    return bytes(helper.make_model(graph, producer_name=producer).SerializeToString())


def numpy_file(how: str) -> bytes:
    buffer = io.BytesIO()
    if how == "npz":
        np.savez(buffer, **STATE)
    else:
        np.save(buffer, STATE["weight_ih_l0"])
    return buffer.getvalue()


def archive(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name in names:
            file.writestr(name, b"{}")
    return buffer.getvalue()


def tar(how: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        file.addfile(tarfile.TarInfo("model"))
    return buffer.getvalue()


# File, and what is said of it: its kind, and what to do.
KINDS: dict[str, tuple[Callable[[], bytes], str, str]] = {
    "torch": (
        lambda: torch_file(lambda torch: torch.nn.LSTM(3, 5).state_dict()),
        "a file of torch.save",
        "LSTM.from_state_dict",
    ),
    "torch, a module": (
        lambda: torch_file(lambda torch: torch.nn.LSTM(3, 5)),
        "a file of torch.save",
        "LSTM.from_torch",
    ),
    "torch, a bomb": (lambda: torch_file(lambda torch: Bomb()), "torch.save", "weights_only=True"),
    "torch, old": (
        lambda: torch_file(
            lambda torch: torch.nn.LSTM(3, 5).state_dict(), _use_new_zipfile_serialization=False
        ),
        "torch.save from before PyTorch 1.6",
        "from_state_dict",
    ),
    "torch, cut short": (
        lambda: torch_file(lambda torch: torch.nn.LSTM(3, 5).state_dict())[:-100],
        "a zip archive, as torch.save writes, that was cut short",
        "",
    ),
    "TorchScript": (lambda: scripted(""), "a TorchScript file", "torch.jit.load(path).state_dict"),
    "torch.export": (lambda: exported(""), "torch.export", "torch.export.load(path).state_dict"),
    "Keras": (
        lambda: archive("metadata.json", "config.json", "model.weights.h5"),
        "a Keras model (.keras)",
        "interop.from_keras",
    ),
    "HDF5": (lambda: b"\x89HDF\r\n\x1a\n" + bytes(500), "an HDF5 file, of Keras", "from_keras"),
    "ONNX": (lambda: onnx_model("a producer"), "an ONNX model", "interop.from_onnx"),
    "ONNX of no producer": (lambda: onnx_model("none"), "an ONNX model", "interop.from_onnx"),
    "npz": (lambda: numpy_file("npz"), "a NumPy archive (.npz)", "np.load(path)"),
    "npy": (lambda: numpy_file("npy"), "a NumPy array (.npy)", "from_state_dict"),
    "pickle": (lambda: pickle.dumps(Bomb()), "a pickle", "only if you trust"),
    "pickle, protocol 2": (lambda: pickle.dumps(Bomb(), 2), "a pickle", "only if you trust"),
    "zip": (lambda: archive("a.txt"), "a zip archive", "unpack"),
    "zip of nothing": (lambda: archive(), "a zip archive", "unpack"),
    "tar": (lambda: tar(""), "a tar archive", "unpack"),
    "gzip": (lambda: gzip.compress(b"a"), "a gzip archive", "unpack"),
    "bzip2": (lambda: bz2.compress(b"a"), "a bzip2 archive", "unpack"),
    "xz": (lambda: lzma.compress(b"a"), "an xz archive", "unpack"),
    "TFLite": (lambda: b"\x1c\0\0\0TFL3" + bytes(100), "a TensorFlow Lite model", "from_tflite"),
    "JSON": (lambda: json.dumps({"layers": []}).encode(), "JSON", "dtype=np.float32"),
    "JSON, a list": (lambda: b"\n [1, 2]", "JSON", "from_state_dict"),
    "HTML": (lambda: b"<!DOCTYPE html><html></html>", "XML or HTML", "error page"),
    "Git LFS": (
        lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n",
        "a pointer of Git LFS",
        "git lfs pull",
    ),
    "nothing": (lambda: b"", "empty", ""),
    "safetensors of others": (
        lambda: safetensors.numpy.save(STATE),
        "a safetensors file without a fastlstm configuration",
        "LSTM.from_state_dict",
    ),
    "safetensors, header cut short": (
        lambda: safetensors.numpy.save(STATE, {"fastlstm": "{}"})[:50],
        "a safetensors file cut short",
        "50 bytes",
    ),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["model.safetensors", "anything"])
def test_a_file_of_another_kind(tmp_path: Path, kind: str, name: str) -> None:
    """Whatever its name says."""
    make, what, advice = KINDS[kind]
    path = tmp_path / name
    path.write_bytes(make())
    with pytest.raises(ValueError) as caught:
        fastlstm.load(path)
    text = str(caught.value)
    assert text.startswith(f"{path} cannot be loaded: it is ")
    assert what in text
    assert advice in text


def test_a_file_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "model"
    fastlstm.LSTM(3, 5).save(path)
    content = path.read_bytes()
    for size in (len(content) - 1, len(content) // 2):
        path.write_bytes(content[:size])
        with pytest.raises(ValueError, match=f"cut short: .* {size} of {len(content)} bytes"):
            fastlstm.load(path)
    path.write_bytes(content + b"\0")
    with pytest.raises(ValueError, match="cannot be loaded"):
        fastlstm.load(path)


def test_a_folder(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match="a model is a file, this is a folder") as caught:
        fastlstm.load(tmp_path)
    assert caught.value.filename == str(tmp_path)


@pytest.mark.parametrize(
    "start", [b"\x80", b"\x08", b"\x08\x07", b"PK\x03\x04", b"\x80\x02", b"\n"]
)
def test_a_few_bytes(tmp_path: Path, start: bytes) -> None:
    path = tmp_path / "few"
    for length in range(len(start) + 1):
        path.write_bytes(start[:length])
        with pytest.raises(ValueError, match="cannot be loaded"):
            fastlstm.load(path)


def test_any_beginning_is_refused(tmp_path: Path) -> None:
    rng, path = np.random.default_rng(0), tmp_path / "random"
    for size in (1, 3, 9, 300, 600):
        for _ in range(100):
            path.write_bytes(rng.bytes(size))
            with pytest.raises((ValueError, MemoryError)):
                fastlstm.load(path)


def test_what_it_advises_works(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    module = torch.nn.LSTM(3, 5)
    torch.save(module.state_dict(), tmp_path / "model.pt")
    np.savez(tmp_path / "model.npz", **STATE)
    (tmp_path / "a.safetensors").write_bytes(safetensors.numpy.save(STATE))
    (tmp_path / "a.json").write_text(json.dumps({n: v.tolist() for n, v in STATE.items()}))
    torch.jit.save(torch.jit.script(module), tmp_path / "script.pt")
    take = fastlstm.LSTM.from_state_dict
    models = [
        take(torch.load(tmp_path / "model.pt", weights_only=True)),
        take(torch.jit.load(tmp_path / "script.pt").state_dict()),
        take(np.load(tmp_path / "model.npz")),
        take(safetensors.numpy.load_file(tmp_path / "a.safetensors")),
        take(json.loads((tmp_path / "a.json").read_text()), dtype=np.float32),
    ]
    for model, source in zip(
        models, [module, module, *[fastlstm.LSTM(3, 5, seed=0)] * 3], strict=True
    ):
        for name, value in model.state_dict().items():
            assert np.array_equal(value, np.asarray(source.state_dict()[name]))


def test_lengths_beyond_all_sense(tmp_path: Path) -> None:
    path = tmp_path / "model"
    for size in (2**31, 2**32, 2**63, 2**64 - 1):
        path.write_bytes(struct.pack("<Q", size) + b"{}")
        with pytest.raises(ValueError, match="cannot be loaded"):
            fastlstm.load(path)
