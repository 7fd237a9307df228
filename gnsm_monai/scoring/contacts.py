"""How unusual it is what each structure of a mask touches, beside references: for maps of many structures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
import numpy.typing as npt

__all__ = ["ReferenceContacts", "UnusualContact", "structure_weights"]

MIN_REFERENCES = 5
MIN_NEIGHBOURS = 2
"""Fewest structures that a structure touches, on average. With fewer, contacts tell that something is wrong, but not in
which structure (measured on the hippocampus)."""

SMALL = 0.005
"""Share of a usual structure's surface below which a contact is as good as none."""

PRIOR = 0.3
"""Spread of the logarithm of an area that the references' own is mixed with, half and half."""

LEAST_UNIT = 0.02
"""Least spread of the references' deviations: those of references that are all alike have none."""

CUT = 0.05
"""Share of its surface from which on a structure that reaches the edge counts as cut off."""

_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class UnusualContact:
    """The contact of a structure that differs most from the references'.

    Args:
        partner: the other class.
        area: on which they touch, in mm², of pictures in mm.
        usual: geometric mean of the references'; 0 where that is as good as none.
        most: the largest of the references'.
    """

    partner: int
    area: float
    usual: float
    most: float


@dataclass(frozen=True)
class ReferenceContacts:
    """What the structures of references touch, and on how large an area, measured at the size of their files.

    A deviation is the root mean square, over all other classes, of the distance of the logarithm of their contact area
    from the references' mean, in standard deviations. It is told in units of its own spread over references that were
    left out in turn, above their mean: a thin structure that touches something else in every head is usual.

    Nothing is said of a structure that reaches the edge of the field of view or ignored voxels with more than
    :data:`CUT` of its surface, nor, where there is one, of structures that are missing: they may lie beyond.

    Args:
        centre, spread: of the logarithms of the areas, ``(K, K)`` each.
        most: the largest areas, ``(K, K)``.
        usual, unit: mean and spread of each class's deviations over references, ``(K,)`` each.
        small: in mm², or in mm for pictures; areas are counted from it.
    """

    centre: _Floats
    spread: _Floats
    most: _Floats
    usual: _Floats
    unit: _Floats
    small: float

    @classmethod
    def fit(cls, areas: np.ndarray) -> ReferenceContacts | None:
        """Learns from contact areas ``(N, K, K)`` of :func:`gnsm_monai.data.contacts.contact_areas`.

        None from fewer than :data:`MIN_REFERENCES`, or where structures touch fewer than :data:`MIN_NEIGHBOURS` others.
        """
        areas = _between_classes(np.asarray(areas, dtype=np.float64))
        surfaces = areas.sum(2)[:, 1:]
        if len(areas) < MIN_REFERENCES or not surfaces.any():
            return None
        small = SMALL * float(np.median(surfaces[surfaces > 0]))
        neighbours = (areas[:, 1:, 1:] > small).sum(2)[surfaces > 0]
        if neighbours.mean() < MIN_NEIGHBOURS:
            return None
        logs = _logs(areas, small)
        left_out = _left_out(logs)
        of_structures = left_out[:, 1:][:, surfaces.any(0)]
        # Of few references a class's own mean and spread say little: they count half, those of all classes the rest.
        usual = (left_out.mean(0) + of_structures.mean()) / 2
        unit = np.maximum(np.sqrt((left_out.var(0) + of_structures.var()) / 2), LEAST_UNIT)
        return cls(*_moments(logs), areas.max(0), usual, unit, small)

    def deviations(self, areas: np.ndarray, structure_classes: Sequence[Sequence[int]]) -> _Floats:
        """How unusual the contacts of each structure are, ``(S,)``, higher = worse; references have 0 on average.

        Args:
            areas: of a mask, ``(K, K)``.
            structure_classes: the classes of each structure; the most unusual one counts.
        """
        values = np.asarray(areas, dtype=np.float64)
        touching = _between_classes(values)
        surface, at_edge = touching.sum(1), np.diag(values)
        deviation = (_deviation(_logs(touching, self.small), self.centre, self.spread) - self.usual) / self.unit
        cut = at_edge > CUT * (surface + at_edge)
        unknown = cut | (surface == 0) if cut[1:].any() else cut
        of_classes = np.where(unknown, np.minimum(deviation, 0), deviation)
        return np.array([of_classes[list(classes)].max() for classes in structure_classes])

    def most_unusual(self, areas: np.ndarray, classes: Sequence[int]) -> UnusualContact:
        """The contact of a structure of these classes that is the most unusual one, of areas ``(K, K)`` of a mask."""
        touching, members = _between_classes(np.asarray(areas, dtype=np.float64)), list(classes)
        distance = np.abs((_logs(touching, self.small) - self.centre) / self.spread)[members]
        distance[:, members] = 0
        place, partner = np.unravel_index(int(distance.argmax()), distance.shape)
        pair = members[int(place)], int(partner)
        usual = float(np.exp(self.centre[pair])) - self.small
        return UnusualContact(
            pair[1], float(touching[pair]), usual if usual > self.small else 0.0, float(self.most[pair])
        )

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Plain arrays for an npz file; :meth:`from_arrays` reads them back."""
        return {f"contact_{name}": np.asarray(value) for name, value in vars(self).items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> ReferenceContacts | None:
        """None where the arrays hold none."""
        if "contact_centre" not in arrays:
            return None
        values = {name: arrays[f"contact_{name}"] for name in ("centre", "spread", "most", "usual", "unit")}
        return cls(**values, small=float(arrays["contact_small"]))


@overload
def structure_weights(deviations: None) -> None: ...
@overload
def structure_weights(deviations: np.ndarray) -> _Floats: ...
def structure_weights(deviations: np.ndarray | None) -> _Floats | None:
    """What each structure counts in the anomaly map and in the choice of the worst one, ``(S,)``, 1 at least.

    One more than the squared deviation of :meth:`ReferenceContacts.deviations` beyond the usual. Structures differ in
    how well a network can tell them, damaged or not: what lies in one plane of a few voxels never agrees well. None
    where deviations are not known: all count alike.
    """
    return None if deviations is None else np.asarray(1 + np.maximum(deviations, 0) ** 2)


def _between_classes(areas: _Floats) -> _Floats:
    """Areas ``(..., K, K)`` with a diagonal of 0."""
    return areas * (1 - np.eye(areas.shape[-1]))


def _logs(areas: _Floats, small: float) -> _Floats:
    """Logarithms of areas that are counted from the small one: a contact that is not there has a finite one."""
    return np.asarray(np.log(areas + small))


def _moments(logs: _Floats) -> tuple[_Floats, _Floats]:
    """Mean and spread ``(K, K)`` of ``(N, K, K)``; the spread is mixed with :data:`PRIOR`."""
    return logs.mean(0), np.sqrt((logs.var(0, ddof=1) + PRIOR**2) / 2)


def _left_out(logs: _Floats) -> _Floats:
    """Deviation of each of ``(N, K, K)`` from the moments of all others, ``(N, K)``."""
    count, centred = len(logs), logs - logs.mean(0)
    mean = -centred / (count - 1)  # of the others: all together have 0
    squares = (centred**2).sum(0) - centred**2
    variance = np.maximum(squares - (count - 1) * mean**2, 0) / (count - 2)
    return np.asarray(np.sqrt(((centred - mean) ** 2 / ((variance + PRIOR**2) / 2)).mean(-1)))


def _deviation(logs: _Floats, centre: _Floats, spread: _Floats) -> _Floats:
    """Root mean square distance of ``(K, K)`` in units of the spread, ``(K,)``."""
    return np.asarray(np.sqrt((((logs - centre) / spread) ** 2).mean(-1)))
