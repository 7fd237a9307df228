"""What is said of a folder of masks as a whole."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gnsm_monai.evaluation.verdict import flagged_by_rate, folder_verdicts
from gnsm_monai.rules.calibration import Calibration
from gnsm_monai.rules.held_out import Basis, HeldOut
from gnsm_monai.rules.predictors import DicePredictor
from gnsm_monai.scoring.result import CaseResult, FailedCase, scored
from tests.results import case_result

SPREAD = 0.05


def basis(residuals: np.ndarray, kinds: np.ndarray) -> Basis:
    """Dice is predicted as 1 - score, with an error of 0.05 times a residual."""
    predictor = DicePredictor(*np.array([[0.0, 1.0], [1.0, 0.0], [SPREAD, SPREAD]]), np.sort(residuals))
    held_out = HeldOut(-0.9, len(residuals), residuals, kinds)
    return Basis(Calibration(np.linspace(0, 0.4, 39), np.empty((39, 0)), predictor), held_out)


def masks(scores: np.ndarray, folder: str = "", **values: float) -> list[CaseResult]:
    return [case_result(f"{folder}/{i}", folder=folder, anomaly=score, **values) for i, score in enumerate(scores)]


def test_without_errors_a_folder_has_what_its_scores_say() -> None:
    (verdict,) = folder_verdicts(masks(np.array([0.1, 0.2, 0.6])), basis(np.zeros(40), np.arange(40) % 8), 0.7)
    assert verdict.mean_dice is not None and verdict.failure_share is not None
    assert (verdict.mean_dice.low, verdict.mean_dice.value, verdict.mean_dice.high) == pytest.approx([0.7] * 3)
    assert verdict.failure_share.value == pytest.approx(1 / 3)
    assert verdict.measured_dice is None


def test_the_interval_covers_segmenters_that_err_as_kinds_of_failures_do() -> None:
    """Each kind, and each new segmenter, has an error of its own: 90 % of the intervals hold the true mean."""
    rng = np.random.default_rng(0)
    inside, widths = [], []
    for seed in range(200):
        kinds = np.arange(120) % 12
        fitted = basis(rng.normal(size=12)[kinds] + rng.normal(size=120), kinds)
        scores = rng.uniform(0.2, 0.6, 40)
        truth = (1 - scores + SPREAD * (rng.normal() + rng.normal(size=40))).clip(0, 1)
        (verdict,) = folder_verdicts(masks(scores), fitted, 0.7, seed)
        estimate, share = verdict.mean_dice, verdict.failure_share
        assert estimate is not None and estimate.low is not None and estimate.high is not None
        assert share is not None and share.low is not None and share.high is not None
        inside.append((estimate.low <= truth.mean() <= estimate.high, share.low <= (truth < 0.7).mean() <= share.high))
        widths.append(estimate.high - estimate.low)
    assert np.mean(inside, axis=0) == pytest.approx([0.9, 0.9], abs=3 * np.sqrt(0.09 / 200))
    assert np.mean(widths) < 2 * 2.3 * SPREAD


@pytest.mark.parametrize(("count", "kinds"), [(18, 6), (40, 4)])
def test_few_failures_or_kinds_give_an_estimate_without_an_interval(count: int, kinds: int) -> None:
    residuals = np.random.default_rng(0).normal(size=count)
    (verdict,) = folder_verdicts(masks(np.array([0.3])), basis(residuals, np.arange(count) % kinds), 0.7)
    assert verdict.mean_dice is not None
    assert (verdict.mean_dice.low, verdict.mean_dice.high) == (None, None)


@pytest.mark.parametrize(("spearman", "estimated"), [(-0.6, True), (-0.4, False), (0.3, False)])
def test_a_score_that_hardly_follows_dice_estimates_no_mean(spearman: float, estimated: bool) -> None:
    given = basis(np.zeros(40), np.arange(40) % 8)
    weak = Basis(given.calibration, replace(given.held_out, spearman=spearman))
    (verdict,) = folder_verdicts(masks(np.array([0.3]), p_value=0.5), weak, 0.7)
    assert (verdict.mean_dice is not None, verdict.failure_share is not None) == (estimated, estimated)
    assert verdict.unlike_references == pytest.approx(0.5, abs=0.05)


def test_each_folder_has_its_own_verdict_and_failed_cases_are_counted() -> None:
    results = [
        *masks(np.full(20, 0.5), "bad", p_value=0.025, dice=0.5),
        *masks(np.full(20, 0.1), "good", p_value=0.6),
        FailedCase("bad/torn", "bad", "torn"),
        FailedCase("lost/torn", "lost", "torn"),
    ]
    bad, good, lost = folder_verdicts(results, basis(np.zeros(40), np.arange(40) % 8), 0.7)
    assert (bad.folder, bad.cases, bad.scored, bad.measured_dice) == ("bad", 21, 20, 0.5)
    assert bad.unlike_references is not None and bad.unlike_references < 0.01
    assert good.unlike_references is not None and good.unlike_references > 0.2
    assert (lost.scored, lost.mean_dice, lost.unlike_references) == (0, None, None)


def test_flags_by_a_rate_are_those_of_the_folder_and_q_values_are_always_given() -> None:
    p = {"a": [0.01, 0.02, 0.5, 0.9], "b": [0.04, 0.8]}
    results = [
        case_result(f"{folder}/{i}", folder=folder, p_value=value, flagged=value <= 0.05)
        for folder, values in p.items()
        for i, value in enumerate(values)
    ]
    torn = FailedCase("a/torn", "a", "torn")
    decided = flagged_by_rate([torn, *results], 0.05)
    assert decided[0] is torn
    cases = scored(decided)
    assert [case.decision.q_value for case in cases] == pytest.approx([0.04, 0.04, 2 / 3, 0.9, 0.08, 0.8])
    assert [case.decision.flagged for case in cases] == [True, True, False, False, False, False]
    by_alpha = scored(flagged_by_rate(results, None))
    assert [case.decision.flagged for case in by_alpha] == [True, True, False, False, True, False]


def test_a_folder_is_compared_with_all_references_though_its_masks_have_p_values_among_some() -> None:
    """Both empty and other masks are like the references; p-values among 19 of 39 are larger than those of 39."""
    given = basis(np.zeros(40), np.arange(40) % 8)
    scores = given.calibration.scores
    grouped = replace(given, calibration=replace(given.calibration, empty=np.arange(39) < 19))
    among_some = [given.calibration.p_value(score, False, 0.05) for score in scores]
    results = masks(scores)
    together = [
        replace(r, decision=replace(r.decision, p_value=p)) for r, p in zip(results, among_some, strict=True)
    ]  # fmt: skip
    apart = [replace(r, decision=replace(r.decision, p_value=1 / 20)) for r in results]
    (expected,), (verdict,) = folder_verdicts(together, given, 0.7), folder_verdicts(apart, grouped, 0.7)
    assert verdict.unlike_references == expected.unlike_references
    assert folder_verdicts(apart, given, 0.7)[0].unlike_references != expected.unlike_references
