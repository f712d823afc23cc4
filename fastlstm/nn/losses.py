# SPDX-License-Identifier: BSD-3-Clause
"""Losses: the value, and its gradient for what a model gave.

A loss is a weighted mean, sum(w l) / sum(w), or with ``reduction="sum"`` sum(w l). The weight w of
an entry is the product of its class's and its own, `sample_weight`, and 0 where `mask` is False;
what stands there, NaN too, counts for nothing. Without weights these are torch's means.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .. import checks
from ..checks import Array


def _floats(name: str, value: object) -> Array:
    checks.no_mask(name, value)
    array = np.asarray(value)
    if array.dtype not in (checks.FLOAT32, checks.FLOAT64):
        raise TypeError(f"{name} must have dtype float32 or float64, got {array.dtype}")
    return array


def _weights(shape: tuple[int, ...], sample_weight: object, mask: object) -> Array | None:
    """The weight of every entry (float64); None where all weigh 1."""
    weights: Array | None = None
    for name, value in (("sample_weight", sample_weight), ("mask", mask)):
        if value is None:
            continue
        checks.no_mask(name, value)
        array = np.asarray(value)
        if name == "mask":
            if array.dtype != bool:
                raise TypeError(f"mask must be of dtype bool, got {array.dtype}")
        elif array.dtype.kind not in "biuf":
            raise TypeError(f"sample_weight must be numbers, got dtype {array.dtype}")
        elif not (np.isfinite(array).all() and (array >= 0).all()):
            raise ValueError("sample_weight must be finite and >= 0")
        if array.shape != shape[: array.ndim]:
            raise ValueError(f"{name} must have shape {shape} or begin it, got {array.shape}")
        array = array.astype(np.float64)
        array = array.reshape(*array.shape, *(1,) * (len(shape) - array.ndim))
        weights = array if weights is None else weights * array
    return None if weights is None else np.broadcast_to(weights, shape)


def _reduced(
    losses: Array, grad: Array, weights: Array | None, total: float, reduction: str
) -> tuple[float, Array]:
    """The loss of entries and its gradient (..., K), from those of each entry (...)."""
    if reduction not in ("mean", "sum"):
        raise ValueError(f'reduction must be "mean" or "sum", got {reduction!r}')
    if weights is not None:
        losses = np.where(weights > 0, losses, 0) * weights
        per = weights.reshape(*weights.shape, *(1,) * (grad.ndim - weights.ndim))
        grad = np.where(per > 0, grad, 0) * per.astype(grad.dtype)
    loss = float(losses.sum(dtype=np.float64))
    if reduction == "sum":
        return loss, grad
    if not total:  # a batch of nothing has no loss and no gradient
        return 0.0, np.zeros_like(grad)
    grad /= grad.dtype.type(total)
    return loss / total, grad


def cross_entropy(
    logits: Array,
    labels: ArrayLike,
    *,
    class_weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> tuple[float, Array]:
    """-log softmax(logits)[label], as ``torch.nn.functional.cross_entropy``.

    Parameters
    ----------
    logits : ndarray of shape (..., C)
        float32 or float64. Classes are the last axis.
    labels : array_like of int, of shape (...)
        0 to C - 1.
    class_weight : array_like of C numbers, optional
        >= 0.
    sample_weight : array_like, optional
        >= 0, of the shape of `labels` or of its first axes.
    mask : array_like of bool, optional
        True: counts; of the shape of `labels` or of its first axes. See `valid_steps`.
    ignore_index : int, optional
        A label that does not count.
    label_smoothing : float, default 0
        The share, 0 to 1, of a target that goes to all classes alike.
    reduction : {"mean", "sum"}
        Mean by the weights, or sum.

    Returns
    -------
    loss : float
        The value.
    dlogits : ndarray of shape (..., C)
        Its gradient.

    Raises
    ------
    TypeError, ValueError
        A wrong argument.

    Examples
    --------
    >>> import numpy as np
    >>> from fastlstm import nn
    >>> loss, dlogits = nn.cross_entropy(np.zeros((1, 2)), [1])
    >>> round(loss, 4), dlogits.tolist()
    (0.6931, [[0.5, -0.5]])
    """
    logits = _floats("logits", logits)
    checks.no_mask("labels", labels)
    targets = np.asarray(labels)
    if targets.dtype.kind not in "iu":
        raise TypeError(f"labels must be integers, got dtype {targets.dtype}")
    if logits.ndim == 0 or targets.shape != logits.shape[:-1]:
        raise ValueError(f"labels must have shape {logits.shape[:-1]}, got {targets.shape}")
    classes = logits.shape[-1]
    smoothing = checks.probability("label_smoothing", label_smoothing)
    weights = _weights(targets.shape, sample_weight, mask)
    if ignore_index is not None:
        counts = (targets != checks.count("ignore_index", ignore_index, -(2**31))).astype(float)
        weights = counts if weights is None else weights * counts
    if weights is not None:
        targets = np.where(weights > 0, targets, 0)
    if targets.size and not (targets.min() >= 0 and targets.max() < classes):
        raise ValueError(
            f"labels must be between 0 and {classes - 1}, "
            f"got some from {targets.min()} to {targets.max()}"
        )
    with np.errstate(invalid="ignore"):  # NaN where nothing counts, and where the model gave it
        shifted = logits - logits.max(axis=-1, keepdims=True, initial=-np.inf)
        grad = np.exp(shifted)
        sums = grad.sum(axis=-1, keepdims=True)
        grad /= sums
        logs = np.log(sums)
    at = targets[..., None].astype(np.intp)
    of_class = _class_weights(class_weight, classes, logits.dtype)
    if of_class is None and not smoothing:
        losses = (logs - np.take_along_axis(shifted, at, axis=-1))[..., 0]
        np.put_along_axis(grad, at, np.take_along_axis(grad, at, axis=-1) - 1, axis=-1)
        own = None
    else:
        q = np.full(logits.shape, smoothing / classes, logits.dtype)  # what softmax should be
        np.put_along_axis(q, at, q.dtype.type(1 - smoothing + smoothing / classes), axis=-1)
        own = None if of_class is None else of_class[targets].astype(np.float64)
        if of_class is not None:
            q *= of_class
        losses = np.where(q > 0, q * (logs - shifted), 0).sum(axis=-1)
        grad *= q.sum(axis=-1, keepdims=True)
        grad -= q
    counted = np.ones(targets.shape) if weights is None else weights
    total = float((counted if own is None else counted * own).sum())
    return _reduced(losses, grad, weights, total, reduction)


def _class_weights(value: object, classes: int, dtype: np.dtype[Any]) -> Array | None:
    if value is None:
        return None
    checks.no_mask("class_weight", value)
    array = np.asarray(value)
    if array.dtype.kind not in "iuf":
        raise TypeError(f"class_weight must be numbers, got dtype {array.dtype}")
    if array.shape != (classes,):
        raise ValueError(f"class_weight must have shape ({classes},), got {array.shape}")
    if not (np.isfinite(array).all() and (array >= 0).all()):
        raise ValueError("class_weight must be finite and >= 0")
    return array.astype(dtype)


def _pair(prediction: object, target: object) -> tuple[Array, Array]:
    """Prediction and target in the prediction's dtype and of one shape."""
    given = _floats("prediction", prediction)
    checks.no_mask("target", target)
    wanted = np.asarray(target)
    if wanted.dtype.kind not in "biuf":
        raise TypeError(f"target must be numbers, got dtype {wanted.dtype}")
    if wanted.shape != given.shape:
        raise ValueError(f"target must have shape {given.shape}, got {wanted.shape}")
    return given, wanted.astype(given.dtype, copy=False)


