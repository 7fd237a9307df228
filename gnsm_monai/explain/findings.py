"""What a finding is, and the two maps of one structure that findings are about."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import ndimage

__all__ = ["Classes", "Finding", "Floats", "Mask", "Structure", "UsualVolume", "unnamed"]

Mask: TypeAlias = npt.NDArray[np.bool_]
Classes: TypeAlias = npt.NDArray[np.integer[Any]]
Floats: TypeAlias = npt.NDArray[np.float64]

OFF_CENTRE = 0.8  # standard deviations of a structure from its centre to what lies at an end of it


@dataclass(frozen=True)
class Finding:
    """One way in which a mask differs from its denoised version.

    Args:
        kind: what is wrong; `gnsm_monai.explain.sentences` has the words.
        names: structures concerned; empty for the mask as a whole.
        weight: Dice that it costs, summed over the structures; higher = worse.
        volume: size of what is wrong in mm^3 (mm^2 in 2D).
        expected: size of the structures in the denoised version, likewise.
        mm: distance of a shift, an island or a boundary.
        ratio: size of the structure over its expected size.
        count: parts, such as islands.
        places: (array axis, -1 or 1 for its low or high end), most important first.
        other: a second structure.
        ends: smallest and largest size in the references of a structure that is missing, like ``volume``.
        labels: what the structures are labelled, in the order of ``names``, where they are off by ``count`` numbers.
    """

    kind: str
    names: tuple[str, ...] = ()
    weight: float = 0.0
    volume: float = 0.0
    expected: float = 0.0
    mm: float = 0.0
    ratio: float = 1.0
    count: int = 1
    places: tuple[tuple[int, int], ...] = ()
    other: str = ""
    ends: tuple[float, float] | None = None
    labels: tuple[str, ...] = ()

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Structures that a relabelling concerns, each with what it is labelled."""
        return list(zip(self.names, self.labels or (self.other,), strict=True))


def unnamed(absent: Sequence[str], findings: Sequence[Finding]) -> list[Finding]:
    """That structures which a mask lacks are missing, but for those of which findings speak already."""
    named = {name for finding in findings for name in (*finding.names, finding.other, *finding.labels)}
    return [Finding("missing", (name,), 1.0) for name in absent if name not in named]


@dataclass(frozen=True)
class UsualVolume:
    """Median, smallest and largest size of a structure in the references that have it, in mm³ (mm² in 2D).

    The ends are NaN where a model does not know them.
    """

    median: float
    smallest: float
    largest: float


@dataclass(frozen=True)
class Structure:
    """One structure in a mask and in its denoised version, in a box around both.

    Args:
        name: of the structure.
        mask, expected: where it is in the mask and in the denoised version, bool (*spatial).
        label, denoised: classes in the same box, 0 = background.
        spacing: mm per axis, (D,).
        neighbours: name of the structure of each class that is no part of this one.
        from_body: gives mm from each voxel of the box to the nearest that is labelled in both whole maps, None where
            there is none.
    """

    name: str
    mask: Mask
    expected: Mask
    label: Classes
    denoised: Classes
    spacing: Floats
    neighbours: Mapping[int, str]
    from_body: Callable[[], Floats | None]

    @cached_property
    def sizes(self) -> tuple[int, int]:
        """Voxels in the mask and in the denoised version."""
        return int(np.count_nonzero(self.mask)), int(np.count_nonzero(self.expected))

    @property
    def voxel(self) -> float:
        return float(np.prod(self.spacing))

    def finding(self, kind: str, wrong: float, **more: Any) -> Finding:
        """Finding about a number of wrong voxels."""
        weight = wrong / sum(self.sizes)
        return Finding(kind, (self.name,), weight, wrong * self.voxel, self.sizes[1] * self.voxel, **more)

    def distance(self, mask: Mask) -> Floats:
        """mm from every voxel to a mask that is not empty."""
        return np.asarray(ndimage.distance_transform_edt(~mask, sampling=self.spacing))

    def places(self, part: Mask) -> tuple[tuple[int, int], ...]:
        """The end of the expected structure at which a part lies; none where it lies in the middle."""
        rest = np.argwhere(self.expected & ~part)
        away = np.argwhere(part).mean(axis=0) - (rest if len(rest) else np.argwhere(self.expected)).mean(axis=0)
        away /= np.argwhere(self.expected).std(axis=0) + 0.5
        axis = int(np.argmax(np.abs(away)))
        return ((axis, 1 if away[axis] > 0 else -1),) if abs(away[axis]) > OFF_CENTRE else ()
