"""How unlike the other masks of a folder each mask is, by linear models of shape that have not seen it.

Two frames (:data:`gnsm_monai.scoring.linear_shape.FRAMES`) and several numbers of components are averaged, as no
reference tells which of them is best. Masks that stand apart are left out of what is learnt, in rounds: how many these
are is told by the scores themselves, see :mod:`gnsm_monai.folder.apart`.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from gnsm_monai.folder.apart import standing_apart
from gnsm_monai.folder.judging import Fit, FrameModels, Judgement, judge, of_masks
from gnsm_monai.scoring.linear_shape import FRAMES, MAX_CELLS, CoarseGrid, CoarseMap

__all__ = ["MIN_GROUPS", "Consensus", "deal", "frames_of", "learnt_by"]

FOLDS, ROUNDS, MAX_LEARNT = 10, 5, 256
"""Folds of the masks, rounds of leaving out at most, and masks that a fold's models learn from at most."""

MIN_CELLS, MAX_VALUES = 64, 64_000_000
"""Cells of the grid at least, and values of all masks on it at most: many masks of many structures are made coarser."""

MIN_GROUPS = 3
"""Patients from which on a mask can be compared with others that agree or differ."""

MAX_APART = 0.5
"""Share of the masks that is left out at most: a majority is what is usual."""

_Floats = npt.NDArray[np.float64]
_Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Consensus:
    """All masks judged by each other.

    Args:
        grids: of the frames.
        maps: of the masks, per frame.
        folds: of the masks, ``(N,)``.
        usual: which masks were learnt from, ``(N,)`` bool.
        judgements: one per mask.
        probability_apart: of each mask to stand apart from the others, ``(N,)``.
        rounds: that were needed.
    """

    grids: Sequence[CoarseGrid]
    maps: Sequence[Sequence[CoarseMap]]
    folds: npt.NDArray[np.int64]
    usual: _Bools
    judgements: Sequence[Judgement]
    probability_apart: _Floats
    rounds: int

    @property
    def scores(self) -> _Floats:
        """``(N,)``, higher = worse."""
        return np.array([judgement.score for judgement in self.judgements])

    @classmethod
    def of(
        cls,
        masks: Sequence[npt.ArrayLike],
        groups: Sequence[Hashable],
        seed: int = 0,
        grids: Sequence[CoarseGrid] = (),
        fit: Fit = of_masks,
    ) -> Consensus:
        """Judges masks ``(S, *spatial)``, one-hot structures, by those of other groups.

        Args:
            masks: at one voxel size; they may differ in shape.
            groups: of each mask; masks of one group, such as a patient's, never judge each other.
            seed: of the folds, and of the masks that models of large folders learn from.
            grids: of the frames; by default those of :func:`frames_of` the masks.
            fit: makes models of shape from the masks of other folds.

        Raises:
            ValueError: fewer than :data:`MIN_GROUPS` groups.
        """
        folds = deal(groups, seed)
        grids = grids or frames_of(masks)
        maps = [[grid.coarse(mask) for mask in masks] for grid in grids]
        usual, rounds = np.ones(len(masks), dtype=bool), 0
        while True:
            judgements = _judge(_Learnt(maps, folds, usual, seed, fit), maps, folds)
            apart = standing_apart(np.array([judgement.score for judgement in judgements]))
            rounds += 1
            left = _usual(judgements, apart)
            if rounds == ROUNDS or np.array_equal(usual, left):
                return cls(grids, maps, folds, usual, judgements, apart, rounds)
            usual = left

    def joined_by(
        self, masks: Sequence[npt.ArrayLike], folds: npt.NDArray[np.int64], seed: int, fit: Fit = of_masks
    ) -> Consensus:
        """Judges masks that come later by the models of given folds; they teach nothing, and stand alone in the result.

        Args:
            masks: ``(S, *spatial)``, one-hot structures, at the voxel size of the others.
            folds: of these masks, ``(N,)``.
            seed: as of :meth:`of`.
            fit: likewise.
        """
        maps = [[grid.coarse(mask) for mask in masks] for grid in self.grids]
        judgements = _judge(_Learnt(self.maps, self.folds, self.usual, seed, fit), maps, folds)
        return replace(
            self, maps=maps, folds=folds, judgements=judgements, usual=np.zeros(len(folds), dtype=bool),
            probability_apart=np.zeros(len(folds)),
        )  # fmt: skip


def frames_of(masks: Sequence[npt.ArrayLike]) -> list[CoarseGrid]:
    """A grid in every frame that holds all masks ``(S, *spatial)``: the coarser, the more of them there are."""
    cells = min(MAX_CELLS, max(MIN_CELLS, MAX_VALUES // (len(masks) * len(np.asarray(masks[0])))))
    return [CoarseGrid.holding(masks, frame, cells) for frame in FRAMES]


def deal(groups: Sequence[Hashable], seed: int) -> npt.NDArray[np.int64]:
    """The fold of each mask, ``(N,)``: all masks of a group in one, and folds as equal in groups as can be.

    Raises:
        ValueError: fewer than :data:`MIN_GROUPS` groups.
    """
    distinct = list(dict.fromkeys(groups))
    if len(distinct) < MIN_GROUPS:
        raise ValueError(f"at least {MIN_GROUPS} groups are needed, got {len(distinct)}.")
    place = np.random.default_rng(seed).permutation(len(distinct)) % min(FOLDS, len(distinct))
    fold = dict(zip(distinct, place.tolist(), strict=True))
    return np.array([fold[group] for group in groups])


def _usual(judgements: Sequence[Judgement], apart: _Floats) -> _Bools:
    """Masks to learn from: those that do not stand apart, and half of all at least."""
    scores = np.array([judgement.score for judgement in judgements])
    limit = np.quantile(scores, 1 - MAX_APART)
    return np.asarray((apart < 0.5) | (scores <= limit))


def learnt_by(folds: npt.NDArray[np.int64], usual: _Bools, fold: int, seed: int) -> list[int]:
    """Numbers of the masks from which the models of a fold learn: usual ones of other folds."""
    learnt = np.flatnonzero((folds != fold) & usual)
    if not len(learnt):  # whoever stands apart is better than nobody
        learnt = np.flatnonzero(folds != fold)
    if len(learnt) > MAX_LEARNT:
        learnt = np.random.default_rng([seed, fold]).choice(learnt, MAX_LEARNT, replace=False)
    return [int(i) for i in learnt]


@dataclass(frozen=True)
class _Learnt:
    """Masks to learn from, and how: as of :class:`Consensus`."""

    maps: Sequence[Sequence[CoarseMap]]
    folds: npt.NDArray[np.int64]
    usual: _Bools
    seed: int
    fit: Fit

    def models(self, fold: int) -> list[FrameModels]:
        """Models of a fold, per frame."""
        learnt = learnt_by(self.folds, self.usual, fold, self.seed)
        return [self.fit(number, [frame[i] for i in learnt]) for number, frame in enumerate(self.maps)]


def _judge(learnt: _Learnt, maps: Sequence[Sequence[CoarseMap]], folds: npt.NDArray[np.int64]) -> list[Judgement]:
    """Judges masks, per frame, by the models of their folds."""
    judged: dict[int, Judgement] = {}
    for fold in np.unique(folds).tolist():
        models = learnt.models(fold)
        for i in np.flatnonzero(folds == fold).tolist():
            judged[i] = judge(models, [frame[i] for frame in maps])
    return [judged[i] for i in range(len(folds))]
