"""What was found of one predicted mask: plain data that nothing changes on its way from the engine to the files."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import numpy as np

from gnsm_monai.explain.planes import CasePicture, SliceScores
from gnsm_monai.rules.levels import LevelStatistics
from gnsm_monai.scoring.contacts import structure_weights
from gnsm_monai.scoring.decision import UNTOLD, Decision, PredictedValue

__all__ = [
    "AnomalyMap", "CaseResult", "Correction", "FailedCase", "Place", "Result", "StructureResult", "by_folder", "scored",
]  # fmt: skip


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
        contacts: how unusual it is what the structure touches, higher = worse, 0 is usual
            (:class:`gnsm_monai.scoring.contacts.ReferenceContacts`); NaN where the model does not know contacts.
    """

    name: str
    anomaly: float
    p_value: float
    volume_ml: float
    dice: float | None = None
    predicted_dice: PredictedValue = UNTOLD
    distance: PredictedValue = UNTOLD
    contacts: float = math.nan

    @property
    def severity(self) -> float:
        """What structures of a mask are compared by: the score times the weight of the contacts, if these are known."""
        return float(self.anomaly * structure_weights(np.array(np.nan_to_num(self.contacts))))


@dataclass(frozen=True)
class Place:
    """Where a mask is worst.

    Args:
        structure: with the highest anomaly times the weight of its contacts; empty where no structure has one.
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
class Correction:
    """A change of labels that alone makes a mask like the references.

    Args:
        change: what is changed, in words.
        moves: number in the file, and the number that it should be, of those that change; None where the file has no
            number for a structure that it should hold.
        axis: array axis of the file along which the mask is turned round; None where it stays as it lies.
        decision: of the changed mask.
    """

    change: str
    moves: tuple[tuple[int, int], ...] | None
    axis: int | None
    decision: Decision


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
        note: which of its other files were not used, or not as they are, and why; one line, empty where all were.
        levels: level statistics by name, ``(L,)`` float64 each.
        dice: mean over structures; NaN where neither mask nor reference has any, None without a reference.
        soft: whether probabilities were scored.
        picture: slices through the worst place; empty where they are not kept.
        thumbnail: packed, see :func:`gnsm_monai.report.strips.thumbnail`.
        anomaly_map: for those who write maps; need not be kept of every case.
        slices: scores of its slices; None of a 2D mask.
        correction: what makes it usual, where a change of labels alone does.
        complete: whether everything was measured; False where it is what the rule reads, and what the files tell.
        disagreement: 1 - mean Dice with other models' masks of the case; NaN without any.
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
    note: str = ""
    picture: CasePicture = ()
    thumbnail: np.ndarray | None = None
    anomaly_map: AnomalyMap | None = None
    slices: SliceScores | None = None
    correction: Correction | None = None
    complete: bool = True
    disagreement: float = math.nan

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
