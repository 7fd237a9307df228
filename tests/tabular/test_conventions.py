"""What scikit-learn and PyOD ask of an estimator, and tables that nobody expects."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.exceptions import NotFittedError
from sklearn.utils.estimator_checks import parametrize_with_checks

from gnsm_monai.tabular import GNSMDetector

PYOD = "predict gives 1 for an anomaly and 0 for an inlier, and higher scores are worse: PyOD's conventions"
EXCEPTIONS = {"check_outliers_train": PYOD, "check_outliers_fit_predict": PYOD}
TINY = {"max_steps": 12, "width": 16, "depth": 1}


@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks([GNSMDetector(**TINY)], expected_failed_checks=lambda _: EXCEPTIONS)
def test_scikit_learn(estimator: GNSMDetector, check: Any) -> None:
    check(estimator)


@pytest.mark.parametrize(
    ("table", "text"),
    [
        (pl.DataFrame({"a": ["x", "y"]}).lazy(), r"lazy frame holds no values yet: give X.collect\(\)"),
        (pd.Series(["x", "y"]), "Expected 2D array, got 1D array|Expected a 2-dimensional container"),
        (np.array(["x", "y"]), "Expected 2D array, got 1D array"),
    ],
    ids=["lazy frame", "series", "one axis"],
)
def test_what_is_no_table_is_refused(table: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        GNSMDetector().fit(table)


@pytest.mark.parametrize("wrong", ["size", 2, -1])
def test_numerical_features_are_positions(wrong: Any) -> None:
    frame = pd.DataFrame({"size": [1.5, 2.5, 3.5], "kind": ["a", "b", "a"]})
    with pytest.raises(ValueError, match=f"the table has no column {wrong!r}; columns are counted from 0"):
        GNSMDetector(numerical_features=[wrong]).fit(frame)


def test_an_unfitted_detector_says_so() -> None:
    with pytest.raises(NotFittedError):
        GNSMDetector().decision_function([[1], [2]])


VALUES = st.one_of(
    st.none(),
    st.just(float("nan")),
    st.booleans(),
    st.integers(-3, 3),
    st.floats(allow_nan=True, allow_infinity=True, width=32),
    st.text(max_size=3),
    st.sampled_from(["", "=1+1", "é", "\n", "a,b"]),
)


@st.composite
def frames(draw: st.DrawFn) -> pd.DataFrame:
    rows, columns = draw(st.integers(0, 8)), draw(st.integers(0, 4))
    names = [draw(st.sampled_from(["a", "b", "same", "same"])) for _ in range(columns)]
    kinds = [draw(st.sampled_from(["mixed", "float", "text", "category", "bool", "constant"])) for _ in range(columns)]
    series = []
    for kind in kinds:
        if kind == "float":
            series.append(pd.Series(draw(st.lists(st.floats(width=32), min_size=rows, max_size=rows)), dtype=float))
        elif kind == "bool":
            series.append(pd.Series(draw(st.lists(st.booleans(), min_size=rows, max_size=rows)), dtype=bool))
        elif kind == "constant":
            series.append(pd.Series(["x"] * rows, dtype=object))
        else:
            values = VALUES if kind == "mixed" else st.one_of(st.none(), st.text(max_size=2))
            own = pd.Series(draw(st.lists(values, min_size=rows, max_size=rows)), dtype=object)
            series.append(own.astype("category") if kind == "category" else own)
    table = pd.concat(series, axis=1) if series else pd.DataFrame(index=range(rows))
    table.columns = names
    return table


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(frames())
def test_any_frame_gives_finite_scores_or_one_clear_line(table: pd.DataFrame) -> None:
    try:
        detector = GNSMDetector(max_steps=2, width=8, depth=1, random_state=0).fit(table)
    except ValueError as error:
        assert str(error) and "\n" not in str(error)
        assert len(table) < 2 or table.shape[1] == 0
        return
    assert np.isfinite(detector.decision_scores_).all()
    assert np.array_equal(detector.decision_function(table), detector.decision_scores_)
    assert set(detector.predict(table)) <= {0, 1}
    assert np.isfinite(detector.explain(table)).all()
