# SPDX-License-Identifier: BSD-3-Clause
"""What the commands are told beside a file, and what they say beside a result."""

from __future__ import annotations

import json
import warnings
import zipfile
from pathlib import Path

import pytest

import fastlstm
from fastlstm import interop
from fastlstm.__main__ import main

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def lstm() -> fastlstm.LSTM:
    return fastlstm.LSTM(3, 4, 2, seed=0)


def test_weights_in_other_files(tmp_path: Path, capsys: Capture, lstm: fastlstm.LSTM) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    source, target = str(tmp_path / "m.onnx"), str(tmp_path / "m.safetensors")
    onnx.save_model(
        interop.to_onnx(lstm), source, save_as_external_data=True, location="m.onnx.data",
        size_threshold=0,
    )  # fmt: skip
    assert (tmp_path / "m.onnx.data").is_file()
    for arguments in (["inspect", source], ["verify", source], ["convert", source, target]):
        assert main(arguments) == 1
        assert "--external-data" in capsys.readouterr().err
        assert main([*arguments, "--external-data"]) == 0
    capsys.readouterr()
    assert fastlstm.load(target).state_dict().keys() == lstm.state_dict().keys()
    assert main(["inspect", target, "--external-data"]) == 1
    assert "safetensors files keep no weights in other files" in capsys.readouterr().err


def test_two_layers_are_a_state_dict(tmp_path: Path, capsys: Capture, lstm: fastlstm.LSTM) -> None:
    """It has no configuration, so that `fastlstm.load` refuses it."""
    source, target = str(tmp_path / "m.safetensors"), str(tmp_path / "n.safetensors")
    interop.save_torch({"a": lstm, "b": fastlstm.GRU(3, 4, seed=0)}, source)
    assert main(["convert", source, target]) == 0
    said = f"interop.from_torch({target!r}, batch_first=False) reads it, fastlstm.load does not"
    assert said in capsys.readouterr().out
    with pytest.raises(ValueError, match="configuration"):
        fastlstm.load(target)
    assert [*interop.from_torch(target).layers] == ["a", "b"]


def test_files_of_torch_are_state_dicts(tmp_path: Path, capsys: Capture) -> None:
    pytest.importorskip("torch")
    source, target = str(tmp_path / "m.safetensors"), str(tmp_path / "m.pt")
    fastlstm.GRU(3, 4, seed=0, batch_first=True).save(source)
    assert main(["convert", source, target]) == 0
    assert f"interop.from_torch({target!r}, batch_first=True)" in capsys.readouterr().out
    again = str(tmp_path / "n.safetensors")
    assert main(["convert", source, again]) == 0
    assert "state dict" not in capsys.readouterr().out  # one model keeps its configuration
    assert fastlstm.load(again).batch_first


def test_warnings_are_notes(tmp_path: Path, capsys: Capture, lstm: fastlstm.LSTM) -> None:
    pytest.importorskip("h5py")
    lstm.save(tmp_path / "m.safetensors")
    with warnings.catch_warnings(record=True) as caught:
        assert main(["convert", str(tmp_path / "m.safetensors"), str(tmp_path / "m.keras")]) == 0
    assert not caught
    said = capsys.readouterr()
    assert "\n  LSTM of Keras has one bias: the sum of both\n" in said.out
    assert said.err == ""


def test_masks_are_a_loss(tmp_path: Path, capsys: Capture) -> None:
    """A Masking has no weights, and results are others without it."""
    pytest.importorskip("h5py")
    source, target = tmp_path / "m.keras", tmp_path / "m.safetensors"
    interop.to_keras(fastlstm.GRU(3, 4, bias=False, seed=0, batch_first=True), source)
    with zipfile.ZipFile(source) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(entries["config.json"])
    masking = {
        "module": "keras.layers", "class_name": "Masking", "registered_name": None,
        "config": {"name": "masking", "mask_value": 0.0},
    }  # fmt: skip
    config["config"]["layers"].insert(1, masking)
    entries["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(source, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    assert main(["convert", str(source), str(target)]) == 1
    assert "masking (masking), which says what steps count" in capsys.readouterr().err
    assert main(["convert", str(source), str(target), "--drop"]) == 0
    assert "left out:\n  masking (masking), which" in capsys.readouterr().out


def test_bytes_are_no_onnx_file() -> None:
    pytest.importorskip("onnx")
    with pytest.raises(interop.FormatError, match=r"^model: not an ONNX file: "):
        interop.from_onnx(b"\xff" * 20)


def test_what_a_file_is_comes_first(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("h5py")
    path = tmp_path / "m.keras"
    interop.to_keras(fastlstm.GRU(3, 4, bias=False, seed=0), path)
    with pytest.raises(interop.FormatError, match=r"not an ONNX file: it is a Keras model"):
        interop.from_onnx(path)
