"""What was found of one predicted mask: plain data that nothing changes on its way from the engine to the files."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, TypeVar

import numpy as np

from gnsm_monai.explain.planes import CasePicture, SliceScores
from gnsm_monai.rules.calibration import Calibration, p_values
from gnsm_monai.rules.levels import LevelStatistics
from gnsm_monai.rules.predictors import Predictor

__all__ = [
    "AnomalyMap", "CaseResult", "Decision", "FailedCase", "Place", "PredictedValue", "Result", "StructureResult",
    "by_folder", "scored",
]  # fmt: skip


@dataclass(frozen=True)
class PredictedValue:
    """A value that a score lets expect, and its 90 % interval; NaN for what cannot be told."""

    value: float = math.nan
    low: float = math.nan
    high: float = math.nan

    @classmethod
    def of(cls, predictor: Predictor | None, score: float) -> PredictedValue:
        """What ``predictor``, if there is one, says of this score."""
        return cls() if predictor is None else cls(*predictor.predict(np.array(score)).tolist())


@dataclass(frozen=True)
class Decision:
    """What the anomaly score of a mask means, judged by references that were used for nothing else.

    What an empty mask means is decided here and nowhere else. Where every reference has a structure no mask is worse
    than an empty one: it never scores below the worst that is known (:meth:`of`, :meth:`rescored`), it comes before
    all others in a ranking (:attr:`severity`), and it has the highest score there (:meth:`among`).

    Args:
        anomaly: score of the mask, higher = worse.
        p_value: share of references that score as high or higher, in (0, 1]; NaN without references.
        flagged: whether the p-value is at most alpha.
        predicted_dice: Dice that the score lets expect, in [0, 1].
        predicted_dice_low: lower end of its interval.
        predicted_dice_high: upper end of its interval.
        failure_probability: probability of a Dice below the limit of a failure.
        empty: nothing is segmented, and every reference has something.
        distance: mean surface distance in mm that the score lets expect, with its interval.
        q_value: least false-discovery rate at which it is flagged among the masks of its folder, in (0, 1]; NaN before
            the folder is ranked, and where the p-value is.
    """

    anomaly: float
    p_value: float
    flagged: bool
    predicted_dice: float
    predicted_dice_low: float
    predicted_dice_high: float
    failure_probability: float
    empty: bool
    distance: PredictedValue = PredictedValue()
    q_value: float = math.nan

    @classmethod
    def of(
        cls, anomaly: float, empty: bool, worst: float, calibration: Calibration, alpha: float, failure_dice: float
    ) -> Decision:
        """Decides on a mask of this score.

        Args:
            anomaly: score of the mask, higher = worse.
            empty: see the class.
            worst: highest score of the references and of the failures that the model was made with.
            calibration: turns scores into p-values and Dice.
            alpha: a mask is flagged where its p-value is at most this; in (0, 1).
            failure_dice: a mask below this Dice is a failure.
        """
        score = np.array(max(anomaly, worst) if empty else anomaly)
        p_value = float(p_values(score, calibration.scores))
        predicted, low, high = calibration.dice.predict(score).tolist()
        probability = float(calibration.dice.failure_probability(score, failure_dice))
        parts = calibration.parts
        distance = PredictedValue.of(None if parts is None or empty else parts.distance, float(score))
        return cls(float(score), p_value, p_value <= alpha, predicted, low, high, probability, empty, distance)

    def rescored(self, anomaly: float, references: np.ndarray, alpha: float) -> Decision:
        """The same mask by another score, with the p-value among the scores of other references, ``(n,)``."""
        above_all = float(np.nextafter(references.max(), np.inf))
        score = max(anomaly, above_all) if self.empty else anomaly
        p_value = float(p_values(np.array(score), references))
        return replace(self, anomaly=score, p_value=p_value, flagged=p_value <= alpha)

    def among(self, highest: float) -> Decision:
        """As it stands in a ranking of this highest score."""
        return replace(self, anomaly=highest) if self.empty else self

    @property
    def severity(self) -> float:
        """What masks are ranked by, higher = worse: the score, or infinity for an empty mask."""
        return math.inf if self.empty else self.anomaly


@dataclass(frozen=True)
class StructureResult:
    """One structure of a mask: a line of structures.csv.

    Args:
        name: of the structure.
        anomaly: higher = worse; NaN where it is in neither the mask nor its denoised version, and may be missing.
        p_value: share of references whose structure scores as high or higher; NaN where ``anomaly`` is.
        volume_ml: in ml; the area in square centimetres of a 2D mask.
        dice: against the reference; NaN where the structure is in neither, None without a reference.
        predicted_dice: that the scores let expect.
        distance: mean surface distance in mm that they let expect; of a structure that is missing none.
    """

    name: str
    anomaly: float
    p_value: float
    volume_ml: float
    dice: float | None = None
    predicted_dice: PredictedValue = PredictedValue()
    distance: PredictedValue = PredictedValue()


@dataclass(frozen=True)
class Place:
    """Where a mask is worst.

    Args:
        structure: with the highest anomaly; empty where no structure has one.
        slice_axis: array axis of the file that the worst slice lies across; None of a 2D mask.
        slice_index: of the worst slice along that axis, from 0.
    """

    structure: str = ""
    slice_axis: int | None = None
    slice_index: int | None = None


@dataclass(frozen=True)
class AnomalyMap:
    """Anomaly of every voxel on the model's grid, and what brings it to the mask's file.

    Args:
        values: ``(*spatial)`` float32, higher = worse.
        affine: index of the grid to mm, ``(D + 1, D + 1)``.
        file_affine: index of the file to mm, of the same shape.
        file_shape: voxels of the file per axis.
    """

    values: np.ndarray
    affine: np.ndarray
    file_affine: np.ndarray
    file_shape: Sequence[int]


@dataclass(frozen=True)
class CaseResult:
    """A predicted mask that was scored.

    Args:
        case: id.
        folder: name of the folder of masks; empty where there is only one.
        decision: its anomaly score, and what that means.
        structures: one per foreground structure.
        place: where it is worst.
        reason: what is wrong with it, in words; empty where there are none.
        levels: level statistics by name, ``(L,)`` float64 each.
        dice: mean over structures; NaN where neither mask nor reference has any, None without a reference.
        soft: whether probabilities were scored.
        picture: slices through the worst place; empty where they are not kept.
        thumbnail: packed, see :func:`gnsm_monai.report.strips.thumbnail`.
        anomaly_map: for those who write maps; need not be kept of every case.
        slices: scores of its slices; None of a 2D mask.
    """

    status: ClassVar[str] = "ok"

    case: str
    folder: str
    decision: Decision
    structures: tuple[StructureResult, ...]
    place: Place
    reason: str
    levels: LevelStatistics
    dice: float | None = None
    soft: bool = False
    picture: CasePicture = ()
    thumbnail: np.ndarray | None = None
    anomaly_map: AnomalyMap | None = None
    slices: SliceScores | None = None

    @property
    def has_dice(self) -> bool:
        """Whether Dice was measured."""
        return self.dice is not None and not math.isnan(self.dice)

    @property
    def correct_empty(self) -> bool:
        """Whether mask and reference are both empty: Dice is not defined, and nothing has failed."""
        return self.dice is not None and math.isnan(self.dice)


@dataclass(frozen=True)
class FailedCase:
    """A predicted mask that could not be scored.

    Args:
        case: id.
        folder: as of :class:`CaseResult`.
        message: one line that names the file and the reason.
    """

    status: ClassVar[str] = "failed"

    case: str
    folder: str
    message: str


Result = CaseResult | FailedCase


AnyResult = TypeVar("AnyResult", CaseResult, Result)


def by_folder(results: Iterable[AnyResult]) -> dict[str, list[AnyResult]]:
    """The results of each folder, in their order."""
    folders: dict[str, list[AnyResult]] = {}
    for result in results:
        folders.setdefault(result.folder, []).append(result)
    return folders


def scored(results: Iterable[Result]) -> list[CaseResult]:
    """Those that were scored, in their order."""
    return [result for result in results if isinstance(result, CaseResult)]
