"""DICOM segmentations (SEG, RTSTRUCT) to label maps that training and ranking read. Needs the extra ``dicom``."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gnsm_monai.data.dicom_grid import grid_beside, referenced_series, series_grid
from gnsm_monai.data.file_checks import check_claimed_size
from gnsm_monai.data.label_names import name_key
from gnsm_monai.data.nifti import save_nifti, small_integers
from gnsm_monai.data.nnunet import LabelScheme
from gnsm_monai.data.segments import LostClaims, Segment, join_segments, lost_claims, say_overlap, unique_numbers
from gnsm_monai.data.structure_set import MODALITY, read_structure_set
from gnsm_monai.errors import InputError
from gnsm_monai.files import check_folder, one_line, save_json

__all__ = ["convert_segmentations", "find_segmentations", "holds_dicom", "is_dicom", "read_segmentation"]

logger = logging.getLogger(__name__)

THRESHOLD = 0.5
"""Least value of a fractional segment at which a voxel counts as part of it."""

LOOKED_AT = 200
"""Files of a tree that are opened to find out whether it holds DICOM."""

TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""DICOM's frame is LPS."""


def convert_segmentations(
    folder: str | Path, output: str | Path, series: str | Path | None = None, labels: LabelScheme | None = None
) -> list[Path]:
    """Writes ``CASE.nii.gz`` for every SEG and RTSTRUCT below a folder, and ``dataset.json`` with the labels' names.

    Args:
        folder: searched with all its subfolders; other files are passed over. A case is called by its path.
        output: folder of the label maps.
        series: folder in which the image series lie that were segmented. A SEG leaves out slices without structures.
            With the series, a label map gets its whole field of view, which the model needs because position counts.
            An RTSTRUCT has contours alone, and is passed over without the series.
        labels: names and values that the label maps are to have, found by the names of segments, in any spelling.
            Other structures of an RTSTRUCT do not count. Without it the values are the numbers of the segments.

    Returns:
        The label maps.

    Raises:
        InputError: no segmentation, a damaged one, one whose segments are named otherwise than ``labels`` or than in
            the other files, or highdicom is not installed.
    """
    segmentations = find_segmentations(folder, structure_sets=series is not None)
    images = {} if series is None else _series(series)
    numbers: dict[str, int] = {} if labels is None else dict(zip(labels.names, labels.values[1:], strict=True))
    maps: list[Path] = []
    for case, path in segmentations.items():
        values, affine, segments, _ = read_segmentation(path, images, None if labels is None else labels.names)
        if labels is None:
            _agree(numbers, segments, path)
        else:
            values = _renumbered(values, segments, numbers, path)
        maps.append(Path(output) / f"{case}.nii.gz")
        save_nifti(maps[-1], small_integers(values), affine)
        logger.info("%s: %s voxels, %s", maps[-1], " x ".join(map(str, values.shape)), ", ".join(segments))
    declared: dict[str, int] = {"background": 0, **numbers}
    if labels is not None and labels.ignore_value is not None:
        declared["ignore"] = labels.ignore_value
    save_json(Path(output) / "dataset.json", {"labels": declared, "file_ending": ".nii.gz"})
    return maps


def find_segmentations(folder: str | Path, structure_sets: bool = False) -> dict[str, Path]:
    """DICOM SEG files below a folder by case: the path without its ending, folders joined by ``_``.

    Args:
        folder: searched with all its subfolders.
        structure_sets: whether every RTSTRUCT counts. Else only those count whose grid lies beside them.

    Raises:
        InputError: none is there, or two get the same name.
    """
    pydicom, _ = _dicom()
    folder = Path(folder)
    check_folder(folder)
    segmentations, passed_over = dict[str, Path](), 0
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        try:
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["Modality"])
        except Exception:  # no DICOM file
            continue
        modality = header.get("Modality")
        counts = modality == "SEG" or (modality == MODALITY and (structure_sets or grid_beside(path)[0] is not None))
        passed_over += modality == MODALITY and not counts
        if counts:
            parts = path.relative_to(folder).parts
            case = "_".join([*parts[:-1], path.stem if path.suffix.lower() == ".dcm" else path.name])
            if case in segmentations:
                raise InputError(f"{folder}: {segmentations[case]} and {path} would both be case '{case}'")
            segmentations[case] = path
    text = f"{passed_over} structure sets (RTSTRUCT) without their image series: gnsm from-dicom --series"
    if not segmentations:
        raise InputError(f"{folder}: no DICOM segmentation (SEG) in it{f', but {text}' if passed_over else ''}")
    if passed_over:
        logger.warning("%s: passes over %s", folder, text)
    return segmentations


def is_dicom(path: str | Path) -> bool:
    """Whether a file begins as DICOM does, whatever it is called."""
    with open(path, "rb") as file:
        return file.read(132)[128:] == b"DICM"


