"""Labelling errors among the references: every label map is scored by a model that has not seen it.

The score asks how unusual a map is (rule ``deviation``), not how low a Dice it may have: an error need not make a map
disagree with what the network expects, as dilation shows, which makes it smoother than any reference.

The references are dealt into folds. For each fold a model is trained on the others, as ``gnsm train`` does, and scores
the fold's label maps, as ``gnsm rank`` does. Each fold's score is in deviations of its own few held-out references, and
so small a sample tells a deviation badly: all folds are given the median of their deviations, about their own centres
(:func:`common_spread`). A usual reference has 1 to 2 then, whatever the fold; these spreads, and they alone, have seen
all references.

What is in other units, as the scores of structures are and those of another rule, is standardised by what the fold's
own model makes of its own calibration references::

    (score - median) / (1.4826 * MAD)        MAD: median absolute deviation from the median

p-values are ranks among the own model's calibration references, scored in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from gnsm_monai.data.datalist import find_label_maps
from gnsm_monai.errors import InputError
from gnsm_monai.files import check_folder, file_identity, load_arrays, load_json, save_json
from gnsm_monai.handlers.ranking import RankingWriter
from gnsm_monai.rules.anomaly import AnomalyModel
from gnsm_monai.rules.calibration import p_values
from gnsm_monai.rules.density import robust_scale
from gnsm_monai.rules.levels import LevelStatistics, stack_levels, stored_levels
from gnsm_monai.rules.rules import LargestDeviationRule
from gnsm_monai.rules.statistics import statistic_named
from gnsm_monai.scoring.model_files import STATISTICS_FILE
from gnsm_monai.scoring.wording import joined

__all__ = ["common_spread", "keep_plan", "merge_folds", "plan_folds", "standardise"]

PLAN = "audit.json"


def plan_folds(dataset: str | Path, output: str | Path, folds: int = 5, seed: int = 0) -> dict[str, Any]:
    """Deals the reference cases of an nnU-Net data set into folds. Nothing is written: see :func:`keep_plan`.

    Args:
        dataset: folder with ``labelsTr``.
        output: where the plan of an audit that was stopped may lie, which can then go on.
        folds: how many.
        seed: of the shuffle.

    Returns:
        ``folds``, the case ids of each fold, as equal in number as can be, and ``files``, what they are made of.

    Raises:
        InputError: no label maps, fewer than folds, or a kept plan of other files or another number of folds.
    """
    check_folder(dataset)
    labels_dir = Path(dataset) / "labelsTr"
    found = find_label_maps(labels_dir)
    if len(found) < folds:
        raise InputError(f"{labels_dir}: {folds} folds need as many label maps, found {len(found)}")
    shuffled = np.random.default_rng(seed).permutation(np.array(list(found), dtype=object)).tolist()
    dealt = [sorted(shuffled[fold::folds]) for fold in range(folds)]
    plan = {"folds": dealt, "files": [file_identity(path) for path in found.values()]}
    path = Path(output) / PLAN
    if path.is_file() and load_json(path) != plan:
        raise InputError(
            f"{output}: holds the audit of other label maps or in other folds: name another output folder, or remove it"
        )
    return plan


def keep_plan(plan: Mapping[str, Any], output: str | Path) -> None:
    """Writes ``audit.json``, so that a stopped audit goes on with the same folds only."""
    save_json(Path(output) / PLAN, plan)


def standardise(scores: np.ndarray, calibration: np.ndarray) -> np.ndarray:
    """Scores in robust deviations from usual references: ``(score - median) / (1.4826 * MAD)``, same shape.

    Where most calibration references are alike (MAD 0) their standard deviation stands in, and 1 where that is 0 too.

    Args:
        scores: anomaly scores, higher = worse.
        calibration: those of the same model's calibration references, ``(n,)``; NaN are left out.
    """
    known = np.asarray(calibration, dtype=np.float64)
    known = known[np.isfinite(known)]
    if not len(known):
        return np.full(np.shape(scores), np.nan)
    median, spread = robust_scale(known)
    standardised: np.ndarray = (np.asarray(scores, dtype=np.float64) - median) / spread
    return standardised


def merge_folds(rankings: Sequence[RankingWriter], dataset: str | Path, output: str | Path) -> None:
    """Writes one ranking of all references to ``output``, from those of the folds, and forgets the folds' journals."""
    each = [ranking.settings for ranking in rankings]
    arrays = [load_arrays(Path(ranking.settings["model_dir"]) / STATISTICS_FILE) for ranking in rankings]
    models = common_spread([AnomalyModel.from_arrays(own) for own in arrays])
    settings = {
        **each[0],
        "model_dir": [fold["model_dir"] for fold in each],
        "weights_sha256": [fold["weights_sha256"] for fold in each],
        "anomaly_score": [_name(fold["anomaly_score"], model) for fold, model in zip(each, models, strict=True)],
        "predictions_dir": [str(Path(dataset) / "labelsTr")],
        "folds": len(rankings),
    }
    known = [_calibration(own, model) for own, model in zip(arrays, models, strict=True)]
    merged = RankingWriter(output, settings, rankings[0].failure_dice, np.concatenate(known))
    for ranking, own, model, scores in zip(rankings, arrays, models, known, strict=True):
        merged.rows += [_comparable(row, own, model, scores, settings["alpha"]) for row in ranking.rows]
    merged.seconds_per_case = float(np.mean([ranking.seconds_per_case for ranking in rankings]))
    merged.write()
    for ranking in rankings:
        if ranking.journal is not None:
            ranking.journal.keep = False
            ranking.journal.clear()


