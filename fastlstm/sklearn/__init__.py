# SPDX-License-Identifier: BSD-3-Clause
"""Estimators for scikit-learn whose X is sequences: ``pip install "fastlstm[sklearn]"``.

    from fastlstm.sklearn import LSTMClassifier

    model = LSTMClassifier(bidirectional=True, random_state=0).fit(X, y)
    model.predict(X_new)

X is an array (n, T, I), or a list of n arrays (T_k, I) of any lengths. A table of two dimensions is
refused: it could be n steps of I features as well as n series of T steps, and each would train
without an error. ``X[:, None, :]`` says the one, ``X[:, :, None]`` the other.

Fitting with the same ``random_state`` gives the same bits, whatever the number of threads, and a
sequence's prediction has the same bits whatever batch it is in.
"""

from .classifier import LSTMClassifier
from .forecaster import LSTMForecaster
from .frames import sequences
from .loading import load
from .regressor import LSTMRegressor
from .scaler import SequenceScaler

__all__ = [
    "LSTMClassifier",
    "LSTMForecaster",
    "LSTMRegressor",
    "SequenceScaler",
    "load",
    "sequences",
]
