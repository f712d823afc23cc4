# SPDX-License-Identifier: BSD-3-Clause
"""Files of Keras, written here by hand: nestings, versions, weights alone, and damaged ones."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastlstm import interop
from support.labels import label

h5py = pytest.importorskip("h5py", reason="files of Keras need h5py")

RNG = np.random.default_rng(0)
KERNEL, RECURRENT, BIAS = (
    RNG.normal(size=shape).astype(np.float32) for shape in ((3, 16), (4, 16), (16,))
)
ARRAYS = [KERNEL, RECURRENT, BIAS]
LSTM: dict[str, Any] = {
    "class_name": "LSTM",
    "config": {"name": "lstm", "units": 4, "return_sequences": True},
}
MODEL: dict[str, Any] = {"class_name": "Sequential", "config": {"name": "m", "layers": [LSTM]}}
X = RNG.normal(size=(2, 5, 3)).astype(np.float32)


def expected(**options: Any) -> np.ndarray:
    """What the layer gives, from its arrays."""
    config = {**LSTM["config"], **options}
    return interop.from_keras({"class_name": "LSTM", "config": config}, ARRAYS).model(X)[0]


def legacy(path: Path, names: list[str], *, config: Any = MODEL, split: bool = False) -> Path:
    """A file of Keras 2 whose arrays have these names."""
    with h5py.File(path, "w") as root:
        root.attrs["keras_version"] = b"2.2.4"
        top = root
        if config is not None:
            root.attrs["model_config"] = json.dumps(config).encode()
            top = root.create_group("model_weights")
        group = top.create_group("lstm")
        top.attrs["layer_names0" if split else "layer_names"] = [b"lstm"]
        if split:
            group.attrs["weight_names0"] = [name.encode() for name in names[:2]]
            group.attrs["weight_names1"] = [name.encode() for name in names[2:]]
        else:
            group.attrs["weight_names"] = [name.encode() for name in names]
        for name, array in zip(names, ARRAYS, strict=True):
            group[name] = array
    return path


NESTINGS = {
    "Keras 2.0": ["lstm/kernel:0", "lstm/recurrent_kernel:0", "lstm/bias:0"],
    "tf.keras": ["lstm/lstm_cell/kernel:0", "lstm/lstm_cell/recurrent_kernel:0",
                 "lstm/lstm_cell/bias:0"],
    "Keras 3": ["m/lstm/lstm_cell/kernel", "m/lstm/lstm_cell/recurrent_kernel",
                "m/lstm/lstm_cell/bias"],
}  # fmt: skip


@pytest.mark.parametrize("nesting", NESTINGS)
def test_nestings_by_names(nesting: str, tmp_path: Path) -> None:
    names, split = NESTINGS[nesting], nesting == "tf.keras"
    found = interop.from_keras(legacy(tmp_path / "m.h5", names, split=split))
    assert (found.format, found.version) == ("Keras", "2.2.4")
    np.testing.assert_array_equal(found.model(X)[0], expected())
    bare = legacy(tmp_path / "w.h5", names, config=None, split=split)
    config = {"class_name": "LSTM", "config": {"recurrent_activation": "hard_sigmoid"}}
    model = interop.from_keras(bare, recurrent_activation="hard_sigmoid").model
    other = interop.from_keras(config, ARRAYS, version="2.2.4").model
    np.testing.assert_array_equal(model(X)[0], other(X)[0])


def by_paths(root: Any, base: str, cell: str = "cell") -> None:
    for at, array in enumerate(ARRAYS):
        root[f"{base}/{cell}/vars/{at}"] = array


_EARLY = "_layer_checkpoint_dependencies"
PATHS = ["layers/lstm", f"{_EARLY}/lstm", f"{_EARLY}\\lstm"]


@pytest.mark.parametrize("base", PATHS, ids=["3", "2.12", "Windows"])
def test_nestings_by_paths(base: str, tmp_path: Path) -> None:
    memory = io.BytesIO()
    with h5py.File(memory, "w") as root:
        if "\\" in base:
            for at, array in enumerate(ARRAYS):
                root[f"{base}\\cell\\vars/{at}"] = array
        else:
            by_paths(root, base)
    path = tmp_path / "m.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps(MODEL))
        archive.writestr("metadata.json", '{"keras_version": "3.0.1"}')
        archive.writestr("model.weights.h5", memory.getvalue())
    found = interop.from_keras(path)
    assert found.version == "3.0.1"
    np.testing.assert_array_equal(found.model(X)[0], expected())
    (tmp_path / "m.weights.h5").write_bytes(memory.getvalue())
    bare = interop.from_keras(tmp_path / "m.weights.h5", recurrent_activation="sigmoid")
    np.testing.assert_array_equal(bare.model(X)[0], expected())
    (tmp_path / "m.json").write_text(json.dumps({**MODEL, "keras_version": "3.0.1"}))
    apart = interop.from_keras(tmp_path / "m.json", tmp_path / "m.weights.h5")
    np.testing.assert_array_equal(apart.model(X)[0], expected())


def bare_file(path: Path) -> Path:
    """A file of weights alone with a layer of each kind."""
    with h5py.File(path, "w") as root:
        for side in ("forward_layer", "backward_layer"):
            by_paths(root, f"layers/bidirectional/{side}")
        for kind, columns in (("gru", 12), ("simple_rnn", 4)):
            root[f"layers/{kind}/cell/vars/0"] = KERNEL[:, :columns]
            root[f"layers/{kind}/cell/vars/1"] = RECURRENT[:, :columns]
        root["layers/dense/vars/0"] = KERNEL
        root["layers/dense/vars/1"] = BIAS
        root["layers/dense/vars"].attrs["name"] = "head"
        root["layers/batch_normalization/vars/0"] = BIAS
    return path


def test_weights_alone(tmp_path: Path) -> None:
    path = bare_file(tmp_path / "w.weights.h5")
    told: dict[str, Any] = {}
    for name, value in (
        ("recurrent_activation", "sigmoid"),
        ("merge_mode", "sum"),
        ("reset_after", True),
    ):
        with pytest.raises(interop.FormatError, match=f"does not tell {name}: hand it over"):
            interop.from_keras(path, **told)
        told[name] = value
    found = interop.from_keras(path, **told)
    assert {name: type(model).__name__ for name, model in found.layers.items()} == {
        "bidirectional": "LSTM", "gru": "GRU", "simple_rnn": "RNN",
    }  # fmt: skip
    assert found.stacks["bidirectional"][0].merge_mode == "sum"
    kinds = {other.name: other.kind for other in found.others}
    assert kinds == {"head": "dense", "batch_normalization": "unknown"}
    with pytest.raises(interop.Unsupported, match="does not say how its layers are connected"):
        found.sequential()


def test_cudnn_layers_have_other_layouts() -> None:
    """As Keras converts them: each kernel transposed in memory, and both biases."""
    kernel = np.concatenate([gate.T.reshape(3, 4) for gate in np.split(KERNEL, 4, axis=1)], axis=1)
    recurrent = np.concatenate([gate.T for gate in np.split(RECURRENT, 4, axis=1)], axis=1)
    arrays = [kernel, recurrent, np.concatenate([BIAS, 0 * BIAS])]
    found = interop.from_keras({**LSTM, "class_name": "CuDNNLSTM"}, arrays)
    np.testing.assert_array_equal(found.model(X)[0], expected())
    np.testing.assert_array_equal(interop.from_keras(LSTM, arrays).model(X)[0], expected())


VERSIONS = [("3.1", 1 / 6), ("2.3", 0.2), ("1.2", 0.2)]


@pytest.mark.parametrize("version, slope", VERSIONS, ids=[version for version, _ in VERSIONS])
def test_hard_sigmoid_is_the_version_s(version: str, slope: float) -> None:
    config = {**LSTM["config"], "recurrent_activation": "hard_sigmoid"}
    found = interop.from_keras({"class_name": "LSTM", "config": config}, ARRAYS, version=version)
    chosen = found.model.options.gate_activation
    assert chosen == ("hard_sigmoid" if slope == 0.2 else ("hard_sigmoid", slope, 0.5))


def written(change: Callable[[Any], None], tmp_path: Path) -> Path:
    """A whole file of Keras 2 after a change of its contents."""
    path = legacy(tmp_path / "m.h5", NESTINGS["tf.keras"])
    with h5py.File(path, "r+") as root:
        change(root)
    return path


def _link_out(root: Any) -> None:
    del root["model_weights/lstm/lstm/lstm_cell/bias:0"]
    root["model_weights/lstm/lstm/lstm_cell/bias:0"] = h5py.ExternalLink("/etc/hostname", "/x")


def _external(root: Any) -> None:
    del root["model_weights/lstm/lstm/lstm_cell/bias:0"]
    root["model_weights/lstm"].create_dataset(
        "lstm/lstm_cell/bias:0", (16,), "f4", external=[("/etc/hostname", 0, 64)]
    )


def _huge(root: Any) -> None:
    del root["model_weights/lstm/lstm/lstm_cell/kernel:0"]
    root["model_weights/lstm"].create_dataset("lstm/lstm_cell/kernel:0", (1 << 30, 16), "f4")


def _squeezed(root: Any) -> None:
    del root["model_weights/lstm/lstm/lstm_cell/kernel:0"]
    root["model_weights/lstm"].create_dataset(
        "lstm/lstm_cell/kernel:0", data=np.zeros((1 << 14, 16), "f4"), compression="gzip"
    )


def _text(root: Any) -> None:
    del root["model_weights/lstm/lstm/lstm_cell/bias:0"]
    root["model_weights/lstm/lstm/lstm_cell/bias:0"] = "text"


def _config(**changes: Any) -> Callable[[Any], None]:
    def change(root: Any) -> None:
        config = {**LSTM["config"], **changes}
        whole = {"class_name": "Sequential", "config": [{**LSTM, "config": config}]}
        root.attrs["model_config"] = json.dumps(whole).encode()

    return change


DAMAGES: dict[str, tuple[Callable[[Any], None], str]] = {
    "link to another file": (_link_out, "bias:0: is no array in the file"),
    "array in another file": (_external, "lies in another file, which is not read"),
    "array that is not there": (_huge, r"must have 68719476736 bytes by its shape"),
    "array much larger than the file": (_squeezed, "must have 1048576 bytes by its shape"),
    "text": (_text, "must be an array of numbers"),
    "no names": (lambda root: root["model_weights/lstm"].attrs.__delitem__("weight_names"),
                 "lstm: 3 arrays are needed, 0 are there"),
    "no group": (lambda root: root["model_weights"].__delitem__("lstm"), "layer_names and not"),
    "other units": (_config(units=5), "says 5 units, and its weights have 4"),
    "units that are none": (_config(units="x"), "says x units"),
    "no bias": (_config(use_bias=False), r"has more arrays than its configuration.*\(16,\)"),
    "bias of a wrong type": (_config(use_bias=1), "use_bias must be a bool, got int"),
    "no JSON": (lambda root: root.attrs.__setitem__("model_config", b"{"), "model_config: "),
    "another activation": (_config(activation=3), "activation must be a name, got 3"),
    "deep JSON": (lambda root: root.attrs.__setitem__("model_config", b"[" * 60000), "nested"),
    "no recurrent layer": (
        lambda root: root.attrs.__setitem__(
            "model_config",
            json.dumps({"class_name": "Sequential", "config": {"layers": []}}).encode(),
        ),
        "has no recurrent layer",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_files(name: str, tmp_path: Path) -> None:
    change, message = DAMAGES[name]
    path = written(change, tmp_path)
    with pytest.raises(interop.FormatError, match=message) as caught:
        interop.from_keras(path)
    assert caught.value.file == str(path)


def test_archives_that_lie(tmp_path: Path) -> None:
    path = tmp_path / "m.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", b" " * (1 << 22))
    with pytest.raises(interop.FormatError, match=r"config\.json: says that it has 4194304"):
        interop.from_keras(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "{}")
    with pytest.raises(interop.FormatError, match=r"metadata.json: is missing"):
        interop.from_keras(path)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(interop.FormatError, match="not a zip file"):
        interop.from_keras(path)
    for data, message in ((b"", "is empty"), (b"\x80\x04.", "begins as none of them does")):
        path.write_bytes(data)
        with pytest.raises(interop.FormatError, match=message):
            interop.from_keras(path)


BAD_CALLS: list[tuple[tuple[Any, ...], type[Exception], str]] = [
    ((3,), TypeError, "source must be a model or layer of Keras, a configuration or a path"),
    ((LSTM,), ValueError, "a configuration alone: hand over its weights"),
    ((LSTM, ARRAYS[:2]), interop.FormatError, "3 arrays are needed, 2 are there"),
    ((LSTM, [KERNEL, RECURRENT.T, BIAS]), interop.FormatError, r"\(H, 4 H\)"),
    ((LSTM, [KERNEL, RECURRENT, BIAS[:8]]), interop.FormatError, "bias must have 16 numbers"),
    ((LSTM, [a.astype(int) for a in ARRAYS]), interop.FormatError, "are int64, must be floats"),
    ((MODEL, 3), TypeError, "weights must be a path, a list of arrays or a mapping of them"),
    (({"class_name": "ConvLSTM2D", "config": {}}, []), interop.Unsupported, "none that fastlstm"),
    (
        ({"class_name": "RNN", "config": {"cell": {"class_name": "Mine", "config": {}}}}, []),
        interop.Unsupported,
        "its cell Mine is none that fastlstm has",
    ),
    (("no such file.h5",), FileNotFoundError, "no such file"),
]


@pytest.mark.parametrize("args, kind, message", BAD_CALLS, ids=[label(c[2]) for c in BAD_CALLS])
def test_bad_calls(args: tuple[Any, ...], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        interop.from_keras(*args)
