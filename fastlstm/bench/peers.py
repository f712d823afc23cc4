# SPDX-License-Identifier: BSD-3-Clause
"""The engines that are compared, behind one protocol.

Each class imports its library inside its methods: importing this module loads no engine, and a
worker process that runs one engine holds no other's thread pool.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .shapes import Shape

Array = NDArray[Any]
Params = dict[str, Array]


class Engine(Protocol):
    """One way to run an LSTM.

    name       as printed and as given to ``--engines``
    package    the distribution whose version is reported
    padded     True for an engine that ignores lengths (its ragged outputs differ by design)
    """

    name: str
    package: str
    padded: bool

    def available(self) -> bool:
        """Whether the libraries can be found. Imports nothing."""
        ...

    def refuses(self, shape: Shape) -> str | None:
        """Why this engine can't run the shape, or None if it can."""
        ...

    def setup(self, threads: int) -> None:
        """Import, set the thread count and flush denormals; once per process, before `prepare`."""
        ...

    def prepare(
        self, shape: Shape, params: Params, x: Array, lengths: Array | None, threads: int
    ) -> Callable[[], object]:
        """A closure that runs one inference. For a stream each call carries the state on.

        params   torch's names and layouts; x (T, B, I); lengths (B,) int64 or None
        """
        ...

    def output(self, result: object) -> Array:
        """What a call returned as an array (T, B, D*H)."""
        ...


def _found(*modules: str) -> bool:
    return all(importlib.util.find_spec(module) is not None for module in modules)


def version(engine: Engine) -> str:
    """The version of an engine's distribution; "unknown" if neither it nor its module says."""
    try:
        return importlib.metadata.version(engine.package)
    except importlib.metadata.PackageNotFoundError:  # built in place, not installed
        return str(getattr(sys.modules.get(engine.package), "__version__", "unknown"))


def compare(shape: Shape, ours: Array, theirs: Array, lengths: Array | None, padded: bool) -> float:
    """Largest absolute difference of two outputs (T, B, D*H).

    A padded engine runs on past each sequence's end, so only what can agree is compared: valid
    steps of the forward direction, and nothing (NaN) where a second layer has mixed directions.
    """
    if padded and lengths is not None:
        if shape.bidirectional and shape.layers > 1:
            return float("nan")
        valid = np.arange(shape.T)[:, None] < lengths[None, :]
        ours, theirs = ours[valid][:, : shape.H], theirs[valid][:, : shape.H]
    return float(np.max(np.abs(ours.astype(np.float64) - theirs.astype(np.float64)), initial=0.0))


class FastLSTM:
    """This package."""

    name = "fastlstm"
    package = "fastlstm"
    padded = False

    def available(self) -> bool:
        return _found("fastlstm")

    def refuses(self, shape: Shape) -> str | None:
        return None

    def setup(self, threads: int) -> None:
        import fastlstm

        fastlstm.set_num_threads(threads)

    def prepare(
        self, shape: Shape, params: Params, x: Array, lengths: Array | None, threads: int
    ) -> Callable[[], object]:
        import fastlstm

        lstm = fastlstm.LSTM(
            shape.I,
            shape.H,
            shape.layers,
            bidirectional=shape.bidirectional,
            dtype=np.dtype(shape.dtype).type,
        )
        lstm.load_state_dict(params)
        if shape.stream:
            stream = lstm.stream(batch_size=shape.B)
            step = x[0] if shape.T == 1 else x
            return lambda: stream(step)
        if lengths is None or self.padded:
            return lambda: lstm(x)[0]
        return lambda: lstm(x, lengths=lengths)[0]

    def output(self, result: object) -> Array:
        y = np.asarray(result)
        return y[None] if y.ndim == 2 else y


class FastLSTMPadded(FastLSTM):
    """This package on a ragged batch sent as plain padded input."""

    name = "fastlstm-padded"
    padded = True

    def refuses(self, shape: Shape) -> str | None:
        return None if shape.ragged else "the shape is not ragged"


