# SPDX-License-Identifier: BSD-3-Clause
"""What `LSTM` and `LSTMCell` have in common: parameters, their packed copy, pickling."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from . import _core, blas, checks, runtime, weights
from .checks import Array

FORWARD, BACKWARD = 1, 2  # passes that parameters are packed for


class Module:
    """Named parameters, packed for the kernels when first needed.

    Everything public is fixed at construction. In inference mode, which a model starts in,
    parameters are read-only and change through `load_state_dict` alone, so they are packed once.
    In training mode they are writable, and every call packs what it finds: a packed copy is never
    out of date.
    """

    input_size: int
    hidden_size: int
    bias: bool
    dtype: np.dtype[Any]
    _shapes: dict[str, tuple[int, ...]]
    _params: dict[str, Array]  # another object whenever values may have changed in inference mode
    # The engine with the very parameters it was packed from (another thread may load new ones) and
    # the passes it was packed for.
    _packed: tuple[dict[str, Array], _core.Engine, int] | None
    _patience: _core.Patience | None = None  # all engines of the model share it
    _training: bool = False
    _live: bool = False  # arrays have been handed out to be written to: they stay the same objects

    if not TYPE_CHECKING:  # which would take every name for a parameter

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

    def __dir__(self) -> list[str]:
        names = {*object.__dir__(self), *self.__dict__.get("_params", ())}
        return sorted(name for name in names if name[:1] != "_" or name[:2] == "__")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{name} cannot be deleted")

    def __getstate__(self) -> dict[str, Any]:
        # What belongs to this machine and this process is made anew elsewhere.
        return {**self.__dict__, "_packed": None, "_patience": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        # An array of pickle may stand on a bytes object, and could not be made writable again.
        self._params = {
            name: values if values.flags.owndata else values.copy()
            for name, values in self._params.items()
        }
        for values in self._params.values():
            values.flags.writeable = self._training

    def __copy__(self) -> Self:
        return copy.deepcopy(self)  # no two models share arrays that one of them may write to

    def _engine(self, passes: int = FORWARD, threads: int = 1) -> _core.Engine:
        params, packed = self._params, self._packed
        if self._training:
            return self._pack(params, passes, threads)
        if packed is None or packed[0] is not params or packed[2] & passes != passes:
            packed = self._packed = params, self._pack(params, passes, threads), passes
        return packed[1]

    def _pack(self, params: dict[str, Array], passes: int, threads: int) -> _core.Engine:
        raise NotImplementedError

    def _pack_as(
        self,
        params: dict[str, Array],
        ends: list[str],
        num_layers: int,
        directions: int,
        gemm: str,
        passes: int,
        threads: int,
    ) -> _core.Engine:
        if self._patience is None:
            self._patience = _core.Patience()
        address = 0
        if gemm == "blas":
            address = blas.gemm_address()
        for name, values in params.items():  # whoever holds the array may have changed it in place
            if values.shape != self._shapes[name] or values.dtype != self.dtype:
                raise ValueError(
                    f"{name} must stay an array of {self.dtype} of shape {self._shapes[name]}, "
                    f"got {values.dtype}, {values.shape}"
                )
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
            passes,
            threads,
            self._patience,
        )

    # ---- training ----

    @property
    def training(self) -> bool:
        """Whether the model is in training mode: see `train`."""
        return self._training

    def train(self, mode: bool = True) -> Self:
        """Make the parameters writable, in place; what is written to them the next call sees.

        Calls pack the parameters every time while in training mode. With ``mode=False`` the same
        as `eval`. Returns the model.
        """
        mode = checks.flag("mode", mode)
        if mode and not self._live:
            # What was handed out before is a value, and stays as it is.
            self._params = {name: values.copy() for name, values in self._params.items()}
            self._live = True
        for values in self._params.values():
            values.flags.writeable = mode
        self._training = mode
        self._changed()
        return self

    def _changed(self) -> None:
        """The parameters are packed anew, also where a thread that packs them now is late."""
        self._params = dict(self._params)
        self._packed = None

    def eval(self) -> Self:
        """Make the parameters read-only and pack them once, for inference. Returns the model."""
        return self.train(False)

    def parameters(self) -> dict[str, Array]:
        """Name -> the very array of every parameter: writable in training mode, else read-only.

        From the first `train` on, the arrays stay the same objects, so an optimiser may hold them.
        """
        return dict(self._params)

    def state_dict(self) -> dict[str, Array]:
        """Name -> read-only array of every parameter at this moment, as in torch's state dict."""
        if not self._live:
            return dict(self._params)
        copies = {name: values.copy() for name, values in self._params.items()}
        for values in copies.values():
            values.flags.writeable = False
        return copies

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
        if self._live:
            for name, values in found.items():
                self._params[name].flags.writeable = True
                np.copyto(self._params[name], values)
                self._params[name].flags.writeable = self._training
            self._changed()
        else:
            self._params = {**self._params, **found}
        return result
