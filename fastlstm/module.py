# SPDX-License-Identifier: BSD-3-Clause
"""What `LSTM` and `LSTMCell` have in common: parameters, their packed copy, pickling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from . import _core, checks, runtime, weights
from .checks import Array


class Module:
    """Named read-only parameters, packed for the kernels when first needed.

    Everything public is fixed at construction; parameters change through `load_state_dict` alone,
    so a packed copy is never out of date.
    """

    input_size: int
    hidden_size: int
    bias: bool
    dtype: np.dtype[Any]
    _shapes: dict[str, tuple[int, ...]]
    _params: dict[str, Array]
    # The engine with the very parameters it was packed from: another thread may load new ones.
    _packed: tuple[dict[str, Array], _core.Engine] | None

    def __getattr__(self, name: str) -> Array:
        params: dict[str, Array] = self.__dict__.get("_params", {})
        if name in params:
            return params[name]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __setattr__(self, name: str, value: object) -> None:
        if "_params" in self.__dict__ and not name.startswith("_"):
            if name in self._params:
                raise AttributeError(f"{name} is replaced with load_state_dict({{...}})")
            if name in self.__dict__:
                raise AttributeError(f"{name} is fixed when the {type(self).__name__} is made")
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{name} cannot be deleted")

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_packed": None}  # packed for this machine: made anew elsewhere

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        for values in self._params.values():
            values.flags.writeable = False

    def _engine(self) -> _core.Engine:
        params, packed = self._params, self._packed
        if packed is None or packed[0] is not params:
            packed = self._packed = params, self._pack(params)
        return packed[1]

    def _pack(self, params: dict[str, Array]) -> _core.Engine:
        raise NotImplementedError

    def _pack_as(
        self, params: dict[str, Array], ends: list[str], num_layers: int, directions: int, gemm: str
    ) -> _core.Engine:
        address = 0
        if gemm == "blas":
            from . import _blas

            address = _blas.gemm_address()
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        return _core.Engine(
            self.input_size,
            self.hidden_size,
            num_layers,
            directions,
            self.dtype == np.float64,
            runtime.active_isa(),
            [tuple(params.get(name + end) for name in names) for end in ends],
            address,
        )

    def state_dict(self) -> dict[str, Array]:
        """Name -> read-only array of every parameter, as in torch's state dict."""
        return dict(self._params)

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True
    ) -> weights.LoadResult:
        """Take over parameters: torch tensors, arrays, anything with __array__ or DLPack.

        Values are copied. Either all are taken or, when an error is raised, none.

        Raises
            TypeError    a value's dtype cannot be widened to the model's without loss
            ValueError   missing and unexpected names (if strict) and wrong shapes, all listed
        """
        strict = checks.flag("strict", strict)
        found, result = weights.checked_state(state_dict, self._shapes, self.dtype, strict)
        self._params = {**self._params, **found}
        return result
