from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats

from gnsm_monai.evaluation.metrics import augrc, auroc, average_precision, pearson, spearman
from gnsm_monai.evaluation.summary import correlation_summary

KEYS = ["pearson", "spearman", "kendall", "auroc_0.5", "average_precision_0.5", "auroc_0.7", "average_precision_0.7"]
KEYS += ["aurc", "e_aurc", "norm_aurc", "augrc"]


def cases(n: int = 60, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A score that follows Dice loosely."""
    rng = np.random.default_rng(seed)
    dice = rng.random(n)
    return -dice + rng.normal(scale=0.3, size=n), dice


def test_summary_holds_every_metric_with_an_interval_around_it() -> None:
    score, dice = cases()
    summary = correlation_summary(score, dice, n_bootstrap=200)
    assert list(summary) == KEYS
    for entry in summary.values():
        low, high = entry["ci95"]
        assert low < entry["value"] < high
        assert entry["n"] == 60
    assert summary["spearman"]["value"] == spearman(score, dice)
    assert summary["auroc_0.7"]["value"] == auroc(score, dice < 0.7)
    assert summary["average_precision_0.5"]["value"] == average_precision(score, dice < 0.5)
    assert summary["augrc"]["value"] == augrc(score, dice)
    assert json.loads(json.dumps(summary)) == summary


def test_bootstrap_follows_its_seed() -> None:
    score, dice = cases()
    first, again, other = (correlation_summary(score, dice, n_bootstrap=50, seed=seed) for seed in (3, 3, 4))
    assert first == again
    assert first["pearson"]["ci95"] != other["pearson"]["ci95"]


def test_interval_narrows_with_confidence_and_names_it() -> None:
    score, dice = cases()
    wide = correlation_summary(score, dice, n_bootstrap=200)["pearson"]["ci95"]
    narrow = correlation_summary(score, dice, n_bootstrap=200, confidence=0.5)["pearson"]["ci50"]
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_interval_agrees_with_scipys_percentile_bootstrap() -> None:
    score, dice = cases()
    expected = stats.bootstrap(
        (score, dice), pearson, paired=True, vectorized=False, method="percentile", n_resamples=1000, rng=0
    ).confidence_interval
    assert correlation_summary(score, dice)["pearson"]["ci95"] == pytest.approx(list(expected), abs=0.03)


def test_masks_of_one_case_are_drawn_together() -> None:
    score, dice = cases(n=20)
    scores, dices, groups = np.tile(score, 5), np.tile(dice, 5), np.tile(np.arange(20), 5)
    repeated = correlation_summary(scores, dices, n_bootstrap=200, groups=groups)
    naive = correlation_summary(scores, dices, n_bootstrap=200)
    alone = correlation_summary(score, dice, n_bootstrap=200)
    # Five copies of each case know no more than one.
    assert repeated["spearman"]["ci95"] == pytest.approx(alone["spearman"]["ci95"], abs=1e-12)
    assert np.ptp(naive["spearman"]["ci95"]) < 0.6 * np.ptp(repeated["spearman"]["ci95"])
    assert repeated["spearman"]["n"] == 100


def test_resamples_without_a_failure_are_left_out() -> None:
    dice = np.array([0.3, 0.8, 0.82, 0.84, 0.86, 0.88])
    low, high = correlation_summary(-dice, dice, n_bootstrap=200)["auroc_0.5"]["ci95"]
    # About a third of the resamples miss the one failure; in the others it always scores highest.
    assert low == high == 1


def test_interval_is_none_when_no_resample_defines_the_metric() -> None:
    dice = np.array([0.3, 0.8, 0.9])
    seed = next(s for s in range(100) if 0 not in np.random.default_rng(s).integers(0, 3, size=3))
    entry = correlation_summary(-dice, dice, n_bootstrap=1, seed=seed)["auroc_0.5"]
    assert entry == {"value": 1.0, "ci95": None, "n": 3}


@pytest.mark.parametrize(
    ("score", "dice", "reasons"),
    [
        ([1, 2, 3], [0.9, 0.8, 0.75], {"auroc_0.5": "no mask has Dice < 0.5", "auroc_0.7": "no mask has Dice < 0.7"}),
        ([1, 2, 3], [0.6, 0.5, 0.1], {"average_precision_0.7": "every mask has Dice < 0.7"}),
        ([1, 1, 1], [0.6, 0.5, 0.8], {"kendall": "the anomaly score is the same for every mask"}),
        ([1, 2, 3], [0.6, 0.6, 0.6], {"norm_aurc": "Dice is the same for every mask"}),
        ([1, 2, 3], [0.6, 0.6, 0.6], {"pearson": "Dice is the same for every mask"}),
        ([1, 2], [0.6, 0.5], dict.fromkeys(KEYS, "fewer than 3 cases")),
    ],
)
def test_undefined_entries_give_their_reason(score: list[float], dice: list[float], reasons: dict[str, str]) -> None:
    summary = correlation_summary(score, dice, n_bootstrap=20)
    for key, reason in reasons.items():
        assert summary[key] == {"value": None, "reason": reason}


def test_dice_at_the_limit_is_no_failure() -> None:
    # Only the last has failed, and one of three sound masks, the .5, scores above it.
    score, dice = [1.0, 4.0, 2.0, 3.0], [0.9, 0.5, 0.8, 0.4]
    assert correlation_summary(score, dice, n_bootstrap=20)["auroc_0.5"]["value"] == pytest.approx(2 / 3)
    assert (
        correlation_summary(score, [0.9, 0.5, 0.8, 0.6], n_bootstrap=20)["auroc_0.5"]["reason"]
        == "no mask has Dice < 0.5"
    )


def test_areas_stay_defined_when_the_score_is_constant() -> None:
    summary = correlation_summary(np.ones(5), [0.1, 0.4, 0.6, 0.8, 0.9], n_bootstrap=20)
    assert summary["auroc_0.5"]["value"] == 0.5
    assert summary["augrc"]["value"] == pytest.approx(0.22)
    assert summary["pearson"]["value"] is None


def test_too_few_cases_counts_cases_not_masks() -> None:
    summary = correlation_summary([1, 2, 3, 4], [0.9, 0.4, 0.8, 0.3], groups=["a", "a", "b", "b"])
    assert summary["pearson"] == {"value": None, "reason": "fewer than 3 cases"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"failure_dice": (0.0,)}, r"^failure_dice must lie in \(0, 1\], got 0\.0\.$"),
        ({"n_bootstrap": 0}, r"^n_bootstrap must be at least 1, got 0\.$"),
        ({"confidence": 1.0}, r"^confidence must lie strictly between 0 and 1, got 1\.0\.$"),
        ({"groups": [1, 2]}, r"^groups must have shape \(4,\), got \(2,\)\.$"),
    ],
)
def test_bad_settings_are_refused(settings, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        correlation_summary([1, 2, 3, 4], [0.9, 0.4, 0.8, 0.3], **settings)