class Torch:
    """torch.nn.LSTM in inference_mode; ragged batches as packed sequences, packing included."""

    name = "torch"
    package = "torch"
    padded = False

    def available(self) -> bool:
        return _found("torch")

    def refuses(self, shape: Shape) -> str | None:
        return None

    def setup(self, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        torch.set_flush_denormal(True)

    def prepare(
        self, shape: Shape, params: Params, x: Array, lengths: Array | None, threads: int
    ) -> Callable[[], object]:
        import torch
        from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

        dtype = getattr(torch, shape.dtype)
        module = torch.nn.LSTM(
            shape.I, shape.H, shape.layers, bidirectional=shape.bidirectional, dtype=dtype
        )
        module.load_state_dict({name: torch.from_numpy(value) for name, value in params.items()})
        module.eval()
        tensor = torch.from_numpy(x)

        if shape.stream:
            state: Any = None

            def step() -> object:
                nonlocal state
                with torch.inference_mode():
                    y, state = module(tensor, state)
                return y

            return step

        if lengths is None or self.padded:

            def whole() -> object:
                with torch.inference_mode():
                    return module(tensor)[0]

            return whole

        lengths_tensor = torch.from_numpy(lengths)

        def packed() -> object:
            with torch.inference_mode():
                sequence = pack_padded_sequence(tensor, lengths_tensor, enforce_sorted=False)
                return pad_packed_sequence(module(sequence)[0], total_length=shape.T)[0]

        return packed

    def output(self, result: object) -> Array:
        tensor: Any = result
        return np.asarray(tensor.numpy())


class TorchPadded(Torch):
    """torch.nn.LSTM on a ragged batch sent as plain padded input: more work, but no packing."""

    name = "torch-padded"
    padded = True

    def refuses(self, shape: Shape) -> str | None:
        return None if shape.ragged else "the shape is not ragged"


class OnnxRuntime:
    """ONNX Runtime's CPU provider on an ONNX LSTM node per layer."""

    name = "onnxruntime"
    package = "onnxruntime"
    padded = False

    def available(self) -> bool:
        return _found("onnxruntime", "onnx")

    def refuses(self, shape: Shape) -> str | None:
        return "its LSTM has no float64 kernel" if shape.dtype == "float64" else None

    def setup(self, threads: int) -> None:
        import onnxruntime

        onnxruntime.set_default_logger_severity(3)

    def prepare(
        self, shape: Shape, params: Params, x: Array, lengths: Array | None, threads: int
    ) -> Callable[[], object]:
        import onnxruntime

        from .onnx_model import build

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.add_session_config_entry("session.set_denormal_as_zero", "1")
        session = onnxruntime.InferenceSession(
            build(shape, params).SerializeToString(), options, ["CPUExecutionProvider"]
        )
        run, names = session.run, [output.name for output in session.get_outputs()]
        feed: dict[str, Array] = {"x": x}
        if lengths is not None:
            feed["lengths"] = lengths.astype(np.int32)
        if not shape.stream:
            return lambda: run(names, feed)

        zeros = np.zeros((1, shape.B, shape.H), x.dtype)
        feed.update({name: zeros for name in (i.name for i in session.get_inputs()) if name != "x"})
        carried = [(i, name.replace("_n", "_0")) for i, name in enumerate(names) if i > 0]

        def step() -> object:
            outputs = run(names, feed)
            for index, name in carried:
                feed[name] = outputs[index]
            return outputs

        return step

    def output(self, result: object) -> Array:
        outputs: Any = result
        return np.asarray(outputs[0])


class OpenVINO:
    """OpenVINO's CPU plugin on the same ONNX model, latency hint, float32 inside."""

    name = "openvino"
    package = "openvino"
    padded = False

    def available(self) -> bool:
        return _found("openvino", "onnx")

    def refuses(self, shape: Shape) -> str | None:
        return "its CPU plugin computes in float32" if shape.dtype == "float64" else None

    def setup(self, threads: int) -> None:
        import openvino

        self._core: Any = openvino.Core()
        # Without the precision hint it computes in bfloat16 where the CPU can.
        self._config = {
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
            "CPU_DENORMALS_OPTIMIZATION": True,
        }

    def prepare(
        self, shape: Shape, params: Params, x: Array, lengths: Array | None, threads: int
    ) -> Callable[[], object]:
        from .onnx_model import build

        model = self._core.read_model(build(shape, params).SerializeToString())
        request = self._core.compile_model(model, "CPU", self._config).create_infer_request()
        feed: dict[str, Array] = {"x": x}
        if lengths is not None:
            feed["lengths"] = lengths.astype(np.int32)
        if not shape.stream:
            return lambda: request.infer(feed, share_inputs=True, share_outputs=True)

        zeros = np.zeros((1, shape.B, shape.H), x.dtype)
        carried = []
        for layer in range(shape.layers):
            for letter in "hc":
                feed[f"{letter}_0_l{layer}"] = zeros
                carried.append((f"{letter}_n_l{layer}", f"{letter}_0_l{layer}"))

        def step() -> object:
            # Outputs must be copies: the next call would write over the state it reads.
            outputs = request.infer(feed, share_inputs=True)
            for source, name in carried:
                feed[name] = outputs[source]
            return outputs

        return step

    def output(self, result: object) -> Array:
        outputs: Any = result
        return np.array(outputs["y"])


class Jax:
    """A jit-compiled `jax.lax.scan`, input projection hoisted out of the loop."""

    name = "jax"
    package = "jax"
    padded = False

    def available(self) -> bool:
        return _found("jax", "jaxlib")

    def refuses(self, shape: Shape) -> str | None:
        return None

    def setup(self, threads: int) -> None:
        # XLA takes its thread count from here when it is first imported; there is no call for it.
        os.environ["NPROC"] = str(threads)
        os.environ["JAX_PLATFORMS"] = "cpu"
        if threads == 1:
            os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
        import jax

        jax.config.update("jax_enable_x64", True)

    def prepare(
        self, shape: Shape, params: Params, x: Array, lengths: Array | None, threads: int
    ) -> Callable[[], object]:
        from .jax_lstm import prepare

        return prepare(shape, params, x, lengths)

    def output(self, result: object) -> Array:
        return np.asarray(result)


ENGINES: dict[str, Engine] = {
    engine.name: engine
    for engine in (
        FastLSTM(),
        FastLSTMPadded(),
        Torch(),
        TorchPadded(),
        OnnxRuntime(),
        OpenVINO(),
        Jax(),
    )
}
