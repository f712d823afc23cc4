# SPDX-License-Identifier: BSD-3-Clause
"""Models in files: what is saved comes back, and what is no model is refused."""

from __future__ import annotations

import json
import re
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

import fastlstm

pytestmark = pytest.mark.sanitize

CONFIGS: list[dict[str, Any]] = [
    {},
    {"num_layers": 3, "bidirectional": True, "batch_first": True, "dropout": 0.25},
    {"bias": False, "dtype": np.float64, "gemm": "blas"},
    {"gemm": "native", "num_layers": 2},
]


@pytest.mark.parametrize("options", CONFIGS, ids=str)
@pytest.mark.parametrize("kind", [str, Path], ids=["str", "Path"])
def test_round_trip(tmp_path: Path, options: dict[str, Any], kind: Callable[[Path], Any]) -> None:
    lstm = fastlstm.LSTM(3, 5, seed=0, **options)
    path = kind(tmp_path / "model of a kind.safetensors")
    lstm.save(path)
    loaded = fastlstm.load(path)
    assert type(loaded) is fastlstm.LSTM
    assert repr(loaded) == repr(lstm)
    assert loaded.config() == lstm.config()
    assert list(loaded.state_dict()) == list(lstm.state_dict())
    for name, value in lstm.state_dict().items():
        assert np.array_equal(loaded.state_dict()[name], value)
        assert loaded.state_dict()[name].dtype == value.dtype
        assert not loaded.state_dict()[name].flags.writeable
    x = np.random.default_rng(0).standard_normal((4, 2, 3)).astype(lstm.dtype)
    assert np.array_equal(loaded(x)[0], lstm(x)[0])


def test_no_second_warning(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="dropout"):
        lstm = fastlstm.LSTM(3, 4, dropout=0.5)
    lstm.save(tmp_path / "m")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fastlstm.load(tmp_path / "m").dropout == 0.5


def test_file_is_plain_safetensors(tmp_path: Path) -> None:
    """Anybody can read the arrays; the configuration is JSON in the metadata."""
    path = tmp_path / "model.safetensors"
    lstm = fastlstm.LSTM(3, 5, 2, seed=0)
    lstm.save(path)
    arrays = safetensors.numpy.load_file(path)
    assert set(arrays) == set(lstm.state_dict())
    assert np.array_equal(arrays["weight_hh_l1"], lstm.weight_hh_l1)
    config = json.loads(header(path)["__metadata__"]["fastlstm"])
    assert config == {"format": 1, "class": "LSTM", **lstm.config()}
    assert config["num_layers"] == 2
    assert config["dtype"] == "float32"


