"""A linear model of shape: the principal components of coarse reference maps, fitted in seconds.

To it a mask is odd where the components cannot build it. It is the simplest rival that knows shape, and a strong one
where an organ has a stable form.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from rivals import common_grid, pad_or_crop

from gnsm_monai.data.transforms import centred_extent

__all__ = ["LinearShape"]

LabelMap = npt.NDArray[np.integer[Any]]

COMPONENTS = 10
MAX_CELLS = 12_000
"""Cells of the coarse grid: blocks of voxels are averaged until no more are left."""


class LinearShape:
    """1 - mean soft Dice between a coarse mask and its reconstruction by the references' principal components.

    Args:
        centred: move the centre of mass of all structures to the middle of the grid; otherwise the grid stays at the
            centre of the field of view. It holds the structures of all references; what a mask has outside of it counts
            as not rebuilt.
        components: at most; fewer where there are fewer references.
    """

    def __init__(self, centred: bool = False, components: int = COMPONENTS) -> None:
        self.centred, self.components = centred, components

    def fit(self, labels: Sequence[LabelMap], num_classes: int) -> LinearShape:
        """Mean and components of label maps, ``(*spatial)`` each, which may differ in shape."""
        self.num_classes = num_classes
        sizes = [centred_extent(self._moved(label)) for label in labels]
        self.grid = common_grid(sizes, 1)
        # The longest axes are made coarser first, so that thick slices stay what they are.
        self.block = [1] * len(self.grid)
        while np.prod(np.ceil(np.divide(self.grid, self.block))) > MAX_CELLS:
            self.block[int(np.argmax(np.divide(self.grid, self.block)))] += 1
        rows = np.stack([self._coarse(label) for label in labels])
        self.mean = rows.mean(0)
        _, _, directions = np.linalg.svd(rows - self.mean, full_matrices=False)
        self.directions = directions[: min(self.components, len(labels) - 1)]
        return self

    def score(self, label: LabelMap) -> float:
        """Anomaly of a mask ``(*spatial)``, in [0, 1]; 1 for an empty one."""
        row = self._coarse(label)
        rebuilt = np.clip(self.mean + (row - self.mean) @ self.directions.T @ self.directions, 0, 1)
        mask, answer = (values.reshape(self.num_classes - 1, -1) for values in (row, rebuilt))
        present = mask.sum(1) > 0
        if not present.any():
            return 1.0
        voxels = np.bincount(label[label > 0], minlength=self.num_classes)[1:] / np.prod(self.block)
        overlap = 2 * np.minimum(mask, answer).sum(1) / np.maximum(voxels + answer.sum(1), 1e-9)
        # A structure that the mask lacks counts where the answer has at least half a cell of it.
        expected = present | (answer.max(1) > 0.5)
        return 1 - float(overlap[expected].mean())

    def _moved(self, label: LabelMap) -> LabelMap:
        """The map, padded so that its structures' centre of mass is its middle, if maps are centred."""
        if not self.centred or not (label > 0).any():
            return label
        offsets = [round(2 * c - (n - 1)) for c, n in zip(np.argwhere(label > 0).mean(0), label.shape, strict=True)]
        return np.pad(label, [(max(-o, 0), max(o, 0)) for o in offsets])

    def _coarse(self, label: LabelMap) -> npt.NDArray[np.float64]:
        """Shares of each structure in every cell, ``((K - 1) * cells,)``."""
        label = self._moved(np.maximum(label, 0))
        cells = np.ceil(np.divide(self.grid, self.block)).astype(int)
        placed = pad_or_crop(label, tuple(int(n) for n in cells * self.block))
        shape = tuple(itertools.chain(*zip(cells, self.block, strict=True)))
        shares = [
            (placed == k).reshape(shape).mean(tuple(range(1, 2 * placed.ndim, 2))) for k in range(1, self.num_classes)
        ]
        return np.concatenate([share.ravel() for share in shares])