def _total(weights: Array | None, size: int) -> float:
    return float(size if weights is None else weights.sum())


def mse(
    prediction: Array,
    target: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    reduction: str = "mean",
) -> tuple[float, Array]:
    """(prediction - target)^2, as ``torch.nn.functional.mse_loss``.

    Parameters
    ----------
    prediction : ndarray
        float32 or float64.
    target : array_like
        Of its shape.
    sample_weight : array_like, optional
        >= 0, of that shape or of its first axes.
    mask : array_like of bool, optional
        True: counts; of that shape or of its first axes.
    reduction : {"mean", "sum"}
        Mean by the weights, or sum.

    Returns
    -------
    loss : float
        The value.
    dprediction : ndarray
        Its gradient.

    Raises
    ------
    TypeError, ValueError
        A wrong argument.

    Examples
    --------
    >>> import numpy as np
    >>> from fastlstm import nn
    >>> nn.mse(np.array([1.0, 2.0]), [1.0, 4.0])
    (2.0, array([ 0., -2.]))
    """
    given, wanted = _pair(prediction, target)
    weights = _weights(given.shape, sample_weight, mask)
    error = given - wanted
    return _reduced(error * error, 2 * error, weights, _total(weights, given.size), reduction)


def binary_cross_entropy_with_logits(
    prediction: Array,
    target: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    reduction: str = "mean",
) -> tuple[float, Array]:
    """log(1 + e^z) - t z of logits z, as torch's function of this name.

    Parameters
    ----------
    prediction : ndarray
        z, float32 or float64.
    target : array_like
        t of its shape, 0 to 1.
    sample_weight : array_like, optional
        >= 0, of that shape or of its first axes.
    mask : array_like of bool, optional
        True: counts; of that shape or of its first axes.
    reduction : {"mean", "sum"}
        Mean by the weights, or sum.

    Returns
    -------
    loss : float
        The value.
    dprediction : ndarray
        Its gradient.

    Raises
    ------
    TypeError, ValueError
        A wrong argument.

    Examples
    --------
    >>> import numpy as np
    >>> from fastlstm import nn
    >>> loss, dprediction = nn.binary_cross_entropy_with_logits(np.zeros(2), [0, 1])
    >>> round(loss, 4), dprediction.tolist()
    (0.6931, [0.25, -0.25])
    """
    z, t = _pair(prediction, target)
    weights = _weights(z.shape, sample_weight, mask)
    small = np.exp(-np.abs(z))
    losses = np.maximum(z, 0) - t * z + np.log1p(small)
    grad = np.where(z >= 0, 1, small) / (1 + small) - t
    return _reduced(losses, grad, weights, _total(weights, z.size), reduction)


