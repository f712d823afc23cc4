# SPDX-License-Identifier: BSD-3-Clause
"""What stands between recurrent layers of a chain, in NumPy.

A step has two ways to run: `whole` on all of a sequence, arrays (B, T, ...) with a mask (B, T) or
None beside them, and `stream`, which makes a function from chunk to chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import elementwise
from .other import Other

Array = NDArray[Any]
Masked = tuple[Array, Array | None]
Chunks = Callable[[Array], Array]


class Step:
    """One step of a chain that does the same to every time step, and leaves the mask alone."""

    streams = ""  # why it cannot run in chunks; "" where it can
    is_input = False  # whether its outputs are what the chain's skip adds
    adds = 0  # how many columns of the chain's input it adds, and does nothing else
    takes_indices = False

    def __init__(self, name: str, function: elementwise.Function) -> None:
        self.name = name
        self._function = function

    def whole(self, x: Array, mask: Array | None) -> Masked:
        """The outputs of a batch of whole sequences, and their mask."""
        return self._function(x), mask

    def stream(self, batch: int) -> Chunks:
        """A new function that takes chunk after chunk of a batch of so many sequences."""
        return self._function


class _Whole(Step):
    """A step that needs all of a sequence, and after which there is no mask."""

    streams = "it needs the whole sequence"

    def whole(self, x: Array, mask: Array | None) -> Masked:
        return self._function(x), None


class _Masking(Step):
    """Steps whose inputs all have one value are masked, and become zeros."""

    streams = "masks are of whole sequences"

    def __init__(self, name: str, value: float) -> None:
        super().__init__(name, lambda x: x)
        self._value = value

    def whole(self, x: Array, mask: Array | None) -> Masked:
        found = (x != np.asarray(self._value, x.dtype)).any(axis=-1)
        return np.where(found[..., None], x, np.zeros((), x.dtype)), found


class _Embedding(Step):
    """Rows of a table; index 0 may say that a step is masked."""

    takes_indices = True

    def __init__(self, name: str, table: Array, mask_zero: bool) -> None:
        super().__init__(name, self._rows)
        self._table, self._mask_zero = table, mask_zero
        self.streams = "masks are of whole sequences" if mask_zero else ""

    def _rows(self, x: Array) -> Array:
        at = x.astype(np.int64)
        if at.size and (at.min() < 0 or at.max() >= len(self._table) or (at != x).any()):
            raise ValueError(
                f"{self.name} takes integers from 0 to {len(self._table) - 1}, "
                f"got {x.min()} to {x.max()}"
            )
        return self._table[at]

    def whole(self, x: Array, mask: Array | None) -> Masked:
        return self._rows(x), (x != 0) if self._mask_zero else mask


class _Average(_Whole):
    """The mean over time, of the steps that count."""

    def __init__(self, name: str, keep: bool) -> None:
        super().__init__(name, lambda x: x.mean(axis=1, keepdims=keep))
        self._keep = keep

    def whole(self, x: Array, mask: Array | None) -> Masked:
        if mask is None:
            return self._function(x), None
        counts = mask[..., None].astype(x.dtype)
        sums = (x * counts).sum(axis=1, keepdims=self._keep)
        with np.errstate(invalid="ignore"):  # nothing counts: NaN, as in Keras
            return sums / counts.sum(axis=1, keepdims=self._keep), None


class _Conv1d(Step):
    """A convolution over time; the kernel is (K, I / groups, O)."""

    def __init__(self, name: str, kernel: Array, bias: Array | None, config: Mapping[str, Any]):
        activation = elementwise.function(config.get("activation"))
        super().__init__(name, activation)
        self._kernel, self._bias = kernel, bias
        self._stride = _one(config.get("strides", 1))
        self._apart = _one(config.get("dilation_rate", 1))
        self._groups = int(config.get("groups", 1))
        self._padding = str(config.get("padding", "valid"))
        if self._padding not in ("valid", "same", "causal"):
            raise ValueError(f"padding must be valid, same or causal, got {self._padding!r}")
        if self._groups < 1 or kernel.shape[2] % self._groups:
            raise ValueError(f"groups must divide {kernel.shape[2]} filters, got {self._groups}")
        if self._stride < 1 or self._apart < 1:
            raise ValueError("strides and dilation_rate must be 1 or more")
        if self._padding != "causal":
            self.streams = f"its padding is {self._padding!r}, not 'causal'"
        elif self._stride != 1:
            self.streams = "it has strides"

    @property
    def _reach(self) -> int:
        return (len(self._kernel) - 1) * self._apart

    def _sums(self, x: Array) -> Array:
        """Of padded inputs."""
        steps = (x.shape[1] - self._reach - 1) // self._stride + 1
        if steps < 1:
            raise ValueError(f"{self.name} needs {self._reach + 1} steps or more")
        wide = self._kernel.shape[1]
        if x.shape[-1] != wide * self._groups:
            raise ValueError(f"{self.name} takes {wide * self._groups} inputs, got {x.shape[-1]}")
        out = self._kernel.shape[2] // self._groups
        y = np.zeros((len(x), steps, self._kernel.shape[2]), x.dtype)
        for k, kernel in enumerate(self._kernel):
            first = k * self._apart
            rows = x[:, first : first + (steps - 1) * self._stride + 1 : self._stride]
            for group in range(self._groups):
                own = slice(group * out, (group + 1) * out)
                y[..., own] += rows[..., group * wide : (group + 1) * wide] @ kernel[:, own]
        return self._function(y if self._bias is None else y + self._bias)

    def whole(self, x: Array, mask: Array | None) -> Masked:
        before = after = 0
        if self._padding == "causal":
            before = self._reach
        elif self._padding == "same":
            steps = -(-x.shape[1] // self._stride)
            missing = max((steps - 1) * self._stride + self._reach + 1 - x.shape[1], 0)
            before, after = missing // 2, missing - missing // 2
        return self._sums(np.pad(x, ((0, 0), (before, after), (0, 0)))), None

    def stream(self, batch: int) -> Chunks:
        width = self._kernel.shape[1] * self._groups
        kept = [np.zeros((batch, self._reach, width), self._kernel.dtype)]

        def chunk(x: Array) -> Array:
            both = np.concatenate([kept[0], x], axis=1)
            y = self._sums(both)
            kept[0] = both[:, both.shape[1] - self._reach :].copy()
            return y

        return chunk


def _one(value: object) -> int:
    """The only number of a list such as Keras's strides."""
    while isinstance(value, (list, tuple)):
        value = value[-1] if value else 1
    return int(value)  # type: ignore[call-overload, no-any-return]


