"""One step of a scoring engine: a case in, its anomaly score out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine

from gnsm_monai.data.transforms import IMAGE, LABEL, SOFT, encode_labels, one_line
from gnsm_monai.errors import InputError
from gnsm_monai.scoring.anomaly import AnomalyModel
from gnsm_monai.scoring.scorer import Scorer

__all__ = ["ScoreStep", "single_case"]


def single_case(batch: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """``collate_fn`` for batches of one case: sizes differ, and scores must not depend on a neighbour."""
    (case,) = batch
    return case


class ScoreStep:
    """``iteration_update`` of MONAI's ``SupervisedEvaluator``: scores one case.

    The batch is a case as :class:`gnsm_monai.data.transforms.CaughtErrors` gives it. The output is the case's row of
    ranking.csv (``case, folder, status, anomaly_score, worst_structure, dice, message``) with ``levels``, its level
    statistics ``(L, S)``, ``structures`` (per structure: anomaly, ``volume_ml``, ``dice``) and ``anomaly_map``. A case
    that cannot be scored has status ``failed`` and a message.

    Args:
        scorer: gives the level statistics.
        model: turns them into the anomaly score.
        structures: names of the foreground structures.
        never_empty: whether every reference has a structure, so that an empty mask is the worst possible one.
    """

    def __init__(self, scorer: Scorer, model: AnomalyModel, structures: Sequence[str], never_empty: bool) -> None:
        self.scorer, self.model = scorer, model
        self.structures, self.never_empty = tuple(structures), never_empty

    def __call__(self, engine: Engine, case: Mapping[str, Any]) -> dict[str, Any]:
        row = {"case": case["case"], "folder": case.get("folder", "")}
        if "message" in case:
            return {**row, "status": "failed", "message": case["message"]}
        try:
            return {**row, "status": "ok", **self._score(engine, case)}
        except Exception as error:  # one bad case must not stop the others
            return {**row, "status": "failed", "message": one_line(error, case["case"])}

    def _score(self, engine: Engine, case: Mapping[str, Any]) -> dict[str, Any]:
        device = engine.state.device  # type: ignore[attr-defined]
        network = engine.network  # type: ignore[attr-defined]
        label = case[LABEL].as_tensor()[None].to(device)
        soft = case[SOFT].as_tensor()[None].to(device) if SOFT in case else None
        probabilities, mask = encode_labels(label, network.num_classes, soft)
        image = case[IMAGE].as_tensor()[None].to(device) if IMAGE in case else None
        network.eval()
        statistics = self.scorer(network, probabilities, mask, image, self.model.level_weights)
        anomaly = float(self.model.score(statistics.levels[None])[0])
        if not np.isfinite(anomaly):
            raise InputError(f"{case['case']}: the anomaly score is no number")
        # Nothing segmented where every reference has something; the ranking puts such masks first.
        empty = self.never_empty and not bool(torch.any(label > 0))
        anomaly = max(anomaly, self.model.worst) if empty else anomaly
        # A structure is defined at some levels only where its denoised version comes and goes.
        per_structure = np.array([_nanmean(levels, self.model.level_weights) for levels in statistics.structures])
        dice = case.get("dice")
        known = np.isfinite(per_structure)
        return {
            "anomaly_score": anomaly,
            "empty": empty,
            "soft": soft is not None,
            "worst_structure": self.structures[int(np.nanargmax(per_structure))] if known.any() else "",
            "dice": None if dice is None else _nanmean(dice),
            "levels": statistics.levels,
            "structures": [
                {"structure": n, "anomaly_score": a, "volume_ml": v, "dice": None if dice is None else d}
                for n, a, v, d in zip(
                    self.structures,
                    per_structure.tolist(),
                    case["volume_ml"].tolist(),
                    [None] * len(self.structures) if dice is None else dice.tolist(),
                    strict=True,
                )
            ],
            "anomaly_map": statistics.anomaly_map,
        }


def _nanmean(values: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Weighted mean of what is defined; NaN where nothing is."""
    shares = np.isfinite(values) * (np.ones(len(values)) if weights is None else weights)
    return float(np.nansum(values * shares) / shares.sum()) if shares.sum() else float("nan")
