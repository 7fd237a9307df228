"""What the levels should count in the score: equally, by what context saves, or by the uncertainty they stand for.

    python scripts/benchmarks/level_weights.py --model MODEL --results RESULTS

MODEL is a trained model with posterior loss, RESULTS its ranking of masks with references. Everything is computed from
the statistics that both hold. The Dice of the masks judges the weights and chooses none of them.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markdown import table
from scipy.stats import pearsonr

from gnsm_monai.files import load_arrays
from gnsm_monai.model.files import STATISTICS_FILE
from gnsm_monai.scoring.anomaly import AnomalyModel, uncertainty_weights
from gnsm_monai.scoring.choice import rank_correlation

FIGURES = ("references", "spearman", "pearson")
"""Spearman with Dice of failures that fitted nothing; Spearman and Pearson with Dice of the masks."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--results", type=Path, required=True)
    arguments = parser.parse_args()
    print("\n".join(weights_table(arguments.model, arguments.results)))


def weights_table(model_dir: Path, results: Path) -> list[str]:
    """Markdown: each way to weigh the levels, its weights, and the score's correlation with Dice."""
    rows = []
    for row in weights_rows(model_dir, results):
        per_level = " ".join(f"{weight:.2f}" for weight in row["per_level"])
        rows.append([row["name"], per_level, *(f"{row[figure]:.3f}" for figure in FIGURES)])
    return table(["weights", "per level", "failures made from references", "masks: Spearman", "Pearson"], rows)


def rules_table(model_dir: Path, results: Path) -> list[str]:
    """Markdown: each rule, and its score's correlation with Dice; the model's own rule is marked."""
    rows = [
        [f"{row['name']} (used)" if row["used"] else row["name"], *(f"{row[figure]:.3f}" for figure in FIGURES)]
        for row in rules_rows(model_dir, results)
    ]
    return table(["rule", "failures made from references", "masks: Spearman", "Pearson"], rows)


def weights_rows(model_dir: Path, *results: Path) -> list[dict[str, Any]]:
    """Each way to weigh the levels: ``name``, ``per_level`` (L,), and `FIGURES` of the weighted mean of disagreement.

    Args:
        model_dir: of a trained model with posterior loss.
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


def _read(model_dir: Path, results: Sequence[Path]) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """The model's reference statistics; level statistics (N, L, S) and Dice (N,) of the masks that have a Dice."""
    pairs = [_ranked(folder) for folder in results]
    levels, dice = (np.concatenate(values) for values in zip(*pairs, strict=True))
    return load_arrays(model_dir / STATISTICS_FILE), levels, dice


def _ranked(results: Path) -> tuple[np.ndarray, np.ndarray]:
    ranked = load_arrays(results / "level_statistics.npz")
    with open(results / "ranking.csv", newline="") as file:
        dice_of = {row["case"]: float(row["dice"]) for row in csv.DictReader(file) if row["dice"]}
    cases = ranked["case"].tolist()
    own = [number for number, case in enumerate(cases) if case in dice_of]
    return ranked["levels"][own], np.array([dice_of[cases[number]] for number in own])


def _fit(fitted: dict[str, np.ndarray], rule: str, weights: np.ndarray) -> AnomalyModel:
    return AnomalyModel.fit(
        fitted["fit"],
        fitted["failures"],
        fitted["failure_dice"],
        rule=rule,
        level_weights=weights,
        groups=fitted["failure_groups"],
        of_networks=fitted["failure_of_networks"],
    )


def _figures(
    model: AnomalyModel, fitted: dict[str, np.ndarray], levels: np.ndarray, dice: np.ndarray
) -> dict[str, float]:
    unseen = model.score(fitted["calibration_failures"])
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


if __name__ == "__main__":
    main()
