# SPDX-License-Identifier: BSD-3-Clause
"""What layers and cells have in common: parameters, their packed copy, pickling."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from . import _core, blas, checks, runtime, weights
from .checks import Array
from .spec import FORWARD, Spec


class Module:
    """Named parameters, packed for the kernels when first needed.

    Everything public is fixed at construction. In inference mode, which a model starts in,
    parameters are read-only and change through `load_state_dict` alone, so they are packed once.
    In training mode they are writable, and every call packs what it finds: a packed copy is never
    out of date.
    """

    _kind: ClassVar[str]
    """the class's name in reports and files, whoever inherits from it; PyTorch's is the same"""
    _defaults: ClassVar[dict[str, object]]
    """options of the constructor in order, with what they are if nobody says"""

    input_size: int
    hidden_size: int
    bias: bool
    dtype: np.dtype[Any]
    _shapes: dict[str, tuple[int, ...]]
    _spec: Spec
    _params: _core.Parameters
    _backoff: _core.StragglerBackoff | None = None  # all engines of the model share it

    def __repr__(self) -> str:
        parts = [str(self.input_size), str(self.hidden_size)]
        for name, usual in self._defaults.items():
            value = getattr(self, name)
            if value != usual:
                parts.append(f"{name}={value!r}")
        return f"{self._kind}({', '.join(parts)}, dtype={self.dtype})"

    if not TYPE_CHECKING:  # which would take every name for a parameter

        def __getattr__(self, name: str) -> Array:
            params: _core.Parameters | None = self.__dict__.get("_params")
            if params is not None and name in params.arrays:
                return params.arrays[name]
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

        def __setattr__(self, name: str, value: object) -> None:
            if "_params" in self.__dict__ and not name.startswith("_"):
                if name in self._params.arrays:
                    raise AttributeError(f"{name} is replaced with load_state_dict({{...}})")
                if name in self.__dict__:
                    raise AttributeError(f"{name} is fixed when the {type(self).__name__} is made")
            object.__setattr__(self, name, value)

    def __dir__(self) -> list[str]:
        params: _core.Parameters | None = self.__dict__.get("_params")
        names = {*object.__dir__(self), *(() if params is None else params.arrays)}
        return sorted(name for name in names if name[:1] != "_" or name[:2] == "__")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{name} cannot be deleted")

    def __getstate__(self) -> dict[str, Any]:
        # What belongs to this machine and this process is made anew elsewhere.
        return {**self.__dict__, "_backoff": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if "_spec" not in state:  # pickled before there were specifications, an LSTM or LSTMCell
            layers, directions = state.get("num_layers", 1), state.get("_directions", 1)
            sizes = (self.input_size, self.hidden_size, layers, directions)
            gemm = state.get("gemm", "native")
            self.__dict__["_spec"] = Spec("lstm", *sizes, self.bias, self.dtype, gemm)
        self._unmap()

    def _unmap(self) -> None:
        """Take parameters that a pickle's reader has mapped from a file (joblib) into memory."""
        mapped = self._params
        if all(type(values) is np.ndarray for values in mapped.arrays.values()):
            return
        arrays = {name: np.array(values) for name, values in mapped.arrays.items()}
        for values in arrays.values():
            values.flags.writeable = mapped.training
        self._params = _core.Parameters(arrays, mapped.training, mapped.training)

    def __copy__(self) -> Self:
        return copy.deepcopy(self)  # no two models share arrays that one of them may write to

    def _engine(self, passes: int = FORWARD, threads: int = 1) -> _core.Engine:
        packed = self._params.packed
        if packed is not None and packed[1] & passes == passes:
            return packed[0]
        version, engine = self._pack_whole(passes, threads)
        self._params.keep(version, engine, passes)
        return engine

    def _pack_whole(self, passes: int, threads: int) -> tuple[int, _core.Engine]:
        """An engine of parameters that nobody changed while they were read, and their version."""
        params, hold_gil = self._params, False
        while True:
            version, writes = params.settled()
            engine = self._pack(params.arrays, passes, threads, hold_gil)
            if params.unchanged(version, writes):
                return version, engine
            hold_gil = True  # so that no thread, loading over and over, keeps us from an end

    def _pack(
        self, params: dict[str, Array], passes: int, threads: int, hold_gil: bool
    ) -> _core.Engine:
        if self._backoff is None:
            self._backoff = _core.StragglerBackoff()
        spec = self._spec
        address = blas.gemm_address() if spec.gemm == "blas" else 0
        for name, values in params.items():  # whoever holds the array may have changed it in place
            shape, flags = self._shapes[name], values.flags
            if values.shape != shape or values.dtype != self.dtype or not flags.c_contiguous:
                raise ValueError(
                    f"{name} must stay a contiguous array of {self.dtype} of shape {shape}, "
                    f"got {values.dtype}, {values.shape}, strides {values.strides}"
                )
        return _core.Engine(
            spec,
            runtime.active_isa(),
            weights.by_layer(spec, params),
            address,
            passes,
            threads,
            self._backoff,
            hold_gil,
        )

    # ---- training ----

    @property
    def training(self) -> bool:
        """Whether the model is in training mode: see `train`."""
        return self._params.training

    def train(self, mode: bool = True) -> Self:
        """Make the parameters writable, in place; what is written to them the next call sees.

        Calls pack the parameters every time while in training mode.

        Parameters
        ----------
        mode : bool, default True
            False does what `eval` does.

        Returns
        -------
        Self
            The model.

        Raises
        ------
        TypeError
            `mode` is neither True nor False.

        Examples
        --------
        >>> import fastlstm
        >>> lstm = fastlstm.LSTM(3, 4, seed=0)
        >>> lstm.bias_ih_l0[:] = 0
        Traceback (most recent call last):
            ...
        ValueError: assignment destination is read-only
        >>> lstm.train().bias_ih_l0[:] = 0
        >>> lstm.eval().training
        False
        """
        self._params.train(checks.flag("mode", mode))
        return self

    def _changed(self) -> None:
        """Let go of the packed copy."""
        self._params.forget()

    def eval(self) -> Self:
        """Make the parameters read-only and pack them once, for inference.

        Returns
        -------
        Self
            The model.
        """
        return self.train(False)

    def parameters(self) -> dict[str, Array]:
        """The arrays of all parameters: writable in training mode, else read-only.

        From the first `train` on, the arrays stay the same objects, so an optimiser may hold them.

        Returns
        -------
        dict
            Name -> the very array.

        Examples
        --------
        >>> import fastlstm
        >>> rnn = fastlstm.RNN(3, 4, seed=0)
        >>> {name: array.shape for name, array in rnn.parameters().items()}
        {'weight_ih_l0': (4, 3), 'weight_hh_l0': (4, 4), 'bias_ih_l0': (4,), 'bias_hh_l0': (4,)}
        """
        return dict(self._params.arrays)

    def state_dict(self) -> dict[str, Array]:
        """All parameters at this moment, as in torch's state dict.

        Returns
        -------
        dict
            Name -> read-only array.

        Examples
        --------
        >>> import fastlstm
        >>> gru = fastlstm.GRU(3, 4, bias=False, seed=0)
        >>> {name: array.shape for name, array in gru.state_dict().items()}
        {'weight_ih_l0': (12, 3), 'weight_hh_l0': (12, 4)}
        """
        if not self._params.live:
            return dict(self._params.arrays)
        copies = self._params.copies()
        for values in copies.values():
            values.flags.writeable = False
        return copies

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True
    ) -> weights.LoadResult:
        """Take over parameters: torch tensors, arrays, anything with __array__ or DLPack.

        Values are copied. Either all are taken or, when an error is raised or a signal arrives,
        none; calls in other threads see all of them or none.

        Parameters
        ----------
        state_dict : mapping of str to tensor or array
            By the names of `state_dict`.
        strict : bool, default True
            Whether names that are missing or unexpected are an error.

        Returns
        -------
        LoadResult
            (missing_keys, unexpected_keys): the names that were passed over, without `strict`.

        Raises
        ------
        TypeError
            A value's dtype cannot be widened to the model's without loss.
        ValueError
            Missing and unexpected names (if `strict`) and wrong shapes, all listed.

        Examples
        --------
        >>> import fastlstm
        >>> lstm, other = fastlstm.LSTM(3, 4, seed=0), fastlstm.LSTM(3, 4, seed=1)
        >>> lstm.load_state_dict(other.state_dict())
        LoadResult(missing_keys=[], unexpected_keys=[])
        >>> lstm.load_state_dict({"weight_ih_l0": other.weight_ih_l0})
        Traceback (most recent call last):
            ...
        ValueError: state_dict does not fit: missing: weight_hh_l0, bias_ih_l0, bias_hh_l0
        """
        strict = checks.flag("strict", strict)
        found, result = weights.checked_state(state_dict, self._shapes, self.dtype, strict)
        self._params.load(found)
        return result
