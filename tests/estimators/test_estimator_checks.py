# SPDX-License-Identifier: BSD-3-Clause
"""scikit-learn's own checks of estimators, whose X has two dimensions: rows are taken for sequences
of one step here, which a user has to ask for."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

pytest.importorskip("sklearn")

from sklearn.utils import check_array
from sklearn.utils.estimator_checks import check_estimator

from fastlstm.sklearn import LSTMClassifier, LSTMRegressor


class Rows:
    """Rows (n, I) as sequences (n, 1, I)."""

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()  # type: ignore[misc]
        tags.input_tags.two_d_array = True
        tags.input_tags.three_d_array = False
        return tags

    def _sequences(self, X: Any, *, reset: bool = False) -> Any:
        rows = check_array(X, dtype=self.dtype, estimator=self, input_name="X")  # type: ignore[attr-defined]
        return super()._sequences(rows[:, None, :], reset=reset)  # type: ignore[misc]


class Classifier(Rows, LSTMClassifier):
    pass


class Regressor(Rows, LSTMRegressor):
    pass


EXPECTED = {
    "check_sample_weight_equivalence_on_dense_data": "leaving a sequence out makes other "
    "minibatches than a weight of zero does, and so another course of training",
    "check_dataframe_column_names_consistency": "columns of a table are no features of sequences: "
    "an array of three dimensions has no names",
}


@pytest.mark.parametrize(
    "estimator",
    [
        Classifier(hidden_size=16, max_iter=20, learning_rate=3e-2),
        pytest.param(
            Classifier(cell="gru", num_layers=2, hidden_size=8, max_iter=20, learning_rate=3e-2),
            marks=pytest.mark.deep,
        ),
        Regressor(hidden_size=16, max_iter=40, learning_rate=1e-2, dtype="float64"),
    ],
    ids=["classifier", "gru", "regressor"],
)
def test_check_estimator(estimator: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of scikit-learn's own arithmetic on hostile values
        results = check_estimator(
            estimator, on_skip=None, on_fail="raise", expected_failed_checks=EXPECTED
        )
    passed = [r["check_name"] for r in results if r["status"] == "passed"]
    assert len(passed) > 50
    assert {r["check_name"] for r in results if r["status"] == "xfail"} <= EXPECTED.keys()


@pytest.mark.parametrize("estimator", [LSTMClassifier(), LSTMRegressor()], ids=["c", "r"])
def test_tables_are_refused(estimator: Any) -> None:
    with pytest.raises(ValueError, match=r"X\[:, None, :\] are sequences of one step"):
        estimator.fit([[1.0, 2.0], [3.0, 4.0]], [0, 1])