def _axis(other: Other) -> int:
    """The one axis that is normalised; ValueError where there are several."""
    found = other.config.get("axis", -1)
    if isinstance(found, (list, tuple)) and len(found) != 1:
        raise ValueError(f"it normalises axes {found} together: only the last one is known")
    return _one(found)


def _dense(other: Other) -> Step:
    """x W + b, Keras's kernel (I, O), or torch's weight (O, I)."""
    found = other.weights
    kernel = found["kernel"] if "kernel" in found else found["weight"].T
    bias = found.get("bias")
    if kernel.ndim != 2:
        raise ValueError(f"its kernel must have two axes, got shape {kernel.shape}")
    activation = elementwise.function(other.config.get("activation"))

    def run(x: Array) -> Array:
        if x.shape[-1] != len(kernel):
            raise ValueError(f"{other.name} takes {len(kernel)} inputs, got {x.shape[-1]}")
        y = x.astype(kernel.dtype, copy=False) @ kernel
        return activation(y if bias is None else y + bias)

    return Step(other.name, run)


def _batch_norm(other: Other) -> Step:
    found, axis = other.weights, _axis(other)
    variance = found["moving_variance"]
    with np.errstate(all="ignore"):  # a variance that is 0 or none, as in the file's own engine
        scale = 1 / np.sqrt(variance + variance.dtype.type(other.config.get("epsilon", 1e-3)))
        scale = scale * found.get("gamma", variance.dtype.type(1))
        shift = found.get("beta", variance.dtype.type(0)) - found["moving_mean"] * scale

    def run(x: Array) -> Array:
        if axis not in (-1, x.ndim - 1):
            raise ValueError(f"{other.name} normalises axis {axis}: only the last one is known")
        return np.asarray(x * scale + shift, x.dtype)

    return Step(other.name, run)


