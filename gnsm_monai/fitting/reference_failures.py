"""Failures of known Dice, made from held-out references: what a score is chosen on and Dice is predicted from."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from gnsm_monai.data.compare import foreground_dice, surface_distances
from gnsm_monai.data.constants import IGNORE_INDEX, IMAGE, LABEL
from gnsm_monai.data.degradations import KINDS, degrade_like_a_segmenter
from gnsm_monai.data.references import References
from gnsm_monai.data.transforms import FitToGridd
from gnsm_monai.errors import InputError
from gnsm_monai.files import one_line
from gnsm_monai.fitting.segmenter import EarlySegmenter
from gnsm_monai.rules.rule import OTHER
from gnsm_monai.time_limit import NO_LIMIT, TimeLimit

__all__ = ["SOURCES", "Failure", "FailurePlan", "ReferenceFailures", "kinds_in_turn"]

SOURCES = ("auto", "networks", "copies")
"""Where failures come from: ``copies``: degraded copies of label maps; ``networks``: those, and masks of a small
network that segments the references' images; ``auto``: the second where the data set has an image of every reference.
"""

MAX_CASES, MIN_CASES = 32, 4
"""Most references that the small network learns from. More would not make its failures more useful."""

OTHERS = 2
"""Maps of other references per reference that the rule is selected on."""

MIN_SNAPSHOTS = 3
"""Fewest copies of the small network: those before have learnt too little to make more than noise."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Failure:
    """A bad mask made from a reference.

    Args:
        kind: in what way it is bad.
        case: with the mask as ``label``, and the image that the network saw.
        structure_dice: of each structure to the reference, ``(S,)``; NaN where neither has it.
        distances: mean surface distance of each structure in mm, ``(S,)``; NaN where not both have it.
        of_network: whether it is a mask of a network.
    """

    kind: str
    case: dict[str, Any]
    structure_dice: np.ndarray
    distances: np.ndarray
    of_network: bool = False

    @property
    def maker(self) -> str:
        """What made it: degraded copies are of one maker, masks of a network's stages as well."""
        return "copy" if self.kind in KINDS else self.kind.rstrip("_0123456789")

    @property
    def dice(self) -> float:
        """Mean over the structures that are in either map."""
        return float(self.structure_dice[~np.isnan(self.structure_dice)].mean())


@dataclass(frozen=True)
class FailurePlan:
    """Which failures are made from each reference of one use.

    Args:
        stream: of the random numbers, one per use.
        copies: degraded copies, half as many where there are masks of a network too.
        masks: of the small network; None for all that it can make.
        empty: whether to add an empty mask.
        others: maps of other references, each as it is.
    """

    stream: int
    copies: int
    masks: int | None
    empty: bool = True
    others: int = 0


