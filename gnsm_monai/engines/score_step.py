"""One step of a scoring engine: a case in, its anomaly score out."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine
from monai.data import MetaTensor
from torch import Tensor

from gnsm_monai.data.compare import mean_dice
from gnsm_monai.data.constants import CONTACTS, CROPPED, FILE_AFFINE, FILE_SHAPE, IMAGE, LABEL, SOFT
from gnsm_monai.data.file_checks import check_memory
from gnsm_monai.data.notes import NOTE
from gnsm_monai.data.transforms import encode_labels
from gnsm_monai.engines.case_reason import geometry_reason, reason_of
from gnsm_monai.engines.case_views import case_picture, file_slices, place_of_worst, worst_structure
from gnsm_monai.engines.corrections import Corrections
from gnsm_monai.errors import InputError
from gnsm_monai.explain.sentences import NOT_UNUSUAL, cropped_sentence, joined
from gnsm_monai.files import one_line
from gnsm_monai.model.trained import TrainedModel
from gnsm_monai.rules.calibration import smallest_p_value
from gnsm_monai.rules.levels import CaseStatistics, LevelStatistics, stack_levels
from gnsm_monai.rules.reading import Reading
from gnsm_monai.scoring.contacts import structure_weights
from gnsm_monai.scoring.decision import UNTOLD, Decision, PredictedValue
from gnsm_monai.scoring.result import AnomalyMap, CaseResult, FailedCase, Place, Result, StructureResult
from gnsm_monai.scoring.scorer import Scorer

__all__ = ["ScoreStep", "single_case"]

logger = logging.getLogger(__name__)


def single_case(batch: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """``collate_fn`` for batches of one case: sizes differ, and a score must not depend on other cases."""
    (case,) = batch
    return case


BYTES_PER_VOXEL, BYTES_PER_CLASS_AND_LEVEL = 1200, 85
"""Memory per voxel on a CPU, measured with 16 channels, with 3, 25 and 104 classes, and with one and two levels."""


class ScoreStep:
    """``iteration_update`` of MONAI's ``SupervisedEvaluator``: scores one case.

    The batch is a case as :class:`gnsm_monai.data.loading.CaughtErrors` gives it. The output is a
    :class:`gnsm_monai.scoring.result.CaseResult`, or a ``FailedCase`` with a message where it cannot be scored.

    Args:
        model: turns level statistics into the anomaly score, p-values and a predicted Dice.
        scorer: gives the level statistics, as ``model.scorer(..)`` does.
        alpha: a mask is flagged where its p-value is at most this.
        failure_dice: Dice below which a mask is a failure, for the probability of it.
        corrections: finds the change of labels that makes a suspect mask usual; without it none is sought.
        reading: what the model's rule reads. A mask that is not suspect by it has no other statistics, no maps and no
            reason but that, and no scores of structures if the rule does not ask the network. By default all is
            measured.
    """

    def __init__(
        self,
        model: TrainedModel,
        scorer: Scorer,
        alpha: float = 0.05,
        failure_dice: float = 0.7,
        corrections: Corrections | None = None,
        reading: Reading | None = None,
    ) -> None:
        self.model, self.scorer, self.alpha, self.failure_dice = model, scorer, alpha, failure_dice
        self.corrections, self.reading = corrections, reading
        self.suspect = max(alpha, smallest_p_value(np.asarray(model.calibration.scores, dtype=np.float64)))

    def __call__(self, engine: Engine, case: Mapping[str, Any]) -> Result:
        name, folder = case["case"], case.get("folder", "")
        if "message" in case:
            return FailedCase(name, folder, case["message"])
        try:
            seen = self._seen(engine, case)
            if (brief := self._brief(engine, case, seen)) is not None:
                return brief
            network, shapes = engine.network, self.model.shapes  # type: ignore[attr-defined]
            weights, of_structures = self.model.anomaly.level_weights, structure_weights(case.get(CONTACTS))
            statistics = self.scorer(network, *seen, weights, shapes=shapes, structure_weights=of_structures)
            result = self._result(case, statistics)
            if self.corrections is None:
                return result
            return self._corrected(engine, case, result, statistics)
        except Exception as error:  # one bad case must not stop the others
            return FailedCase(name, folder, one_line(error, name))

    def _corrected(
        self, engine: Engine, case: Mapping[str, Any], result: CaseResult, statistics: CaseStatistics
    ) -> CaseResult:
        assert self.corrections is not None
        again = ScoreStep(self.model, self.scorer, self.alpha, self.failure_dice)
        try:
            return self.corrections(result, case, statistics.denoised, lambda changed: again(engine, changed))
        except Exception as error:  # what goes wrong with a change must not cost the mask its rank
            text = "%s: whether other labels would make it usual is not known: %s"
            logger.warning(text, result.case, one_line(error, result.case))
            return result

    def _seen(self, engine: Engine, case: Mapping[str, Any]) -> tuple[Tensor, Tensor, Tensor | None]:
        """Probabilities, what of them is observed, and the image, for the scorer."""
        network = engine.network  # type: ignore[attr-defined]
        network.eval()
        label = case[LABEL].as_tensor()[None].to(engine.state.device)  # type: ignore[attr-defined]
        if label.device.type == "cpu":  # a GPU raises an error that is caught; on a CPU the process is killed
            levels = self.scorer.levels_at_once(label.numel() * network.num_classes)
            _check_memory(case[LABEL], BYTES_PER_CLASS_AND_LEVEL * levels * network.num_classes)
        soft = case[SOFT].as_tensor()[None].to(label.device) if SOFT in case else None
        image = case[IMAGE].as_tensor()[None].to(label.device) if IMAGE in case and network.image_channels else None
        return *encode_labels(label, network.num_classes, soft), image

    def _brief(
        self, engine: Engine, case: Mapping[str, Any], seen: tuple[Tensor, Tensor, Tensor | None]
    ) -> CaseResult | None:
        """The result by what the rule reads alone; None for a mask of which all is to be measured."""
        if self.reading is None or (len(self.model.anomaly.empty_scores) and not bool((case[LABEL] > 0).any())):
            return None
        network, (probabilities, observed, image) = engine.network, seen  # type: ignore[attr-defined]
        levels, of_structures = self.scorer.read(
            network, probabilities, self.reading, observed, image, self.model.shapes
        )
        decision = self._decision(case, levels)
        if decision.p_value <= self.suspect:
            return None
        structures = self._structures(case, of_structures)
        return CaseResult(
            **self._of_files(case),
            decision=decision,
            structures=structures,
            place=Place(worst_structure(structures)),
            reason=joined(geometry_reason(case, self.model), NOT_UNUSUAL),
            levels=levels,
            complete=False,
        )

    def _of_files(self, case: Mapping[str, Any]) -> dict[str, Any]:
        """What the case's files tell without any scoring, by fields of a result."""
        return {
            "case": case["case"],
            "folder": case.get("folder", ""),
            "dice": None if case.get("dice") is None else mean_dice(case["dice"]),
            "soft": SOFT in case,
            "note": "; ".join(filter(None, [cropped_sentence(case.get(CROPPED)), case.get(NOTE)])),
        }

    def _result(self, case: Mapping[str, Any], statistics: CaseStatistics) -> CaseResult:
        label = case[LABEL]
        file_affine = np.asarray(label.meta[FILE_AFFINE], dtype=np.float64)
        maps = AnomalyMap(statistics.anomaly_map, label.affine.numpy(), file_affine, label.meta[FILE_SHAPE])
        structures = self._structures(case, statistics.structures)
        decision = self._decision(case, statistics.levels)
        return CaseResult(
            **self._of_files(case),
            decision=decision,
            structures=structures,
            place=place_of_worst(structures, maps, statistics.band),
            reason=reason_of(case, statistics, maps, self.model, decision),
            levels=statistics.levels,
            picture=case_picture(case, maps, statistics.band),
            anomaly_map=maps,
            slices=file_slices(maps, statistics.band),
        )

    def _decision(self, case: Mapping[str, Any], levels: LevelStatistics) -> Decision:
        model = self.model
        nothing, never = not bool(torch.any(case[LABEL] > 0)), bool(model.settings["never_empty"])
        one, empty = stack_levels([levels]), nothing and not never
        scores = model.anomaly.score(one, empty)
        if not np.isfinite(scores[0]):
            raise InputError(f"{case['case']}: the anomaly score is no number")
        limits = (model.anomaly.worst, model.calibration, self.alpha, self.failure_dice)
        flagged_by = model.anomaly.flag_scores(scores, one, empty)
        flag_score = None if flagged_by is None else float(flagged_by[0])
        return Decision.of(float(scores[0]), nothing and never, *limits, empty, flag_score)

    def _structures(self, case: Mapping[str, Any], disagreements: np.ndarray) -> tuple[StructureResult, ...]:
        anomaly = self.model.anomaly.structure_scores(disagreements)
        dice = [None] * len(anomaly) if case.get("dice") is None else case["dice"].tolist()
        volumes = case["volume_ml"].tolist()
        predicted = self._predicted(anomaly.tolist(), volumes)
        p_values = self.model.calibration.structure_p_values(anomaly).tolist()
        contacts = case[CONTACTS].tolist() if CONTACTS in case else [math.nan] * len(anomaly)
        columns = (self.model.structures, anomaly.tolist(), p_values, volumes, dice, *predicted, contacts)
        return tuple(StructureResult(*values) for values in zip(*columns, strict=True))

    def _predicted(
        self, anomaly: Sequence[float], volumes: Sequence[float]
    ) -> tuple[list[PredictedValue], list[PredictedValue]]:
        """Dice and distance of each structure."""
        parts = self.model.calibration.parts
        if parts is None:
            return [UNTOLD] * len(anomaly), [UNTOLD] * len(anomaly)
        dice = [PredictedValue.of(one, score) for one, score in zip(parts.structure_dice, anomaly, strict=True)]
        distances = [
            PredictedValue.of(one, score) for one, score in zip(parts.structure_distances, anomaly, strict=True)
        ]
        for i, (volume, needed) in enumerate(zip(volumes, self.model.settings["always_present"], strict=True)):
            if volume == 0:  # at no distance from anything, and without an overlap with what every reference has
                distances[i] = UNTOLD
                dice[i] = PredictedValue(0.0, 0.0, 0.0) if needed else dice[i]
        return dice, distances


def _check_memory(label: MetaTensor, for_classes: int) -> None:
    """Raises InputError where the grid, grown to hold a whole mask, is too large for this machine."""
    size = " x ".join(str(n) for n in label.shape[1:])
    try:
        check_memory(label[0].numel() * (BYTES_PER_VOXEL + for_classes), f"its structures need a grid of {size} voxels")
    except ValueError as error:
        raise InputError(f"{label.meta.get('filename_or_obj', 'label map')}: {error}") from None
