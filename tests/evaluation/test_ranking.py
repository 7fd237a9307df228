"""The content of summary.json."""

from __future__ import annotations

import math

import numpy as np

from gnsm_monai.evaluation.budget import measured_budget, predicted_budget
from gnsm_monai.evaluation.ranking import ranking_summary
from gnsm_monai.evaluation.summary import correlation_summary
from gnsm_monai.scoring.result import FailedCase
from tests.results import case_result

DICE = (0.2, math.nan, 0.9, 0.6, math.nan)
RESULTS = [case_result(f"case_{i}", anomaly=5.0 - i, dice=dice) for i, dice in enumerate(DICE)]
"""Two of them are masks that are rightly empty."""


def test_correct_empty_masks_count_as_measured_and_as_no_failure() -> None:
    summary = ranking_summary([*RESULTS, FailedCase("torn", "", "torn")], {}, 1.0, (0.5, 0.7))
    assert summary["review_budget"] == measured_budget([5, 4, 3, 2, 1], [0.2, 1, 0.9, 0.6, 1], 0.7)
    assert summary["review_budget"]["failures"] == 2
    counts = {key: summary[key] for key in ("cases", "scored", "failed", "with_reference", "correct_empty")}
    assert counts == {"cases": 6, "scored": 5, "failed": 1, "with_reference": 3, "correct_empty": 2}
    assert summary["metrics"]["spearman"]["n"] == 3


def test_a_mask_without_a_reference_leaves_the_budget_an_estimate() -> None:
    summary = ranking_summary([*RESULTS, case_result("case_9", anomaly=0.5)], {}, 1.0, (0.7,))
    assert summary["review_budget"] == predicted_budget([5, 4, 3, 2, 1, 0.5], [0.2] * 6, 0.7, predicted_dice=[0.8] * 6)


def test_where_none_is_rightly_empty_the_summary_does_not_speak_of_it() -> None:
    summary = ranking_summary([case_result(dice=0.5, soft=True, flagged=True)], {"alpha": 0.1}, 2.5, (0.7,))
    assert "correct_empty" not in summary
    assert summary["soft"] == {"cases": 1, "ids": ["a"]}
    assert summary["settings"] == {"alpha": 0.1, "failure_dice": [0.7]}
    assert (summary["flagged"], summary["seconds_per_case"]) == (1, 2.5)


def test_intervals_are_those_of_patients_with_all_their_cases() -> None:
    rng = np.random.default_rng(0)
    dice = rng.uniform(0.3, 0.9, 40)
    names = [f"{folder}/heart_{n:03d}_{phase}" for folder in "ab" for n in range(10) for phase in (1, 2)]
    score = 1 - dice + 0.3 * rng.standard_normal(40)
    results = [case_result(name, anomaly=s, dice=d) for name, s, d in zip(names, score, dice, strict=True)]
    patients = [name.split("_")[1] for name in names]
    expected = correlation_summary(score, dice, (0.7,), groups=patients)
    assert ranking_summary(results, {}, 1.0, (0.7,))["metrics"]["spearman"] == expected["spearman"]
