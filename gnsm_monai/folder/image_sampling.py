"""What is learnt from the images of a folder: some voxels of every mask, with what the image looks like there."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gnsm_monai.data.constants import IMAGE
from gnsm_monai.errors import InputError
from gnsm_monai.files import one_line
from gnsm_monai.folder.consensus import MAX_LEARNT, Consensus
from gnsm_monai.folder.image_features import features_of
from gnsm_monai.folder.reading import FolderMask, FolderMasks, ReadOptions
from gnsm_monai.folder.results import image_of
from gnsm_monai.folder.resuming import each_once
from gnsm_monai.scoring.linear_shape import CoarseGrid, CoarseMap
from gnsm_monai.scoring.result import FailedCase

__all__ = [
    "MAX_SAMPLED", "OTHER_CHANNELS", "Sample", "SampledImages", "case_of", "drawn", "features_at", "flat_of",
    "not_used", "sample_images",
]  # fmt: skip

SAMPLED, MAX_SAMPLED = 3000, 60_000
"""Voxels that are learnt from: of a mask, and in all. In the hippocampus 2.5 times as many read 0.5 % better."""

MAX_VOXELS = 4_000_000
"""Voxels of the masks' field of view up to which images are looked at as they are; larger ones are averaged."""

OTHER_CHANNELS = "has other channels than the images of most cases"


@dataclass(frozen=True)
class Sample:
    """Voxels of one mask.

    Args:
        case: id.
        cells: of the coarse grid in which they lie, ``(V,)``.
        features: of the image there, ``(V, F)``.
        classes: of the mask there, ``(V,)``.
    """

    case: str
    cells: npt.NDArray[np.int32]
    features: npt.NDArray[np.float32]
    classes: npt.NDArray[np.int16]


@dataclass(frozen=True)
class SampledImages:
    """What is learnt from the images of a folder: voxels of each mask.

    Args:
        samples: of the masks; None where an image is missing or was not used.
        grid: of the frame of the volume.
        maps: of the masks on that grid.
        folds: of the masks, ``(N,)``.
        usual: which masks are learnt from, ``(N,)``.
        seed: of the draws.
    """

    samples: Sequence[Sample | None]
    grid: CoarseGrid
    maps: Sequence[CoarseMap]
    folds: npt.NDArray[np.int64]
    usual: npt.NDArray[np.bool_]
    seed: int

    @property
    def digest(self) -> str:
        """The same where the same is learnt."""
        digest = hashlib.sha256(repr((self.seed, self.grid)).encode())
        arrays = [self.folds, self.usual, *(one.shares for one in self.maps)]
        for one in self.samples:
            arrays += [] if one is None else [one.cells, one.features, one.classes]
            digest.update(b"-" if one is None else b"+")
        for values in arrays:
            digest.update(np.ascontiguousarray(values).tobytes())
        return digest.hexdigest()


def sample_images(
    consensus: Consensus, masks: FolderMasks, seed: int, options: ReadOptions
) -> tuple[SampledImages, Sequence[str]]:
    """What is learnt from images, and why that of a mask is not; empty texts where it is."""
    grid, maps = consensus.grids[0], consensus.maps[0]
    support = np.any([one.shares.any(0).ravel() for one in maps], axis=0)
    by_case = {mask.case["case"]: mask for mask in masks.masks}

    def sample(case: Mapping[str, Any]) -> Sample | FailedCase:
        mask = by_case[case["case"]]
        try:
            return _sample_of(mask, masks, grid, support, seed)
        except Exception as error:  # each reader raises its own kinds; the mask is judged without its image
            return not_used(mask, error)

    with_image = [mask for mask in masks.masks if mask.image]
    shared = {"grid": repr(grid), "support": hashlib.sha256(support.tobytes()).hexdigest(), "seed": seed}
    journal = options.journal("voxels", Sample, **shared, masks=len(masks.masks))
    made = {one.case: one for one in each_once([case_of(mask) for mask in with_image], sample, journal)}
    widths = Counter(one.features.shape[1] for one in made.values() if isinstance(one, Sample))
    samples: list[Sample | None] = []
    notes: list[str] = []
    for mask in masks.masks:
        one = made.get(mask.case["case"])
        if isinstance(one, Sample) and one.features.shape[1] != widths.most_common(1)[0][0]:
            one = not_used(mask, InputError(f"{mask.image[0]}: {OTHER_CHANNELS}"))
        samples.append(one if isinstance(one, Sample) else None)
        notes.append(one.message if isinstance(one, FailedCase) else "")
    return SampledImages(samples, grid, maps, consensus.folds, consensus.usual, seed), notes


def _sample_of(mask: FolderMask, masks: FolderMasks, grid: CoarseGrid, support: np.ndarray, seed: int) -> Sample:
    """Voxels of a mask to learn from, where any mask of the folder has a structure: ``support``, ``(cells,)``.

    Raises what the image's reader raises, and where image and mask do not fit.
    """
    _, cells, classes = flat_of(mask, masks, grid)
    places = np.flatnonzero((cells >= 0) & support[cells] & (classes >= 0))
    number = min(SAMPLED, MAX_SAMPLED // min(len(masks.masks), MAX_LEARNT))
    voxels = drawn(places, number, mask, seed)
    features = features_at(np.asarray(image_of(mask, masks)), voxels, masks, grid)
    return Sample(mask.case["case"], cells[voxels].astype(np.int32), features, classes[voxels].astype(np.int16))


def not_used(mask: FolderMask, error: Exception) -> FailedCase:
    return FailedCase(
        mask.case["case"], mask.case["folder"], "its image was not used: " + one_line(error, mask.image[0])
    )


def case_of(mask: FolderMask) -> dict[str, Any]:
    """What an image's part in a score is computed from, for a journal."""
    return {"case": mask.case["case"], IMAGE: list(mask.image), "digest": mask.digest}


def flat_of(
    mask: FolderMask, masks: FolderMasks, grid: CoarseGrid
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64], npt.NDArray[np.integer[Any]]]:
    """Structures ``(S, V)``, number of the grid's cell (-1 outside) and class, ``(V,)`` each, of a mask's voxels."""
    structures = masks.structures(mask)
    numbers = np.arange(1, np.prod(grid.cells) + 1).reshape(1, *grid.cells)
    cells = grid.fine(numbers, structures)[0].ravel().astype(np.int64) - 1
    return structures.reshape(len(structures), -1), cells, mask.label().as_tensor()[0].numpy().ravel()


def drawn(places: npt.NDArray[np.int64], number: int, mask: FolderMask, seed: int) -> npt.NDArray[np.int64]:
    """As many of the places at most, in an order that depends on the mask and on no other of the folder."""
    rng = np.random.default_rng([seed, int(mask.digest[:15], 16)])
    return np.asarray(rng.permutation(places)[:number])


def features_at(image: np.ndarray, voxels: np.ndarray, masks: FolderMasks, grid: CoarseGrid) -> np.ndarray:
    """Features ``(V, F)`` of an image, which is averaged in blocks where the masks' field of view is large."""
    voxels_of_grid = float(np.prod(np.multiply(grid.cells, grid.stride)))
    block = int(np.ceil((voxels_of_grid / MAX_VOXELS) ** (1 / len(grid.cells)) - 1e-9))
    return features_of(image, voxels, masks.voxel_size, max(1, block))
