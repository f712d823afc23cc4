# SPDX-License-Identifier: BSD-3-Clause
"""Layers around the recurrent ones: linear maps and tables of vectors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from .. import _core, checks
from ..checks import Array, SupportsArray
from ..module import Module
from ..training import given_mapping, grads_to_fill


@dataclass(frozen=True)
class LayerGradients:
    """Gradients of a scalar loss.

    Attributes
    ----------
    x : ndarray or None
        Shaped as x; None if it was not asked for, or has none.
    params : dict of str to ndarray
        The gradient of every parameter, by its name.

    Examples
    --------
    >>> import numpy as np
    >>> from fastlstm import nn
    >>> head = nn.Linear(3, 2, seed=0)
    >>> y, tape = head.forward(np.ones((5, 3), np.float32))
    >>> grads = head.backward(tape, np.ones_like(y))
    >>> grads.x.shape, {name: array.shape for name, array in grads.params.items()}
    ((5, 3), {'weight': (2, 3), 'bias': (2,)})
    """

    x: Array | None
    params: dict[str, Array]

    def __repr__(self) -> str:
        x = None if self.x is None else self.x.shape
        params = {name: array.shape for name, array in self.params.items()}
        return f"<LayerGradients of shapes x={x}, {params=}>"


class Layer(Module):
    """A layer of few parameters, which NumPy runs: names, modes and states as of all models."""

    def _own(self, params: dict[str, Array], dtype: np.dtype[Any]) -> None:
        """Keep first values, made by this object; they are read-only until `train`."""
        self.dtype = dtype
        self._shapes = {name: values.shape for name, values in params.items()}
        for values in params.values():
            values.flags.writeable = False
        self._params = _core.Parameters(params)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._unmap()

    def _gradients(self, x: Array | None, found: dict[str, Array], into: object) -> LayerGradients:
        """What `backward` returns: gradients of the parameters, added to those of `into`."""
        if into is None:
            return LayerGradients(x, found)
        given = given_mapping(into, self._shapes)  # type: ignore[arg-type]
        sums = grads_to_fill(given, self._shapes, self.dtype)
        for name, values in found.items():
            sums[name] += values
        return LayerGradients(x, sums)


def generator(seed: object) -> np.random.Generator:
    """A generator of a caller's seed; TypeError or ValueError says what may be one."""
    try:
        if isinstance(seed, (bool, np.bool_)):
            raise TypeError
        return np.random.default_rng(seed)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise type(error)(
            f"seed must be None, an integer >= 0 or else what numpy.random.default_rng takes, "
            f"got {seed!r}"
        ) from error


