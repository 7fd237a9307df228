"""A score network per fold of a folder that is ranked by itself, trained on the masks of the other folds.

The commands are those of users: `gnsm train --quick` on two thirds of the folder's masks, `gnsm rank` of the others.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from package_commands import gnsm, scored_rows

from gnsm_monai.audit import standardise
from gnsm_monai.files import load_arrays
from gnsm_monai.folder.consensus import deal
from gnsm_monai.model.files import STATISTICS_FILE

__all__ = ["network_scores"]

FOLDS = 3


def network_scores(paths: Sequence[Path], dataset: Path, work: Path, seed: int) -> npt.NDArray[np.float64]:
    """Scores of masks ``(N,)``, higher = worse, each by a network that has not seen it.

    As in `gnsm audit`, scores of different networks are made comparable by those of each network's own calibration
    masks. What is finished in ``work`` is not trained or ranked again.

    Args:
        paths: of the masks.
        dataset: that declares their labels.
        work: folder for models and rankings.
        seed: of the folds and of the trainings.
    """
    folds = deal(range(len(paths)), seed) % FOLDS
    scores = np.full(len(paths), np.nan)
    for fold in range(FOLDS):
        here = work / f"fold{fold}"
        learnt = _linked(here / "learnt", [path for path, of in zip(paths, folds, strict=True) if of != fold], dataset)
        others = _linked(here / "others", [path for path, of in zip(paths, folds, strict=True) if of == fold], dataset)
        if not (here / "model" / "settings.json").is_file():
            gnsm("train", "--labels", learnt, "--output", here / "model", "--quick", "--seed", seed)
        if not (here / "results" / "ranking.csv").is_file():
            gnsm("rank", "--model", here / "model", "--predictions", others, "--output", here / "results")
        calibration = load_arrays(here / "model" / STATISTICS_FILE)["calibration_scores"]
        rows = {row["case"]: float(row["anomaly_score"]) for row in scored_rows(here / "results" / "ranking.csv")}
        for number in np.flatnonzero(folds == fold).tolist():
            case = paths[number].name.removesuffix(".gz").removesuffix(".nii")
            scores[number] = standardise(rows[case], calibration)
    return scores


def _linked(folder: Path, paths: Sequence[Path], dataset: Path) -> Path:
    """A folder of links to masks, with the declaration of their labels."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in [*paths, dataset / "dataset.json"]:
        if not (folder / path.name).exists():
            os.symlink(path.resolve(), folder / path.name)
    return folder