class ReferenceFailures:
    """Makes failures from references.

    Args:
        references: the reference cases.
        source: of :data:`SOURCES`.
        copies: degraded copies per reference that the rule is selected on, of changing kind and random severity; half
            as many, and all masks that the small network makes, where there is one.
        calibration_copies: the same per reference kept for calibration, for the interval of the predicted Dice; half
            of them masks of the small network, where there is one.
        seed: of the degradations and of the small network.
        device: where the small network runs.

    Raises:
        InputError: ``networks`` where not every reference has an image.
    """

    def __init__(
        self,
        references: References,
        source: str = "auto",
        copies: int = 8,
        calibration_copies: int = 4,
        seed: int = 0,
        device: str | torch.device = "cpu",
    ) -> None:
        self.references, self.source, self.seed, self.device = references, source, seed, device
        if source == "networks" and references.images is None:
            raise InputError("failures: 'networks' needs an image of every reference in imagesTr")
        self.plans = {
            "selection": FailurePlan(0, copies, None, others=OTHERS),
            "calibration": FailurePlan(1, calibration_copies, calibration_copies // 2),
        }
        self.segmenter: EarlySegmenter | None = None

    def train_segmenter(self, limit: TimeLimit = NO_LIMIT) -> None:
        """Trains the small network on images of training references, where ``source`` wants one and there are some.

        Where the limit leaves too little time, there is none, and failures are degraded copies alone.

        Raises:
            InputError: ``networks`` where too few images can be read.
        """
        if self.source != "copies" and self.references.images is not None:
            self.segmenter = self._trained(limit)
        if limit.over and self.segmenter is None:
            logger.warning("the small segmentation network got too little time: failures are degraded copies alone")
        elif self.source == "networks" and self.segmenter is None:
            raise InputError(f"failures: 'networks' needs {MIN_CASES} images of training references that can be read")

    def of(
        self, case: Mapping[str, Any], maps: Mapping[str, Any], number: int, plan: FailurePlan, share: float = 1
    ) -> Iterator[Failure]:
        """Failures of one reference; an empty reference has nothing to fail at.

        Args:
            case: the reference.
            maps: its maps, of :meth:`References.maps_of`.
            number: of the reference among those of its use.
            plan: which failures.
            share: of them, in (0, 1], where time does not allow all; at least one of each sort is made.
        """
        label = maps[LABEL][0].numpy()
        if not (label > 0).any():
            return
        copies = plan.copies
        shown = self.with_image(case) if self.segmenter else None
        if self.segmenter and shown is not None:
            copies = (copies + 1) // 2
            kinds = self._kinds(self.segmenter)
            masks = len(kinds) if plan.masks is None else plan.masks
            in_turn = kinds if plan.masks is None and share == 1 else kinds_in_turn(kinds, number, _some(masks, share))
            for kind in in_turn:
                failed = self.segmenter.mask(shown, kind, [self.seed, plan.stream, number])
                yield self._failure(kind, failed, shown[LABEL][0].numpy(), of_network=True)
        copies = _some(copies, share)
        for copy in range(copies):
            kind = KINDS[(number * copies + copy) % len(KINDS)]  # each reference continues where the last one ended
            rng = np.random.default_rng([self.seed, plan.stream, number, copy])
            worse = degrade_like_a_segmenter(
                label, kind, rng, self.references.scheme.num_classes, self.references.voxel_size
            )
            yield self._failure(kind, {**maps, LABEL: maps[LABEL].new_tensor(worse[None])}, label)
        for other in self._others(case, number, plan):  # few: a share of the time leaves them as they are
            yield self._failure(OTHER, {**maps, LABEL: maps[LABEL].new_tensor(other[None])}, label)
        if plan.empty:
            nothing = np.where(label == IGNORE_INDEX, label, 0)
            yield self._failure("empty", {**maps, LABEL: maps[LABEL].new_tensor(nothing[None])}, label)

    def _others(self, case: Mapping[str, Any], number: int, plan: FailurePlan) -> Iterator[np.ndarray]:
        """Maps of other references on the field of view of a case: as whole as any, and wrong."""
        cases = [c for c in self.references.used_for("train") if c["case"] != case["case"]]
        rng = np.random.default_rng([self.seed, plan.stream, number])
        size = self.references.stored.label(dict(case)).shape[1:]
        for place in rng.permutation(len(cases))[: plan.others]:
            other = {LABEL: self.references.stored.label(cases[place])}
            values = FitToGridd(size)(other)[LABEL][0].numpy()
            yield np.where(values == IGNORE_INDEX, 0, values)

    def most(self, plan: FailurePlan) -> int:
        """How many failures are made from one reference."""
        if self.segmenter is None:
            return plan.copies + plan.others + plan.empty
        masks = len(self._kinds(self.segmenter)) if plan.masks is None else plan.masks
        return masks + (plan.copies + 1) // 2 + plan.others + plan.empty

    def _kinds(self, segmenter: EarlySegmenter) -> list[str]:
        """Of the small network's masks; a model of label maps alone would see the damaged ones twice."""
        return [*segmenter.kinds, *(segmenter.damaged_kinds if self.references.image_channels else [])]

    def with_image(self, case: Mapping[str, Any], grow: bool = True) -> dict[str, Any] | None:
        """The case with its image on the model's grid; None, and a warning, where the image cannot be read."""
        try:
            maps = self.references.maps_with_image(dict(case))
            return dict(FitToGridd(self.references.spatial_size, grow, [LABEL, IMAGE])(maps))  # type: ignore[arg-type]
        except Exception as error:  # each reader raises its own kinds
            reason = one_line(error, f"image of case '{case['case']}'")
            logger.warning("no failures of a network are made from this case: %s", reason)
            return None

    def _failure(self, kind: str, case: dict[str, Any], reference: np.ndarray, of_network: bool = False) -> Failure:
        label, scheme = case[LABEL][0].numpy(), self.references.scheme
        dice = foreground_dice(label, reference, scheme.num_classes, scheme.structure_classes)
        spacing, structures = self.references.voxel_size, scheme.structure_classes
        distances = surface_distances(label, reference, scheme.num_classes, spacing, structures)
        return Failure(kind, case, dice, distances, of_network)

    def _trained(self, limit: TimeLimit) -> EarlySegmenter | None:
        cases: list[Mapping[str, Any]] = []
        for case in self.references.used_for("train"):
            if len(cases) < MAX_CASES and not limit.over and (shown := self.with_image(case, grow=False)) is not None:
                cases.append(shown)
        if len(cases) < MIN_CASES or len({len(case[IMAGE]) for case in cases}) > 1 or limit.over:
            return None
        logger.info(
            "training a small segmentation network on %d references, whose failures the score learns", len(cases)
        )
        segmenter = EarlySegmenter.train(cases, self.references, self.seed, self.device, limit=limit)
        if len(segmenter.snapshots) < MIN_SNAPSHOTS:
            return None
        if limit.over:
            logger.info("the small segmentation network: %d steps, as time allowed", max(segmenter.snapshots))
        return segmenter


def _some(count: int, share: float) -> int:
    """A share of a number; of more than none at least one."""
    return count if share == 1 else min(count, max(1, round(count * share)))


def kinds_in_turn(kinds: Sequence[str], number: int, count: int) -> list[str]:
    """``count`` kinds of masks for the reference of that ``number``, so that all kinds have their turn.

    Masks of sound and of poor images alternate in the list, a pair for each copy of the small network. The step of 5 is
    odd, so that a reference gets both sorts, and prime to lengths that are no multiple of 5, so that it gets no kind
    twice before all have come. The next reference begins ``count`` kinds further on.
    """
    return [kinds[(number * count + 5 * i) % len(kinds)] for i in range(count)]
