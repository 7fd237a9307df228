"""A few references beside a folder of masks: they say what is right, and the masks say how shapes vary.

Two models of shape are made in every frame. One knows the references and small deformations of them; the other has the
mean of the references and, as directions, the differences of references and of masks from their own means. What all
masks have wrong in common is in neither.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from gnsm_monai.data.patients import numbered
from gnsm_monai.errors import InputError
from gnsm_monai.folder.consensus import MIN_GROUPS, Consensus, learnt_by
from gnsm_monai.folder.judging import COMPONENTS, Fit, FrameModels, judge, mostly_empty
from gnsm_monai.folder.reading import FolderMask, FolderMasks, ReadOptions, read_masks
from gnsm_monai.scoring.linear_shape import CoarseGrid, CoarseMap, LinearShape

__all__ = ["MIN_CALIBRATED", "FewReferences", "deformed", "read_references", "spread_of"]

MIN_CALIBRATED = 8
"""References from which on p-values are given: with fewer none could be below 1/8."""

COPIES = 24
"""Deformed copies of each reference: so many that their draw hardly matters."""

STRETCH, SHIFT = 0.06, 0.04
"""Standard deviations of the deformations where references tell none: of stretch and shear, and of the shift as a share
of a mask's extent."""

FOLDS = 5
"""Folds of the references, for p-values."""

_Floats = npt.NDArray[np.float64]

logger = logging.getLogger(__name__)


def read_references(folder: Path, masks: FolderMasks, options: ReadOptions) -> FolderMasks:
    """References of the classes and at the voxel size of masks. Equal ones count once: a copy says nothing new.

    Args:
        folder: of the references.
        masks: to be judged.
        options: as of the masks.

    Raises:
        InputError: they are too few, or one cannot be read.
    """
    progress = None if options.progress is None else options.progress / "references"
    references = read_masks([folder], options=ReadOptions(options.layout, masks.scheme, masks.voxel_size, progress))
    if references.failed:
        raise InputError(references.failed[0].message)
    first = dict[str, FolderMask]()
    for mask in references.masks:
        first.setdefault(mask.digest, mask)
    distinct = list(first.values())
    if copies := len(references.masks) - len(distinct):
        logger.warning("%s: references that are a copy of another one and do not count: %d", folder, copies)
    if len(distinct) < MIN_GROUPS:
        raise InputError(f"{folder}: {len(distinct)} reference(s): {MIN_GROUPS} different ones are needed at least")
    return replace(references, masks=distinct)


@dataclass(frozen=True)
class FewReferences:
    """References on the grids of the frames.

    Args:
        maps: of the references, per frame.
        copies: deformed copies of each reference, per frame.
        patients: of each reference, which are held out together; each has its own by default.
    """

    maps: Sequence[Sequence[CoarseMap]]
    copies: Sequence[Sequence[Sequence[CoarseMap]]]
    patients: Sequence[str] = ()

    @classmethod
    def of(
        cls,
        references: Sequence[npt.ArrayLike],
        grids: Sequence[CoarseGrid],
        seed: int = 0,
        patients: Sequence[str] = (),
    ) -> FewReferences:
        """Of references ``(S, *spatial)``, one-hot, on grids that hold them; the seed is that of the deformations."""
        spread = spread_of(references)
        copies = [deformed(mask, np.random.default_rng([seed, i]), spread) for i, mask in enumerate(references)]
        return cls(
            [[grid.coarse(mask) for mask in references] for grid in grids],
            [[[grid.coarse(copy) for copy in some] for some in copies] for grid in grids],
            patients,
        )

    def __len__(self) -> int:
        return len(self.maps[0])

    def fit(self, without: Sequence[int] = ()) -> Fit:
        """Makes models from these references, except for those of the numbers ``without``, and from masks."""
        used = [i for i in range(len(self)) if i not in set(without)]

        def models(frame: int, learnt: Sequence[CoarseMap]) -> FrameModels:
            references = [self.maps[frame][i] for i in used]
            copies = [copy for i in used for copy in self.copies[frame][i]]
            shapes = [LinearShape.fit([*references, *copies], max(COMPONENTS)), _between(references, learnt)]
            return FrameModels(shapes, mostly_empty(references))

        return models

    def p_values(self, consensus: Consensus, seed: int = 0, learnt: Consensus | None = None) -> _Floats:
        """Cross-conformal p-values (Vovk 2015) of the masks of a consensus with these references, ``(N,)``.

        ``learnt`` has the masks to learn from, if these came later (:meth:`Consensus.joined_by`).

        The references are dealt into folds, all of a patient into one. A mask and the references of a fold are scored
        by the same models, which have seen none of them: the p-value is one more than the references that score as high
        or higher, over one more than all references. NaN of fewer than :data:`MIN_CALIBRATED` references.
        """
        if len(self) < MIN_CALIBRATED:
            return np.full(len(consensus.folds), np.nan)
        learnt = learnt or consensus
        above = np.zeros(len(consensus.folds))
        patient = numbered(self.patients or [str(i) for i in range(len(self))])
        order = np.random.default_rng(seed).permutation(int(patient.max()) + 1)
        for dealt in (order[start::FOLDS] for start in range(FOLDS)):
            held_out = np.flatnonzero(np.isin(patient, dealt)).tolist()
            fit = self.fit(held_out)
            for fold in np.unique(consensus.folds).tolist():
                taught = learnt_by(learnt.folds, learnt.usual, fold, seed)
                models = [fit(n, [frame[i] for i in taught]) for n, frame in enumerate(learnt.maps)]
                references = np.array([judge(models, [frame[i] for frame in self.maps]).score for i in held_out])
                for i in np.flatnonzero(consensus.folds == fold).tolist():
                    score = judge(models, [frame[i] for frame in consensus.maps]).score
                    above[i] += (references >= score).sum()
        return np.asarray((1 + above) / (len(self) + 1))


