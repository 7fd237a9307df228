"""Labelling errors among the references: every label map is scored by a model that has not seen it.

The score asks how unusual a map is (rule ``deviation``), not how low a Dice it may have: an error need not make a map
disagree with what the network expects. A dilated map, for example, is smoother than any reference.

The references are dealt into folds. For each fold a model is trained on the others, as ``gnsm train`` does, and scores
the fold's label maps, as ``gnsm rank`` does. Each fold's score is in deviations of its own held-out references. These
are few, and a small sample gives a poor estimate of a deviation. So all folds share the median of their deviations,
about their own centres (:func:`common_spread`). A usual reference then scores 1 to 2 in every fold. Only these shared
deviations have seen all references.

Scores in other units (those of structures, and those of another rule) are standardised by the held-out references of
the fold's own model::

    (score - median) / (1.4826 * MAD)        MAD: median absolute deviation from the median

p-values are ranks among the own model's held-out references, scored in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from gnsm_monai.data.constants import LABEL
from gnsm_monai.data.datalist import find_references
from gnsm_monai.data.layouts import AUTO
from gnsm_monai.data.patients import FROM_NAMES, patients_of
from gnsm_monai.errors import InputError
from gnsm_monai.evaluation.ranking import Ranking, ranked
from gnsm_monai.evaluation.verdict import flagged_by_rate
from gnsm_monai.explain.sentences import STANDS_OUT, joined, unusual_sentence
from gnsm_monai.files import file_identity, load_arrays, load_json
from gnsm_monai.model.files import STATISTICS_FILE
from gnsm_monai.report import ResultsWriter
from gnsm_monai.rules.anomaly import AnomalyModel
from gnsm_monai.rules.density import robust_scale
from gnsm_monai.rules.levels import stack_levels, stored_levels
from gnsm_monai.rules.rules import LargestDeviationRule
from gnsm_monai.rules.statistics import statistic_named
from gnsm_monai.scoring.result import CaseResult, FailedCase, Result

__all__ = ["PLAN", "common_spread", "merge_folds", "plan_folds", "standardise"]

PLAN = "audit.json"
"""File of the folds, in the folder of the results, so that an interrupted audit continues only with the same ones."""


def plan_folds(
    dataset: str | Path,
    output: str | Path,
    folds: int = 5,
    seed: int = 0,
    layout: str = AUTO,
    patients: str = FROM_NAMES,
) -> dict[str, Any]:
    """Deals the reference cases of an nnU-Net data set into folds. Nothing is written: :data:`PLAN` is for the caller.

    All maps of a patient are in one fold. A map that repeats the error of another one would look usual to a model that
    has learnt from that.

    Args:
        dataset: folder with ``labelsTr``.
        output: may hold the plan of an interrupted audit, which then continues.
        folds: how many.
        seed: of the shuffle.
        layout: of the label maps, see :func:`gnsm_monai.data.layouts.look_into`.
        patients: which maps are of one patient, see :func:`gnsm_monai.data.patients.patients_of`.

    Returns:
        ``folds``, the case ids of each fold, as equal in patients as can be, and ``files``, what they are made of.

    Raises:
        InputError: no label maps, or those of fewer patients than folds; or a kept plan of other files or folds.
    """
    labels_dir = Path(dataset) / "labelsTr"
    label_maps = {case["case"]: case[LABEL] for case in find_references(dataset, layout=layout)[0]}
    patient = dict(zip(label_maps, patients_of(list(label_maps), patients), strict=True))
    if (count := len(set(patient.values()))) < folds:
        raise InputError(f"{labels_dir}: {folds} folds need as many label maps, each of another patient, found {count}")
    order = np.array(list(dict.fromkeys(patient.values())), dtype=object)
    shuffled = np.random.default_rng(seed).permutation(order).tolist()
    fold_of = {name: number % folds for number, name in enumerate(shuffled)}
    dealt = [sorted(case for case in label_maps if fold_of[patient[case]] == fold) for fold in range(folds)]
    plan = {"folds": dealt, "files": [file_identity(path) for path in label_maps.values()]}
    path = Path(output) / PLAN
    if path.is_file() and load_json(path) != plan:
        raise InputError(
            f"{output}: holds the audit of other label maps or in other folds: name another output folder, or remove it"
        )
    return plan


def standardise(scores: np.ndarray | float, calibration: np.ndarray) -> np.ndarray:
    """Scores in robust deviations from usual references: ``(score - median) / (1.4826 * MAD)``, same shape.

    If most held-out references are alike (MAD 0), their standard deviation is used, and 1 if that is 0, too.

    Args:
        scores: anomaly scores, higher = worse.
        calibration: those of the same model's held-out references, ``(n,)``; NaN are left out.
    """
    references = np.asarray(calibration, dtype=np.float64)
    references = references[np.isfinite(references)]
    if not len(references):
        return np.full(np.shape(scores), np.nan)
    median, spread = robust_scale(references)
    return np.asarray((np.asarray(scores, dtype=np.float64) - median) / spread)


def merge_folds(folds: Sequence[Ranking], dataset: str | Path, output: str | Path) -> Ranking:
    """Writes one ranking of all references to ``output``, made of those of the folds, and returns it."""
    each = [dict(fold.summary["settings"]) for fold in folds]
    failure_dice = each[0].pop("failure_dice")
    arrays = [load_arrays(Path(fold["model_dir"]) / STATISTICS_FILE) for fold in each]
    models = common_spread([AnomalyModel.from_arrays(fold_arrays) for fold_arrays in arrays])
    settings = {
        **each[0],
        "model_dir": [fold["model_dir"] for fold in each],
        "weights_sha256": [fold["weights_sha256"] for fold in each],
        "anomaly_score": [
            fold["anomaly_score"] + (", standardised" if model is None else "")
            for fold, model in zip(each, models, strict=True)
        ],
        "predictions_dir": [str(Path(dataset) / "labelsTr")],
        "folds": len(folds),
    }
    calibration = [_calibration(fold_arrays, model) for fold_arrays, model in zip(arrays, models, strict=True)]
    results = [
        _comparable(result, fold_arrays, model, scores, settings["alpha"])
        for fold, fold_arrays, model, scores in zip(folds, arrays, models, calibration, strict=True)
        for result in fold.results
    ]
    seconds = float(np.mean([fold.summary["seconds_per_case"] for fold in folds]))
    merged = flagged_by_rate(ranked(results), None)
    return Ranking(merged, ResultsWriter(output, settings, failure_dice, np.concatenate(calibration))(merged, seconds))


def common_spread(models: Sequence[AnomalyModel]) -> Sequence[AnomalyModel | None]:
    """Models of the rule ``deviation`` with the median of their spreads in place of their own; None of other rules."""
    if not all(isinstance(model.fitted, LargestDeviationRule) for model in models):
        return [None] * len(models)
    scale = np.median([model.fitted.arrays["scale"] for model in models], axis=0)
    common = [replace(model.fitted, arrays={**model.fitted.arrays, "scale": scale}) for model in models]
    return [replace(model, fitted=rule) for model, rule in zip(models, common, strict=True)]


def _calibration(arrays: Mapping[str, np.ndarray], model: AnomalyModel | None) -> np.ndarray:
    """Scores of references that a model has not seen, comparable between folds.

    Those of calibration alone, where the spreads are common to all folds: deviations are fitted to those of selection.
    """
    if model is not None:
        levels = stored_levels(arrays, "calibration")
        empty = arrays.get("calibration_empty", np.zeros(len(arrays["calibration"]), dtype=bool))
        return model.score(levels, empty[: len(arrays["calibration"])])  # those of selection come last
    return standardise(arrays["calibration_scores"], arrays["calibration_scores"])


def _comparable(
    result: Result, arrays: Mapping[str, np.ndarray], model: AnomalyModel | None, calibration: np.ndarray, alpha: float
) -> Result:
    """A result with scores comparable between folds, of a fold with these calibration scores."""
    if isinstance(result, FailedCase):
        return result
    columns = zip(result.structures, arrays["calibration_structures"].T, strict=True)  # one per structure
    structures = tuple(
        replace(entry, anomaly=float(standardise(entry.anomaly, reference_scores)))
        for entry, reference_scores in columns
    )
    result = replace(result, structures=structures)
    if model is None:
        score = float(standardise(result.decision.anomaly, arrays["calibration_scores"]))
        return replace(result, decision=replace(result.decision, anomaly=score))
    score = float(model.score(stack_levels([result.levels]), result.decision.empty_as_some)[0])
    decision = result.decision.rescored(score, calibration, alpha)
    reason = _reason(result, model) if decision.flagged else result.reason
    return replace(result, decision=decision, reason=reason)


def _reason(result: CaseResult, model: AnomalyModel) -> str:
    """How a map differs from what is expected, and the statistic by which it is most unusual, which is its score."""
    statistic, deviations = model.fitted.most_unusual(stack_levels([result.levels]))
    others = [part for part in result.reason.split("; ") if not part.startswith(STANDS_OUT)]  # by the fold's own rule
    return joined("; ".join(others), unusual_sentence(statistic_named(statistic).words, deviations))
