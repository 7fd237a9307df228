"""What models of the usual shapes say of one mask."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gnsm_monai.scoring.linear_shape import CoarseMap, LinearShape, disagreement, finite_mean

__all__ = ["COMPONENTS", "Fit", "FrameModels", "Judgement", "judge", "mostly_empty", "of_masks"]

COMPONENTS = (2, 5, 10, 20)
"""Numbers of components whose answers are averaged."""

_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class FrameModels:
    """What is usual in a frame.

    Args:
        shapes: models of shape, whose answers are averaged.
        mostly_empty: whether most of the masks that say what is right are empty: an empty one is usual then.
    """

    shapes: Sequence[LinearShape]
    mostly_empty: bool


Fit = Callable[[int, Sequence[CoarseMap]], FrameModels]
"""Models of a frame, by its number, from masks of that frame."""


def of_masks(frame: int, learnt: Sequence[CoarseMap]) -> FrameModels:
    """One model, of the masks alone: :data:`Fit` where there are no references."""
    return FrameModels([LinearShape.fit(learnt, max(COMPONENTS))], mostly_empty(learnt))


def mostly_empty(maps: Sequence[CoarseMap]) -> bool:
    """Whether more than half of them hold no structure."""
    return 2 * sum(not one.size.any() for one in maps) > len(maps)


@dataclass(frozen=True)
class Judgement:
    """What the others say of one mask.

    Args:
        levels: score by number of components, ``(len(COMPONENTS),)``, in [0, 1].
        structures: of each structure, ``(S,)``, in [0, 1]; NaN where neither the mask nor the others have it.
        rebuilt: what the others make of the mask: per frame, ``(S, *cells)`` in [0, 1].
    """

    levels: _Floats
    structures: _Floats
    rebuilt: Sequence[npt.NDArray[np.float32]]

    @property
    def score(self) -> float:
        """Mean over frames and components: 1 - overlap with what the others let expect; higher = worse."""
        return float(self.levels.mean())


def judge(models: Sequence[FrameModels], mask: Sequence[CoarseMap]) -> Judgement:
    """Judgement of a mask, given in every frame, by the models of each frame.

    No mask is worse than an empty one, and none better where most that is right is empty.
    """
    parts, rebuilt = [], []
    for some, coarse in zip(models, mask, strict=True):
        shapes = [LinearShape(model.mean, model.directions[:n]) for model in some.shapes for n in COMPONENTS]
        answers = [shape.rebuilt(coarse) for shape in shapes]
        parts.append([disagreement(coarse, answer) for answer in answers])
        rebuilt.append(np.mean(answers, axis=0).astype(np.float32))
    structures = np.array(parts)  # (frames, models x components, S)
    scores = np.nan_to_num(finite_mean(structures, -1), nan=0.0)  # nothing where nothing is expected
    levels = scores.reshape(-1, len(COMPONENTS)).mean(0)
    if not mask[0].size.any():
        levels = np.full(len(COMPONENTS), float(not models[0].mostly_empty))
    return Judgement(levels, finite_mean(structures.reshape(-1, structures.shape[-1]), 0), rebuilt)
