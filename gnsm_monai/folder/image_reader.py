"""A small model that tells the class of a voxel from the image around it, learnt from the other masks of a folder.

Errors that differ from case to case are averaged out by it; what all masks have wrong in common it learns as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from gnsm_monai.data.nnunet import LabelScheme
from gnsm_monai.errors import InputError
from gnsm_monai.folder.consensus import learnt_by
from gnsm_monai.folder.image_sampling import MAX_SAMPLED, OTHER_CHANNELS, SampledImages, drawn, features_at, flat_of
from gnsm_monai.folder.reading import FolderMask, FolderMasks
from gnsm_monai.folder.results import image_of
from gnsm_monai.scoring.linear_shape import CoarseGrid

__all__ = ["FoldReader", "ImageRead", "reader_of"]

MAX_READ = 20_000
"""Voxels of a mask that are read: a larger one is judged by a draw of them."""

TREES: Mapping[str, Any] = {
    "max_iter": 80, "max_leaf_nodes": 15, "learning_rate": 0.1, "min_samples_leaf": 100, "random_state": 0,
    "early_stopping": False,
}  # fmt: skip

_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ImageRead:
    """What the image of a mask says of it.

    Args:
        case: id.
        structures: 1 - soft Dice of the mask with what is read, ``(S,)``; NaN where neither has the structure.
        by_place: mean squared error of what the same model reads without the image.
        by_image: likewise with it.
    """

    case: str
    structures: _Floats
    by_place: float
    by_image: float


@dataclass(frozen=True)
class FoldReader:
    """Class probabilities of voxels by models that have seen other folds.

    Args:
        with_image, without: models of all features, and of the place alone.
        mean: shares of the structures, ``(S, cells)``.
        grid: of them.
        scheme: classes of the masks.
    """

    with_image: Any
    without: Any
    mean: _Floats
    grid: CoarseGrid
    scheme: LabelScheme

    @classmethod
    def fit(cls, x: np.ndarray, y: np.ndarray, mean: _Floats, grid: CoarseGrid, scheme: LabelScheme) -> FoldReader:
        """Gradient boosted trees (Friedman 2001) of features ``(V, F)``, the place and the mean last, and classes."""
        from sklearn.ensemble import HistGradientBoostingClassifier  # a second, which most commands need not wait for

        places = len(grid.cells) + len(mean)
        with threadpool_limits(1, "openmp"):  # sums of several threads differ in the last bit from run to run
            both, place = (HistGradientBoostingClassifier(**TREES).fit(some, y) for some in (x, x[:, -places:]))
        return cls(both, place, mean, grid, scheme)

    def read(self, mask: FolderMask, masks: FolderMasks, seed: int) -> ImageRead:
        """What the image of a mask says of it. Raises what its reader raises, and where image and mask do not fit."""
        structures, cells, classes = flat_of(mask, masks, self.grid)
        supported = np.flatnonzero((cells >= 0) & np.any(self.mean > 0, axis=0)[cells] & (classes >= 0))
        if not len(supported):
            raise InputError(f"{mask.image[0]}: no other mask has a structure where this one has any")
        voxels = drawn(supported, MAX_READ, mask, seed)
        truth = structures[:, voxels].astype(np.float64)
        x = np.concatenate(
            [features_at(np.asarray(image_of(mask, masks)), voxels, masks, self.grid), self.mean.T[cells[voxels]]],
            axis=1,
        )
        if x.shape[1] != self.with_image.n_features_in_:
            raise InputError(f"{mask.image[0]}: {OTHER_CHANNELS}")
        read, by_place = self._shares(self.with_image, x), self._shares(self.without, x)
        errors = (float(np.square(values - truth).mean()) for values in (by_place, read))
        weight = len(supported) / len(voxels)
        size = structures.sum(1).astype(np.float64)
        overlap = 2 * weight * np.minimum(truth, read).sum(1) / np.maximum(size + weight * read.sum(1), 1e-9)
        either = (size > 0) | (read.max(1) > 0.5)
        return ImageRead(mask.case["case"], np.where(either, 1 - np.minimum(overlap, 1), np.nan), *errors)

    def _shares(self, model: Any, x: np.ndarray) -> _Floats:
        """Shares of the structures ``(S, V)``, by the last features, as many as the model takes."""
        values = np.zeros((len(x), self.scheme.num_classes))
        with threadpool_limits(1, "openmp"):
            values[:, model.classes_.astype(int)] = model.predict_proba(x[:, -model.n_features_in_ :])
        return np.stack([values[:, list(some)].sum(1) for some in self.scheme.structure_classes])


def reader_of(sampled: SampledImages, fold: int, scheme: LabelScheme) -> FoldReader | None:
    """Learns from the usual masks of other folds, as the models of shape do; None where there is nothing to learn.

    Where a mask is learnt from, the mean that stands for its place is that of the folds but its own: as little as
    a mask that is read is it part of the mean.
    """
    some = [i for i in learnt_by(sampled.folds, sampled.usual, fold, sampled.seed) if sampled.samples[i] is not None]
    if not some:
        return None
    shares = {i: sampled.maps[i].shares.reshape(len(sampled.maps[i].shares), -1) for i in some}
    total = np.sum([shares[i] for i in some], axis=0)
    features, classes = [], []
    for left_out in np.unique(sampled.folds[some]).tolist():
        inside = [i for i in some if sampled.folds[i] == left_out]
        rest = len(some) - len(inside)
        mean = (total - np.sum([shares[i] for i in inside], axis=0)) / rest if rest else total / len(some)
        for i in inside:
            sample = sampled.samples[i]
            assert sample is not None
            features.append(np.concatenate([sample.features, mean.T[sample.cells]], axis=1))
            classes.append(sample.classes)
    most = max(1, MAX_SAMPLED // len(some))
    x = np.concatenate([each[:most] for each in features])
    y = np.concatenate([each[:most] for each in classes])
    if len(np.unique(y)) < 2:
        return None
    return FoldReader.fit(x, y, total / len(some), sampled.grid, scheme)
