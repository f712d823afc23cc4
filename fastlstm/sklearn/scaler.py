# SPDX-License-Identifier: BSD-3-Clause
"""Features scaled over all steps of all sequences."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted

from . import inputs


class SequenceScaler(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Scale each feature to mean 0 and deviation 1: `StandardScaler`, for sequences.

    Attributes
    ----------
    scaler_ : sklearn.preprocessing.StandardScaler
        Fitted on the steps of all sequences.
    n_features_in_ : int
        I.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.pipeline import make_pipeline
    >>> from fastlstm.sklearn import LSTMClassifier, SequenceScaler
    >>> model = make_pipeline(SequenceScaler(), LSTMClassifier(max_iter=1, random_state=0))
    >>> model.fit([np.zeros((2, 1)), np.ones((3, 1))], [0, 1]).predict([np.ones((4, 1))]).shape
    (1,)
    """

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        return tags

    def fit(self, X: Any, y: Any = None) -> Self:
        """Find mean and deviation of each feature.

        Parameters
        ----------
        X : array of shape (n, T, I), or list of n arrays of shape (T_k, I)
            Sequences.
        y : optional
            Not looked at.

        Returns
        -------
        Self
            The scaler.

        Raises
        ------
        TypeError, ValueError
            `X` is no such sequences.
        """
        x = inputs.as_sequences(X, "float64", self)
        self.scaler_ = StandardScaler().set_output(transform="default").fit(inputs.flat(x))
        self.n_features_in_ = inputs.width(x)
        return self

    def transform(self, X: Any) -> Any:
        """Scale sequences.

        Parameters
        ----------
        X : array or list
            As for `fit`.

        Returns
        -------
        ndarray of shape (n, T, I), or list of arrays of shape (T_k, I)
            As `X`, of float64.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before `fit`.
        TypeError, ValueError
            `X` is no such sequences, or has other features than those that were fitted.

        Examples
        --------
        >>> import numpy as np
        >>> from fastlstm.sklearn import SequenceScaler
        >>> X = [np.array([[1.0], [3.0]]), np.array([[2.0]])]
        >>> [x.round(3).tolist() for x in SequenceScaler().fit_transform(X)]
        [[[-1.225], [1.225]], [[0.0]]]
        """
        check_is_fitted(self)
        x = inputs.as_sequences(X, "float64", self)
        if isinstance(x, np.ndarray):
            return self.scaler_.transform(inputs.flat(x)).reshape(x.shape)
        return [self.scaler_.transform(row) for row in x]
