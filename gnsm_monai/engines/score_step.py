"""One step of a scoring engine: a case in, its anomaly score out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine
from monai.data import MetaTensor

from gnsm_monai.data.constants import FILE_AFFINE, FILE_SHAPE
from gnsm_monai.data.readers import check_memory
from gnsm_monai.data.transforms import IMAGE, LABEL, SOFT, encode_labels, one_line
from gnsm_monai.errors import InputError
from gnsm_monai.rules.anomaly import AnomalyModel
from gnsm_monai.rules.calibration import Calibration, p_values
from gnsm_monai.rules.levels import CaseStatistics, stack_levels
from gnsm_monai.scoring.planes import file_axes, file_index, picture_of, worst_place, worst_slices
from gnsm_monai.scoring.reasons import explain
from gnsm_monai.scoring.reference_images import ReferenceImages, case_smoothness
from gnsm_monai.scoring.reference_shapes import ReferenceShapes
from gnsm_monai.scoring.scorer import Scorer
from gnsm_monai.scoring.wording import joined

__all__ = ["ScoreStep", "single_case"]


def single_case(batch: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """``collate_fn`` for batches of one case: sizes differ, and scores must not depend on a neighbour."""
    (case,) = batch
    return case


BYTES_PER_VOXEL, BYTES_PER_CLASS_AND_LEVEL = 1200, 85
"""Of memory per voxel on a CPU (measured with 16 channels; 3, 25 and 104 classes; one and two levels at once)."""

PREDICTED = ("predicted_dice", "predicted_dice_low", "predicted_dice_high")


class ScoreStep:
    """``iteration_update`` of MONAI's ``SupervisedEvaluator``: scores one case.

    The batch is a case as :class:`gnsm_monai.data.transforms.CaughtErrors` gives it. The output is the case's row of
    ranking.csv with ``levels``, its level statistics by name, ``(L,)`` each, ``structures`` (rows of structures.csv),
    ``worst_slices`` (one index per array axis of the file), ``picture`` (planes through the worst place) and
    ``anomaly_map`` on the model's grid with the affines and the shape that bring it to the file. A case that cannot be
    scored has status ``failed`` and a message.

    Args:
        scorer: gives the level statistics.
        model: turns them into the anomaly score.
        calibration: turns the score into p-values and a predicted Dice.
        structures: name and classes of each foreground structure.
        never_empty: whether every reference has a structure, so that an empty mask is the worst possible one.
        alpha: a mask is flagged where its p-value is no higher.
        failure_dice: Dice below which a mask is a failure, for the probability of it.
        images: of the references, where the network sees images: the reason then names an image unlike theirs.
        shapes: of the references.
    """

    def __init__(
        self,
        scorer: Scorer,
        model: AnomalyModel,
        calibration: Calibration,
        structures: Mapping[str, Sequence[int]],
        never_empty: bool,
        alpha: float = 0.05,
        failure_dice: float = 0.7,
        images: ReferenceImages | None = None,
        shapes: ReferenceShapes | None = None,
    ) -> None:
        self.scorer, self.model, self.calibration = scorer, model, calibration
        self.structures, self.classes = tuple(structures), tuple(structures.items())
        self.never_empty, self.alpha, self.failure_dice = never_empty, alpha, failure_dice
        self.images, self.shapes = images, shapes

    def __call__(self, engine: Engine, case: Mapping[str, Any]) -> dict[str, Any]:
        row = {"case": case["case"], "folder": case.get("folder", "")}
        if "message" in case:
            return {**row, "status": "failed", "message": case["message"]}
        try:
            return {**row, "status": "ok", **self._score(engine, case)}
        except Exception as error:  # one bad case must not stop the others
            return {**row, "status": "failed", "message": one_line(error, case["case"])}

    def _score(self, engine: Engine, case: Mapping[str, Any]) -> dict[str, Any]:
        network = engine.network  # type: ignore[attr-defined]
        network.eval()
        label = case[LABEL].as_tensor()[None].to(engine.state.device)  # type: ignore[attr-defined]
        if label.device.type == "cpu":  # a GPU raises an error that is caught; here the kernel would end the process
            levels = self.scorer.levels_at_once(label.numel() * network.num_classes)
            _check_memory(case[LABEL], BYTES_PER_CLASS_AND_LEVEL * levels * network.num_classes)
        soft = case[SOFT].as_tensor()[None].to(label.device) if SOFT in case else None
        probabilities, observed = encode_labels(label, network.num_classes, soft)
        image = case[IMAGE].as_tensor()[None].to(label.device) if IMAGE in case and network.image_channels else None
        weights = self.model.level_weights
        statistics = self.scorer(network, probabilities, observed, image, weights, shapes=self.shapes)
        anomaly = float(self.model.score(stack_levels([statistics.levels]))[0])
        if not np.isfinite(anomaly):
            raise InputError(f"{case['case']}: the anomaly score is no number")
        # Nothing segmented where every reference has something; the ranking puts such masks first.
        empty = self.never_empty and not bool(torch.any(label > 0))
        anomaly = max(anomaly, self.model.worst) if empty else anomaly
        p_value = float(p_values(np.array(anomaly), self.calibration.scores))
        predicted = self.calibration.dice.predict(np.array(anomaly))
        return {
            "anomaly_score": anomaly,
            "p_value": p_value,
            "flag": int(p_value <= self.alpha),
            **dict(zip(PREDICTED, predicted.tolist(), strict=True)),
            "failure_probability": float(
                self.calibration.dice.failure_probability(np.array(anomaly), self.failure_dice)
            ),
            "empty": empty,
            "soft": soft is not None,
            "dice": None if case.get("dice") is None else _nanmean(case["dice"]),
            "levels": statistics.levels,
            **self._structures(case, statistics),
            **self._places(case, statistics),
        }

    def _structures(self, case: Mapping[str, Any], statistics: CaseStatistics) -> dict[str, Any]:
        anomaly = self.model.structure_scores(statistics.structures)
        columns = {
            "structure": self.structures,
            "anomaly_score": anomaly.tolist(),
            "p_value": self.calibration.structure_p_values(anomaly).tolist(),
            "volume_ml": case["volume_ml"].tolist(),
            "dice": [None] * len(self.structures) if case.get("dice") is None else case["dice"].tolist(),
        }
        worst = self.structures[int(np.nanargmax(anomaly))] if np.isfinite(anomaly).any() else ""
        rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        return {"worst_structure": worst, "structures": rows}

    def _places(self, case: Mapping[str, Any], statistics: CaseStatistics) -> dict[str, Any]:
        """Where the mask is worst, by indices of its file."""
        label, anomaly = case[LABEL], statistics.anomaly_map
        grid, file = label.affine.numpy(), np.asarray(label.meta[FILE_AFFINE], dtype=np.float64)
        shape = label.meta[FILE_SHAPE]
        image = case[IMAGE].as_tensor()[0].numpy() if IMAGE in case else None
        place, mask = worst_place(anomaly, statistics.band), label.as_tensor()[0].numpy()
        picture = picture_of(place, mask, anomaly, image, grid, file, shape)
        reason = ""
        if self.scorer.parametrisation == "posterior":
            reason = explain(mask, statistics.denoised, self.classes, np.linalg.norm(grid[:-1, :-1], axis=0).tolist())
        if self.images is not None and IMAGE in case:
            reason = joined(self.images.finding(case_smoothness(case)), reason)
        where = {
            "reason": reason,
            "picture": picture,
            "anomaly_map": anomaly,
            "affine": grid,
            FILE_AFFINE: file,
            FILE_SHAPE: shape,
        }
        if anomaly.ndim == 2:
            return where
        slices, means = worst_slices(anomaly, statistics.band)
        in_file, axes = file_index(slices, grid, file, shape), file_axes(grid, file)
        axis = axes[int(np.argmax(means))]
        return {**where, "worst_slices": in_file, "worst_slice_axis": axis, "worst_slice": in_file[axis]}


def _check_memory(label: MetaTensor, for_classes: int) -> None:
    """Raises InputError where the grid, grown to hold a whole mask, is too large for this machine."""
    size = " x ".join(str(n) for n in label.shape[1:])
    try:
        check_memory(label[0].numel() * (BYTES_PER_VOXEL + for_classes), f"its structures need a grid of {size} voxels")
    except ValueError as error:
        raise InputError(f"{label.meta.get('filename_or_obj', 'label map')}: {error}") from None


def _nanmean(values: np.ndarray) -> float:
    """Mean of what is defined; NaN where nothing is."""
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else float("nan")