class Linear(Layer):
    """y = x W^T + b over the last axis, as ``torch.nn.Linear``.

    Parameters
    ----------
    in_features, out_features : int
        K and O, >= 1.
    bias : bool, default True
        Whether there is a b.
    dtype : dtype, default float32
        float32 or float64.
    seed : optional
        Of the first values, uniform in (-1/sqrt(K), 1/sqrt(K)): what `numpy.random.default_rng`
        takes.

    Raises
    ------
    TypeError, ValueError
        A wrong argument.

    Examples
    --------
    >>> import numpy as np
    >>> from fastlstm import nn
    >>> head = nn.Linear(3, 2, seed=0).train()
    >>> y, tape = head.forward(np.ones((5, 3), np.float32))
    >>> head.backward(tape, np.ones_like(y)).params["bias"]
    array([5., 5.], dtype=float32)
    """

    in_features: int
    out_features: int

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        dtype: DTypeLike = "float32",
        seed: object = None,
    ) -> None:
        self.in_features = checks.count("in_features", in_features, 1)
        self.out_features = checks.count("out_features", out_features, 1)
        self.bias_used = checks.flag("bias", bias)
        real = checks.real_dtype(dtype)
        checks.fits(real.itemsize * self.in_features * self.out_features)
        rng, bound = generator(seed), 1 / math.sqrt(self.in_features)
        shapes = {"weight": (self.out_features, self.in_features), "bias": (self.out_features,)}
        if not self.bias_used:
            del shapes["bias"]
        self._own({k: rng.uniform(-bound, bound, s).astype(real) for k, s in shapes.items()}, real)

    def __repr__(self) -> str:
        bias = "" if self.bias_used else ", bias=False"
        return f"Linear({self.in_features}, {self.out_features}{bias}, dtype={self.dtype})"

    def _rows(self, name: str, value: SupportsArray, columns: int) -> Array:
        array = checks.array(name, checks.given(name, value, self.dtype), self.dtype)
        if array.ndim == 0 or array.shape[-1] != columns:
            raise ValueError(f"{name} must have shape (..., {columns}), got {array.shape}")
        return array

    def __call__(self, x: SupportsArray) -> Array:
        """Apply the layer; nothing is kept.

        Parameters
        ----------
        x : array of shape (..., K)
            Of the layer's dtype, or a narrower float.

        Returns
        -------
        ndarray of shape (..., O)
            x W^T + b.

        Raises
        ------
        TypeError, ValueError
            A wrong argument.
        """
        x = self._rows("x", x, self.in_features)
        params = self._params.arrays
        y: Array = x @ params["weight"].T
        if self.bias_used:
            y += params["bias"]
        return y

    def forward(self, x: SupportsArray) -> tuple[Array, Array]:
        """Apply the layer and keep what `backward` needs: x, which must not change until then.

        Parameters
        ----------
        x : array of shape (..., K)
            As for a call.

        Returns
        -------
        y : ndarray of shape (..., O)
            As from a call.
        tape : ndarray
            For `backward`.

        Raises
        ------
        TypeError, ValueError
            A wrong argument.
        """
        x = self._rows("x", x, self.in_features)
        return self(x), x

    def backward(
        self,
        tape: Array,
        dy: SupportsArray,
        *,
        into: Mapping[str, Array] | None = None,
        input_grad: bool = True,
    ) -> LayerGradients:
        """Gradients of a loss from that of y, by the parameters as they are now.

        Parameters
        ----------
        tape : ndarray
            From `forward`.
        dy : array of shape (..., O)
            Gradient of y.
        into : mapping of str to ndarray, optional
            Gradients of the parameters are added into these arrays.
        input_grad : bool, default True
            Whether to compute the gradient of x.

        Returns
        -------
        LayerGradients
            Of x and of the parameters.

        Raises
        ------
        TypeError, ValueError
            A wrong argument.
        """
        x = self._rows("tape", tape, self.in_features)
        dy = self._rows("dy", dy, self.out_features)
        if dy.shape[:-1] != x.shape[:-1]:
            wanted = (*x.shape[:-1], self.out_features)
            raise ValueError(f"dy must have shape {wanted}, got {dy.shape}")
        rows_x = x.reshape(-1, self.in_features)
        rows_dy = dy.reshape(-1, self.out_features)
        found = {"weight": rows_dy.T @ rows_x}
        if self.bias_used:
            found["bias"] = rows_dy.sum(axis=0)
        dx = dy @ self._params.arrays["weight"] if checks.flag("input_grad", input_grad) else None
        return self._gradients(dx, found, into)


