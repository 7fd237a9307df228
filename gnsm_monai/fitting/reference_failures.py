"""Failures of known Dice, made from held-out references: what a score is chosen on and Dice is predicted from."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from gnsm_monai.data.constants import IGNORE_INDEX, IMAGE, LABEL
from gnsm_monai.data.datalist import find_images
from gnsm_monai.data.degradations import KINDS, degrade_like_a_segmenter, mean_foreground_dice
from gnsm_monai.data.failures import one_line
from gnsm_monai.data.references import References
from gnsm_monai.data.transforms import FitToGridd, load_case, resample
from gnsm_monai.errors import InputError
from gnsm_monai.fitting.segmenter import EarlySegmenter

__all__ = ["SOURCES", "Failure", "ReferenceFailures"]

SOURCES = ("auto", "networks", "copies")
"""Where failures come from: ``copies``: degraded copies of label maps; ``networks``: those, and masks of a small
network that segments the references' images; ``auto``: the second where the data set has an image of every reference.
"""

MOST_CASES = 32
"""References that the small network learns from: more would not make its failures better ones."""

FEWEST_CASES = 4

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Failure:
    """One failure: its kind, the case with the failed mask as ``label`` (and the image, as it was seen), its Dice."""

    kind: str
    case: dict[str, Any]
    dice: float
    of_network: bool = False


class ReferenceFailures:
    """Makes failures from references.

    Args:
        references: the reference cases.
        source: of :data:`SOURCES`.
        seed: of the degradations and of the small network.
        device: where the small network runs.

    Raises:
        InputError: ``networks`` where there are no images that can be read.
    """

    def __init__(
        self, references: References, source: str = "auto", seed: int = 0, device: str | torch.device = "cpu"
    ) -> None:
        self.references, self.seed = references, seed
        self.segmenter = None if source == "copies" else self._segmenter(device)
        if source == "networks" and self.segmenter is None:
            raise InputError("failures: 'networks' needs an image of every reference in imagesTr")

    def load(self, case: Mapping[str, Any]) -> dict[str, Any]:
        """The case's maps at the model's voxel size."""
        keys = [key for key in (LABEL, IMAGE) if key in case]
        loaded = load_case(self.references.labels, len(self.references.spatial_size), keys)
        return dict(resample(self.references.voxel_size, keys)(loaded({key: case[key] for key in keys})))

    def of(
        self,
        case: Mapping[str, Any],
        loaded: Mapping[str, Any],
        number: int,
        stream: int,
        copies: int,
        masks: int | None,
        empty: bool,
    ) -> Iterator[Failure]:
        """Failures of one reference; an empty reference has nothing to fail at.

        Args:
            case: the reference.
            loaded: its maps, of :meth:`load`.
            number: of the reference among those of its use.
            stream: of the random numbers, one per use.
            copies: degraded copies, half as many where there are masks of a network too.
            masks: of the small network; None for all that it can make.
            empty: whether to add an empty mask.
        """
        label = loaded[LABEL][0].numpy()
        if not (label > 0).any():
            return
        seen = self._with_image(case) if self.segmenter else None
        if self.segmenter and seen is not None:
            copies = (copies + 1) // 2
            # A step that is prime to the number of kinds and odd: all kinds in turn, and not the same sort twice.
            kinds = self.segmenter.kinds
            if self.references.image_channels:  # a model of label maps alone would see the same masks twice
                kinds = [*kinds, *self.segmenter.damaged_kinds]
            chosen = kinds if masks is None else [kinds[(number * masks + 5 * i) % len(kinds)] for i in range(masks)]
            for kind in chosen:
                failed = self.segmenter.mask(seen, kind, [self.seed, stream, number])
                yield Failure(kind, failed, self._dice(failed[LABEL][0].numpy(), seen[LABEL][0].numpy()), True)
        for copy in range(copies):
            kind = KINDS[(number * copies + copy) % len(KINDS)]
            rng = np.random.default_rng([self.seed, stream, number, copy])
            worse = degrade_like_a_segmenter(
                label, kind, rng, self.references.labels.num_classes, self.references.voxel_size
            )
            yield Failure(kind, {**loaded, LABEL: loaded[LABEL].new_tensor(worse[None])}, self._dice(worse, label))
        if empty:
            nothing = np.where(label == IGNORE_INDEX, label, 0)
            yield Failure("empty", {**loaded, LABEL: loaded[LABEL].new_tensor(nothing[None])}, 0.0)

    def _dice(self, label: np.ndarray, reference: np.ndarray) -> float:
        return mean_foreground_dice(
            label, reference, self.references.labels.num_classes, self.references.labels.members
        )

    def _segmenter(self, device: str | torch.device) -> EarlySegmenter | None:
        if self.references.images_dir is None:
            return None
        cases: list[Mapping[str, Any]] = []
        for case in self.references.used_for("train"):
            if len(cases) < MOST_CASES and (seen := self._with_image(case, grow=False)) is not None:
                cases.append(seen)
        if len(cases) < FEWEST_CASES or len({len(case[IMAGE]) for case in cases}) > 1:
            return None
        logger.info(
            "training a small segmentation network on %d references, whose failures the score learns", len(cases)
        )
        return EarlySegmenter.train(cases, self.references, self.seed, device)

    def _with_image(self, case: Mapping[str, Any], grow: bool = True) -> dict[str, Any] | None:
        """The case with its image on the model's grid; None, and a warning, where the image cannot be read."""
        assert self.references.images_dir is not None
        images: Sequence[Any] = find_images(self.references.images_dir, case["case"])
        try:
            loaded = self.load({LABEL: case[LABEL], IMAGE: images})
            place = FitToGridd(self.references.spatial_size, grow, [LABEL, IMAGE])
            return {str(key): value for key, value in place(loaded).items()}
        except Exception as error:  # each reader raises its own kinds
            logger.warning("no failures of a network are made from this case: %s", one_line(error, images[0]))
            return None