def _layer_norm(other: Other) -> Step:
    found, axis = other.weights, _axis(other)
    epsilon = float(other.config.get("epsilon", 1e-3))

    def run(x: Array) -> Array:
        if axis not in (-1, x.ndim - 1):
            raise ValueError(f"{other.name} normalises axis {axis}: only the last one is known")
        apart = x - x.mean(axis=-1, keepdims=True)
        y = apart / np.sqrt((apart * apart).mean(axis=-1, keepdims=True) + x.dtype.type(epsilon))
        return np.asarray(y * found.get("gamma", 1) + found.get("beta", 0), x.dtype)

    return Step(other.name, run)


def _prelu(other: Other) -> Step:
    alpha = other.weights["alpha"]
    found = Step(other.name, lambda x: np.where(x > 0, x, alpha * x))
    if alpha.size != alpha.shape[-1]:
        found.streams = "each step has weights of its own"
    return found


def _pooling(other: Other) -> Step:
    size = _one(other.config.get("pool_size", 2))
    stride = _one(other.config.get("strides") or size)
    if str(other.config.get("padding", "valid")) != "valid" or size < 1 or stride < 1:
        raise ValueError("only padding='valid' is known of pooling")
    reduce = np.max if other.kind.startswith("max") else np.mean

    def run(x: Array) -> Array:
        if x.shape[1] < size:
            raise ValueError(f"{other.name} needs {size} steps or more, got {x.shape[1]}")
        parts = np.lib.stride_tricks.sliding_window_view(x, size, axis=1)[:, ::stride]
        return np.asarray(reduce(parts, axis=-1), x.dtype)

    return _Whole(other.name, run)


def _gain(other: Other) -> Step:
    """A factor of the first column: the others hold the settings of knobs."""
    factor = float(other.config["gain"])

    def run(x: Array) -> Array:
        y = x.copy()
        y[..., 0] *= x.dtype.type(factor)
        return y

    found = Step(other.name, run)
    found.is_input = bool(other.config.get("is_input", False))
    return found


def _skip(other: Other) -> Step:
    found = _same(other)
    found.adds = int(other.config["columns"])
    return found


def _conv1d(other: Other) -> Step:
    kernel = other.weights["kernel"]
    if kernel.ndim != 3 or not kernel.shape[0]:
        raise ValueError(f"its kernel must have three axes, got shape {kernel.shape}")
    return _Conv1d(other.name, kernel, other.weights.get("bias"), other.config)


def _activation(other: Other) -> Step:
    return Step(other.name, elementwise.function(other.config.get("activation")))


def _keeps(other: Other) -> bool:
    """Whether pooling over all steps leaves the axis of time, one long."""
    return bool(other.config.get("keepdims", False))


def _repeat(other: Other) -> Step:
    count = int(other.config["n"])
    return _Whole(other.name, lambda x: np.repeat(x[:, None], count, axis=1))


def _same(other: Other) -> Step:
    return Step(other.name, lambda x: x)


_MAKERS: dict[str, Callable[[Other], Step]] = {
    "activation": _activation,
    "average_pooling1d": _pooling,
    "batch_norm": _batch_norm,
    "conv1d": _conv1d,
    "dense": _dense,
    "dropout": _same,
    "embedding": lambda other: _Embedding(
        other.name, other.weights["embeddings"], bool(other.config.get("mask_zero", False))
    ),
    "flatten": lambda other: _Whole(other.name, lambda x: x.reshape(len(x), -1)),
    "gain": _gain,
    "global_average_pooling1d": lambda other: _Average(other.name, _keeps(other)),
    "global_max_pooling1d": lambda other: _Whole(
        other.name, lambda x: x.max(axis=1, keepdims=_keeps(other))
    ),
    "layer_norm": _layer_norm,
    "masking": lambda other: _Masking(other.name, float(other.config.get("mask_value", 0.0))),
    "max_pooling1d": _pooling,
    "prelu": _prelu,
    "quantize": _same,
    "repeat_vector": _repeat,
    "skip": _skip,
}


def step(other: Other) -> Step:
    """What runs it.

    Parameters
    ----------
    other : Other
        Of an importer.

    Returns
    -------
    Step
        A new one.

    Raises
    ------
    ValueError
        Nothing here does what it does; the message says what is known.
    """
    if other.kind not in _MAKERS:
        raise ValueError(f"{other.kind!r} is none of {', '.join(_MAKERS)}")
    if other.config.get("data_format", "channels_last") != "channels_last":
        raise ValueError("only data_format='channels_last' is known")
    return _MAKERS[other.kind](other)
