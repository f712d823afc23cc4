# SPDX-License-Identifier: BSD-3-Clause
"""Damaged files of Keras, TensorFlow Lite, RTNeural and NAM, by the thousand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastlstm
from fastlstm import interop
from support import mutations, tflite_build


def rtneural(folder: Path) -> Path:
    path = folder / "model.json"
    interop.to_rtneural(fastlstm.LSTM(1, 3, 2, seed=0), path, dense=[([[0.5] * 3], [0.25])])
    return path


def guitarml(folder: Path) -> Path:
    path = folder / "proteus.json"
    state = fastlstm.GRU(1, 3, seed=0).state_dict()
    found = {f"rec.{name}": values.tolist() for name, values in state.items()}
    found |= {"lin.weight": [[0.5] * 3], "lin.bias": [0.25]}
    path.write_text(json.dumps({"model_data": {"skip": 1}, "state_dict": found}))
    return path


def nam(folder: Path) -> Path:
    path = folder / "amp.nam"
    config = {"input_size": 1, "hidden_size": 2, "num_layers": 2}
    numbers = np.linspace(-1, 1, 83).round(2).tolist()
    path.write_text(json.dumps({"architecture": "LSTM", "config": config, "weights": numbers}))
    return path


def tflite(folder: Path) -> Path:
    pytest.importorskip("tflite", reason="reading TensorFlow Lite needs the package tflite")
    pytest.importorskip("ai_edge_litert", reason="files are made by LiteRT")
    config = {"both": True, "projection": 2, "peepholes": True, "coupled": False, "norm": False,
              "cell_clip": 1.0, "proj_clip": 0.0, "time_major": False,
              "reduce": "int8"}  # fmt: skip
    path = folder / "model.tflite"
    path.write_bytes(tflite_build.lstm(0, config)[0])
    return path


def keras(folder: Path) -> Path:
    pytest.importorskip("h5py", reason="files of Keras need h5py")
    path = folder / "model.keras"
    interop.to_keras(fastlstm.GRU(2, 3, 2, bidirectional=True, seed=0), path)
    return path


def keras_weights(folder: Path) -> Path:
    keras(folder)
    path = folder / "model.weights.h5"
    interop.to_keras(fastlstm.GRU(2, 3, 2, bidirectional=True, seed=0), path)
    return path


def keras_2(folder: Path) -> Path:
    """As Keras 2 writes a model: names in attributes, the configuration another one."""
    h5py = pytest.importorskip("h5py", reason="files of Keras need h5py")
    path = folder / "model.h5"
    config = {"name": "lstm", "units": 3, "return_sequences": True}
    layers = [{"class_name": "LSTM", "config": config}]
    names = ["lstm/kernel:0", "lstm/recurrent_kernel:0", "lstm/bias:0"]
    with h5py.File(path, "w") as root:
        root.attrs["keras_version"] = "2.2.4"
        root.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": layers})
        group = root.create_group("model_weights/lstm")
        root["model_weights"].attrs["layer_names"] = [b"lstm"]
        group.attrs["weight_names"] = [name.encode() for name in names]
        for name, shape in zip(names, ((2, 12), (3, 12), (12,)), strict=True):
            group[name] = np.full(shape, 0.5, np.float32)
    return path


READ, BYTES = "support.inner_mutations:read", "support.mutations:of_bytes"
JSON, ENTRIES = "support.inner_mutations:of_json", "support.inner_mutations:of_entries"
FORKED = "support.hdf5_forks:read"

# Name -> what makes a whole file, what reads many of them, and what damages them. Files of HDF5 are
# read by processes that are forked for each of them.
FORMATS: dict[str, tuple[Callable[[Path], Path], str, str]] = {
    "RTNeural": (rtneural, READ, BYTES),
    "RTNeural values": (rtneural, READ, JSON),
    "GuitarML": (guitarml, READ, BYTES),
    "GuitarML values": (guitarml, READ, JSON),
    "NAM": (nam, READ, BYTES),
    "NAM values": (nam, READ, JSON),
    "TFLite": (tflite, READ, BYTES),
    "Keras": (keras, FORKED, BYTES),
    "Keras entries": (keras, FORKED, ENTRIES),
    "Keras weights": (keras_weights, "support.hdf5_forks:read_bare", BYTES),
    "Keras 2": (keras_2, FORKED, BYTES),
}
# Of the ordinary run: how many mutants, and what reads them; of HDF5 by the importer's own process.
SOME = {
    "RTNeural": (150, READ),
    "TFLite": (150, READ),
    "Keras entries": (60, FORKED),
    "Keras 2": (5, READ),
}


@pytest.mark.parametrize("name", SOME)
def test_some_mutants(name: str, tmp_path: Path) -> None:
    make, _, mutation = FORMATS[name]
    count, reader = SOME[name]
    mutations.assert_survives(reader, make(tmp_path), count, mutation=mutation, each=2)


@pytest.mark.deep
@pytest.mark.parametrize("name", FORMATS)
def test_ten_thousand_mutants(name: str, tmp_path: Path) -> None:
    make, reader, mutation = FORMATS[name]
    mutations.assert_survives(reader, make(tmp_path), 10_000, mutation=mutation)


@pytest.mark.parametrize("depth", [100, 100_000])
def test_json_that_is_deep(depth: int, tmp_path: Path) -> None:
    path = tmp_path / "deep.json"
    path.write_text('{"layers": [' + "[" * depth + "]" * depth + "]}")
    readers: list[Callable[[Any], Any]] = [interop.from_rtneural, interop.from_nam]
    for reader in readers:
        with pytest.raises(interop.FormatError):
            reader(path)
