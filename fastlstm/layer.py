# SPDX-License-Identifier: BSD-3-Clause
"""What recurrent layers of all kinds share but for running: their configuration, the checks of what
a call is given, streams, reports, and where parameters come from and go to."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from . import _core, checks, explain, runtime, saving, state_dicts, torch_modules, weights
from .checks import Array, SupportsArray
from .module import Module
from .options import LSTMOptions
from .spec import FORWARD, Cell, Spec
from .stream import Stream

# The checked input of a call, arrays as the core takes them and shapes as the caller sees them:
# x (T, B, I), h_0, c_0, lengths, shapes of y, h and c. Plain, since every call makes one.
Shape = tuple[int, ...]
Checked = tuple[Array, Array | None, Array | None, Any, Shape, Shape, Shape]


class Layer(Module):
    """A stack of recurrent layers, whatever their cell: what does not run them.

    A kind of layer says in class variables what makes it one, and in its constructor what its
    specification is.
    """

    _cell: ClassVar[Cell]
    """what the cells of this kind have in common"""
    _has_c: ClassVar[bool]
    """whether a state has a c beside its h: `_cell` says so, and calls ask for it"""
    _states: ClassVar[tuple[str, ...]]
    """what messages call the parts of a state"""

    num_layers: int
    batch_first: bool
    dropout: float
    bidirectional: bool

    if TYPE_CHECKING:  # the attributes that every model has, or every model with bias

        @property
        def weight_ih_l0(self) -> Array: ...
        @property
        def weight_hh_l0(self) -> Array: ...
        @property
        def bias_ih_l0(self) -> Array: ...
        @property
        def bias_hh_l0(self) -> Array: ...

    def __init__(
        self,
        cell: str,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        bias: bool,
        batch_first: bool,
        dropout: float,
        bidirectional: bool,
        dtype: DTypeLike,
        seed: object,
        gemm: str = "auto",
        proj_size: int = 0,
        equations: LSTMOptions | None = None,
    ) -> None:
        self.input_size = checks.count("input_size", input_size, 1)
        self.hidden_size = checks.count("hidden_size", hidden_size, 1)
        self.num_layers = checks.count("num_layers", num_layers, 1, 10_000)
        self.bias = checks.flag("bias", bias)
        self.batch_first = checks.flag("batch_first", batch_first)
        self.dropout = checks.probability("dropout", dropout)
        self.bidirectional = checks.flag("bidirectional", bidirectional)
        if self.dropout and self.num_layers == 1:
            warnings.warn(
                "dropout acts between layers, so with num_layers=1 it does nothing", stacklevel=3
            )
        self.dtype = checks.real_dtype(dtype)
        self._directions = 2 if self.bidirectional else 1
        self._spec = Spec(
            cell,
            self.input_size,
            self.hidden_size,
            self.num_layers,
            self._directions,
            self.bias,
            self.dtype,
            gemm,
            proj_size,
            equations,
        )
        self._shapes = self._spec.shapes
        self._seed = seed
        self._seeds: np.random.Generator | None = None  # of dropout
        self._params = _core.Parameters(weights.initial(self._spec, seed))

    # ---- what a call is given ----

    def _checked(
        self, x: SupportsArray, state: object, lengths: ArrayLike | Sequence[int] | None
    ) -> Checked:
        # Code of the caller's objects runs in the first lines only.
        x = checks.given("x", x, self.dtype)
        pair = (
            None if state is None else checks.given_state("state", self._states, state, self.dtype)
        )
        steps_of = None if lengths is None else checks.given_lengths(lengths)
        x = checks.array("x", x, self.dtype)
        rank = x.ndim
        if rank not in (2, 3) or x.shape[-1] != self.input_size:
            shape = "(B, T, I)" if self.batch_first else "(T, B, I)"
            raise ValueError(
                f"x must have shape {shape} or (T, I) with I = {self.input_size}, got {x.shape}"
            )
        outputs, hidden = self._spec.outputs, self.hidden_size
        y_shape = (*x.shape[:-1], self._directions * outputs)
        x = self._time_major(checks.readable(x))
        steps, batch, _ = x.shape
        middle = () if rank == 2 else (batch,)
        h_shape = (self._directions * self.num_layers, *middle, outputs)
        c_shape = h_shape if outputs == hidden else (*h_shape[:-1], hidden)
        h_0 = c_0 = None
        if pair is not None:
            h_0 = checks.whole("h_0", pair[0], self.dtype, h_shape)
            c_0 = checks.whole("c_0", pair[1], self.dtype, c_shape)
        if steps_of is not None:
            if rank == 2:
                raise ValueError("lengths needs a batch: x of shape (T, I) is one whole sequence")
            steps_of = checks.lengths(steps_of, batch, steps)
        return x, h_0, c_0, steps_of, y_shape, h_shape, c_shape

    def _cells_shape(self, y_shape: Shape) -> Shape:
        """Of all c, where y has this shape."""
        return (*y_shape[:-1], self._directions * self.hidden_size)

    def _time_major(self, y: Array) -> Array:
        if y.ndim == 2:
            return y[:, None, :]
        return y.transpose(1, 0, 2) if self.batch_first else y

    def _layout(self) -> tuple[object, ...]:
        """What a model must have in common with that of a tape."""
        return self._spec.cell, self._spec.options, self._shapes, self.dtype, self.batch_first

    # ---- streams and reports ----

    def stream(self, batch_size: int = 1, *, num_threads: int | None = None) -> Stream:
        """Run sequences step by step, with their state kept between calls.

        The stream runs on the parameters of this moment.

        Parameters
        ----------
        batch_size : int, default 1
            How many sequences it runs at once.
        num_threads : int, optional
            Threads it may use at most, 1 to 1024; the process's setting if None.

        Returns
        -------
        Stream
            With all states zero.

        Raises
        ------
        TypeError
            `batch_size` or `num_threads` is no integer.
        ValueError
            The model is bidirectional, `batch_size` < 1, or `num_threads` is not in 1 to 1024.
        MemoryError
            The state does not fit.

        Examples
        --------
        >>> import numpy as np
        >>> import fastlstm
        >>> lstm = fastlstm.LSTM(3, 4, seed=0)
        >>> x = np.ones((5, 1, 3), np.float32)
        >>> stream = lstm.stream()
        >>> h = [stream(x_t) for x_t in x]
        >>> bool((np.stack(h) == lstm(x)[0]).all())
        True
        """
        if self.bidirectional:
            raise ValueError(
                f"a bidirectional {self._kind} cannot be streamed: it reads from the end"
            )
        batch = checks.count("batch_size", batch_size, 1)
        threads = runtime.call_threads(num_threads)
        return Stream(self._engine(FORWARD, threads), batch, threads, self.batch_first)

    def explain(self, T: int, B: int, *, num_threads: int | None = None) -> str:
        """Say in words how a call would run.

        Nothing is computed, but weights are packed if they are not yet.

        Parameters
        ----------
        T, B : int
            Steps and sequences of the call.
        num_threads : int, optional
            Threads it may use at most, 1 to 1024; the process's setting if None.

        Returns
        -------
        str
            Several lines: the kernels, how threads share the work, how hidden units stand in
            panels, when inputs are projected, and the bytes of the workspace and of the packed
            weights.

        Raises
        ------
        TypeError
            `T`, `B` or `num_threads` is no integer.
        ValueError
            `T` or `B` is negative, or `num_threads` is not in 1 to 1024.

        Examples
        --------
        >>> import fastlstm
        >>> lstm = fastlstm.LSTM(3, 4, seed=0)
        >>> print(lstm.explain(T=100, B=8).splitlines()[0])
        LSTM(3, 4, dtype=float32) on T=100, B=8
        """
        steps, batch = checks.count("T", T), checks.count("B", B)
        plan = self._engine().plan(steps, batch, runtime.call_threads(num_threads))
        title = f"{self!r} on T={steps}, B={batch}"
        return explain.explain(title, self._spec, steps, plan)

    # ---- configuration and parameters ----

    @classmethod
    def from_torch(cls, module: Any) -> Self:
        """A model with the configuration, dtype and parameters of a PyTorch module.

        Parameters are what the module computes with: a parametrization (weight_norm, spectral_norm)
        or pruning is taken by its result, and left as it is.

        Parameters
        ----------
        module : torch.nn.Module
            Of the class of the same name in ``torch.nn``.

        Returns
        -------
        Self
            A model of this class.

        Raises
        ------
        TypeError
            Another module or dtype; the message says what the module is and what to do.

        Examples
        --------
        >>> import torch
        >>> import fastlstm
        >>> fastlstm.GRU.from_torch(torch.nn.GRU(3, 4, batch_first=True))
        GRU(3, 4, batch_first=True, dtype=float32)
        """
        config = torch_modules.layer_config(module, cls._kind)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch has warned about dropout already
            layer = cls(**config, seed=0)
        layer.load_state_dict(torch_modules.values(module, layer._shapes))
        return layer

    @classmethod
    def _of_state_dict(
        cls,
        state_dict: Mapping[str, Any],
        prefix: str | None,
        dtype: DTypeLike | None,
        cell: str,
        **options: Any,
    ) -> Self:
        chosen = options.get("options")
        config, arrays = state_dicts.model_of(state_dict, prefix, dtype, cls._kind, cell, chosen)
        layer = cls(**config, **options, seed=0)
        layer.load_state_dict(arrays)
        return layer

    def config(self) -> dict[str, Any]:
        """The constructor's arguments but for `seed`, as plain Python values.

        Returns
        -------
        dict
            A new one: the class called with it makes a model of the same kind, with parameters of
            its own.
        """
        values = {name: getattr(self, name) for name in ("input_size", "hidden_size")}
        values |= {name: getattr(self, name) for name in self._defaults}
        return {**values, "dtype": self.dtype.name}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write parameters and configuration to a safetensors file.

        `fastlstm.load` reads it. What stood at `path` is replaced as a whole or not at all.

        Parameters
        ----------
        path : str or os.PathLike of str
            Where to write.

        Raises
        ------
        TypeError
            `path` is neither a str nor a PathLike of one.
        OSError
            It cannot be written.

        Examples
        --------
        >>> import fastlstm
        >>> lstm = fastlstm.LSTM(3, 4, seed=0)
        >>> lstm.save("model.safetensors")
        >>> fastlstm.load("model.safetensors")
        LSTM(3, 4, dtype=float32)
        """
        saving.save(self._kind, self.config(), self.state_dict(), path)
