# SPDX-License-Identifier: BSD-3-Clause
"""PyTorch's layers as an engine of the benchmark, and this package inside of PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from . import protocol, training
from .agreement import Outputs
from .protocol import BOTH, INFERENCE, TRAINING
from .shapes import Arrays, Shape

OPTIONS = "PyTorch's LSTM has no options"
RESET = "PyTorch's GRU resets after the product"


class Torch:
    """torch.nn.LSTM, GRU or RNN, in inference_mode or a training step; ragged batches as packed
    sequences, packing included."""

    name = "torch"
    package = "torch"
    padded = False
    tasks: tuple[str, ...] = BOTH

    def available(self) -> bool:
        return protocol.found("torch")

    def refuses(self, shape: Shape) -> str | None:
        if shape.cell == "gru_reset_before":
            return RESET
        return OPTIONS if shape.options else None

    def setup(self, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        torch.set_flush_denormal(True)

    def prepare(self, shape: Shape, arrays: Arrays, threads: int) -> Callable[[], object]:
        import torch

        if shape.train:
            return training.torch_step(torch.nn, shape, arrays, self.padded)
        from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

        module = training.torch_model(torch.nn, shape, arrays)
        self.swap(module.eval())
        tensor, lengths = torch.from_numpy(arrays.x), arrays.lengths

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

    def swap(self, module: Any) -> None:
        """Lets a module in evaluation mode run elsewhere."""

    def output(self, shape: Shape, result: object) -> Outputs:
        if shape.train:
            return training.torch_outputs(result)
        tensor: Any = result
        return {"y": np.asarray(tensor.numpy())}


class TorchPadded(Torch):
    """torch.nn's layer on a ragged batch sent as plain padded input: more work, but no packing.

    Its gradients are right only where each sequence is run forward: see `agreement`.
    """

    name = "torch-padded"
    padded = True

    def refuses(self, shape: Shape) -> str | None:
        return super().refuses(shape) if shape.ragged else "the shape is not ragged"


class FastLSTMTorch(Torch):
    """An accelerated layer of torch.nn: inference as it is for PyTorch's own, and a training step
    through `fastlstm.torch`, written as for torch.nn."""

    name = "fastlstm.torch"
    package = "fastlstm"

    def available(self) -> bool:
        return protocol.found("fastlstm", "torch")

    def setup(self, threads: int) -> None:
        import fastlstm.torch

        super().setup(threads)  # packing is torch's own
        fastlstm.set_num_threads(threads)

    def prepare(self, shape: Shape, arrays: Arrays, threads: int) -> Callable[[], object]:
        import fastlstm.torch

        if not shape.train:
            return super().prepare(shape, arrays, threads)
        return training.torch_step(fastlstm.torch, shape, arrays, self.padded)

    def swap(self, module: Any) -> None:
        import fastlstm.torch

        fastlstm.torch.accelerate(module)


class FastLSTMTorchFrozen(FastLSTMTorch):
    """The same with frozen weights: no call looks whether they changed behind PyTorch's back."""

    name = "fastlstm.torch-frozen"
    tasks = INFERENCE

    def swap(self, module: Any) -> None:
        import fastlstm.torch

        fastlstm.torch.accelerate(module, freeze=True)


class FastLSTMTorchPacked(FastLSTMTorch):
    """The same on a PackedSequence that is there already, as is dy, and without unpacking: what
    `fastlstm.torch` itself costs, since packing is PyTorch's own work."""

    name = "fastlstm.torch-packed"
    tasks = TRAINING

    def refuses(self, shape: Shape) -> str | None:
        return super().refuses(shape) if shape.ragged else "the shape is not ragged"

    def prepare(self, shape: Shape, arrays: Arrays, threads: int) -> Callable[[], object]:
        import fastlstm.torch

        return training.packed_step(fastlstm.torch, shape, arrays)


class FastLSTMTorchLeast(FastLSTMTorch):
    """The NumPy step in the least autograd function: PyTorch's own share of `fastlstm.torch`."""

    name = "fastlstm.torch-least"
    tasks = TRAINING

    def refuses(self, shape: Shape) -> str | None:
        return "it takes no ragged batches" if shape.ragged else super().refuses(shape)

    def prepare(self, shape: Shape, arrays: Arrays, threads: int) -> Callable[[], object]:
        return training.least_step(shape, arrays)
