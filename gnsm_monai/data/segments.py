"""Segments that may overlap, as 3D Slicer and DICOM store them, joined to one label map."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from gnsm_monai.data.label_names import LabelTable, hex_colour
from gnsm_monai.data.notes import warn_once

__all__ = [
    "LostClaims", "Segment", "give_to_others", "join_layers", "join_segments", "lost_claims", "say_overlap",
    "slicer_segments", "unique_numbers",
]  # fmt: skip

LostClaims: TypeAlias = Sequence[tuple[np.ndarray, np.ndarray]]
"""See :data:`gnsm_monai.data.constants.LOST_CLAIMS`."""


@dataclass(frozen=True)
class Segment:
    """One segment of a file.

    Args:
        name: of its structure.
        value: by which its voxels are marked.
        layer: that it lies in; segments of one layer do not overlap.
        colour: ``#rrggbb``; empty where none is given.
    """

    name: str
    value: int
    layer: int = 0
    colour: str = ""


def slicer_segments(metadata: Mapping[str, str]) -> list[Segment]:
    """The segments that the header of a ``.seg.nrrd`` file describes, in their order; none for another file.

    Source: https://slicer.readthedocs.io/en/latest/developer_guide/modules/segmentations.html
    """
    numbers = sorted(int(match[1]) for key in metadata if (match := re.fullmatch(r"Segment(\d+)_LabelValue", key)))
    return [
        Segment(
            metadata.get(f"Segment{n}_Name", "").strip(),
            int(metadata[f"Segment{n}_LabelValue"]),
            int(metadata.get(f"Segment{n}_Layer", 0)),
            hex_colour(metadata.get(f"Segment{n}_Color", "").split(), 1),
        )
        for n in numbers
    ]


def unique_numbers(segments: Sequence[Segment]) -> list[int]:
    """A number for each segment: its value where values tell structures apart, else its place from 1.

    Segments of one name are parts of one structure and share the number of the first.
    """
    names = [segment.name or f"\0{place}" for place, segment in enumerate(segments)]
    firsts = {name: place for place, name in reversed(list(enumerate(names)))}
    values = [segments[firsts[name]].value for name in firsts]
    by_value = len(set(values)) == len(values)
    return [segments[firsts[name]].value if by_value else firsts[name] + 1 for name in names]


def join_layers(layers: np.ndarray, segments: Sequence[Segment]) -> tuple[np.ndarray, LabelTable, int, LostClaims]:
    """Layers ``(*spatial, L)`` of a segmentation as one label map; see :func:`join_segments`.

    Returns:
        The map ``(*spatial)``, names and colours of its numbers, voxels that several structures claim, and the claims
        that lost. A single layer whose values tell all structures apart comes back as it is.
    """
    numbers = unique_numbers(segments)
    named = [(number, segment) for number, segment in zip(numbers, segments, strict=True) if segment.name]
    names = LabelTable.of((number, segment.name, segment.colour) for number, segment in reversed(named))
    if layers.shape[-1] == 1 and numbers == [segment.value for segment in segments]:
        return layers[..., 0], names, 0, []
    pairs = zip(numbers, segments, strict=True)
    claims = [(n, layers[..., s.layer] == s.value) for n, s in pairs]
    values, overlap = join_segments(claims, layers.shape[:-1])
    return values, names, overlap, lost_claims(claims, values)


def join_segments(claims: Sequence[tuple[int, np.ndarray]], shape: Sequence[int]) -> tuple[np.ndarray, int]:
    """Structures that may overlap as one label map.

    A voxel goes to the structure that claims it most strongly and, among equals, to the smallest one: a tumour stands
    in the organ around it, whichever comes first in the file.

    Args:
        claims: number of each structure, and how strongly it claims each voxel, ``(*shape)``: a boolean, or a fraction
            that is 0 outside.
        shape: of the map.

    Returns:
        The map ``(*shape)``, int32, 0 where nothing is claimed; and voxels that several structures claim.
    """
    values = np.zeros(shape, np.int32)
    best = np.zeros(shape, np.float32 if any(claim.dtype.kind == "f" for _, claim in claims) else bool)
    several = np.zeros(shape, bool)
    for number, claim in sorted(claims, key=lambda item: -np.count_nonzero(item[1])):
        inside = claim > 0
        several |= inside & (values > 0) & (values != number)
        taken = inside & (claim >= best)
        values[taken], best[taken] = number, claim[taken]
    return values, int(several.sum())


def lost_claims(claims: Sequence[tuple[int, np.ndarray]], values: np.ndarray) -> LostClaims:
    """The claims of structures to voxels that others have in the joined map."""
    lost = []
    for number, claim in sorted(claims, key=lambda item: -np.count_nonzero(item[1])):
        places = np.flatnonzero((claim > 0) & (values != number))
        lost.append((places, np.full(len(places), number, np.int32)))
    return lost


def give_to_others(matched: np.ndarray, lost: LostClaims, targets: Mapping[int, int]) -> None:
    """Voxels of structures that are left out go to what a scheme has there: a segment of the liver is liver.

    Args:
        matched: numbers of the scheme, 0 where nothing is or a structure was left out; changed in place.
        lost: claims of structures to voxels that others had.
        targets: the scheme's number of each structure that it has.
    """
    free = matched.ravel() == 0
    for voxels, numbers in lost:  # the smallest structures come last
        for number in np.unique(numbers).tolist():
            if number in targets:
                matched.flat[voxels[(numbers == number) & free[voxels]]] = targets[number]


def say_overlap(path: str | Path, voxels: int) -> str:
    """Logs how much of a file several structures claim; the same as a note on the case, empty where nothing is."""
    if not voxels:
        return ""
    text = f"segments overlap in {voxels} voxels: the strongest claim counts, and the smallest structure among equals"
    warn_once(f"{path}: {text}", f"{path}: {text}")  # a mask is read anew for its copy
    return text
