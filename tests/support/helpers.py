# SPDX-License-Identifier: BSD-3-Clause
"""Random models, their inputs, and what the reference and PyTorch make of them.

Arrays are laid out as the configuration says (`batch_first`), as a user would pass them; only the
reference itself is always time-major, and `reference_forward` translates.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from fastlstm import reference
from support import ROOT

# Sizes at and around the vector widths and tile heights of the kernels, where tails begin.
EDGE_SIZES = (1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 15, 16, 17, 24, 31, 32, 33, 47, 48, 49, 63, 64, 65)
LARGE_SIZES = {"steps": 400, "batch": 150, "input_size": 400, "hidden_size": 300}


@dataclass(frozen=True)
class Config:
    """One model and one batch for it."""

    steps: int
    batch: int
    input_size: int
    hidden_size: int
    num_layers: int = 1
    bias: bool = True
    batch_first: bool = False
    bidirectional: bool = False
    with_state: bool = False
    lengths: tuple[int, ...] | None = None
    dtype: str = "float32"
    # one of `fastlstm.spec.CELLS`, or "lstmp" (projected to about 5/8 of H)
    cell: str = "lstm"
    proj: int = 0  # of an "lstm", what its output is projected to

    @property
    def gates(self) -> int:
        """How many times H rows a weight has."""
        return {"lstm": 4, "gru": 3, "rnn": 1}[self.cell.split("_")[0].removesuffix("p")]

    @property
    def proj_size(self) -> int:
        """0 for no projection, as a layer of one unit can have none."""
        return self.hidden_size * 5 // 8 if self.cell == "lstmp" else self.proj

    @property
    def outputs(self) -> int:
        """Width of h."""
        return self.proj_size or self.hidden_size

    @property
    def options(self) -> dict[str, Any] | None:
        """What makes an LSTM a general one."""
        if self.cell != "lstm_general":
            return None
        clips = {"gate_clip": 1.0, "cell_clip": 0.8}
        return {"peepholes": True, **clips, "gate_activation": "hard_sigmoid"}

    @property
    def num_directions(self) -> int:
        return 2 if self.bidirectional else 1

    @property
    def h_shape(self) -> tuple[int, int, int]:
        """Shape of h_0 and h_n."""
        return self.num_layers * self.num_directions, self.batch, self.outputs

    @property
    def c_shape(self) -> tuple[int, int, int]:
        """Shape of c_0 and c_n."""
        return self.num_layers * self.num_directions, self.batch, self.hidden_size

    @property
    def lstm_arguments(self) -> dict[str, Any]:
        """The arguments that torch.nn.LSTM and fastlstm.LSTM share (all but the dtype)."""
        names = ("input_size", "hidden_size", "num_layers", "bias", "batch_first", "bidirectional")
        projection = {"proj_size": self.proj_size} if self.proj_size else {}
        return {**{name: getattr(self, name) for name in names}, **projection}

    def time_major(self, a: np.ndarray) -> np.ndarray:
        """x, y or cells from the user's layout to (T, B, ...), or back again."""
        return a.swapaxes(0, 1) if self.batch_first else a


class Inputs(NamedTuple):
    x: np.ndarray
    state: tuple[np.ndarray, np.ndarray] | None
    lengths: tuple[int, ...] | None


class Outputs(NamedTuple):
    y: np.ndarray
    h_n: np.ndarray
    c_n: np.ndarray


def random_config(rng: np.random.Generator, *, dtype: str | None = None) -> Config:
    """Sizes in 1..70, half of them just around vector widths; in one of five, one is large."""
    sizes = {name: _random_size(rng) for name in LARGE_SIZES}
    if rng.random() < 1 / 5:
        name = str(rng.choice(list(LARGE_SIZES)))
        sizes = {other: min(size, 20) for other, size in sizes.items()}
        sizes[name] = int(rng.integers(71, LARGE_SIZES[name] + 1))
    return Config(
        **sizes,
        num_layers=int(rng.integers(1, 4)),
        bias=bool(rng.random() < 0.75),
        batch_first=bool(rng.random() < 0.5),
        bidirectional=bool(rng.random() < 0.5),
        with_state=bool(rng.random() < 0.5),
        lengths=_random_lengths(rng, sizes["steps"], sizes["batch"]),
        dtype=dtype or str(rng.choice(["float32", "float64"])),
    )


