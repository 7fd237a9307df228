"""What each way to weigh the levels, and each rule, would have made of a ranking: from stored statistics alone.

Both a trained model and its ranking of masks with references hold the statistics of every level. The Dice of the masks
judges weights and rules, and chooses none of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from package_commands import scored_rows
from scipy.stats import pearsonr

from gnsm_monai.files import load_arrays
from gnsm_monai.model.files import STATISTICS_FILE
from gnsm_monai.rules.anomaly import AnomalyModel, uncertainty_weights
from gnsm_monai.rules.choice import rank_correlation
from gnsm_monai.rules.fit_data import FitData
from gnsm_monai.rules.levels import LevelStatistics, stored_levels

__all__ = ["FIGURES", "rules_rows", "weights_rows"]

FIGURES = ("references", "spearman", "pearson")
"""Spearman with Dice of failures that fitted nothing; Spearman and Pearson with Dice of the masks."""


def weights_rows(model_dir: Path, *results: Path) -> list[dict[str, Any]]:
    """Each way to weigh the levels: ``name``, ``per_level`` (L,), and `FIGURES` of the weighted mean of disagreement.

    Args:
        model_dir: a trained model with posterior loss.
        results: its rankings of masks with references.
    """
    fitted, levels, dice = _read(model_dir, results)
    rows = []
    for name, weights in _candidates(fitted["val_loss"], fitted["no_context_loss"]).items():
        if not weights.sum() > 0:  # a network that has learnt nothing saves nothing
            continue
        model = _fit(fitted, "disagreement", weights)
        rows.append({"name": name, "per_level": model.level_weights.tolist(), **_figures(model, fitted, levels, dice)})
    return rows


def rules_rows(model_dir: Path, *results: Path) -> list[dict[str, Any]]:
    """Each rule that makes one number of the statistics of all levels: ``name``, whether it is the model's (``used``),
    and `FIGURES`. Arguments: `weights_rows`.
    """
    fitted, levels, dice = _read(model_dir, results)
    rows, weights = [], uncertainty_weights(fitted["val_loss"])  # those kept may be of one rule alone
    for rule in fitted["compared"].tolist():
        model = _fit(fitted, rule, weights)
        rows.append({"name": rule, "used": rule == str(fitted["rule"]), **_figures(model, fitted, levels, dice)})
    return rows


def _read(model_dir: Path, results: Sequence[Path]) -> tuple[dict[str, np.ndarray], LevelStatistics, np.ndarray]:
    """The model's reference statistics; level statistics and Dice (N,) of the masks that have a Dice."""
    pairs = [_ranked(folder) for folder in results]
    levels = {name: np.concatenate([levels[name] for levels, _ in pairs]) for name in pairs[0][0]}
    return load_arrays(model_dir / STATISTICS_FILE), levels, np.concatenate([dice for _, dice in pairs])


def _ranked(results: Path) -> tuple[LevelStatistics, np.ndarray]:
    ranked = load_arrays(results / "level_statistics.npz")
    dice_of = {row["case"]: float(row["dice"]) for row in scored_rows(results / "ranking.csv") if row["dice"]}
    cases = ranked["case"].tolist()
    with_dice = [number for number, case in enumerate(cases) if case in dice_of]
    levels = {name: values[with_dice] for name, values in stored_levels(ranked, "levels").items()}
    return levels, np.array([dice_of[cases[number]] for number in with_dice])


def _fit(fitted: dict[str, np.ndarray], rule: str, weights: np.ndarray) -> AnomalyModel:
    data = FitData(
        stored_levels(fitted, "fit"),
        stored_levels(fitted, "failures"),
        fitted["failure_dice"],
        fitted["failure_groups"],
        fitted["failure_of_networks"],
        weights,
    )
    return AnomalyModel.fit(data, rule)


def _figures(
    model: AnomalyModel, fitted: dict[str, np.ndarray], levels: LevelStatistics, dice: np.ndarray
) -> dict[str, float]:
    unseen = model.score(stored_levels(fitted, "calibration_failures"))
    scores = model.score(levels)
    figures = (
        rank_correlation(unseen, fitted["calibration_failure_dice"]),
        rank_correlation(scores, dice),
        float(pearsonr(scores, dice).statistic),
    )
    return dict(zip(FIGURES, figures, strict=True))


def _candidates(loss: np.ndarray, no_context: np.ndarray) -> dict[str, np.ndarray]:
    return {
        "equal": np.ones(len(loss)),
        "context saved (nats)": np.clip(no_context - loss, 0, None),
        "uncertainty (used where levels are averaged)": uncertainty_weights(loss),
    }
