"""What the images say: a small model reads masks from images, learnt from the other masks of the folder.

Errors that differ from case to case are averaged out by it; what all masks have wrong in common it learns as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.stats import wilcoxon
from sklearn.ensemble import HistGradientBoostingClassifier

from gnsm_monai.files import one_line
from gnsm_monai.folder.apart import standing_apart
from gnsm_monai.folder.consensus import Consensus, Judgement, learnt_by
from gnsm_monai.folder.reading import FolderMasks
from gnsm_monai.folder.results import image_of

# Not in the package: see docs/no_references.md for what it gave.
__all__ = ["ImageReading", "features_of", "with_images"]

SAMPLED, MOST_SAMPLED = 3000, 150_000
"""Voxels that are learnt from: of a mask, and in all."""

SCALES = (1.0, 2.0, 4.0)
"""Standard deviations in voxels at which an image is smoothed."""

MAX_P_VALUE = 0.01
"""Of the test whether images help to tell the masks."""

TREES: dict[str, Any] = {
    "max_iter": 80,
    "max_leaf_nodes": 15,
    "learning_rate": 0.1,
    "min_samples_leaf": 100,
    "random_state": 0,
}

_Floats = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class ImageReading:
    """What images say of the masks of a folder.

    Args:
        consensus: with the scores that they change.
        used: whether they change any.
        notes: why the image of a mask was not used; empty texts where it was.
    """

    consensus: Consensus
    used: bool
    notes: Sequence[str]


def with_images(consensus: Consensus, masks: FolderMasks, seed: int) -> ImageReading:
    """Makes half of every score what the images say.

    A gradient boosting classifier (Friedman 2001) tells the class of a voxel from the image around it, at
    :data:`SCALES`, from where it lies, and from the mean of the masks. It is fitted per fold, to the usual masks of
    other folds. A mask's score is the mean of its former one and 1 - soft Dice with what the classifier reads. A mask
    without an image has the difference of the two that is usual in the folder. Images change nothing unless they help
    to tell the masks: the mean squared error of what is read must be lower than that of the masks' mean, by Wilcoxon's
    signed-rank test over the masks.

    Args:
        consensus: of the masks.
        masks: with images.
        seed: of the voxels that are learnt from.
    """
    reader = _Reader(consensus, masks, seed)
    number_of = len(masks.masks), len(masks.scheme.structure_names)
    read, gain = np.full(number_of, np.nan), np.full(len(masks.masks), np.nan)
    for number, shares, mean in reader:
        structures = masks.structures(masks.masks[number])
        read[number] = _disagreement(structures, shares)
        gain[number] = np.square(structures - mean).mean() - np.square(structures - shares).mean()
    scores, gain = _means(read), gain[np.isfinite(gain)]
    if not gain.any() or wilcoxon(gain, alternative="greater").pvalue > MAX_P_VALUE:
        return ImageReading(consensus, False, reader.notes)
    usual = float(np.nanmean(scores - consensus.scores))
    scores = np.where(np.isfinite(scores), scores, np.clip(consensus.scores + usual, 0, 1))
    judged = [
        _joined(judgement, float(score), parts) if coarse.size.any() else judgement  # an empty mask stays what it is
        for judgement, score, parts, coarse in zip(consensus.judgements, scores, read, consensus.maps[0], strict=True)
    ]
    joined = replace(consensus, judgements=judged)
    return ImageReading(replace(joined, probability_apart=standing_apart(joined.scores)), True, reader.notes)


@dataclass(frozen=True)
class _Sample:
    """Voxels of a mask: flat indices, features of the image ``(V, F)``, and classes ``(V,)``."""

    voxels: npt.NDArray[np.int64]
    features: npt.NDArray[np.float32]
    classes: npt.NDArray[np.int64]


class _Reader:
    """Class probabilities of every image, by a model that has not seen its mask."""

    def __init__(self, consensus: Consensus, masks: FolderMasks, seed: int) -> None:
        self.consensus, self.masks, self.seed = consensus, masks, seed
        self.grid, self.maps = consensus.grids[0], consensus.maps[0]
        self.notes: list[str] = [""] * len(masks.masks)
        mean = np.mean([one.shares for one in self.maps], axis=0)
        self.samples = [self._sample(number, mean) for number in range(len(masks.masks))]

    def __iter__(self) -> Iterator[tuple[int, _Floats, _Floats]]:
        """Number of a mask, shares of the structures ``(S, *spatial)`` by its image, and by the mean of the masks."""
        folds = self.consensus.folds
        for fold in np.unique(folds).tolist():
            learnt = [i for i in learnt_by(folds, self.consensus.usual, fold, self.seed) if self.samples[i] is not None]
            wanted = [int(i) for i in np.flatnonzero(folds == fold) if self.samples[i] is not None]
            if not learnt or not wanted:
                continue
            mean = np.mean([self.maps[i].shares for i in learnt], axis=0)
            model = self._fit(learnt, mean)
            for number in wanted:
                yield number, *self._read(model, number, mean)

    def _fit(self, learnt: Sequence[int], mean: _Floats) -> HistGradientBoostingClassifier:
        features, classes = [], []
        for i in learnt:
            sample = self.samples[i]
            assert sample is not None
            # Its mask is left out, as that of the case to be read is not in the mean either.
            others = (mean * len(learnt) - self.maps[i].shares) / max(1, len(learnt) - 1)
            expected = self._expected(i, others)[sample.voxels]
            features.append(np.concatenate([sample.features, expected], axis=1))
            classes.append(sample.classes)
        most = max(1, MOST_SAMPLED // len(learnt))
        return HistGradientBoostingClassifier(**TREES).fit(
            np.concatenate([some[:most] for some in features]), np.concatenate([some[:most] for some in classes])
        )

    def _read(self, model: HistGradientBoostingClassifier, number: int, mean: _Floats) -> tuple[_Floats, _Floats]:
        """Shares of the structures ``(S, *spatial)`` by the image of a mask, and by the mean of the masks."""
        mask, scheme = self.masks.masks[number], self.masks.scheme
        expected = self._expected(number, mean)
        voxels = np.flatnonzero(expected.any(1))
        values = np.zeros((len(expected), scheme.num_classes))
        if len(voxels):
            features = features_of(np.asarray(image_of(mask, self.masks)))[voxels]
            of_voxels = np.concatenate([features, expected[voxels]], axis=1)
            values[np.ix_(voxels, model.classes_.astype(int))] = model.predict_proba(of_voxels)
        shares = np.stack([values[:, list(some)].sum(1) for some in scheme.structure_classes])
        shape = mask.label().shape[1:]
        return shares.reshape(-1, *shape), expected.T.reshape(-1, *shape)

    def _sample(self, number: int, mean: _Floats) -> _Sample | None:
        mask = self.masks.masks[number]
        if not mask.image:
            return None
        try:
            features = features_of(np.asarray(image_of(mask, self.masks)))
        except Exception as error:  # each reader raises its own kinds; the mask is judged without its image
            self.notes[number] = "its image was not used: " + one_line(error, mask.image[0])
            return None
        classes = mask.label().as_tensor()[0].numpy().ravel()
        places = np.flatnonzero(self._expected(number, mean).any(1) & (classes >= 0))
        rng = np.random.default_rng([self.seed, number])
        voxels = rng.choice(places, min(SAMPLED, len(places)), replace=False)
        return _Sample(voxels, features[voxels], classes[voxels].astype(np.int64))

    def _expected(self, number: int, shares: _Floats) -> npt.NDArray[np.float32]:
        """Shares of the structures ``(S, *cells)`` at the voxels of a mask: ``(V, S)``."""
        fine = self.grid.fine(shares, self.masks.structures(self.masks.masks[number]))
        return np.asarray(fine.reshape(len(fine), -1).T, dtype=np.float32)


def features_of(image: _Floats) -> npt.NDArray[np.float32]:
    """Intensities, edges and texture around every voxel of an image ``(C, *spatial)``, and its place, ``(V, F)``."""
    dims = image.ndim - 1
    columns: list[_Floats] = []
    for channel in image.astype(np.float32):
        values = (channel - channel.mean()) / (channel.std() + 1e-6)
        columns.append(values)
        for scale in SCALES:
            smooth = ndimage.gaussian_filter(values, scale)
            columns += [smooth, *(np.gradient(smooth, axis=axis) for axis in range(dims) if smooth.shape[axis] > 1)]
        columns += [ndimage.gaussian_gradient_magnitude(values, 1), ndimage.gaussian_laplace(values, 1.5)]
        spread = ndimage.uniform_filter(values**2, 5) - ndimage.uniform_filter(values, 5) ** 2
        columns.append(np.sqrt(np.maximum(spread, 0)))
    places = [np.arange(n) - (n - 1) / 2 for n in image.shape[1:]]
    columns += list(np.meshgrid(*places, indexing="ij"))
    return np.stack(columns, axis=-1).reshape(-1, len(columns)).astype(np.float32)


def _disagreement(structures: npt.NDArray[np.bool_], probabilities: _Floats) -> _Floats:
    """1 - soft Dice of each structure ``(S,)``; NaN where neither has it."""
    mask, read = (values.reshape(len(values), -1).astype(np.float64) for values in (structures, probabilities))
    either = (mask.sum(1) > 0) | (read.max(1) > 0.5)
    overlap = 2 * np.minimum(mask, read).sum(1) / np.maximum(mask.sum(1) + read.sum(1), 1e-9)
    return np.where(either, 1 - overlap, np.nan)


def _means(values: _Floats) -> _Floats:
    """Mean over the last axis of what is not NaN; NaN where all is."""
    defined = np.isfinite(values)
    return np.where(defined.any(-1), np.nansum(values, -1) / np.maximum(defined.sum(-1), 1), np.nan)


def _joined(judgement: Judgement, score: float, structures: _Floats) -> Judgement:
    """Half of what the masks say, half of what the image says."""
    parts = np.where(np.isfinite(structures), (judgement.structures + structures) / 2, judgement.structures)
    return replace(judgement, levels=(judgement.levels + score) / 2, structures=parts)
