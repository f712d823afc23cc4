# SPDX-License-Identifier: BSD-3-Clause
"""One step of one layer, as a function of its state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from . import _core, checks, weights
from .checks import Array


class LSTMCell:
    """One LSTM step with the semantics and names of ``torch.nn.LSTMCell``.

    Parameters
        input_size, hidden_size   features I and hidden units H
        bias                      whether there are biases b_ih and b_hh
        dtype                     float32 or float64
        seed                      seed or Generator of the first parameters
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        *,
        dtype: DTypeLike = np.float32,
        seed: object = None,
    ) -> None:
        self.input_size = checks.count("input_size", input_size, 1)
        self.hidden_size = checks.count("hidden_size", hidden_size, 1)
        self.bias = checks.flag("bias", bias)
        self.dtype = checks.real_dtype(dtype)
        layer = weights.lstm_shapes(self.input_size, self.hidden_size, 1, False, self.bias)
        self._shapes = {name.removesuffix("_l0"): shape for name, shape in layer.items()}
        self._params = weights.initial(self._shapes, self.hidden_size, self.dtype, seed)
        self._packed: _core.Engine | None = None

    def __repr__(self) -> str:
        bias = "" if self.bias else ", bias=False"
        return f"LSTMCell({self.input_size}, {self.hidden_size}{bias}, dtype={self.dtype})"

    def __getattr__(self, name: str) -> Array:
        params: dict[str, Array] = self.__dict__.get("_params", {})
        if name in params:
            return params[name]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_packed": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        for values in self._params.values():
            values.flags.writeable = False

    def __call__(
        self, x: ArrayLike, state: tuple[ArrayLike, ArrayLike] | None = None
    ) -> tuple[Array, Array]:
        """One step.

        Parameters
            x      (B, I), or (I,) for one sequence
            state  (h, c), each (B, H) or (H,); zeros if None

        Returns the new (h, c), shaped as `state`. Raises TypeError or ValueError.
        """
        x = checks.array("x", x, self.dtype)
        if x.ndim not in (1, 2) or x.shape[-1] != self.input_size:
            raise ValueError(
                f"x must have shape (B, I) or (I,) with I = {self.input_size}, got {x.shape}"
            )
        shape = (*x.shape[:-1], self.hidden_size)
        h_0 = c_0 = None
        if state is not None:
            h_0, c_0 = checks.state_pair(state, self.dtype, shape)
        x = checks.readable(x).reshape(1, -1, self.input_size)
        y = np.empty((1, x.shape[1], self.hidden_size), self.dtype)
        h, c = np.empty(shape, self.dtype), np.empty(shape, self.dtype)
        self._engine().forward(x, y, h_0, c_0, h, c, None, None, 1)
        return h, c

    def _engine(self) -> _core.Engine:
        engine = self._packed
        if engine is None:
            engine = self._packed = weights.pack(
                self._params, [""], self.input_size, self.hidden_size, 1, 1, self.dtype, "native"
            )
        return engine

    def state_dict(self) -> dict[str, Array]:
        """Name -> read-only array: weight_ih, weight_hh and, with bias, bias_ih, bias_hh."""
        return dict(self._params)

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True
    ) -> weights.LoadResult:
        """As `LSTM.load_state_dict`, with names without a layer's ending."""
        strict = checks.flag("strict", strict)
        found, result = weights.checked_state(state_dict, self._shapes, self.dtype, strict)
        self._params = {**self._params, **found}
        self._packed = None
        return result
