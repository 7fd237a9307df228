"""DICOM structure sets (RTSTRUCT) to label maps: contours on slices, filled by plastimatch.

The Python libraries for it were tried first: rt-utils 1.2.7 cuts images that are not square, med-imagetools 2.16.0
fills holes and rounds points to voxels, dcmrtstruct2nii 5 fails with pydicom 3.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gnsm_monai.data.file_checks import check_claimed_size
from gnsm_monai.data.label_names import name_key
from gnsm_monai.data.segments import join_segments, say_overlap
from gnsm_monai.errors import InputError

__all__ = ["MODALITY", "can_read_structure_sets", "read_structure_set", "structure_names"]

MODALITY = "RTSTRUCT"

PROGRAM = "plastimatch"

SECONDS = 600
"""After which plastimatch is stopped."""

OFF_AXIS = 1e-3
"""Share of a step off its axis from which on an image counts as oblique."""


def can_read_structure_sets() -> bool:
    """Whether plastimatch is installed."""
    return shutil.which(PROGRAM) is not None


def structure_names(header: Any) -> list[str]:
    """Names of the structures of an RTSTRUCT, in the order of the file."""
    return [str(item.get("ROIName", "")).strip() for item in header.get("StructureSetROISequence", [])]


def read_structure_set(
    path: str | Path, header: Any, grid: Any, structures: Sequence[str] | None = None
) -> tuple[np.ndarray, np.ndarray, dict[str, int]]:
    """The structures of an RTSTRUCT as a label map. A contour within a contour of its structure is a hole.

    Args:
        path: of the file.
        header: what pydicom reads of it.
        grid: of its image series, ``(z, y, x)``, a ``highdicom.VolumeGeometry``; None where nobody knows it.
        structures: names of those that count, in any spelling; all where it is None. A plan also holds the patient's
            skin, targets and margins, which overlap the organs.

    Returns:
        Numbers of the structures ``(z, y, x)``, 0 elsewhere; voxel index to mm in LPS ``(4, 4)``; names with numbers.

    Raises:
        InputError: no grid, none of the structures, an image series whose slices are not axial, plastimatch is not
            installed or fails.
    """
    import highdicom

    if grid is None:
        raise InputError(f"{path}: a structure set (RTSTRUCT) has no voxels: give its image series, see from-dicom")
    if not can_read_structure_sets():
        raise InputError(f"{path}: a structure set (RTSTRUCT) needs the program {PROGRAM}: apt install {PROGRAM}")
    present = list(dict.fromkeys(structure_names(header)))
    wanted = {name_key(name) for name in (present if structures is None else structures)}
    numbers = {name: n for n, name in enumerate((name for name in present if name_key(name) in wanted), start=1)}
    if not numbers:
        raise InputError(f"{path}: none of the structures that count; it has {', '.join(present) or 'none at all'}")
    if "ROIContourSequence" not in header:  # plastimatch would call every structure empty
        raise InputError(f"{path}: a structure set without contours")
    check_claimed_size(str(path), grid.spatial_shape)
    upright = _upright(path, grid)
    claims = [(numbers[name], mask) for name, mask in _filled(path, upright) if name in numbers]
    values, overlap = join_segments(claims, upright.spatial_shape)
    say_overlap(path, overlap)
    volume = highdicom.Volume(values, upright.affine, "PATIENT").match_geometry(grid)
    return np.asarray(volume.array), np.asarray(volume.affine), numbers


def _upright(path: str | Path, grid: Any) -> Any:
    """The same voxels with the axes of LPS, in which plastimatch fills contours."""
    import highdicom

    steps = np.asarray(grid.affine)[:3, :3]
    across = np.abs(steps).argmax(0)  # axis of LPS along which each axis of the grid runs
    spacing = np.zeros(3)
    spacing[across] = np.abs(steps).max(0)
    if across[0] != 2 or np.abs(steps).sum() > spacing.sum() * (1 + OFF_AXIS):
        raise InputError(f"{path}: the image series of this structure set is not axial: {PROGRAM} would lose parts")
    shape = np.zeros(3, int)
    shape[across] = grid.spatial_shape
    ends = np.asarray(grid.affine)[:3, 3, None] + np.stack([np.zeros(3), steps @ (np.array(grid.spatial_shape) - 1)], 1)
    affine = np.eye(4)
    affine[:3, :3] = np.fliplr(np.diag(spacing))
    affine[:3, 3] = ends.min(1)
    return highdicom.VolumeGeometry(affine, shape[::-1].tolist(), "PATIENT")


def _filled(path: str | Path, grid: Any) -> list[tuple[str, np.ndarray]]:
    """Name and voxels ``(z, y, x)``, boolean, of each structure that has contours."""
    import SimpleITK as sitk  # noqa: N813  # tens of megabytes, which tables and NIfTI do not need

    spacing = np.abs(np.asarray(grid.affine)[:3, :3]).max(1)
    image = sitk.Image([int(n) for n in reversed(grid.spatial_shape)], sitk.sitkUInt8)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(np.asarray(grid.affine)[:3, 3].tolist())
    with tempfile.TemporaryDirectory() as folder:
        fixed, bits, names = (Path(folder) / name for name in ("fixed.mha", "bits.mha", "names.txt"))
        sitk.WriteImage(image, fixed)
        command = [PROGRAM, "convert", "--input", str(path), "--fixed", str(fixed), "--xor-contours"]
        command += ["--output-ss-img", str(bits), "--output-ss-list", str(names)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=SECONDS)
        except subprocess.TimeoutExpired:
            raise InputError(f"{path}: {PROGRAM} did not end within {SECONDS} s") from None
        if done.returncode or not bits.is_file() or not names.is_file():
            last = (done.stderr.strip() or done.stdout.strip() or "no reason given").splitlines()[-1]
            raise InputError(f"{path}: {PROGRAM} could not read this structure set: {last}")
        content = sitk.GetArrayFromImage(sitk.ReadImage(bits))
        lines = [line.split("|", 2) for line in names.read_text(errors="replace").splitlines() if line.strip()]
    content = content if content.ndim == 4 else content[..., None]
    bits_of = [(name.strip(), *divmod(int(bit), 8)) for bit, _, name in lines]
    return [(name, (content[..., byte] >> place & 1).astype(bool)) for name, byte, place in bits_of]