def quantile_loss(
    prediction: Array,
    target: ArrayLike,
    quantiles: Sequence[float],
    *,
    sample_weight: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    reduction: str = "mean",
) -> tuple[float, Array]:
    """max(q e, (q - 1) e) of errors e = target - prediction, the pinball loss of quantiles q.

    Its minimum is where a share q of the targets lies below the prediction: two quantiles make a
    prediction interval.

    Parameters
    ----------
    prediction : ndarray of shape (..., Q)
        float32 or float64; a column for each quantile.
    target : array_like of shape (...)
        One value for all of them.
    quantiles : sequence of Q floats
        Each between 0 and 1.
    sample_weight : array_like, optional
        >= 0, of the shape of `target` or of its first axes.
    mask : array_like of bool, optional
        True: counts; of the shape of `target` or of its first axes.
    reduction : {"mean", "sum"}
        Mean by the weights, over quantiles too, or sum.

    Returns
    -------
    loss : float
        The value.
    dprediction : ndarray of shape (..., Q)
        Its gradient.

    Raises
    ------
    TypeError, ValueError
        A wrong argument.

    References
    ----------
    R. Koenker and G. Bassett, "Regression quantiles", Econometrica 46, 1978.

    Examples
    --------
    >>> import numpy as np
    >>> from fastlstm import nn
    >>> loss, dprediction = nn.quantile_loss(np.zeros((1, 2)), [1.0], [0.1, 0.9])
    >>> loss, dprediction.tolist()
    (0.5, [[-0.05, -0.45]])
    """
    given = _floats("prediction", prediction)
    shares = [checks.probability("quantiles", share) for share in quantiles]
    if given.ndim == 0 or given.shape[-1] != len(shares):
        raise ValueError(
            f"prediction must have shape (..., {len(shares)}) by the number of quantiles, "
            f"got {given.shape}"
        )
    wanted = np.asarray(target)
    if wanted.shape != given.shape[:-1]:
        raise ValueError(f"target must have shape {given.shape[:-1]}, got {wanted.shape}")
    given, wanted = _pair(given, np.broadcast_to(wanted[..., None], given.shape))
    weights = _weights(given.shape, sample_weight, mask)
    q = np.array(shares, given.dtype)
    error = wanted - given
    grad = np.where(error > 0, -q, np.where(error < 0, 1 - q, 0)).astype(given.dtype)
    losses = np.maximum(q * error, (q - 1) * error)
    return _reduced(losses, grad, weights, _total(weights, given.size), reduction)
