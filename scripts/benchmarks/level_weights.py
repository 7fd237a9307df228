"""What the levels should count in the score: equally, by what context saves, or by the uncertainty they stand for.

    python scripts/benchmarks/level_weights.py --model MODEL --results RESULTS

MODEL is a trained model with posterior loss, RESULTS its ranking of masks with references. Everything is computed from
the statistics that both hold. The Dice of the masks judges the weights and chooses none of them.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
from scipy.stats import pearsonr

from gnsm_monai.files import load_arrays
from gnsm_monai.scoring.anomaly import AnomalyModel, rank_correlation, uncertainty_weights
from gnsm_monai.scoring.model_files import STATISTICS_FILE


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--results", type=Path, required=True)
    arguments = parser.parse_args()
    print("\n".join(weights_table(arguments.model, arguments.results)))


def weights_table(model_dir: Path, results: Path) -> list[str]:
    """Markdown: each way to weigh the levels, its weights, and the score's correlation with Dice."""
    fitted, ranked = load_arrays(model_dir / STATISTICS_FILE), load_arrays(results / "level_statistics.npz")
    with open(results / "ranking.csv", newline="") as file:
        dice_of = {row["case"]: float(row["dice"]) for row in csv.DictReader(file) if row["dice"]}
    cases = ranked["case"].tolist()
    own = [number for number, case in enumerate(cases) if case in dice_of]
    levels, dice = ranked["levels"][own], np.array([dice_of[cases[number]] for number in own])
    rule = str(fitted["rule"])
    lines = ["| weights | per level | degraded references | masks: Spearman | Pearson |", "|" + " --- |" * 5]
    for name, weights in _candidates(fitted["val_loss"], fitted["no_context_loss"]).items():
        references = (fitted["fit"], fitted["degraded"], fitted["degraded_dice"])
        model = AnomalyModel.fit(*references, rule=rule, level_weights=weights)
        figures = (
            rank_correlation(model.score(fitted["calibration_degraded"]), fitted["calibration_degraded_dice"]),
            rank_correlation(model.score(levels), dice),
            float(pearsonr(model.score(levels), dice).statistic),
        )
        per_level = " ".join(f"{weight:.2f}" for weight in model.level_weights)
        lines.append(f"| {name} | {per_level} | {' | '.join(f'{figure:.3f}' for figure in figures)} |")
    return lines


def _candidates(loss: np.ndarray, no_context: np.ndarray) -> dict[str, np.ndarray]:
    return {
        "equal": np.ones(len(loss)),
        "context saved (nats)": np.clip(no_context - loss, 0, None),
        "uncertainty (used)": uncertainty_weights(loss),
    }


if __name__ == "__main__":
    main()
