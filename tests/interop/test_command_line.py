# SPDX-License-Identifier: BSD-3-Clause
"""``python -m fastlstm inspect``, ``convert`` and ``verify``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastlstm
from fastlstm import interop
from fastlstm.__main__ import main
from fastlstm.interop import formats
from support import onnx_models

onnx = pytest.importorskip("onnx")
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def lstm() -> fastlstm.LSTM:
    return fastlstm.LSTM(3, 4, 2, seed=0)


def with_dense(path: Path) -> Path:
    """An LSTM, a dense layer, and a GRU that fastlstm does not have."""
    node = onnx_models.Node("LSTM", {"X": np.zeros((2, 1, 3), np.float32)})
    rng = np.random.default_rng(0)
    arrays = {
        "W": rng.random((1, 16, 3), np.float32),
        "R": rng.random((1, 16, 4), np.float32),
        "D": rng.random((4, 3), np.float32),
        "V": rng.random((1, 15, 3), np.float32),
        "S": rng.random((1, 15, 5), np.float32),
        "a": np.array([1]),
    }
    step = onnx.helper.make_node
    nodes = [
        step("LSTM", ["X", "W", "R"], ["y4"], "first", hidden_size=4, direction="reverse"),
        step("Squeeze", ["y4", "a"], ["y"], "squeeze"),
        step("MatMul", ["y", "D"], ["d"], "dense"),
        step("GRU", ["d", "V", "S"], ["z"], "second", clip=1.0, linear_before_reset=1),
    ]
    model = onnx_models.model_of(nodes, node.feeds(), ["z"], arrays)
    path.write_bytes(model.SerializeToString())
    return path


def test_inspect(tmp_path: Path, capsys: Capture, lstm: fastlstm.LSTM) -> None:
    interop.to_onnx(lstm, tmp_path / "m.onnx")
    assert main(["inspect", str(tmp_path / "m.onnx")]) == 0
    out = capsys.readouterr().out
    assert "LSTM(3, 4, num_layers=2, dtype=float32)" in out
    assert "1 recurrent, 304 parameters, 1,216 bytes" in out
    assert main(["inspect", "--json", str(with_dense(tmp_path / "n.onnx"))]) == 0
    found = json.loads(capsys.readouterr().out)
    (layer,) = found["layers"]
    assert (layer["name"], layer["class"], layer["hidden_size"]) == ("first", "LSTM", 4)
    assert layer["file_says"] == ["reads from the last step, outputs in the order of time"]
    assert {other["name"] for other in found["others"]} == {"squeeze", "dense"}
    assert "clip" in found["unsupported"]["second"]


@pytest.mark.parametrize("ending", [".onnx", ".pt", ".safetensors"])
def test_convert_there_and_back(
    tmp_path: Path, capsys: Capture, lstm: fastlstm.LSTM, ending: str
) -> None:
    if ending == ".pt":
        pytest.importorskip("torch")
    source, target = tmp_path / "m.safetensors", tmp_path / f"n{ending}"
    lstm.save(source)
    assert main(["convert", str(source), str(target)]) == 0
    assert "wrote" in capsys.readouterr().out
    back = formats.read(str(target)).model
    for name, values in lstm.state_dict().items():
        np.testing.assert_array_equal(back.state_dict()[name], values)


def test_convert_refuses_to_lose_layers(tmp_path: Path, capsys: Capture) -> None:
    source, target = with_dense(tmp_path / "m.onnx"), tmp_path / "n.onnx"
    assert main(["convert", str(source), str(target)]) == 1
    err = capsys.readouterr().err
    assert "dense (MatMul), with weights" in err
    assert "second: clip" in err
    assert "of first: reads from the last step" in err
    assert "squeeze" not in err
    assert not target.exists()
    assert main(["convert", str(source), str(target), "--drop"]) == 0
    out = capsys.readouterr().out
    assert "dense (MatMul), with weights" in out
    assert "Squeeze" not in out  # it moves axes
    assert repr(interop.from_onnx(target).model) == "LSTM(3, 4, bias=False, dtype=float32)"


def test_convert_of_several(tmp_path: Path, capsys: Capture, lstm: fastlstm.LSTM) -> None:
    source = tmp_path / "m.safetensors"
    interop.save_torch({"a": lstm, "b": fastlstm.GRU(2, 3, seed=0)}, source)
    assert main(["convert", str(source), str(tmp_path / "n.onnx")]) == 1
    assert "choose one by --layer: a, b" in capsys.readouterr().err
    arguments = ["convert", str(source), str(tmp_path / "n.onnx"), "--layer"]
    assert main([*arguments, "c"]) == 1
    assert main([*arguments, "b"]) == 1
    assert "a: LSTM" in capsys.readouterr().err
    assert main([*arguments, "b", "--drop"]) == 0
    assert type(interop.from_onnx(tmp_path / "n.onnx").model) is fastlstm.GRU
    assert main(["convert", str(source), str(tmp_path / "both.safetensors")]) == 0
    assert list(interop.from_torch(tmp_path / "both.safetensors").layers) == ["a", "b"]


@pytest.mark.parametrize("ending", [".onnx", ".safetensors"])
def test_verify(tmp_path: Path, capsys: Capture, lstm: fastlstm.LSTM, ending: str) -> None:
    pytest.importorskip("onnxruntime" if ending == ".onnx" else "torch")
    target = str(tmp_path / f"m{ending}")
    formats.function(formats.format_of(target).writer)(lstm, target)
    assert main(["verify", target]) == 0
    *_, last = capsys.readouterr().out.splitlines()
    name, difference = last.split()
    assert name == "largest"
    assert float(difference) <= 2 * 2 * 9 * (4 + 4 + 12) * 1.2e-7  # as onnx_models.tolerance


def test_verify_sees_a_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    from fastlstm.interop import onnx_verify

    path = tmp_path / "m.onnx"
    interop.to_onnx(fastlstm.LSTM(3, 4, seed=0), path)
    real = onnx_verify.stack

    def swapped(layers: Any) -> Any:
        model = real(layers)
        arrays = {name: np.roll(values, 4, 0) for name, values in model.state_dict().items()}
        model.load_state_dict(arrays)
        return model

    monkeypatch.setattr(onnx_verify, "stack", swapped)
    assert max(onnx_verify.verify(path).values()) > 1e-3


def test_errors_are_one_line(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "m.onnx").write_bytes(b"\x08\x08")
    for arguments in (
        ["inspect", str(tmp_path / "m.onnx")],
        ["inspect", str(tmp_path / "none.onnx")],
        ["inspect", str(tmp_path / "m.txt")],
        ["verify", str(tmp_path / "m.nam")],
        ["convert", str(tmp_path / "m.onnx"), str(tmp_path / "m.nam")],
    ):
        assert main(arguments) == 1
        err = capsys.readouterr().err
        assert err.count("\n") == 1
        assert str(tmp_path) in err


LOSSES = {
    "gate_clip=1.0": fastlstm.LSTM(3, 4, seed=0, options=fastlstm.LSTMOptions(gate_clip=1.0)),
    "reset_after=False": fastlstm.GRU(3, 4, seed=0, reset_after=False),
    "nonlinearity='relu'": fastlstm.RNN(3, 4, seed=0, nonlinearity="relu"),
}


@pytest.mark.parametrize("said", LOSSES)
def test_a_state_dict_loses_what_it_cannot_say(said: str, tmp_path: Path, capsys: Capture) -> None:
    """Read back, the weights would be taken for another layer's, with a result that is wrong."""
    pytest.importorskip("torch")
    source, target = tmp_path / "m.onnx", tmp_path / "m.pt"
    interop.to_onnx(LOSSES[said], source)
    assert main(["convert", str(source), str(target)]) == 1
    assert said in capsys.readouterr().err
    assert not target.exists()
    assert main(["convert", "--drop", str(source), str(target)]) == 0
    assert said in capsys.readouterr().out
    whole = tmp_path / "m.safetensors"  # holds the configuration of one model
    assert main(["convert", str(source), str(whole)]) == 0
    assert repr(fastlstm.load(whole)) == repr(LOSSES[said])


def test_names_reach_a_terminal_as_text(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "m.json"
    arrays = fastlstm.LSTM(1, 2, seed=0).state_dict()
    state = {f"a\x1b]0;b\nc.{key}": array.tolist() for key, array in arrays.items()}
    path.write_text(json.dumps({"state_dict": state}))
    assert main(["inspect", str(path)]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "a\\x1b]0;b\\nc" in out
    path.write_text(json.dumps({"\x1b[2J\r": 1}))
    assert main(["inspect", str(path)]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "\x1b" not in err
    with pytest.raises(interop.FormatError) as caught:
        raise interop.FormatError("m\x1b", "\udcff", "one\ntwo\r")
    assert str(caught.value) == "m\\x1b: \\udcff: one\ntwo\\r"


def test_formats_name_functions() -> None:
    for form in formats.FORMATS:
        for place in (form.reader, form.writer, form.verifier):
            assert not place or callable(formats.function(place))
    ends = [end for form in formats.FORMATS for end in form.suffixes]
    assert len(ends) == len(set(ends))
