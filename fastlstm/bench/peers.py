# SPDX-License-Identifier: BSD-3-Clause
"""The engines that are compared, behind one protocol.

Each class imports its library inside its methods: importing this module loads no engine, and a
worker process that runs one engine holds no other's thread pool.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from . import protocol, training
from .agreement import Array, Outputs
from .protocol import BOTH, INFERENCE, Engine
from .shapes import Arrays, Shape
from .torch_peers import (
    FastLSTMTorch,
    FastLSTMTorchFrozen,
    FastLSTMTorchLeast,
    FastLSTMTorchPacked,
    Torch,
    TorchPadded,
)


class FastLSTM:
    """This package."""

    name = "fastlstm"
    package = "fastlstm"
    padded = False
    tasks: tuple[str, ...] = BOTH

    def available(self) -> bool:
        return protocol.found("fastlstm")

    def refuses(self, shape: Shape) -> str | None:
        return None

    def setup(self, threads: int) -> None:
        import fastlstm

        fastlstm.set_num_threads(threads)

    def prepare(self, shape: Shape, arrays: Arrays, threads: int) -> Callable[[], object]:
        if shape.train:
            return training.fastlstm_step(shape, arrays)
        lstm = training.numpy_model(shape, arrays)
        x, lengths = arrays.x, arrays.lengths
        if shape.stream:
            stream = lstm.stream(batch_size=shape.B)
            step = x[0] if shape.T == 1 else x
            return lambda: stream(step)
        if lengths is None or self.padded:
            return lambda: lstm(x)[0]
        return lambda: lstm(x, lengths=lengths)[0]

    def output(self, shape: Shape, result: object) -> Outputs:
        if shape.train:
            return training.fastlstm_outputs(result)
        y = np.asarray(result)
        return {"y": y[None] if y.ndim == 2 else y}


class FastLSTMPadded(FastLSTM):
    """This package on a ragged batch sent as plain padded input."""

    name = "fastlstm-padded"
    padded = True
    tasks = INFERENCE

    def refuses(self, shape: Shape) -> str | None:
        return None if shape.ragged else "the shape is not ragged"


class OnnxRuntime:
    """ONNX Runtime's CPU provider on an ONNX LSTM, GRU or RNN node per layer."""

    name = "onnxruntime"
    package = "onnxruntime"
    padded = False
    tasks: tuple[str, ...] = INFERENCE

    def available(self) -> bool:
        return protocol.found("onnxruntime", "onnx")

    def refuses(self, shape: Shape) -> str | None:
        from .onnx_model import lacks

        kernels = "it has no float64 kernel" if shape.dtype == "float64" else None
        return lacks(shape) or kernels

    def setup(self, threads: int) -> None:
        import onnxruntime

        onnxruntime.set_default_logger_severity(3)

    def prepare(self, shape: Shape, arrays: Arrays, threads: int) -> Callable[[], object]:
        import onnxruntime

        from .onnx_model import build

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.add_session_config_entry("session.set_denormal_as_zero", "1")
        session = onnxruntime.InferenceSession(
            build(shape, arrays.params).SerializeToString(), options, ["CPUExecutionProvider"]
        )
        run, names = session.run, [output.name for output in session.get_outputs()]
        x, lengths = arrays.x, arrays.lengths
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

    def output(self, shape: Shape, result: object) -> Outputs:
        outputs: Any = result
        return {"y": np.asarray(outputs[0])}


class OpenVINO:
    """OpenVINO's CPU plugin on the same ONNX model, latency hint, float32 inside."""

    name = "openvino"
    package = "openvino"
    padded = False
    tasks: tuple[str, ...] = INFERENCE

    def available(self) -> bool:
        return protocol.found("openvino", "onnx")

    def refuses(self, shape: Shape) -> str | None:
        from .onnx_model import lacks

        if shape.options:
            return "its CPU plugin has no LSTM with options"
        kernels = "its CPU plugin computes in float32" if shape.dtype == "float64" else None
        return lacks(shape) or kernels

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

    def prepare(self, shape: Shape, arrays: Arrays, threads: int) -> Callable[[], object]:
        from .onnx_model import build

        model = self._core.read_model(build(shape, arrays.params).SerializeToString())
        request = self._core.compile_model(model, "CPU", self._config).create_infer_request()
        x, lengths = arrays.x, arrays.lengths
        feed: dict[str, Array] = {"x": x}
        if lengths is not None:
            feed["lengths"] = lengths.astype(np.int32)
        if not shape.stream:
            return lambda: request.infer(feed, share_inputs=True, share_outputs=True)

        zeros = np.zeros((1, shape.B, shape.H), x.dtype)
        carried = []
        for layer in range(shape.layers):
            for letter in shape.states:
                feed[f"{letter}_0_l{layer}"] = zeros
                carried.append((f"{letter}_n_l{layer}", f"{letter}_0_l{layer}"))

        def step() -> object:
            # Outputs must be copies: the next call would write over the state it reads.
            outputs = request.infer(feed, share_inputs=True)
            for source, name in carried:
                feed[name] = outputs[source]
            return outputs

        return step

    def output(self, shape: Shape, result: object) -> Outputs:
        outputs: Any = result
        return {"y": np.array(outputs["y"])}


class Jax:
    """An LSTM as a jit-compiled `jax.lax.scan`, input projection hoisted out of the loop."""

    name = "jax"
    package = "jax"
    padded = False
    tasks: tuple[str, ...] = BOTH

    def available(self) -> bool:
        return protocol.found("jax", "jaxlib")

    def refuses(self, shape: Shape) -> str | None:
        plain = shape.cell == "lstm" and not shape.proj and not shape.options
        return None if plain else "it is written for the plain LSTM"

    def setup(self, threads: int) -> None:
        # XLA takes its thread count from here when it is first imported; there is no call for it.
        os.environ["NPROC"] = str(threads)
        os.environ["JAX_PLATFORMS"] = "cpu"
        if threads == 1:
            os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
        import jax

        jax.config.update("jax_enable_x64", True)

    def prepare(self, shape: Shape, arrays: Arrays, threads: int) -> Callable[[], object]:
        from . import jax_lstm

        return jax_lstm.prepare(shape, arrays)

    def output(self, shape: Shape, result: object) -> Outputs:
        from . import jax_lstm

        return jax_lstm.outputs(shape, result)


ENGINES: dict[str, Engine] = {
    engine.name: engine
    for engine in (
        FastLSTM(),
        FastLSTMPadded(),
        FastLSTMTorch(),
        FastLSTMTorchFrozen(),
        FastLSTMTorchPacked(),
        FastLSTMTorchLeast(),
        Torch(),
        TorchPadded(),
        OnnxRuntime(),
        OpenVINO(),
        Jax(),
    )
}
