from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import average_precision_score, roc_auc_score

from gnsm_monai.evaluation.metrics import (
    augrc,
    aurc,
    aurc_optimum,
    auroc,
    average_precision,
    e_aurc,
    kendall,
    norm_aurc,
    pearson,
    risk_coverage_curve,
    spearman,
)

RANK_METRICS = [spearman, kendall, aurc, e_aurc, norm_aurc, augrc]
OF_DICE = [pearson, *RANK_METRICS]
OF_FAILURE = [auroc, average_precision]


def cases(n: int = 60, ties: bool = False, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A score that follows Dice loosely; with ties, both take few values."""
    rng = np.random.default_rng(seed)
    dice = rng.random(n)
    score = -dice + rng.normal(scale=0.3, size=n)
    return (np.round(score * 4), np.round(dice, 1)) if ties else (score, dice)


def accepted_risk_by_loops(score: np.ndarray, dice: np.ndarray) -> list[float]:
    """Risk in order of confidence, each mask carrying the mean of the masks that share its score."""
    risks = []
    for s in sorted(score):
        tied = [1 - dice[j] for j in range(len(dice)) if score[j] == s]
        risks.append(sum(tied) / len(tied))
    return risks


def aurc_by_loops(score: np.ndarray, dice: np.ndarray) -> float:
    risks, n = accepted_risk_by_loops(score, dice), len(score)
    return sum((sum(risks[:k]) / k + sum(risks[: k + 1]) / (k + 1)) / 2 for k in range(1, n)) / n


def augrc_by_loops(score: np.ndarray, dice: np.ndarray) -> float:
    risks, n = accepted_risk_by_loops(score, dice), len(score)
    return sum((sum(risks[:k]) / n + sum(risks[: k + 1]) / n) / 2 for k in range(n)) / n


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_correlations_match_scipy(ties: bool, seed: int) -> None:
    score, dice = cases(ties=ties, seed=seed)
    assert pearson(score, dice) == pytest.approx(stats.pearsonr(score, dice)[0], abs=1e-12)
    assert spearman(score, dice) == pytest.approx(stats.spearmanr(score, dice)[0], abs=1e-12)
    assert kendall(score, dice) == pytest.approx(stats.kendalltau(score, dice)[0], abs=1e-12)


def test_pearson_survives_a_large_offset() -> None:
    score, dice = cases()
    assert pearson(score + 1e6, dice) == pytest.approx(pearson(score, dice), abs=1e-8)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("limit", [0.2, 0.5, 0.9])
def test_failure_detection_matches_sklearn(ties: bool, limit: float) -> None:
    score, dice = cases(ties=ties)
    failed = dice < limit
    assert 0 < failed.sum() < failed.size
    assert auroc(score, failed) == pytest.approx(roc_auc_score(failed, score), abs=1e-12)
    assert average_precision(score, failed) == pytest.approx(average_precision_score(failed, score), abs=1e-12)


def test_failure_detection_of_one_tie_is_chance() -> None:
    failed = np.array([True, False, False, False])
    assert auroc(np.zeros(4), failed) == 0.5
    assert average_precision(np.zeros(4), failed) == 0.25


def test_curve_of_a_small_example() -> None:
    coverage, risk = risk_coverage_curve([0.1, 0.4, 0.3, 0.3], [0.0, 1.0, 0.2, 0.6])
    np.testing.assert_allclose(coverage, [0.25, 0.5, 0.75, 1.0])
    # In order of confidence: 0, then the tie of .2 and .6 at .4 each, then 1.
    np.testing.assert_allclose(risk, [0.0, 0.2, 0.8 / 3, 0.45])


def test_areas_of_a_small_example() -> None:
    score, dice = [1.0, 3.0, 2.0], [1.0, 0.4, 0.7]
    # R = 0, .15, .3 and G = 0, .1, .3: the ranking is perfect.
    assert aurc(score, dice) == pytest.approx((0.075 + 0.225) / 3)
    assert augrc(score, dice) == pytest.approx((0.0 + 0.05 + 0.2) / 3)
    assert aurc_optimum(dice) == pytest.approx(0.1)
    # Reversed: R = .6, .45, .3; random = .3.
    assert aurc([-s for s in score], dice) == pytest.approx(0.3)
    assert e_aurc([-s for s in score], dice) == pytest.approx(0.2)
    assert norm_aurc([-s for s in score], dice) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_areas_match_their_definitions(ties: bool, seed: int) -> None:
    score, dice = cases(n=25, ties=ties, seed=seed)
    area, optimum = aurc_by_loops(score, dice), aurc_by_loops(-dice, dice)
    random = float(np.mean(1 - dice))
    assert aurc(score, dice) == pytest.approx(area, abs=1e-12)
    assert aurc_optimum(dice) == pytest.approx(optimum, abs=1e-12)
    assert e_aurc(score, dice) == pytest.approx(area - optimum, abs=1e-12)
    assert norm_aurc(score, dice) == pytest.approx((random - area) / (random - optimum), abs=1e-12)
    assert augrc(score, dice) == pytest.approx(augrc_by_loops(score, dice), abs=1e-12)


def test_perfect_ranking_is_the_best_of_every_metric() -> None:
    _, dice = cases()
    assert spearman(-dice, dice) == pytest.approx(-1)
    assert kendall(-dice, dice) == pytest.approx(-1)
    assert auroc(-dice, dice < 0.5) == 1
    assert average_precision(-dice, dice < 0.5) == 1
    assert e_aurc(-dice, dice) == pytest.approx(0, abs=1e-12)
    assert norm_aurc(-dice, dice) == pytest.approx(1)


def test_random_ranking_is_about_zero_on_average() -> None:
    rng = np.random.default_rng(0)
    dice = rng.random(400)
    scores = rng.random((200, 400))
    assert np.mean([norm_aurc(score, dice) for score in scores]) == pytest.approx(0, abs=0.03)
    assert np.mean([augrc(score, dice) for score in scores]) == pytest.approx((1 - dice).mean() / 2, rel=0.01)


def test_a_score_that_is_constant_has_the_augrc_of_chance() -> None:
    _, dice = cases()
    assert augrc(np.ones_like(dice), dice) == pytest.approx((1 - dice).mean() / 2)


def test_perfect_augrc_of_binary_risk_is_half_the_squared_error_rate() -> None:
    dice = np.repeat([1.0, 0.0], [70, 30])
    # Ranked perfectly, G stays 0 up to coverage .7 and climbs to .3: a triangle of .3 x .3 / 2.
    assert augrc(-dice, dice) == pytest.approx(0.3**2 / 2)


@pytest.mark.parametrize("metric", RANK_METRICS)
def test_rank_metrics_ignore_a_monotone_transform(metric) -> None:  # type: ignore[no-untyped-def]
    score, dice = cases(ties=True)
    assert metric(np.exp(score) + 5, dice) == pytest.approx(metric(score, dice), abs=1e-12)


@pytest.mark.parametrize("metric", OF_FAILURE)
def test_failure_metrics_ignore_a_monotone_transform(metric) -> None:  # type: ignore[no-untyped-def]
    score, dice = cases(ties=True)
    assert metric(np.exp(score) + 5, dice < 0.5) == metric(score, dice < 0.5)


@pytest.mark.parametrize("metric", OF_DICE)
def test_order_of_masks_does_not_matter_even_with_ties(metric) -> None:  # type: ignore[no-untyped-def]
    score, dice = cases(ties=True)
    order = np.random.default_rng(1).permutation(score.size)
    assert metric(score[order], dice[order]) == pytest.approx(metric(score, dice), abs=1e-12)


def test_no_score_beats_the_optimum() -> None:
    for seed in range(20):
        score, dice = cases(n=12, ties=True, seed=seed)
        assert e_aurc(score, dice) >= -1e-12


def test_undefined_metrics_are_nan_without_warnings() -> None:
    score, dice = cases()
    same, none, every = np.full(60, 0.3), np.zeros(60, bool), np.ones(60, bool)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        undefined = [metric(same, dice) for metric in (pearson, spearman, kendall)]
        undefined += [metric(score, same) for metric in (pearson, spearman, kendall, norm_aurc)]
        undefined += [metric(score, failed) for metric in OF_FAILURE for failed in (none, every)]
    assert np.isnan(undefined).all()


@pytest.mark.parametrize("metric", OF_DICE)
@pytest.mark.parametrize(
    ("score", "dice", "message"),
    [
        ([[0.1, 0.2]], [0.1, 0.2], r"^score must be 1D, got shape \(1, 2\)\.$"),
        ([0.1, 0.2], 0.5, r"^dice must be 1D, got shape \(\)\.$"),
        ([], [], r"^score is empty\.$"),
        ([0.1], [], r"^dice is empty\.$"),
        ([0.1, np.nan], [0.1, 0.2], r"^score contains NaN or infinite values\.$"),
        ([0.1, np.inf], [0.1, 0.2], r"^score contains NaN or infinite values\.$"),
        ([0.1, 0.2], [0.1, np.nan], r"^dice contains NaN or infinite values\.$"),
        ([0.1, 0.2], [0.1, 1.2], r"^dice must lie in \[0, 1\], got values from 0\.1 to 1\.2\.$"),
        ([0.1, 0.2], [-0.1, 0.2], r"^dice must lie in \[0, 1\], got values from -0\.1 to 0\.2\.$"),
        ([0.1, 0.2, 0.3], [0.1, 0.2], r"^score and dice must have the same length, got 3 and 2\.$"),
    ],
)
def test_bad_input_is_refused(metric, score, dice, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        metric(score, dice)


@pytest.mark.parametrize("metric", OF_FAILURE)
@pytest.mark.parametrize(
    ("score", "failed", "message"),
    [
        ([0.1, 0.2], [0, 1], r"^failed must be boolean, got int64\.$"),
        ([0.1, 0.2], [[True, False]], r"^failed must be 1D, got shape \(1, 2\)\.$"),
        ([0.1, 0.2], [True], r"^score and failed must have the same length, got 2 and 1\.$"),
        ([], [], r"^score is empty\.$"),
    ],
)
def test_bad_failures_are_refused(metric, score, failed, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        metric(score, failed)


def test_curve_refuses_risk_that_is_not_finite() -> None:
    with pytest.raises(ValueError, match=r"^risk contains NaN or infinite values\.$"):
        risk_coverage_curve([0.1], [np.nan])


def test_two_masks_have_a_rank_correlation() -> None:
    assert kendall([0.1, 0.9], [0.8, 0.3]) == -1 and kendall([0.1, 0.9], [0.3, 0.8]) == 1
