"""The network of shapes: it sees a label map in cells of a few voxels, and answers for each voxel."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from monai.data import MetaTensor
from torch import Tensor

from gnsm_monai.data.constants import IGNORE_INDEX
from gnsm_monai.data.transforms import encode_labels
from gnsm_monai.networks.bottleneck import BottleneckNetwork
from gnsm_monai.networks.evidence import centred
from gnsm_monai.networks.separable import upsample
from gnsm_monai.noise import NoiseSchedule, hide, relax
from gnsm_monai.noise.gumbel import CLASS_DIM, upcast

__all__ = ["MAX_VALUES", "ShapeNetwork", "cells_of", "in_cells", "labels_in_cells"]

MAX_VALUES = 400_000
"""Most values of a map, classes times cells, that the network is shown: cells grow until there are no more."""

PREFIX = "bottleneck_"


@dataclass(frozen=True)
class ShapeNetwork:
    """A network with a bottleneck, which sees large label maps in cells of several voxels.

    What a bottleneck lets through is smooth: in large maps single voxels cost time and tell it little.

    Args:
        network: in evaluation mode; its ``spatial_size`` are cells.
        cell: voxels per axis of a cell; 1 everywhere in models of earlier versions.
    """

    network: BottleneckNetwork
    cell: tuple[int, ...]

    @property
    def num_levels(self) -> int:
        """Levels of the noise that it knows, the weakest ones."""
        return self.network.schedule.num_levels

    def posterior(self, probabilities: Tensor, mask: Tensor) -> Tensor:
        """Class probabilities ``(L, K, *spatial)`` of the shape that it finds in a mask at each level that it knows.

        Args:
            probabilities: ``(1, K, *spatial)``, one-hot or soft.
            mask: ``(1, 1, *spatial)``, 1 where a voxel is observed.
        """
        network, size = self.network.to(probabilities.device), probabilities.shape[2:]
        seen, observed = in_cells(probabilities, mask, self.cell, network.spatial_size)
        # All levels at once: one map alone takes torch's slow convolution, and rounds otherwise.
        levels = torch.arange(self.num_levels, device=probabilities.device)
        log_alpha = network.schedule.log_alpha(seen.expand(len(levels), *seen.shape[1:]), levels)
        x = hide(relax(log_alpha, network.schedule.temperature(levels)), observed)
        posterior = torch.softmax(upcast(network(x, levels)), CLASS_DIM)
        if max(self.cell) == 1:
            return posterior
        grid = [n * s for n, s in zip(posterior.shape[2:], self.cell, strict=True)]
        return centred(upsample(posterior, grid), size, edge=True)  # linear between the centres of cells

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Plain arrays for an npz file; :meth:`from_arrays` reads them back."""
        schedule = self.network.schedule
        return {
            f"{PREFIX}strides": np.array(self.network.strides),
            f"{PREFIX}cell": np.array(self.cell),
            f"{PREFIX}betas": np.array(schedule.betas),
            f"{PREFIX}temperatures": np.array(schedule.temperatures),
            f"{PREFIX}floor": np.array(schedule.floor),
            **{f"{PREFIX}weight_{k}": v.cpu().half().numpy() for k, v in self.network.state_dict().items()},
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> ShapeNetwork | None:
        """None where the arrays hold none."""
        if f"{PREFIX}strides" not in arrays:
            return None
        betas, temperatures = (tuple(arrays[PREFIX + name].tolist()) for name in ("betas", "temperatures"))
        schedule = NoiseSchedule(betas, temperatures, float(arrays[f"{PREFIX}floor"]))
        num_classes, *size = arrays[f"{PREFIX}weight_log_prior"].shape
        network = BottleneckNetwork(schedule, num_classes, size, arrays[f"{PREFIX}strides"].tolist())
        start = f"{PREFIX}weight_"
        weights = {name.removeprefix(start): value for name, value in arrays.items() if name.startswith(start)}
        network.load_state_dict({name: torch.as_tensor(value).float() for name, value in weights.items()})
        cell = arrays.get(f"{PREFIX}cell", np.ones(len(size), dtype=int))
        return cls(network.eval(), tuple(cell.tolist()))


def cells_of(
    num_classes: int, size: Sequence[int], strides: Sequence[Sequence[int]], max_values: int = MAX_VALUES
) -> tuple[tuple[int, ...], list[Sequence[int]]]:
    """Voxels of a cell per axis, for maps of at most so many values where the strides allow, and the other strides.

    Args:
        num_classes: ``K``.
        size: voxels per axis.
        strides: steps to coarser grids. Cells are those of the first grid that is small enough, or of the last; the
            steps that remain lead on from there.
        max_values: classes times cells.
    """
    cell, remaining = (1,) * len(size), list(strides)
    while remaining and num_classes * math.prod(-(-n // s) for n, s in zip(size, cell, strict=True)) > max_values:
        cell = tuple(s * f for s, f in zip(cell, remaining.pop(0), strict=True))
    return cell, remaining


def in_cells(
    probabilities: Tensor, observed: Tensor, cell: Sequence[int], cells: Sequence[int] | None = None
) -> tuple[Tensor, Tensor]:
    """Shares of the classes per cell, ``(1, K, *cells)`` summing to 1, and which are observed, ``(1, 1, *cells)``.

    A cell is observed if half of its voxels are; of the others nothing is known, and all classes have equal shares.

    Args:
        probabilities: ``(B, K, *spatial)``, one-hot or soft, of any size: centred on the cells.
        observed: ``(B, 1, *spatial)``, 1 where a voxel counts.
        cell: voxels per axis of a cell. Where all are 1, the maps are given back as they are.
        cells: per axis; by default as many as hold the map.
    """
    if max(cell) == 1:
        return probabilities, observed
    if cells is None:
        cells = [-(-n // s) for n, s in zip(probabilities.shape[2:], cell, strict=True)]
    grid = [n * s for n, s in zip(cells, cell, strict=True)]
    pool = F.avg_pool2d if probabilities.ndim == 4 else F.avg_pool3d
    counts = centred(observed, grid)
    share = pool(counts, tuple(cell))
    seen = (share >= 0.5).to(observed)
    shares = pool(centred(probabilities, grid) * counts, tuple(cell)) / share.clamp_min(1e-6)
    return torch.where(seen > 0, shares, 1 / probabilities.shape[CLASS_DIM]), seen


def labels_in_cells(label: Tensor, num_classes: int, cell: Sequence[int]) -> tuple[Tensor, Tensor]:
    """What :func:`in_cells` gives of the one-hot maps of class indices ``(B, 1, *spatial)``, which are never made.

    With many classes these maps would take longer than all the rest of a training step.
    """
    if max(cell) == 1:
        return encode_labels(label, num_classes)
    cells = [-(-n // s) for n, s in zip(label.shape[2:], cell, strict=True)]
    index = label.as_tensor() if isinstance(label, MetaTensor) else label
    # 0 is what does not count, also around the map.
    index = centred(torch.where(index == IGNORE_INDEX, 0, index + 1), [n * s for n, s in zip(cells, cell, strict=True)])
    split = index.reshape(len(index), *(n for pair in zip(cells, cell, strict=True) for n in pair))
    inside = [*range(2, split.ndim, 2)]
    voxels = split.permute(0, *range(1, split.ndim, 2), *inside).reshape(-1, math.prod(cell)).long()
    counts = torch.zeros(len(voxels), num_classes + 1, device=index.device)
    counts.scatter_add_(1, voxels, torch.ones_like(voxels, dtype=counts.dtype))
    shares = counts[:, 1:] / counts[:, 1:].sum(1, keepdim=True).clamp_min(1)
    seen = counts[:, :1] <= math.prod(cell) / 2
    shares = torch.where(seen, shares, 1 / num_classes)
    in_place = (shares, seen.float())
    maps = tuple(values.reshape(len(index), *cells, -1).movedim(-1, CLASS_DIM).contiguous() for values in in_place)
    return maps[0], maps[1]
