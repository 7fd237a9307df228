"""Anomalies among the fitted rows are left out, and rows without any stay as they are."""

from __future__ import annotations

import numpy as np

from gnsm_monai.noise import mixing_schedule
from gnsm_monai.tabular import GNSMDetector, TableEncoder
from gnsm_monai.tabular.batches import TrainingTable
from gnsm_monai.tabular.row_rules import choose_rule
from gnsm_monai.tabular.training import TrainingPlan
from gnsm_monai.tabular.trimming import trimmed

PLAN = TrainingPlan(width=32, depth=1, max_steps=150, batch_size=64)
FEATURES, CATEGORIES, ODD = 6, 4, 60


def rows(number: int, odd: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows whose features are all the same category, beside some that are not; which are the latter."""
    random = np.random.default_rng(0)
    normal = np.repeat(random.integers(0, CATEGORIES, (number, 1)), FEATURES, axis=1)
    codes = np.concatenate([normal, random.integers(0, CATEGORIES, (odd, FEATURES))])
    order = random.permutation(len(codes))
    is_odd = (codes != codes[:, :1]).any(1)
    return codes[order], is_odd[order]


def test_what_is_left_out_are_the_odd_rows_of_each_use() -> None:
    codes, odd = rows(540, ODD)
    table = TrainingTable(TableEncoder().fit(codes), {"train": codes[:500], "calibration": codes[500:]})
    table = TrainingTable(table.encoder, {**table.codes, "validation": codes[500:]})
    rest = trimmed(table, mixing_schedule(3, 0.5, 0.9), PLAN, choose_rule("auto", "posterior"), 0.1)
    assert {use: len(part) for use, part in rest.codes.items()} == {"train": 450, "calibration": 90, "validation": 90}
    left = (rest.codes["train"] != rest.codes["train"][:, :1]).any(1)
    assert left.sum() <= max(0, odd[:500].sum() - 50) + 1


def test_without_a_share_nothing_is_fitted_or_left_out() -> None:
    table = TrainingTable(TableEncoder(), {})
    assert trimmed(table, mixing_schedule(3), PLAN, choose_rule("auto", "posterior"), None) is table


def test_a_trimmed_detector_ranks_rows_that_it_was_fitted_to() -> None:
    codes, odd = rows(540, ODD)
    detector = GNSMDetector(trim=0.1, contamination=0.1, width=32, depth=1, max_steps=150, random_state=0).fit(codes)
    assert len(detector.decision_scores_) == len(codes)
    assert detector.decision_scores_[odd].min() > np.quantile(detector.decision_scores_[~odd], 0.98)
