"""How far a score can be trusted, as training left it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

from gnsm_monai.rules.choice import strength
from gnsm_monai.rules.held_out import HeldOut


@pytest.mark.parametrize(
    ("spearman", "failures", "word"),
    [(-0.94, 100, "strong"), (-0.8, 19, "strong"), (-0.79, 100, "fair"), (-0.5, 100, "fair"), (-0.265, 100, "weak"),
     (-0.19, 100, "none"), (0.9, 100, "none"), (-0.94, 18, "unknown"), (np.nan, 100, "unknown")],
)  # fmt: skip
def test_a_correlation_has_a_word(spearman: float, failures: int, word: str) -> None:
    assert strength(spearman, failures) == word


def arrays(of_networks: bool) -> dict[str, Any]:
    """Those of a model whose score is the statistic itself, and whose prediction is 1 - score with a spread of 0.1."""
    return {
        "rule": np.array("disagreement_equal"), "level_weights": np.ones(1), "worst": np.array(1.0),
        "compared": np.array(["misfit", "disagreement_equal"]), "spearman": np.array([-0.3, -0.9]),
        "statistic": np.array(["disagreement"]),
        "failure_kinds": np.array(["early", "holes", "holes"]),
        "failure_of_networks": np.array([of_networks, False, False]),
        "calibration_failures": np.array([0.2, 0.4, 0.6, 0.8]).reshape(4, 1, 1),
        "calibration_failure_dice": np.array([0.9, 0.5, 0.4, 0.4]),
        "calibration_failure_kinds": np.array(["early", "early", "holes", "holes"]),
        "predicted_dice_scores": np.array([0.0, 1.0]), "predicted_dice": np.array([1.0, 0.0]),
        "predicted_dice_spread": np.array([0.1, 0.1]), "predicted_dice_residuals": np.zeros(4),
    }  # fmt: skip


def test_a_model_file_tells_how_its_score_did_and_errs_by_kind() -> None:
    held_out = HeldOut.from_arrays(arrays(of_networks=False))
    assert (held_out.spearman, held_out.failures, held_out.strength) == (-0.9, 3, "unknown")
    assert held_out.kind_errors == pytest.approx([0.0, 1.0])  # (1 - 1) / 2 of early, (0 + 2) / 2 of holes
    assert not held_out.judges_folders


def test_the_strength_is_of_the_failures_that_rules_were_compared_on() -> None:
    assert HeldOut.from_arrays(arrays(of_networks=True)).failures == 1  # of networks alone


def some_empty(copies: int) -> dict[str, Any]:
    """A model of references of which some are empty: false structures are blamed most, and better copies more.

    A quarter of the failures are false structures that share nothing with an empty reference.
    """
    rng = np.random.default_rng(0)
    dice = np.concatenate([rng.uniform(0.1, 0.9, copies), np.zeros(10), rng.uniform(0.1, 0.4, 20)])
    scores = np.concatenate([0.3 + 0.3 * dice[:copies], rng.uniform(0.8, 0.9, 10), 0.9 - 0.3 * dice[copies + 10 :]])
    kinds = ["holes"] * copies + ["false_structures"] * 30
    return {
        **arrays(of_networks=False), "fit_empty": np.array([True]), "failure_of_networks": np.zeros(60, dtype=bool),
        "calibration_failures": np.append(scores, 5.0).reshape(-1, 1, 1),  # the last is an empty mask
        "calibration_failure_dice": np.append(dice, 0.0), "calibration_failure_kinds": np.array([*kinds, "empty"]),
        "calibration_failure_empty": np.arange(copies + 31) == copies + 30,
        "calibration_scores": np.append(np.full(8, 0.2), np.full(4, 9.0)), "calibration_empty": np.arange(12) >= 8,
    }  # fmt: skip


def test_a_score_that_follows_false_structures_alone_is_not_called_strong() -> None:
    """Of all failures together it follows Dice, and on those that chose the rule it looks strong."""
    model = some_empty(30)
    together = spearmanr(model["calibration_failures"].ravel()[:-1], model["calibration_failure_dice"][:-1]).statistic
    assert (
        together < -0.4 and dict(zip(model["compared"], model["spearman"], strict=True))["disagreement_equal"] == -0.9
    )
    held_out = HeldOut.from_arrays(model)
    copies = np.append(model["calibration_failures"].ravel()[:30], np.full(8, 0.2))
    dice = np.append(model["calibration_failure_dice"][:30], np.ones(8))
    assert held_out.spearman == pytest.approx(spearmanr(copies, dice).statistic)
    assert (held_out.strength, held_out.failures) == ("none", 30)


def test_too_few_failures_of_either_sort_cannot_tell() -> None:
    held_out = HeldOut.from_arrays(some_empty(6))
    assert (held_out.strength, held_out.failures) == ("unknown", 6)