def holds_dicom(folder: Path) -> bool:
    """Whether one of the first files in a folder, at any depth, is DICOM."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return any(map(is_dicom, itertools.islice(files, LOOKED_AT)))


def read_segmentation(
    path: str | Path, images: Mapping[str, list[Any]] | None = None, structures: Sequence[str] | None = None
) -> tuple[np.ndarray, np.ndarray, dict[str, int], LostClaims]:
    """A SEG or an RTSTRUCT as a label map. Segments of one name are one structure.

    What several structures claim is said in the log. A voxel of a fractional SEG goes to the segment of the greatest
    fraction, if that is at least :data:`THRESHOLD`; see :func:`gnsm_monai.data.segments.join_segments` for the rest.

    Args:
        path: of the file.
        images: headers of the slices of image series, by SeriesInstanceUID. Without them the grid counts that lies
            beside the file (:func:`gnsm_monai.data.dicom_grid.save_grid`), if there is one.
        structures: names of those that count in an RTSTRUCT; without them those beside its grid, or all.

    Returns:
        Numbers of the structures ``(z, y, x)``, 0 elsewhere; voxel index to mm in RAS ``(4, 4)``; names with numbers;
        claims of segments to voxels that others have (:data:`gnsm_monai.data.constants.LOST_CLAIMS`).

    Raises:
        InputError: damaged, no regular grid, or the series is not among ``images``.
    """
    pydicom, highdicom = _dicom()
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True)
        if header.get("Modality") == MODALITY:
            grid, named = (_geometry(header, images), []) if images else grid_beside(path)
            values, affine, names = read_structure_set(path, header, grid, structures or named or None)
            return values.astype(np.int64), TO_RAS @ affine, names, []
        check_claimed_size(str(path), (header.get("NumberOfFrames", 1), header.Rows, header.Columns))
        segmentation = highdicom.seg.segread(path)
        descriptions = map(segmentation.get_segment_description, segmentation.segment_numbers)
        segments = [Segment(str(one.segment_label).strip(), int(one.segment_number)) for one in descriptions]
        volume = _volume(segmentation)
        grid = _geometry(segmentation, images) if images else grid_beside(path)[0]
        if grid is not None:
            volume = volume.match_geometry(grid)
    except InputError:
        raise
    except Exception as error:  # pydicom and highdicom raise many kinds
        raise InputError(one_line(error, path)) from error
    numbers = unique_numbers(segments)
    lost: LostClaims = []
    values = np.asarray(volume.array)
    if values.ndim == 4:
        if values.dtype.kind == "f":
            values = np.where(values >= THRESHOLD, values, 0)
        claims = [(n, values[..., i]) for i, n in enumerate(numbers)]
        values, overlap = join_segments(claims, values.shape[:-1])
        lost = lost_claims(claims, values)
        say_overlap(path, overlap)
    else:
        values = values.astype(np.int64)
        for number, segment in zip(numbers, segments, strict=True):
            values[values == segment.value] = number
    names = {segment.name: number for number, segment in zip(numbers, segments, strict=True)}
    return values.astype(np.int64), TO_RAS @ np.asarray(volume.affine), names, lost


def _volume(segmentation: Any) -> Any:
    """Values of one map ``(z, y, x)`` or, where segments overlap or are fractional, one per segment in a last axis."""
    if segmentation.segmentation_type.value != "FRACTIONAL":
        try:
            return segmentation.get_volume(combine_segments=True)
        except RuntimeError as error:
            if "overlap" not in str(error):
                raise
    # Not in the handler: while the error lives, highdicom keeps its tables locked.
    return segmentation.get_volume(combine_segments=False)


def _series(folder: str | Path) -> dict[str, list[Any]]:
    """Headers of all image slices below a folder, by SeriesInstanceUID."""
    pydicom, _ = _dicom()
    check_folder(folder)
    series: dict[str, list[Any]] = {}
    for path in sorted(path for path in Path(folder).rglob("*") if path.is_file()):
        try:
            header = pydicom.dcmread(path, stop_before_pixels=True)
        except Exception:  # no DICOM file
            continue
        if "ImagePositionPatient" in header and "SeriesInstanceUID" in header:
            series.setdefault(str(header.SeriesInstanceUID), []).append(header)
    if not series:
        raise InputError(f"{folder}: no DICOM image series in it")
    return series


def _geometry(segmentation: Any, images: Mapping[str, list[Any]]) -> Any:
    """Grid of the series that was segmented."""
    slices = next((images[uid] for uid in referenced_series(segmentation) if uid in images), None)
    if slices is None:
        raise ValueError("the image series that it was made of is not in the folder of series")
    return series_grid(slices)


def _agree(numbers: dict[str, int], segments: Mapping[str, int], path: Path) -> None:
    """Adds the segments of a file; a name with two numbers, or a number with two names, would mix structures."""
    for name, number in segments.items():
        same = [other for other, value in numbers.items() if value == number]
        if numbers.get(name, number) != number or (same and same[0] != name):
            raise InputError(
                f"{path}: segment {number} is '{name}' here and otherwise in other files: "
                "give the data set that declares names and values"
            )
        numbers[name] = number


def _renumbered(values: np.ndarray, segments: Mapping[str, int], numbers: Mapping[str, int], path: Path) -> np.ndarray:
    by_name = {name_key(name): value for name, value in numbers.items()}
    renumbered = np.zeros_like(values)
    for name, number in segments.items():
        if name_key(name) not in by_name:
            raise InputError(f"{path}: segment '{name}' is none of the declared labels ({', '.join(numbers)})")
        renumbered[values == number] = by_name[name_key(name)]
    return renumbered


def _dicom() -> tuple[Any, Any]:
    """pydicom and highdicom; they are imported only where they are needed."""
    try:
        import highdicom.seg
        import pydicom
    except ImportError as error:
        raise InputError("DICOM needs highdicom: pip install 'gnsm_monai[dicom]'") from error
    return pydicom, highdicom