def test_saving_again_and_over_itself(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    fastlstm.LSTM(30, 50, 2, seed=1).save(path)
    lstm = fastlstm.LSTM(3, 5, seed=0)
    lstm.save(path)
    loaded = fastlstm.load(path)
    loaded.save(path)
    path.write_bytes(path.read_bytes()[:-1] + b"\x7f")  # nobody still reads the file
    assert np.array_equal(loaded.weight_hh_l0, lstm.weight_hh_l0)


# ---- what is no model ----


def header(path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    head: dict[str, Any] = json.loads(content[8 : 8 + size])
    return head


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    fastlstm.LSTM(3, 5, 2, seed=0).save(path)
    return path


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nothing"):
        fastlstm.load(tmp_path / "nothing.safetensors")
    with pytest.raises(FileNotFoundError):
        fastlstm.load(tmp_path / "no folder" / "model.safetensors")
    with pytest.raises(FileNotFoundError):
        fastlstm.load("")


def test_folder(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=re.escape(str(tmp_path))):
        fastlstm.load(tmp_path)


@pytest.mark.parametrize("path", [3, None, b"model.safetensors", 2.5])
def test_no_path(path: Any) -> None:
    calls: list[Callable[[Any], object]] = [fastlstm.load, fastlstm.LSTM(3, 5).save]
    for call in calls:
        with pytest.raises(TypeError, match=f"path must be .*, got {type(path).__name__}"):
            call(path)


def test_the_file_s_mode_is_that_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    fastlstm.LSTM(3, 5).save(tmp_path / "model")
    assert (tmp_path / "model").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_saving_through_a_link(tmp_path: Path) -> None:
    """What stands at the path is written to, not replaced."""
    (tmp_path / "link").symlink_to(tmp_path / "model")
    fastlstm.LSTM(3, 5).save(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert fastlstm.load(tmp_path / "model").hidden_size == 5


@pytest.mark.parametrize("place", ["no folder/model.safetensors", "."])
def test_saving_where_one_cannot(tmp_path: Path, place: str) -> None:
    with pytest.raises(OSError):
        fastlstm.LSTM(3, 5).save(tmp_path / place)


def refused(path: Path) -> str:
    with pytest.raises(ValueError) as caught:
        fastlstm.load(path)
    assert path.name in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("share", [0, 0.001, 0.01, 0.1, 0.5, 0.9, 0.9999])
def test_truncated_file(saved: Path, share: float) -> None:
    content = saved.read_bytes()
    saved.write_bytes(content[: int(share * len(content))])
    refused(saved)


def test_damaged_header(saved: Path) -> None:
    """Every byte of the header, one at a time: an error of the promised kinds, or (a digit of
    the dropout, say) a model."""
    content = saved.read_bytes()
    size = 8 + struct.unpack("<Q", content[:8])[0]
    outcomes: dict[str, int] = {}
    for place in range(size):
        for flip in (1, 4, 32, 128):
            damaged = bytearray(content)
            damaged[place] ^= flip
            saved.write_bytes(damaged)
            try:
                outcome: object = fastlstm.load(saved)
            except (ValueError, MemoryError) as error:
                outcome = error
            outcomes[type(outcome).__name__] = outcomes.get(type(outcome).__name__, 0) + 1
    assert outcomes.pop("ValueError") > 2 * size
    assert set(outcomes) == {"LSTM"}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00",
        b"\xff" * 100,
        b"PK\x03\x04" + bytes(200),
        b"{}",
        bytes(8),
        b"\x02" + bytes(7) + b"{}",
    ],
    ids=lambda c: repr(c[:6]),
)
def test_foreign_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "foreign.bin"
    path.write_bytes(content)
    refused(path)


def write(path: Path, config: Any, **changed: Any) -> Path:
    """A file with the arrays of a model, some changed, and any configuration."""
    arrays = {**fastlstm.LSTM(3, 5, 2, seed=0).state_dict(), **changed}
    arrays = {name: value for name, value in arrays.items() if value is not None}
    text = config if isinstance(config, str) else json.dumps(config)
    safetensors.numpy.save_file(arrays, path, {"fastlstm": text})
    return path


SOUND = {"class": "LSTM", "input_size": 3, "hidden_size": 5, "num_layers": 2}


def test_the_files_below_are_sound_but_for_one_thing(tmp_path: Path) -> None:
    assert fastlstm.load(write(tmp_path / "a", SOUND)).num_layers == 2


def test_no_configuration(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    safetensors.numpy.save_file(fastlstm.LSTM(3, 5).state_dict(), path)
    assert "load_state_dict" in refused(path)  # says what to do


CONFIGURATIONS: dict[str, Any] = {
    "no JSON": "LSTM",
    "empty": "",
    "null": None,
    "a list": [1, 2],
    "a number": 3,
    "deeply nested": "[" * 100_000,
    "another class": {**SOUND, "class": "GRU"},
    "no class": {**SOUND, "class": None},
    "no sizes": {"class": "LSTM"},
    "an unknown option": {**SOUND, "peephole": True},
    "a second seed": {**SOUND, "seed": 1},
    "a string for a size": {**SOUND, "hidden_size": "5"},
    "a size of zero": {**SOUND, "hidden_size": 0},
    "a negative size": {**SOUND, "hidden_size": -5},
    "a size that does not fit": {**SOUND, "hidden_size": 6},
    "a size that fits nowhere": {**SOUND, "hidden_size": 2**30},
    "too many layers": {**SOUND, "num_layers": 2**20},
    "too few layers": {**SOUND, "num_layers": 1},
    "both directions": {**SOUND, "bidirectional": True},
    "no bias": {**SOUND, "bias": False},
    "a number for a flag": {**SOUND, "bias": 1},
    "NaN": {**SOUND, "dropout": float("nan")},
    "an unknown dtype": {**SOUND, "dtype": "float33"},
    "a dtype for files only": {**SOUND, "dtype": "float16"},
    "an unknown gemm": {**SOUND, "gemm": "magic"},
    "projections": {**SOUND, "proj_size": 2},
}


@pytest.mark.parametrize("what", CONFIGURATIONS)
def test_bad_configuration(tmp_path: Path, what: str) -> None:
    refused(write(tmp_path / "bad.safetensors", CONFIGURATIONS[what]))


def test_an_argument_that_the_class_lacks_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    added = {"options": {"coupled": True}, "seed": 1}
    fastlstm.GRU(3, 4, seed=0).save(path)
    text = refused(rewritten(path, lambda config: config.update(added)))
    assert "a GRU takes no options and no seed: a later fastlstm" in text


@pytest.mark.parametrize("name", ["input_size", "hidden_size"])
@pytest.mark.parametrize("size", [None, [5], 5.0])
def test_a_size_that_is_no_integer_is_named(tmp_path: Path, name: str, size: object) -> None:
    text = refused(write(tmp_path / "bad.safetensors", {**SOUND, name: size}))
    assert f"{name} must be an integer, got {size!r}" in text


ARRAYS: dict[str, dict[str, Any]] = {
    "one missing": {"bias_hh_l1": None},
    "one too many": {"weight_hh_l2": np.zeros(3, np.float32)},
    "a wrong shape": {"weight_ih_l0": np.zeros((20, 4), np.float32)},
    "a wrong dtype": {"weight_ih_l0": np.zeros((20, 3), np.float64)},
    "integers": {"weight_ih_l0": np.zeros((20, 3), np.int32)},
}


@pytest.mark.parametrize("what", ARRAYS)
def test_bad_arrays(tmp_path: Path, what: str) -> None:
    refused(write(tmp_path / "bad.safetensors", SOUND, **ARRAYS[what]))


@pytest.mark.parametrize("dtype", ["F16", "BF16", "F8_E4M3", "I8", "BOOL"])
def test_other_dtypes(tmp_path: Path, dtype: str) -> None:
    """float16 is widened without loss; what is narrower or no float, and NumPy's or not, is
    none of ours."""
    path = write(tmp_path / "half.safetensors", SOUND)
    model = fastlstm.LSTM(3, 5, 2, seed=0)
    size = {"BF16": 2, "F16": 2}.get(dtype, 1)
    head: dict[str, Any] = {"__metadata__": header(path)["__metadata__"]}
    content = b""
    for name, value in model.state_dict().items():
        offsets = [len(content), len(content) + size * value.size]
        head[name] = {"dtype": dtype, "shape": value.shape, "data_offsets": offsets}
        half = value.astype(np.float16).tobytes()
        content += half if dtype == "F16" else bytes(size * value.size)
    text = json.dumps(head).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content)
    if dtype == "F16":
        expected = model.weight_ih_l0.astype(np.float16).astype(np.float32)
        assert np.array_equal(fastlstm.load(path).weight_ih_l0, expected)
    else:
        refused(path)


def rewritten(path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """The file with other metadata."""
    with safetensors.safe_open(path, framework="numpy") as file:
        config = json.loads(file.metadata()["fastlstm"])
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    change(config)
    safetensors.numpy.save_file(arrays, path, {"fastlstm": json.dumps(config)})
    return path


def test_files_without_a_format_are_of_the_first(tmp_path: Path) -> None:
    path, lstm = tmp_path / "model.safetensors", fastlstm.LSTM(3, 4, 2, seed=0)
    lstm.save(path)
    loaded = fastlstm.load(rewritten(path, lambda config: config.pop("format")))
    for name, value in lstm.state_dict().items():
        assert np.array_equal(loaded.state_dict()[name], value)


@pytest.mark.parametrize("version", [2, 10**30, 0, -1, "1", None, 1.0, True])
def test_files_of_another_format(tmp_path: Path, version: object) -> None:
    path = tmp_path / "model.safetensors"
    fastlstm.LSTM(3, 4, seed=0).save(path)
    with pytest.raises(ValueError, match=r"its format is .*reads formats 1 to 1"):
        fastlstm.load(rewritten(path, lambda config: config.update(format=version)))
