"""The grid of a DICOM image series, by the headers of its slices; also as a small file beside a SEG of that series."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gnsm_monai.errors import InputError
from gnsm_monai.files import load_json, save_json

__all__ = ["grid_beside", "referenced_series", "save_grid", "series_grid"]

ENDING = ".grid.json"


def referenced_series(segmentation: Any) -> list[str]:
    """SeriesInstanceUID of each image series that a SEG or an RTSTRUCT names as its source."""
    series = list(segmentation.get("ReferencedSeriesSequence", []))
    for frame in segmentation.get("ReferencedFrameOfReferenceSequence", []):
        for study in frame.get("RTReferencedStudySequence", []):
            series += study.get("RTReferencedSeriesSequence", [])
    return [str(item.SeriesInstanceUID) for item in series]


def series_grid(slices: Sequence[Any]) -> Any:
    """Grid of an image series ``(z, y, x)``, as a ``highdicom.VolumeGeometry``; voxel index to mm in LPS.

    Args:
        slices: headers of its slices, in any order.

    Raises:
        ValueError: the slices are not evenly spaced.
    """
    import highdicom

    first = slices[0]
    across, down = np.reshape(np.array(first.ImageOrientationPatient, dtype=np.float64), (2, 3))
    normal = np.cross(across, down)
    places = np.array([s.ImagePositionPatient for s in slices], dtype=np.float64)
    places = places[(places @ normal).argsort()]
    steps = np.diff(places, axis=0) if len(places) > 1 else normal[None] * float(first.get("SliceThickness") or 1)
    if not np.allclose(steps, steps.mean(0), atol=0.01 * np.linalg.norm(steps.mean(0))):
        raise ValueError("the slices of its image series are not evenly spaced")
    row_mm, column_mm = map(float, first.PixelSpacing)
    affine = np.eye(4)
    affine[:3] = np.stack([steps.mean(0), down * row_mm, across * column_mm, places[0]], axis=1)
    return highdicom.VolumeGeometry(affine, [len(places), int(first.Rows), int(first.Columns)], "PATIENT")


def save_grid(path: Path, grid: Any, structures: Sequence[str] = ()) -> None:
    """Writes what :func:`grid_beside` reads: the grid of the series that the SEG or RTSTRUCT at ``path`` was made of.

    Args:
        path: of the SEG or RTSTRUCT.
        grid: a ``highdicom.VolumeGeometry``.
        structures: names of those that count in an RTSTRUCT; all where none are given.
    """
    content = {"affine": grid.affine.tolist(), "shape": [int(n) for n in grid.spatial_shape]}
    save_json(_beside(path), {**content, "structures": list(structures)})


def grid_beside(path: str | Path) -> tuple[Any, list[str]]:
    """The grid that lies beside a SEG, whose empty slices are not in the file, or beside an RTSTRUCT, which has none.

    Returns:
        The grid, None where there is none; and the names of the structures that count, none where all do.

    Raises:
        InputError: the file is none that :func:`save_grid` has written.
    """
    import highdicom

    beside = _beside(Path(path))
    if not beside.is_file():
        return None, []
    content = load_json(beside)
    try:
        affine, shape = np.array(content["affine"], dtype=np.float64), content["shape"]
        return highdicom.VolumeGeometry(affine, shape, "PATIENT"), list(content.get("structures", []))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{beside}: is no grid of an image series: {error}") from error


def _beside(path: Path) -> Path:
    return path.with_name(path.name + ENDING)
