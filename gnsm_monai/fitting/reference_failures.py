"""Failures of known Dice, made from held-out references: what a score is chosen on and Dice is predicted from."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
import torch
from scipy import ndimage

from gnsm_monai.data.compare import foreground_dice, surface_distances
from gnsm_monai.data.constants import IGNORE_INDEX, IMAGE, LABEL
from gnsm_monai.data.degradations import KINDS, degrade_like_a_segmenter, false_structures
from gnsm_monai.data.references import References
from gnsm_monai.data.transforms import FitToGridd
from gnsm_monai.errors import InputError
from gnsm_monai.files import one_line
from gnsm_monai.fitting.failure import Failure, FailurePlan, kinds_in_turn
from gnsm_monai.fitting.segmenter import EarlySegmenter
from gnsm_monai.rules.choice import FALSE
from gnsm_monai.rules.fit_data import OTHER
from gnsm_monai.scoring.forms import outside_largest
from gnsm_monai.time_limit import NO_LIMIT, TimeLimit

__all__ = ["SOURCES", "ReferenceFailures"]

SOURCES = ("auto", "networks", "copies")
"""Where failures come from: ``copies``: degraded copies of label maps; ``networks``: those, and masks of a small
network that segments the references' images; ``auto``: the second where the data set has an image of every reference.
"""

MAX_CASES, MIN_CASES = 32, 4
"""Most references that the small network learns from. More would not make its failures more useful."""

MIN_SNAPSHOTS = 3
"""Fewest copies of the small network: those before have learnt too little to make more than noise."""

MANY, PART = 0.25, 0.05
"""Structures come in any number where so many references hold one with this share outside of its largest part."""

logger = logging.getLogger(__name__)


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
            "selection": FailurePlan(0, copies, None),
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
        """Failures of one reference that can be told from what is right.

        Where structures come in any number, all references fail by false structures, too. An empty mask of an empty
        reference is no failure; of another one it is, but from labels alone nobody can tell.

        Args:
            case: the reference.
            maps: its maps, of :meth:`References.maps_of`.
            number: of the reference among those of its use.
            plan: which failures.
            share: of them, in (0, 1], maps of other references apart; at least one of each sort is made.
        """
        blind = not self.references.never_empty and not self.references.image_channels
        for failure in self._made(case, maps, number, plan, share):
            if not np.isnan(failure.dice) and not (blind and failure.empty):
                yield failure

    def _made(
        self, case: Mapping[str, Any], maps: Mapping[str, Any], number: int, plan: FailurePlan, share: float
    ) -> Iterator[Failure]:
        label = maps[LABEL][0].numpy()
        filled = bool((label > 0).any())
        if not filled and self.references.never_empty:
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
        if self._in_any_number:  # what has no number of its own also appears where it is not
            for copy in range((copies + 1) // 2):
                rng = np.random.default_rng([self.seed, plan.stream, number, copy])
                worse = false_structures(label, self._pieces, rng)
                # They judge beside a network's masks, which are mostly right where there is nothing to segment.
                judges = self.segmenter is not None
                yield self._failure(FALSE, _with(maps, worse), label, judges)
        if not filled:
            return
        for copy in range(copies):
            kind = KINDS[(number * copies + copy) % len(KINDS)]  # each reference continues where the last one ended
            rng = np.random.default_rng([self.seed, plan.stream, number, copy])
            worse = degrade_like_a_segmenter(
                label, kind, rng, self.references.scheme.num_classes, self.references.voxel_size
            )
            yield self._failure(kind, _with(maps, worse), label)
        for other in self._others(case, number, plan) if plan.others else ():
            yield self._failure(OTHER, _with(maps, other), label)
        if plan.empty:
            yield self._failure("empty", _with(maps, np.where(label == IGNORE_INDEX, label, 0)), label)

    def _others(self, case: Mapping[str, Any], number: int, plan: FailurePlan) -> Iterator[np.ndarray]:
        """Maps of other references on the field of view of a case: as whole as any, and wrong."""
        cases = self.references.used_for("train") if self.references.never_empty else []
        rng = np.random.default_rng([self.seed, plan.stream, number])
        size = self.references.stored.label(dict(case)).shape[1:]
        for place in rng.permutation(len(cases))[: plan.others]:
            other = {LABEL: self.references.stored.label(cases[place])}
            values = FitToGridd(size)(other)[LABEL][0].numpy()
            yield np.where(values == IGNORE_INDEX, 0, values)

    def most(self, plan: FailurePlan) -> int:
        """How many failures are made from one reference, maps of other references apart."""
        masks, copies = 0, plan.copies
        if self.segmenter is not None:
            masks = len(self._kinds(self.segmenter)) if plan.masks is None else plan.masks
            copies = (copies + 1) // 2
        false = (copies + 1) // 2 if self._in_any_number else 0
        return masks + copies + false + plan.empty

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

    @cached_property
    def _in_any_number(self) -> bool:
        """Whether structures have no number of their own: some references are empty, or an image shows them and many
        references hold one in several parts."""
        if not self.references.never_empty or not self.references.image_channels:
            return not self.references.never_empty
        cases = self.references.used_for("train")[:MAX_CASES]
        return (
            float(np.mean([_in_several_parts(self.references.stored.label(case)[0].numpy()) for case in cases])) >= MANY
        )

    @cached_property
    def _pieces(self) -> list[np.ndarray]:
        """The structures of some training references, each cut out with the box that holds them."""
        labels = (self.references.stored.label(case)[0].numpy() for case in self.references.used_for("train"))
        boxes = ((label, ndimage.find_objects((label > 0).astype(np.int8))) for label in labels)
        pieces = (label[box[0]] for label, box in boxes if box)
        return [np.where(piece > 0, piece, 0) for piece in islice(pieces, MAX_CASES)]

    def _trained(self, limit: TimeLimit) -> EarlySegmenter | None:
        cases: list[Mapping[str, Any]] = []
        training = self.references.used_for("train")
        if not self.references.never_empty:
            # What holds structures first: a network that meets little else than empty maps learns to give nothing.
            training = sorted(training, key=lambda case: not self.references.has_structure(case))
        for case in training:
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


def _in_several_parts(label: np.ndarray) -> bool:
    return any(outside_largest(label == value) >= PART for value in np.unique(label[label > 0]))


def _with(maps: Mapping[str, Any], label: np.ndarray) -> dict[str, Any]:
    """The maps with another label map, ``(*spatial)``."""
    return {**maps, LABEL: maps[LABEL].new_tensor(label[None])}