class Embedding(Layer):
    """A table of vectors, as ``torch.nn.Embedding``: ids give rows.

    Parameters
    ----------
    num_embeddings, embedding_dim : int
        Rows N and columns K of the table, >= 1.
    padding_idx : int, optional
        A row that starts with zeros and has a gradient of zero.
    dtype : dtype, default float32
        float32 or float64.
    seed : optional
        Of the first values, N(0, 1): what `numpy.random.default_rng` takes.

    Raises
    ------
    TypeError, ValueError
        A wrong argument.

    Examples
    --------
    >>> from fastlstm import nn
    >>> table = nn.Embedding(10, 3, padding_idx=0, seed=0)
    >>> table([[4, 2, 0], [1, 0, 0]]).shape, table([0]).tolist()
    ((2, 3, 3), [[0.0, 0.0, 0.0]])
    """

    num_embeddings: int
    embedding_dim: int
    padding_idx: int | None

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        *,
        dtype: DTypeLike = "float32",
        seed: object = None,
    ) -> None:
        self.num_embeddings = checks.count("num_embeddings", num_embeddings, 1)
        self.embedding_dim = checks.count("embedding_dim", embedding_dim, 1)
        most = self.num_embeddings - 1
        self.padding_idx = (
            None if padding_idx is None else checks.count("padding_idx", padding_idx, 0, most)
        )
        real = checks.real_dtype(dtype)
        checks.fits(real.itemsize * self.num_embeddings * self.embedding_dim)
        shape = self.num_embeddings, self.embedding_dim
        weight = generator(seed).standard_normal(shape, dtype=real.type)
        if self.padding_idx is not None:
            weight[self.padding_idx] = 0
        self._own({"weight": weight}, real)

    def __repr__(self) -> str:
        sizes = f"{self.num_embeddings}, {self.embedding_dim}"
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"Embedding({sizes}{padding}, dtype={self.dtype})"

    def _ids(self, ids: object) -> Array:
        checks.no_mask("ids", ids)
        array = np.asarray(ids)
        if array.dtype.kind not in "iu":
            raise TypeError(f"ids must be integers, got dtype {array.dtype}")
        if array.size and not (array.min() >= 0 and array.max() < self.num_embeddings):
            most = self.num_embeddings - 1
            raise ValueError(
                f"ids must be between 0 and {most}, got some from {array.min()} to {array.max()}"
            )
        return array

    def __call__(self, ids: object) -> Array:
        """Look ids up; nothing is kept.

        Parameters
        ----------
        ids : array_like of int
            0 to N - 1, of any shape (...).

        Returns
        -------
        ndarray of shape (..., K)
            Their rows.

        Raises
        ------
        TypeError, ValueError
            A wrong argument.
        """
        rows: Array = self._params.arrays["weight"][self._ids(ids)]
        return rows

    def forward(self, ids: object) -> tuple[Array, Array]:
        """Look ids up and keep them for `backward`.

        Parameters
        ----------
        ids : array_like of int
            As for a call.

        Returns
        -------
        y : ndarray of shape (..., K)
            Their rows.
        tape : ndarray
            For `backward`.

        Raises
        ------
        TypeError, ValueError
            A wrong argument.
        """
        array = self._ids(ids)
        return self(array), array

    def backward(
        self, tape: Array, dy: SupportsArray, *, into: Mapping[str, Array] | None = None
    ) -> LayerGradients:
        """The gradient of the table from that of the rows.

        Parameters
        ----------
        tape : ndarray
            From `forward`.
        dy : array of shape (..., K)
            Gradient of the rows.
        into : mapping of str to ndarray, optional
            The gradient is added into its array.

        Returns
        -------
        LayerGradients
            Of the table; ids have none.

        Raises
        ------
        TypeError, ValueError
            A wrong argument.
        """
        ids = self._ids(tape).ravel()
        rows = checks.array("dy", checks.given("dy", dy, self.dtype), self.dtype)
        wanted = (*np.shape(tape), self.embedding_dim)
        if rows.shape != wanted:
            raise ValueError(f"dy must have shape {wanted}, got {rows.shape}")
        found = np.zeros((self.num_embeddings, self.embedding_dim), self.dtype)
        if ids.size:
            order = np.argsort(ids, kind="stable")  # rows of one id side by side, then summed
            distinct, starts = np.unique(ids[order], return_index=True)
            sums = np.add.reduceat(rows.reshape(-1, self.embedding_dim)[order], starts, axis=0)
            found[distinct] = sums
        if self.padding_idx is not None:
            found[self.padding_idx] = 0
        return self._gradients(None, {"weight": found}, into)
