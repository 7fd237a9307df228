"""Level statistics by name, of one mask or many, in memory and in files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from gnsm_monai.rules.statistics import STATISTICS

__all__ = ["CaseStatistics", "LevelStatistics", "stack_levels", "stored_levels", "to_array"]

LevelStatistics: TypeAlias = Mapping[str, np.ndarray]
"""Values of every statistic by its name: ``(N, L)`` float64 of ``N`` masks, ``(L,)`` of one."""


def stack_levels(cases: Sequence[LevelStatistics]) -> LevelStatistics:
    """Statistics ``(N, L)`` of ``N`` cases ``(L,)`` each, by the names of the first; none of no case."""
    return {name: np.stack([levels[name] for levels in cases]) for name in (cases[0] if cases else ())}


def to_array(levels: LevelStatistics) -> np.ndarray:
    """Statistics as one array ``(..., L, S)`` in the order of :data:`STATISTICS`, for a file."""
    return np.stack([levels[name] for name in STATISTICS], axis=-1)


def stored_levels(arrays: Mapping[str, np.ndarray], key: str) -> LevelStatistics:
    """Statistics of the array ``key`` ``(..., L, S)`` of a file.

    The file's array ``statistic`` names them. Version 0.2 wrote models without: there they are the first ``S`` of
    :data:`STATISTICS`.
    """
    names = arrays["statistic"].tolist() if "statistic" in arrays else STATISTICS
    return dict(zip(names, np.moveaxis(arrays[key], -1, 0), strict=False))


@dataclass(frozen=True)
class CaseStatistics:
    """What the network says of one label map.

    Args:
        levels: of every statistic, ``(L,)`` float64.
        structures: ``(S, L)`` float64: ``1 - soft Dice`` between mask and posterior per structure and level; NaN
            where a structure is neither in the mask nor in its denoised version and may be missing.
        anomaly_map: ``(*spatial)`` float32, higher = worse; weighted mean over levels of the voxel's misfit, or, with
            weights of structures, of :attr:`gnsm_monai.scoring.seen.Seen.anomaly_map` (``posterior``), or of the
            squared score (``direct``).
        denoised: ``(*spatial)`` int16, the most probable class in the weighted mean posterior of all levels: what the
            mask would be if it were like the references. For ``direct`` the mask itself.
        band: ``(*spatial)`` bool, around the structures of the mask and of ``denoised``.
    """

    levels: LevelStatistics
    structures: np.ndarray
    anomaly_map: np.ndarray
    denoised: np.ndarray
    band: np.ndarray