def common_spread(models: Sequence[AnomalyModel]) -> Sequence[AnomalyModel | None]:
    """Models of the rule ``deviation`` with the median of their spreads in place of their own; None of other rules."""
    if not all(isinstance(model.fitted, LargestDeviationRule) for model in models):
        return [None] * len(models)
    scale = np.median([model.fitted.arrays["scale"] for model in models], axis=0)
    common = [replace(model.fitted, arrays={**model.fitted.arrays, "scale": scale}) for model in models]
    return [replace(model, fitted=rule) for model, rule in zip(models, common, strict=True)]


def _calibration(arrays: Mapping[str, np.ndarray], model: AnomalyModel | None) -> np.ndarray:
    """Scores of a model's calibration references, comparable between folds."""
    if model is not None:
        return model.score(stored_levels(arrays, "calibration"))
    return standardise(arrays["calibration_scores"], arrays["calibration_scores"])


def _comparable(
    row: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    model: AnomalyModel | None,
    known: np.ndarray,
    alpha: float,
) -> dict[str, Any]:
    """A row with scores comparable between folds, of a fold with these calibration scores."""
    if row["status"] != "ok":
        return dict(row)
    structures = [dict(entry) for entry in row["structures"]]
    # One column per structure.
    for entry, own in zip(structures, arrays["calibration_structures"].T, strict=True):
        entry["anomaly_score"] = float(standardise(entry["anomaly_score"], own))
    if model is None:
        score = float(standardise(row["anomaly_score"], arrays["calibration_scores"]))
        return {**row, "anomaly_score": score, "structures": structures}
    score = float(model.score(stack_levels([row["levels"]]))[0])
    if row.get("empty"):  # worse than any reference, where all others have something
        score = max(score, float(np.nextafter(known.max(), np.inf)))
    p_value = float(p_values(np.array(score), known))
    flag = int(p_value <= alpha)
    found = {"anomaly_score": score, "p_value": p_value, "flag": flag, "structures": structures}
    if flag:
        found["reason"] = _reason(str(row.get("reason", "")), row["levels"], model)
    return {**row, **found}


def _reason(differs: str, levels: LevelStatistics, model: AnomalyModel) -> str:
    """How a map differs from what is expected of it, and in what it is most unusual, which is its score."""
    statistic, deviations = model.fitted.most_unusual(stack_levels([levels]))
    unusual = f"stands out by its {statistic_named(statistic).words} ({deviations:.1f} deviations from the usual)"
    return joined(differs, unusual)


def _name(rule: str, model: AnomalyModel | None) -> str:
    return f"{rule}, standardised" if model is None else rule