def _between(references: Sequence[CoarseMap], masks: Sequence[CoarseMap]) -> LinearShape:
    """The references' mean, and how references and masks differ from their own means, either as much as the other."""
    groups = [np.stack([one.shares for one in some]) for some in (references, masks)]
    deviations = [(group - group.mean(0)) / np.sqrt(max(1, len(group) - 1)) for group in groups]
    return LinearShape.around(groups[0].mean(0), np.concatenate(deviations), max(COMPONENTS))


def spread_of(references: Sequence[npt.ArrayLike]) -> tuple[float, float]:
    """How much references ``(S, *spatial)`` differ from each other: deviations of the log size and of the place.

    Size is the standard deviation of the voxels' positions; place is that of the mean in the field of view, as a share
    of the extent. Both are root mean squares over the axes; :data:`STRETCH` and :data:`SHIFT` of fewer than two that
    hold a structure.
    """
    sizes, places = [], []
    for mask in map(np.asarray, references):
        voxels = np.argwhere(mask.any(0))
        if len(voxels):
            sizes.append(np.log(voxels.std(0) + 0.5))  # half a voxel, as a single slice has no deviation
            middle = (np.array(mask.shape[1:]) - 1) / 2
            places.append((voxels.mean(0) - middle) / (np.ptp(voxels, axis=0) + 1))
    if len(sizes) < 2:
        return STRETCH, SHIFT
    stretch, shift = (float(np.sqrt(np.var(values, axis=0, ddof=1).mean())) for values in (sizes, places))
    return stretch, shift


def deformed(
    mask: npt.ArrayLike,
    rng: np.random.Generator,
    spread: tuple[float, float] = (STRETCH, SHIFT),
    copies: int = COPIES,
) -> list[npt.NDArray[np.float32]]:
    """Copies of a mask ``(S, *spatial)`` that are stretched, sheared and shifted a little; shares in [0, 1].

    ``spread`` has the deviations of stretch and shear, and of the shift, see :func:`spread_of`.
    """
    values = np.asarray(mask, dtype=np.float32)
    dims = values.ndim - 1
    places = np.argwhere(values.any(0))
    if not len(places):
        return [values] * copies
    extent = np.ptp(places, axis=0) + 1
    middle = places.mean(0)
    made = []
    for _ in range(copies):
        matrix = np.eye(dims) + rng.normal(0, spread[0], (dims, dims))
        offset = middle - matrix @ middle + rng.normal(0, spread[1], dims) * extent
        made.append(np.stack([ndimage.affine_transform(one, matrix, offset, order=1) for one in values]))
    return made
