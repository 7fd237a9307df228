from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder

from gnsm_monai.tabular import GNSMDetector

QUICK = {"width": 32, "depth": 1, "max_steps": 300, "random_state": 0}


def frame(rows: int = 600, seed: int = 0) -> pd.DataFrame:
    """``copy`` repeats ``colour``; ``size`` is independent of both and has a rare value."""
    generator = np.random.default_rng(seed)
    colour = generator.choice(["red", "green", "blue"], rows)
    size = generator.choice(["s", "m", "xl"], rows, p=[0.49, 0.49, 0.02])
    return pd.DataFrame({"colour": colour, "size": size, "copy": colour})


ODD = pd.DataFrame({"colour": ["red", "blue"], "size": ["s", "m"], "copy": ["blue", "green"]})
"""Every category is common; the pair is not."""


@pytest.fixture(scope="module")
def detector() -> GNSMDetector:
    return GNSMDetector(contamination=0.05, **QUICK).fit(frame())


def test_a_broken_dependence_is_worse_than_every_row_of_common_values(detector: GNSMDetector) -> None:
    normal = frame(seed=1)
    common = detector.decision_function(normal[normal["size"] != "xl"])
    assert detector.decision_function(ODD).min() > 2 * common.max()
    assert detector.predict(ODD).tolist() == [1, 1]


def test_scores_of_normal_rows_are_near_their_log_probability(detector: GNSMDetector) -> None:
    common = pd.DataFrame({"colour": ["red"], "size": ["s"], "copy": ["red"]})
    # -log(1/3 * 0.49); the noise here is no exact erasure, hence the width.
    assert detector.decision_function(common)[0] == pytest.approx(1.81, abs=0.6)


def test_unseen_and_missing_values_are_surprising_and_named_by_explain(detector: GNSMDetector) -> None:
    new = pd.DataFrame({"colour": ["red", "red"], "size": ["unheard", None], "copy": ["red", "red"]})
    assert detector.predict(new).tolist() == [1, 1]
    parts = detector.explain(new)
    assert parts.shape == (2, 3) and parts.argmax(1).tolist() == [1, 1]
    assert np.allclose(parts.sum(1), detector.decision_function(new))
    terms = detector.explain_terms(new)
    assert list(terms) == ["context_misfit", "coupled_frequencies"]
    assert np.allclose(sum(terms.values()), parts)


def test_pyod_attributes_agree_with_each_other(detector: GNSMDetector) -> None:
    scores = detector.decision_scores_
    assert scores.shape == (600,) and np.allclose(scores, detector.decision_function(frame()))
    assert np.array_equal(detector.labels_, (scores > detector.threshold_).astype(int))
    assert 0 < detector.labels_.mean() <= 0.05
    assert np.array_equal(detector.predict(frame()), detector.labels_)


@pytest.mark.parametrize("method", ["linear", "unify"])
def test_probabilities_rise_with_the_score(detector: GNSMDetector, method: str) -> None:
    new = pd.concat([frame(50, seed=2), ODD])
    proba = detector.predict_proba(new, method=method)
    assert proba.shape == (52, 2) and np.allclose(proba.sum(1), 1) and proba.min() >= 0
    order = np.argsort(detector.decision_function(new))
    assert (np.diff(proba[order, 1]) >= 0).all() and proba[order[-1], 1] > 0.9
    with pytest.raises(ValueError, match="method: 'odd'"):
        detector.predict_proba(new, method="odd")


def test_equal_seeds_give_equal_detectors_and_leave_the_callers_generators_alone(detector: GNSMDetector) -> None:
    np.random.seed(3)
    expected = np.random.RandomState(3).rand()
    again = clone(detector).fit(frame())
    assert np.array_equal(again.decision_scores_, detector.decision_scores_)
    assert np.random.rand() == expected


def test_it_works_at_the_end_of_a_pipeline() -> None:
    pipeline = make_pipeline(OrdinalEncoder(), GNSMDetector(**QUICK)).fit(frame())
    y = np.r_[np.zeros(100), 1, 1]
    assert roc_auc_score(y, pipeline.decision_function(pd.concat([frame(100, seed=4), ODD]))) > 0.99


@pytest.mark.parametrize(
    "settings", [{"objective": "kl", "noise": "temperature"}, {"anomaly_score": "context_misfit_scaled"}]
)
def test_other_rules_find_a_row_of_unseen_values(settings: dict[str, str]) -> None:
    found = GNSMDetector(**QUICK, **settings).fit(frame())
    odd = pd.DataFrame({"colour": ["?"], "size": ["?"], "copy": ["?"]})
    assert found.decision_function(odd)[0] > np.quantile(found.decision_scores_, 0.95)
    assert found.explain(odd).shape == (1, 3)


def test_numerical_columns_find_values_out_of_range() -> None:
    X = np.random.default_rng(0).normal(size=(500, 2))
    found = GNSMDetector(**QUICK).fit(X)
    assert found.predict(np.array([[9.0, 0.0], [0.0, -9.0]])).tolist() == [1, 1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"contamination": 0.6}, "contamination: must be a number in"),
        ({"objective": "l1"}, "objective: 'l1' is not one of"),
        ({"objective": "kl", "anomaly_score": "misfit"}, "anomaly_score: 'misfit' is not one of auto, score_norm_gmm"),
        ({"noise": "pink"}, "noise: unknown schedule 'pink'"),
        ({"width": 0}, "width: must be a whole number of at least 1"),
        ({"max_steps": 0}, "max_steps: must be a whole number of at least 1"),
        ({"validation_fraction": 1.0}, "validation_fraction: must be a number in"),
    ],
)
def test_settings_are_checked_first(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GNSMDetector(**settings).fit(frame(20))
