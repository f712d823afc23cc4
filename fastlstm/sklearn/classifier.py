# SPDX-License-Identifier: BSD-3-Clause
"""Sequences to labels."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils import column_or_1d
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from .. import nn
from ..checks import Array
from . import fitting, inputs
from .base import SequenceEstimator
from .inputs import Sequences
from .words import documented


@documented
class LSTMClassifier(ClassifierMixin, SequenceEstimator):  # type: ignore[misc]
    """Name the class of a sequence, or of each of its steps, by a recurrent layer.

    What the layer gives goes through a linear layer and a softmax; cross entropy is minimised by
    Adam.

    Parameters
    ----------
    class_weight : dict, "balanced" or None, default None
        How much each class weighs in the loss, as in scikit-learn.
    pooling : {"last", "mean"}
        What the linear layer reads of a sequence: its last output, of both directions where there
        are two, or the mean of all.
    per_step : bool, default False
        Whether every step has a label. Then y is (n, T) or, as X, a list of arrays (T_k,).
    <parameters>

    Attributes
    ----------
    classes_ : ndarray
        The labels, sorted.
    <attributes>

    Examples
    --------
    >>> import numpy as np
    >>> from fastlstm.sklearn import LSTMClassifier
    >>> rng = np.random.default_rng(0)
    >>> X = [rng.standard_normal((rng.integers(5, 9), 2)) for _ in range(60)]
    >>> y = ["up" if x[:, 0].sum() > 0 else "down" for x in X]
    >>> model = LSTMClassifier(hidden_size=8, learning_rate=1e-2, random_state=0)
    >>> model.fit(X, y).score(X, y) > 0.9
    True
    """

    def __init__(
        self,
        *,
        class_weight: Any = None,
        pooling: str = "last",
        per_step: bool = False,
        cell: str = "lstm",
        hidden_size: int = 64,
        num_layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        proj_size: int = 0,
        learning_rate: float = 1e-3,
        schedule: Any = "constant",
        weight_decay: float = 0.0,
        clip_norm: float | None = 1.0,
        batch_size: int = 32,
        max_iter: int = 100,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        tol: float = 0.0,
        warm_start: bool = False,
        random_state: Any = None,
        dtype: str = "float32",
        num_threads: int | None = None,
        verbose: bool = False,
    ) -> None:
        super().__init__(
            cell=cell,
            hidden_size=hidden_size,
            num_layers=num_layers,
            bidirectional=bidirectional,
            dropout=dropout,
            proj_size=proj_size,
            learning_rate=learning_rate,
            schedule=schedule,
            weight_decay=weight_decay,
            clip_norm=clip_norm,
            batch_size=batch_size,
            max_iter=max_iter,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            n_iter_no_change=n_iter_no_change,
            tol=tol,
            warm_start=warm_start,
            random_state=random_state,
            dtype=dtype,
            num_threads=num_threads,
            verbose=verbose,
        )
        self.class_weight = class_weight
        self.pooling = pooling
        self.per_step = per_step

    # ---- targets ----

    def _labels(self, y: Any, x: Sequences) -> Any:
        """y as numbers of classes; `classes_` are those in it, unless there are some."""
        if self.per_step:
            rows = inputs.step_targets(y, x)
            every = inputs.flat(rows)
        else:
            if y is None:
                raise ValueError(
                    "this classifier requires y to be passed, but the target y is None"
                )
            rows = every = column_or_1d(y, warn=True)
            check_consistent_length(x, every)
        check_classification_targets(every)
        if not hasattr(self, "classes_"):
            self.classes_ = np.unique(every)
        elif not np.isin(every, self.classes_).all():
            strange = np.setdiff1d(every, self.classes_)[:5]
            raise ValueError(f"y must hold classes of {self.classes_}, got {strange}")
        if isinstance(rows, list):
            return [np.searchsorted(self.classes_, row) for row in rows]
        return np.searchsorted(self.classes_, rows)

    def _weigh(self, labels: Any) -> None:
        """Weights of the classes, by the labels that there are."""
        self._of_class: Array | None = None
        if self.class_weight is not None:
            named = self.classes_[inputs.flat(labels) if self.per_step else labels]
            if isinstance(self.class_weight, dict):
                named = self.classes_  # whatever is in this part
            self._of_class = compute_class_weight(self.class_weight, classes=self.classes_, y=named)

    def _loss(self, y: Array, part: fitting.Part) -> tuple[float, Array]:
        mask = None
        if self.per_step and part.lengths is not None:
            mask = nn.valid_steps(part.lengths, y.shape[1])
        return nn.cross_entropy(
            y, part.y, class_weight=self._of_class, sample_weight=part.weight, mask=mask
        )

    # ---- training ----

    @fitting.whole
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train.

        Parameters
        ----------
        X : array of shape (n, T, I), or list of n arrays of shape (T_k, I)
            Sequences.
        y : array_like of n labels; with `per_step`, of shape (n, T), or a list of arrays (T_k,)
            Their classes.
        sample_weight : array_like of n numbers, optional
            How much each sequence weighs in the loss, >= 0.

        Returns
        -------
        Self
            The estimator.

        Raises
        ------
        TypeError, ValueError
            A wrong argument, or a wrong parameter of the constructor, which is checked here.
        """
        fresh = not self._goes_on()
        x = self._sequences(X, reset=fresh)
        if fresh and hasattr(self, "classes_"):
            del self.classes_
        labels = self._labels(y, x)
        weight = self._sample_weight(sample_weight, x)
        if fresh:
            self._new_model(len(self.classes_))
        self._weigh(labels)
        return self._fit(x, labels, weight, stratify=None if self.per_step else labels)

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Train one epoch on some sequences.

        Parameters
        ----------
        X, y
            As for `fit`.
        classes : array_like, optional
            All labels that will ever come: needed in the first call.
        sample_weight : array_like of n numbers, optional
            As for `fit`.

        Returns
        -------
        Self
            The estimator.

        Raises
        ------
        TypeError, ValueError
            A wrong argument, or a wrong parameter of the constructor, which is checked here.
        """
        fresh = not hasattr(self, "model_")
        x = self._sequences(X, reset=fresh)
        self._take_classes(classes, fresh)
        labels = self._labels(y, x)
        weight = self._sample_weight(sample_weight, x)
        if fresh:
            self._new_model(len(self.classes_))
        self._weigh_known()
        return self._fit(x, labels, weight, epochs=1)

    def _take_classes(self, classes: Any, fresh: bool) -> None:
        if classes is None:
            if fresh:
                raise ValueError("classes must be passed on the first call to partial_fit")
            return
        given = np.unique(classes)
        if not fresh and not np.array_equal(given, self.classes_):
            raise ValueError(f"classes must be those of the first call, {self.classes_}")
        self.classes_ = given

    def _weigh_known(self) -> None:
        """Weights of classes where nobody has seen all labels."""
        if self.class_weight == "balanced":
            raise ValueError('class_weight="balanced" needs all labels: give a dict of weights')
        self._weigh(np.zeros(0, np.intp))

    @fitting.whole
    def fit_batches(self, batches: Any, *, classes: Any, validation: Any = None) -> Self:
        """Train on sequences that are more than memory holds: every batch is one update.

        Parameters
        ----------
        batches : iterable of (X, y) or (X, y, sample_weight), or callable
            It is read once an epoch; a callable gets the epoch's number and returns an iterable.
        classes : array_like
            All labels.
        validation : (X, y), optional
            Sequences whose loss is watched: training stops where it gets no better, with the best
            weights.

        Returns
        -------
        Self
            The estimator.

        Raises
        ------
        TypeError, ValueError
            A wrong argument, or a wrong parameter of the constructor, which is checked here.

        Examples
        --------
        >>> import numpy as np
        >>> from fastlstm.sklearn import LSTMClassifier
        >>> def read(epoch):  # from files, for example
        ...     rng = np.random.default_rng(epoch)
        ...     for _ in range(4):
        ...         X = rng.standard_normal((8, 5, 2))
        ...         yield X, X.sum(axis=(1, 2)) > 0
        >>> model = LSTMClassifier(max_iter=3, random_state=0)
        >>> model.fit_batches(read, classes=[False, True]).n_iter_
        3
        """
        self.classes_ = np.unique(classes)
        return self._fit_batches(batches, len(self.classes_), validation)

    def _encoded(self, y: Any, x: Sequences) -> Any:
        return self._labels(y, x)

    def _ready(self) -> None:
        self._weigh_known()

    # ---- predictions ----

    def predict_proba(self, X: Any) -> Any:
        """How likely each class is.

        Parameters
        ----------
        X : array or list
            As for `fit`.

        Returns
        -------
        ndarray of shape (n, C)
            With `per_step` (n, T, C), or a list of arrays (T_k, C).

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before `fit`.
        TypeError, ValueError
            `X` is no such sequences, or has other features than those that were fitted.

        Examples
        --------
        >>> import numpy as np
        >>> from fastlstm.sklearn import LSTMClassifier
        >>> X, y = np.random.default_rng(0).standard_normal((20, 5, 2)), ["a", "b"] * 10
        >>> model = LSTMClassifier(max_iter=2, random_state=0).fit(X, y)
        >>> model.classes_.tolist(), model.predict_proba(X[:3]).shape
        (['a', 'b'], (3, 2))
        """
        check_is_fitted(self)
        logits = self._raw(self._sequences(X))
        return [_softmax(z) for z in logits] if isinstance(logits, list) else _softmax(logits)

    def predict(self, X: Any) -> Any:
        """The likeliest class.

        Parameters
        ----------
        X : array or list
            As for `fit`.

        Returns
        -------
        ndarray of n labels
            With `per_step` of shape (n, T), or a list of arrays (T_k,).

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before `fit`.
        TypeError, ValueError
            `X` is no such sequences, or has other features than those that were fitted.
        """
        check_is_fitted(self)
        logits = self._raw(self._sequences(X))
        if isinstance(logits, list):
            return [self.classes_[z.argmax(axis=-1)] for z in logits]
        return self.classes_[logits.argmax(axis=-1)]

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """The share of right answers; of all steps with `per_step`.

        Parameters
        ----------
        X, y
            As for `fit`.
        sample_weight : array_like of n numbers, optional
            How much each sequence counts.

        Returns
        -------
        float
            0 to 1.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before `fit`.
        TypeError, ValueError
            `X` is no such sequences, or has other features than those that were fitted.
        """
        found = self.predict(X)
        if self.per_step:
            steps = inputs.lengths_of(found)
            sample_weight = None if sample_weight is None else np.repeat(sample_weight, steps)
            found, y = inputs.flat(found), inputs.flat(y)
        return float(accuracy_score(y, found, sample_weight=sample_weight))


def _softmax(logits: Array) -> Array:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    shares: Array = powers / powers.sum(axis=-1, keepdims=True)
    return shares
