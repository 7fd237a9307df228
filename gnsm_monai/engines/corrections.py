"""Masks whose labels alone are wrong: the change that makes them usual, as the score network judges it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from monai.data import MetaTensor
from monai.utils import convert_to_dst_type

from gnsm_monai.data.class_index import label_values, matched_values
from gnsm_monai.data.constants import FILE_AFFINE, IMAGE, LABEL, LABEL_NAMES, LOST_CLAIMS
from gnsm_monai.data.label_names import name_key
from gnsm_monai.data.loading import LoadMapsd
from gnsm_monai.data.nnunet import LabelScheme
from gnsm_monai.explain.displacement import joint_counts
from gnsm_monai.explain.findings import Finding
from gnsm_monai.explain.planes import file_axes
from gnsm_monai.explain.relabelling import best_relabelling, chain_shifts, relabelling_findings
from gnsm_monai.explain.sentences import Words, joined
from gnsm_monai.model.trained import TrainedModel
from gnsm_monai.rules.calibration import flag_threshold, smallest_p_value
from gnsm_monai.scoring.decision import Decision
from gnsm_monai.scoring.result import CaseResult, Correction, Result

__all__ = ["Corrections", "changed_values"]

MAX_TRIED = 3  # changes of one mask that the network is asked about
MIN_GAIN = 0.02  # by which a change must improve the agreement with where the references' structures lie
MIN_MIRROR_GAIN = 0.1  # the same for a mirror image: references that are nearly symmetric do not tell it
MIN_SHARE = 2 / 3  # of the excess over the flag threshold that must go

Moves: TypeAlias = Sequence[tuple[int, int]]


def changed_values(values: npt.NDArray[Any], moves: Sequence[tuple[int, int]], axis: int | None) -> npt.NDArray[Any]:
    """The values of a file after a :class:`gnsm_monai.scoring.result.Correction`, of the same shape and type.

    Args:
        values: whole numbers, (*spatial).
        moves, axis: of the correction.
    """
    changed = values.copy()
    whole = np.rint(values)
    for before, after in moves:
        changed[whole == before] = after
    return changed if axis is None else np.flip(changed, axis)


@dataclass(frozen=True)
class _Numbered:
    """A label map with the model's numbers, and the file's number for each of them; None where they are the same."""

    label: MetaTensor
    numbers: Mapping[int, int] | None

    @classmethod
    def of(cls, label: MetaTensor, scheme: LabelScheme, path: str) -> _Numbered:
        values = label_values(label, path)
        matched = matched_values(values, label.meta, scheme, path)
        names: Mapping[int, str] = label.meta.pop(LABEL_NAMES, {})
        label.meta.pop(LOST_CLAIMS, None)
        keys = {name_key(name): n for n, name in names.items()}
        of_model = dict(zip(scheme.values[1:], scheme.names, strict=True))
        numbers = {value: keys[name_key(name)] for value, name in of_model.items() if name_key(name) in keys}
        if matched is values and (scheme.regions or not numbers):
            return cls(label, None)
        if matched is values:  # those of absent structures may differ all the same
            numbers = {value: value for value in scheme.values if value not in names} | numbers
        return cls(convert_to_dst_type(matched, label, dtype=matched.dtype)[0], numbers)

    def in_file(self, moves: Moves) -> tuple[tuple[int, int], ...] | None:
        """Moves between numbers of the model as those of the file; None where the file has no number for one."""
        if self.numbers is None:
            return tuple(moves)
        if not {n for move in moves for n in move} <= self.numbers.keys():
            return None
        return tuple((self.numbers[before], self.numbers[after]) for before, after in moves)


@dataclass(frozen=True)
class _Change:
    """A change that may be tried, on the grid and in words."""

    findings: Sequence[Finding]
    moves: tuple[tuple[int, int], ...] = ()
    grid_axis: int | None = None


class Corrections:
    """Finds what change of labels alone would make a suspect mask usual.

    A mask is suspect if its p-value is at most alpha, or if no reference scores as high. The changes are the best
    assignment of its structures to where the references' structures lie, the best assignment to the network's denoised
    version, mirror images, and shifts by one along chains of structures. At most :data:`MAX_TRIED` of them, those that
    agree better with the places of the references' structures, are read and scored like any mask. A change holds if
    the score falls by at least as much as lies between the flag threshold and the references' median, and at least
    two thirds of its excess over the threshold are gone.

    Args:
        model: what judges.
        preprocessing: a case's files to maps on the grid.
        cases: files of each case.
        alpha: see :class:`gnsm_monai.engines.ScoreStep`.
    """

    def __init__(
        self,
        model: TrainedModel,
        preprocessing: Callable[[Any], Any],
        cases: Sequence[Mapping[str, Any]],
        alpha: float = 0.05,
    ) -> None:
        self.model, self.preprocessing = model, preprocessing
        self.files = {case["case"]: {key: case[key] for key in ("case", LABEL, IMAGE) if key in case} for case in cases}
        self.load = LoadMapsd([LABEL], model.settings["spatial_dims"]).load
        scores = np.asarray(model.calibration.scores, dtype=np.float64)
        self.references = scores[np.isfinite(scores)]
        self.alpha = max(alpha, smallest_p_value(self.references))
        threshold = flag_threshold(self.references, self.alpha)
        self.threshold = float(self.references.min(initial=np.inf)) if threshold is None else threshold
        self.names = {classes[0]: name for name, classes in model.structures.items() if len(classes) == 1}

    def __call__(
        self,
        result: CaseResult,
        case: Mapping[str, Any],
        denoised: npt.NDArray[np.integer[Any]],
        score: Callable[[Mapping[str, Any]], Result],
    ) -> CaseResult:
        """The result, with the correction and in its words if there is one.

        Args:
            result: of the mask as it is.
            case: as it was scored.
            denoised: the network's version of the mask, (*spatial).
            score: of a case on the grid.
        """
        if not self._suspect(result.decision) or result.case not in self.files:
            return result
        label = np.maximum(case[LABEL].numpy()[0], 0).astype(np.intp)
        before, tried = self._agreement(label), 0
        loaded = cache(lambda: self._load(result.case))  # once, and only if anything is tried
        for change in self._changes(label, denoised):
            moves = tuple((self.model.scheme.values[a], self.model.scheme.values[b]) for a, b in change.moves)
            changed, axis = self._read(result.case, loaded().label, case[LABEL], moves, change.grid_axis)
            least = MIN_GAIN if change.grid_axis is None else MIN_MIRROR_GAIN
            if "message" in changed or not self._agrees(changed[LABEL], before + least):
                continue
            after = score(changed)
            tried += 1
            if isinstance(after, CaseResult) and self._holds(result.decision, after.decision):
                words = Words(label.ndim)
                text = "; ".join(words.sentence(finding) for finding in change.findings)
                correction = Correction(text, loaded().in_file(moves), axis, after.decision)
                return replace(result, reason=joined(text, after.reason), correction=correction)
            if tried == MAX_TRIED:
                break
        return result

    def _suspect(self, decision: Decision) -> bool:
        empty = decision.empty or decision.empty_as_some
        return len(self.references) > 0 and not empty and decision.p_value <= self.alpha

    def _holds(self, before: Decision, after: Decision) -> bool:
        """Whether the score falls decisively, to what is usual or most of the way."""
        fall = before.anomaly - after.anomaly
        decisive = fall >= self.threshold - float(np.median(self.references)) and fall > 0
        return decisive and after.anomaly - self.threshold <= (1 - MIN_SHARE) * (before.anomaly - self.threshold)

    def _changes(self, label: npt.NDArray[np.intp], denoised: npt.NDArray[Any]) -> Iterator[_Change]:
        """What may be tried, the likeliest first, each once."""
        present = [c for c in sorted(self.names) if (label == c).any()]
        seen: list[dict[int, int]] = [{}]
        size = self.model.network.num_classes
        for profit in (self._places(label), _overlaps(label, denoised, size)):
            if profit is not None:
                profit[:, [c not in self.names for c in range(size)]] = -1
                moves = best_relabelling(profit, present)
                if moves not in seen:
                    seen.append(moves)
                    yield self._relabelling(moves)
        if self.model.network.position_size is not None:
            for axis in range(label.ndim):
                yield _Change([Finding("mirrored", places=((axis, 1),))], grid_axis=axis)
        for moves in chain_shifts(self.names, present, size):
            if moves not in seen:
                yield self._relabelling(moves)

    def _relabelling(self, moves: dict[int, int]) -> _Change:
        return _Change(relabelling_findings(moves, self.names), tuple(sorted(moves.items())))

    def _load(self, name: str) -> _Numbered:
        return _Numbered.of(self.load(self.files[name][LABEL]), self.model.scheme, str(self.files[name][LABEL]))

    def _read(
        self, name: str, loaded: MetaTensor, label: MetaTensor, moves: Moves, grid_axis: int | None
    ) -> tuple[dict[str, Any], int | None]:
        """The changed mask on the grid, as if it were in a file, and the axis of the file that is turned round."""
        axis = None
        if grid_axis is not None:
            axis = file_axes(label.affine.numpy(), np.asarray(loaded.meta[FILE_AFFINE]))[grid_axis]
        values = changed_values(loaded.numpy()[0], moves, axis)
        changed = convert_to_dst_type(values[None].copy(), loaded, dtype=values.dtype)[0]
        return dict(self.preprocessing({**self.files[name], LABEL: changed})), axis

    def _places(self, label: npt.NDArray[np.intp]) -> npt.NDArray[np.float64] | None:
        """Mean probability of each class in the references where a mask has each class, (K, K).

        None for a network that is not told places.
        """
        network = self.model.network
        if network.position_size is None:
            return None
        log_prior = network.log_prior.cpu().numpy()
        classes = label[label > 0]
        voxels = []
        for place, size, usual in zip(np.nonzero(label), label.shape, log_prior.shape[1:], strict=True):
            voxels.append(np.clip(place + (usual - size) // 2, 0, usual - 1))  # centred, its edge repeated outside
        count = len(log_prior)
        sums = [np.bincount(classes, np.exp(prior[tuple(voxels)]), minlength=count) for prior in log_prior]
        return np.asarray(np.stack(sums, axis=1) / np.maximum(np.bincount(classes, minlength=count), 1)[:, None])

    def _agreement(self, label: npt.NDArray[np.intp]) -> float:
        """Mean probability of the classes of a mask where they are, over its structures; 0 without places."""
        places = self._places(label)
        if places is None:
            return 0.0
        present = np.unique(label[label > 0])
        return float(np.diag(places)[present].mean()) if len(present) else 0.0

    def _agrees(self, label: MetaTensor, least: float) -> bool:
        if self.model.network.position_size is None:
            return True
        return self._agreement(np.maximum(label.numpy()[0], 0).astype(np.intp)) >= least


def _overlaps(
    label: npt.NDArray[np.intp], denoised: npt.NDArray[np.integer[Any]], num_classes: int
) -> npt.NDArray[np.float64]:
    """Dice of each class of a mask and each of its denoised version, (K, K)."""
    joint = joint_counts(label, np.maximum(denoised, 0), num_classes)
    sizes = joint.sum(axis=1)[:, None] + joint.sum(axis=0)[None]
    return np.asarray(2 * joint / np.maximum(sizes, 1))
