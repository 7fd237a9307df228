"""What the images of a folder say of its masks, and whether that is told at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from gnsm_monai.errors import InputError
from gnsm_monai.folder.apart import standing_apart
from gnsm_monai.folder.consensus import Consensus
from gnsm_monai.folder.image_reader import FoldReader, ImageRead, reader_of
from gnsm_monai.folder.image_sampling import SampledImages, case_of, not_used, sample_images
from gnsm_monai.folder.judging import Judgement
from gnsm_monai.folder.reading import FolderMasks, ReadOptions
from gnsm_monai.folder.resuming import each_once
from gnsm_monai.scoring.linear_shape import finite_mean
from gnsm_monai.scoring.result import FailedCase

__all__ = [
    "MAX_P_VALUE", "MIN_READ", "LearntImages", "WithImages", "later_with_images", "why_not_used", "with_images",
]  # fmt: skip

MAX_P_VALUE = 0.01
"""Of the test whether images help to tell other masks of the folder."""

MIN_GAIN = 0.1
"""Share of the squared error by place that images must take away: what is less may come of more numbers alone, such as
those of one picture in the place of all images."""

MIN_READ = 7
"""Cases with images below which that test cannot tell: no p-value of it could be as low as :data:`MAX_P_VALUE`."""

USED = (
    "Images are read: half of each score is how far a mask lies from what a small model, learnt from the other masks, "
    "reads in its image."
)
NOT_USED = "Images are shown and have no part in the scores: "
TOO_FEW = "{} case(s) have one that can be read, and it takes {} to tell whether they help."
NO_HELP = "they tell held-out masks hardly better than place alone ({:.0%} less squared error, p = {:.2g})."
NOT_SURE = (
    "with them held-out masks are told with {:.0%} less squared error, and {} cases are too few to be sure that this "
    "is no chance (p = {:.2g})."
)
WITHOUT = (
    " The images of {} of {} masks could not be used: what images say of masks that score like them stands for them."
)

_Floats = npt.NDArray[np.float64]
_Reads = Sequence[ImageRead | None]


@dataclass(frozen=True)
class LearntImages:
    """By what the images of later masks are read, and what stands in for one that is missing.

    Args:
        sampled: what is learnt from.
        scores: of the masks alone, ascending, of those with an image, ``(n,)``.
        read: what the images say of these masks, ascending, ``(n,)``.
    """

    sampled: SampledImages
    scores: _Floats
    read: _Floats

    def in_place_of(self, score: float) -> float:
        """What an image would say of a mask of this score, if it ranked the mask as the score does."""
        return float(np.interp(score, self.scores, self.read))


@dataclass(frozen=True)
class WithImages:
    """What images say of the masks of a folder.

    Args:
        consensus: with the scores that they change.
        notes: why the image of a mask was not used; empty texts where it was.
        said: ``used``, ``read`` (masks whose image was), ``gain`` (share of the squared error by place that they take
            away) and its ``p_value``, and ``text`` in words.
        learnt: for masks that come later; None where images change nothing.
    """

    consensus: Consensus
    notes: Sequence[str]
    said: Mapping[str, Any]
    learnt: LearntImages | None = None


def with_images(
    consensus: Consensus, masks: FolderMasks, groups: Sequence[str], seed: int, options: ReadOptions | None = None
) -> WithImages:
    """Makes half of every score what the images say, where they help.

    The class of a voxel is learnt per fold from the usual masks of other folds: from the image around it, from where it
    lies, and from the mean of the masks. A mask's score is the mean of its former one and 1 - soft Dice with what is
    read. Images change nothing unless they help to tell the masks: the squared error of what is read must be lower than
    that of the same model without the image, by :data:`MIN_GAIN` and Wilcoxon's signed-rank test. A mask whose image
    could not be used takes what images say of masks that score as it does (quantile by quantile).

    Args:
        consensus: of the masks.
        masks: with images.
        groups: of the masks.
        seed: of the voxels that are learnt from.
        options: where what is read so far is stored.
    """
    options = options or ReadOptions()
    sampled, notes = sample_images(consensus, masks, seed, options)
    numbers = [number for number, sample in enumerate(sampled.samples) if sample is not None]
    reads, failed = _Reading(sampled, masks, consensus.folds).of_all(options, numbers)
    notes = [failed.get(number, note) for number, note in enumerate(notes)]
    number, gain, p_value = sum(one is not None for one in reads), *_help(reads, groups)
    used = p_value is not None and p_value <= MAX_P_VALUE and gain >= MIN_GAIN
    said = {"used": used, "read": number, "gain": gain, "p_value": p_value}
    if not used:
        cases = len({group for group, one in zip(groups, reads, strict=True) if one is not None})
        return WithImages(consensus, notes, {**said, "text": NOT_USED + why_not_used(cases, gain, p_value)})
    learnt = _learnt(sampled, consensus, reads)
    text = USED + (WITHOUT.format(len(reads) - number, len(reads)) if number < len(reads) else "")
    return WithImages(_joined(consensus, learnt, reads), notes, {**said, "text": text}, learnt)


def later_with_images(
    consensus: Consensus, masks: FolderMasks, learnt: LearntImages, options: ReadOptions
) -> tuple[Consensus, Sequence[str], int]:
    """Joins what images say of masks that come later to their scores, by what the first masks taught.

    Args:
        consensus: of the later masks (:meth:`Consensus.joined_by`).
        masks: likewise.
        learnt: of the first masks.
        options: where what is read so far is stored.

    Returns:
        The later masks with the scores that images change; why the image of each was not used, or an empty text; and
        the number of masks whose image was not.
    """
    numbers = [number for number, mask in enumerate(masks.masks) if mask.image]
    reads, failed = _Reading(learnt.sampled, masks, consensus.folds).of_all(options, numbers)
    notes = [failed.get(number, "") for number in range(len(masks.masks))]
    return _joined(consensus, learnt, reads), notes, sum(one is None for one in reads)


class _Reading:
    """Reads the images of masks, by models that have not seen them; a model is fitted where its fold begins."""

    def __init__(self, sampled: SampledImages, masks: FolderMasks, folds: npt.NDArray[np.int64]) -> None:
        self.sampled, self.masks, self.folds = sampled, masks, folds
        self.number = {mask.case["case"]: number for number, mask in enumerate(masks.masks)}
        self.fold = -1
        self.reader: FoldReader | None = None

    def __call__(self, case: Mapping[str, Any]) -> ImageRead | FailedCase:
        number = self.number[case["case"]]
        mask, fold = self.masks.masks[number], int(self.folds[number])
        if fold != self.fold:
            self.fold, self.reader = fold, reader_of(self.sampled, fold, self.masks.scheme)
        try:
            if self.reader is None:
                raise InputError(f"{mask.image[0]}: there is no other case to learn from")
            return self.reader.read(mask, self.masks, self.sampled.seed)
        except Exception as error:  # each reader raises its own kinds; the mask is judged without its image
            return not_used(mask, error)

    def of_all(self, options: ReadOptions, numbers: Sequence[int]) -> tuple[_Reads, Mapping[int, str]]:
        """What images say of the masks of these numbers, None of the others and where one failed; and why it did."""
        order = sorted(numbers, key=lambda number: (self.folds[number], number))
        journal = options.journal("images", ImageRead, learnt=self.sampled.digest)
        results = each_once([case_of(self.masks.masks[number]) for number in order], self, journal)
        of = dict(zip(order, results, strict=True))
        reads = [one if isinstance(one := of.get(i), ImageRead) else None for i in range(len(self.masks.masks))]
        return reads, {number: one.message for number, one in of.items() if isinstance(one, FailedCase)}


def _help(reads: _Reads, groups: Sequence[str]) -> tuple[float, float | None]:
    """Share of the squared error by place that images take away, and its one-sided p-value over groups.

    The test is Wilcoxon's signed-rank test of the groups' mean gains; there is no p-value where too few could tell.
    """
    gains: dict[str, list[float]] = {}
    by_place = 0.0
    for group, one in zip(groups, reads, strict=True):
        if one is not None:
            gains.setdefault(group, []).append(one.by_place - one.by_image)
            by_place += one.by_place
    means = [float(np.mean(values)) for values in gains.values()]
    gain = float(sum(map(sum, gains.values()))) / by_place if by_place else 0.0
    if len(means) < MIN_READ:
        return gain, None
    if not any(means):
        return gain, 1.0
    from scipy.stats import wilcoxon  # a second, which most commands need not wait for

    return gain, float(wilcoxon(means, alternative="greater").pvalue)


def why_not_used(cases: int, gain: float, p_value: float | None) -> str:
    """Why images of this many cases, with what :func:`_help` says of them, have no part in the scores."""
    if p_value is None:
        return TOO_FEW.format(cases, MIN_READ)
    if gain < MIN_GAIN:
        return NO_HELP.format(max(gain, 0), p_value)
    return NOT_SURE.format(gain, cases, p_value)


def _learnt(sampled: SampledImages, consensus: Consensus, reads: _Reads) -> LearntImages:
    both = [
        (score, read)
        for score, one, coarse in zip(consensus.scores.tolist(), reads, consensus.maps[0], strict=True)
        if one is not None and coarse.size.any() and np.isfinite(read := float(finite_mean(one.structures)))
    ]
    ascending = np.sort(np.array(both), axis=0)
    return LearntImages(sampled, ascending[:, 0], ascending[:, 1])


def _joined(consensus: Consensus, learnt: LearntImages, reads: _Reads) -> Consensus:
    judgements = [
        _half(judgement, one, learnt) if coarse.size.any() else judgement  # an empty mask stays what it is
        for judgement, one, coarse in zip(consensus.judgements, reads, consensus.maps[0], strict=True)
    ]
    joined = replace(consensus, judgements=judgements)
    return replace(joined, probability_apart=standing_apart(joined.scores))


def _half(judgement: Judgement, one: ImageRead | None, learnt: LearntImages) -> Judgement:
    """Half of what the masks say, half of what the image says."""
    structures = judgement.structures if one is None else one.structures
    score = float("nan") if one is None else float(finite_mean(one.structures))
    if np.isnan(score):
        score = learnt.in_place_of(judgement.score)
    parts = np.where(np.isfinite(structures), (judgement.structures + structures) / 2, judgement.structures)
    return replace(judgement, levels=(judgement.levels + score) / 2, structures=parts)
