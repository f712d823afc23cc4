# SPDX-License-Identifier: BSD-3-Clause
"""Estimators for scikit-learn whose X is sequences: ``pip install "fastlstm[sklearn]"``.

>>> import numpy as np
>>> from fastlstm.sklearn import LSTMClassifier
>>> rng = np.random.default_rng(0)
>>> X = [rng.standard_normal((length, 3)) for length in (5, 9, 7, 6)]  # 4 sequences of 3 features
>>> y = ["walk", "run", "run", "walk"]
>>> model = LSTMClassifier(bidirectional=True, max_iter=2, random_state=0).fit(X, y)
>>> model.predict(X).shape
(4,)

`LSTMClassifier` and `LSTMRegressor` have one target for a sequence or one for each step,
`LSTMForecaster` forecasts series. `SequenceScaler` scales features, `sequences` makes X of a table,
`load` reads what an estimator's ``save`` wrote. The guide's page on estimators has the rest.

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