def random_params(config: Config, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """A state dict of the configuration: U(-1/sqrt(H), 1/sqrt(H)), in one of four 3x as wide."""
    bound = (3 if rng.random() < 0.25 else 1) / np.sqrt(config.hidden_size)
    rows = config.gates * config.hidden_size
    params = {}
    for layer in range(config.num_layers):
        below = config.num_directions * config.outputs if layer else config.input_size
        for suffix in ["", "_reverse"][: config.num_directions]:
            shapes: dict[str, tuple[int, ...]] = {
                "weight_ih": (rows, below),
                "weight_hh": (rows, config.outputs),
            }
            if config.bias:
                shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
            if config.proj_size:
                shapes["weight_hr"] = config.proj_size, config.hidden_size
            for name, shape in shapes.items():
                values = rng.uniform(-bound, bound, shape).astype(config.dtype)
                params[f"{name}_l{layer}{suffix}"] = values
            for name in ["weight_ci", "weight_cf", "weight_co"] if config.options else []:
                values = rng.uniform(-bound, bound, config.hidden_size).astype(config.dtype)
                params[f"{name}_l{layer}{suffix}"] = values
    return params


def random_inputs(config: Config, rng: np.random.Generator) -> Inputs:
    """x ~ N(0, 1) and states; the padding of ragged batches is NaN, since nobody may read it."""
    x = rng.standard_normal((config.steps, config.batch, config.input_size)).astype(config.dtype)
    for row, length in enumerate(config.lengths or ()):
        x[length:, row] = np.nan
    state = None
    if config.with_state:
        h_0 = rng.uniform(-1, 1, config.h_shape).astype(config.dtype)
        c_0 = rng.normal(0, 2, config.c_shape).astype(config.dtype)
        state = h_0, c_0
    return Inputs(np.ascontiguousarray(config.time_major(x)), state, config.lengths)


def reference_forward(
    config: Config, params: dict[str, np.ndarray], inputs: Inputs, *, dtype: Any = np.float64
) -> reference.Result:
    """The specification's answer, computed in `dtype` whatever the configuration's is."""
    result = reference.lstm_forward(
        config.time_major(inputs.x),
        params,
        state=inputs.state,
        lengths=inputs.lengths,
        dtype=dtype,
    )
    return result._replace(y=config.time_major(result.y), cells=config.time_major(result.cells))


def torch_forward(
    config: Config, params: dict[str, np.ndarray], inputs: Inputs, *, dtype: str | None = None
) -> Outputs:
    """PyTorch's answer, computed in `dtype` (by default that of the configuration).

    Packed sequences refuse length 0. Such rows are kept from PyTorch and get what the semantics
    promise: y = 0 and the initial state. They hence prove nothing about that promise.
    """
    torch = pytest.importorskip("torch")
    rnn = torch.nn.utils.rnn
    tensor_type = getattr(torch, dtype or config.dtype)

    def tensor(a: np.ndarray) -> Any:
        return torch.as_tensor(np.array(a), dtype=tensor_type)

    module = torch.nn.LSTM(**config.lstm_arguments, dtype=tensor_type)
    module.load_state_dict({name: tensor(value) for name, value in params.items()})
    zeros = (np.zeros(shape, inputs.x.dtype) for shape in (config.h_shape, config.c_shape))
    h_0, c_0 = (tensor(a) for a in inputs.state or zeros)
    x = tensor(inputs.x)

    with torch.inference_mode():
        if inputs.lengths is None:
            y, (h_n, c_n) = module(x, (h_0, c_0))
            return Outputs(y.numpy(), h_n.numpy(), c_n.numpy())

        y = tensor(np.zeros((config.steps, config.batch, h_0.shape[-1] * config.num_directions)))
        y = y.swapaxes(0, 1).contiguous() if config.batch_first else y
        h_n, c_n = h_0.clone(), c_0.clone()
        keep = [row for row, length in enumerate(inputs.lengths) if length > 0]
        if keep:
            rows = (slice(None), keep) if not config.batch_first else (keep,)
            packed = rnn.pack_padded_sequence(
                x[rows],
                [inputs.lengths[row] for row in keep],
                batch_first=config.batch_first,
                enforce_sorted=False,
            )
            out, (h_n[:, keep], c_n[:, keep]) = module(packed, (h_0[:, keep], c_0[:, keep]))
            y[rows], _ = rnn.pad_packed_sequence(
                out, batch_first=config.batch_first, total_length=config.steps
            )
    return Outputs(y.numpy(), h_n.numpy(), c_n.numpy())


def shared_data(name: str) -> Path:
    """The path of a file or folder of the shared data; skips the test where it is absent."""
    path = ROOT.parent / "shared" / "data" / name
    if not path.exists():
        pytest.skip(f"../shared/data/{name} is not here; it is no part of the checkout")
    return path


def _random_size(rng: np.random.Generator) -> int:
    return int(rng.choice(EDGE_SIZES) if rng.random() < 0.5 else rng.integers(1, 71))


def _random_lengths(rng: np.random.Generator, steps: int, batch: int) -> tuple[int, ...] | None:
    """None in half of the cases; else any order, zeros in many, the longest often below T."""
    if rng.random() < 0.5:
        return None
    lengths = rng.integers(0, rng.integers(1, steps + 1) + 1, batch)
    lengths[rng.random(batch) < rng.choice([0, 0.2])] = 0
    return tuple(int(length) for length in lengths)
