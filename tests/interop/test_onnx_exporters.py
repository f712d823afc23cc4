# SPDX-License-Identifier: BSD-3-Clause
"""What exporters make of recurrent layers: those of PyTorch, and tf2onnx."""

from __future__ import annotations

import importlib.util
import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastlstm import interop
from support import processes
from support.labels import label

pytest.importorskip("onnx")


def torch_models() -> list[tuple[str, dict[str, Any]]]:
    found: list[tuple[str, dict[str, Any]]] = []
    for kind in ("LSTM", "GRU", "RNN"):
        for layers, both, first in ((1, False, False), (2, True, True), (3, False, True)):
            options = {"num_layers": layers, "bidirectional": both, "batch_first": first}
            found.append((kind, options))
    found.append(("LSTM", {"bias": False, "num_layers": 2}))
    found.append(("RNN", {"nonlinearity": "relu", "num_layers": 2}))
    return found


@pytest.mark.parametrize(
    "dynamo", [False, pytest.param(True, marks=pytest.mark.deep)], ids=["TorchScript", "dynamo"]
)
@pytest.mark.parametrize("dynamic", [False, True], ids=["fixed", "dynamic"])
@pytest.mark.parametrize("kind, options", torch_models(), ids=label)
def test_exporters_of_torch(
    kind: str, options: dict[str, Any], dynamic: bool, dynamo: bool
) -> None:
    torch = pytest.importorskip("torch")
    if dynamo:
        pytest.importorskip("onnxscript", reason="torch's dynamo exporter needs onnxscript")
    torch.manual_seed(0)
    module = getattr(torch.nn, kind)(3, 4, **options).eval()
    x = torch.randn(5, 2, 3)
    axes = {0: "first", 1: "second"} if dynamic else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if dynamo:
            shapes = ({0: torch.export.Dim.AUTO, 1: torch.export.Dim.AUTO},) if dynamic else None
            proto = torch.onnx.export(
                module, (x,), dynamo=True, dynamic_shapes=shapes, verbose=False
            ).model_proto
        else:
            file = io.BytesIO()
            torch.onnx.export(
                module, (x,), file, dynamo=False, input_names=["x"],
                dynamic_axes={"x": axes} if axes else None,
            )  # fmt: skip
            proto = file.getvalue()
    if dynamo and kind == "RNN":  # written out into its steps
        with pytest.raises(interop.FormatError, match="unrolled"):
            interop.from_onnx(proto)
        return
    imported = interop.from_onnx(proto)
    model = imported.model
    assert (model.num_layers, model.bidirectional) == (module.num_layers, module.bidirectional)
    for name, values in module.state_dict().items():
        np.testing.assert_array_equal(model.state_dict()[name], values.numpy())
    assert all(
        layer.initial_state is None for layer in imported.stacks[next(iter(imported.layers))]
    )


# In a process of its own: TensorFlow brings another protobuf and a pool of threads.
TF2ONNX = """
import os, sys
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["TF_USE_LEGACY_KERAS"] = "1"
import numpy as np, tensorflow as tf, tf2onnx, tf_keras
from tf_keras import layers
def lstm(**options): return layers.LSTM(4, return_sequences=True, **options)
models = {
    "stack": [lstm(), lstm(), lstm(use_bias=False)],
    "two directions": [layers.Bidirectional(lstm()), layers.Bidirectional(lstm())],
    "gru": [layers.GRU(4, return_sequences=True)],
    "last step": [lstm(), layers.LSTM(4), layers.Dense(2, "relu")],
}
x = np.random.default_rng(0).standard_normal((2, 7, 3)).astype(np.float32)
found = {"x": x}
for name, parts in models.items():
    model = tf_keras.Sequential([layers.Input((None, 3)), *parts])
    spec = tf.TensorSpec(model.inputs[0].shape, tf.float32)
    tf2onnx.convert.from_keras(model, (spec,), opset=15, output_path=f"{sys.argv[1]}/{name}.onnx")
    found[name] = model(x).numpy()
np.savez(f"{sys.argv[1]}/results.npz", **found)
"""


@pytest.mark.deep
def test_tf2onnx(tmp_path: Path) -> None:
    for package in ("tf2onnx", "tensorflow", "tf_keras"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed: pip install tf2onnx tensorflow-cpu tf_keras")
    processes.check(TF2ONNX, str(tmp_path), timeout=300)
    results = np.load(tmp_path / "results.npz")
    x = results["x"].transpose(1, 0, 2)
    chain = interop.from_onnx(tmp_path / "last step.onnx").sequential()
    eps = float(np.finfo(np.float32).eps)
    assert np.abs(chain(results["x"]) - results["last step"]).max() <= 3 * 2 * 7 * 24 * eps
    for name in ("stack", "two directions", "gru"):
        imported = interop.from_onnx(tmp_path / f"{name}.onnx")
        assert imported.producer.startswith("tf2onnx")
        assert not imported.unsupported
        assert imported.model.num_layers == {"stack": 3, "two directions": 2, "gru": 1}[name]
        assert (
            np.abs(imported.sequential()(results["x"]) - results[name]).max()
            <= 3 * 2 * 7 * 24 * eps
        )
        y, _ = imported.model(np.ascontiguousarray(x))
        # As onnx_models.tolerance, for three layers.
        limit = 3 * 2 * 7 * (8 + 4 + 12) * eps
        assert np.abs(y.transpose(1, 0, 2) - results[name]).max() <= limit, name
