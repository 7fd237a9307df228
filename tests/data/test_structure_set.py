"""RTSTRUCT to label maps: contours along the edges of voxels, so that the right map is given."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from gnsm_monai import cli
from gnsm_monai.data.dicom_seg import convert_segmentations, read_segmentation
from gnsm_monai.data.nnunet import LabelScheme
from gnsm_monai.errors import InputError

pytest.importorskip("highdicom", reason="the extra 'dicom' is not installed: no highdicom")
import pydicom

from tests.dicom_files import AXIAL, Contour, box, contours_of, ct_series, structure_set

needs_plastimatch = pytest.mark.skipif(not shutil.which("plastimatch"), reason="plastimatch is not installed")

SHAPE = (5, 40, 32)  # z, y, x
SPACING, ORIGIN = (1.3, 0.8, 2.5), (-7.0, 11.0, 23.0)  # x, y, z in mm, LPS
HEAD_FIRST_PRONE = (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0)
FEET_FIRST = (-1.0, 0.0, 0.0, 0.0, 1.0, 0.0)  # slices go down
OBLIQUE = (np.cos(0.3), np.sin(0.3), 0.0, 0.0, 0.0, -1.0)


def write(folder: Path, structures: dict[str, list[Contour]], orientation: tuple[float, ...] = AXIAL) -> Path:
    """``series/`` and ``sets/plan.dcm`` in a folder. Returns the latter."""
    images = ct_series(np.zeros(SHAPE), SPACING, ORIGIN, orientation)
    for name, files in {"series": images, "sets": [structure_set(images, structures)]}.items():
        (folder / name).mkdir(parents=True)
        for n, file in enumerate(files):
            file.save_as(folder / name / f"{'plan' if name == 'sets' else n}.dcm", enforce_file_format=True)
    return folder / "sets" / "plan.dcm"


def series(folder: Path) -> dict[str, list[pydicom.Dataset]]:
    headers = [pydicom.dcmread(path) for path in sorted((folder / "series").iterdir())]
    return {str(headers[0].SeriesInstanceUID): headers}


@needs_plastimatch
@pytest.mark.parametrize("orientation", [AXIAL, HEAD_FIRST_PRONE, FEET_FIRST], ids=["axial", "prone", "feet_first"])
def test_the_voxels_within_contours_are_the_structure_in_its_place(
    tmp_path: Path, orientation: tuple[float, ...]
) -> None:
    """Slices that are not square; an oracle of random voxels, and the place of the first voxel."""
    mask = np.random.default_rng(0).random(SHAPE) < 0.3
    path = write(tmp_path, {"bladder": contours_of(mask)}, orientation)
    values, affine, names, _ = read_segmentation(path, series(tmp_path))
    assert names == {"bladder": 1}
    np.testing.assert_array_equal(values > 0, mask)
    across, down = np.reshape(np.array(orientation), (2, 3))
    steps = [np.cross(across, down) * SPACING[2], down * SPACING[1], across * SPACING[0]]
    to_ras = np.diag([-1.0, -1, 1])
    np.testing.assert_allclose(affine[:3], to_ras @ np.stack([*steps, ORIGIN], axis=1), atol=1e-6)


@needs_plastimatch
def test_a_contour_within_another_is_a_hole_and_a_keyhole_too(tmp_path: Path) -> None:
    mask = np.zeros(SHAPE, bool)
    mask[2, 10:30, 5:25] = True
    mask[2, 15:20, 10:15] = False
    keyhole = [
        (9.5, 4.5), (9.5, 24.5), (29.5, 24.5), (29.5, 4.5), (14.5, 4.5), (14.5, 9.5), (19.5, 9.5), (19.5, 14.5),
        (14.5, 14.5), (14.5, 9.5), (14.5, 4.5),
    ]  # fmt: skip
    structures = {"nested": [(2, box(10, 29, 5, 24)), (2, box(15, 19, 10, 14))], "keyhole": [(2, keyhole)]}
    path = write(tmp_path, structures)  # type: ignore[arg-type]
    for name in structures:
        values, *_ = read_segmentation(path, series(tmp_path), [name])
        np.testing.assert_array_equal(values > 0, mask)


@needs_plastimatch
def test_only_the_structures_that_are_asked_for_count_in_any_spelling(tmp_path: Path) -> None:
    """A target through the organ would else take its voxels."""
    organ = np.zeros(SHAPE, bool)
    organ[1:4, 10:30, 5:25] = True
    target = np.zeros(SHAPE, bool)
    target[2, 12:15, 8:12] = True
    many = {f"margin|{n}": contours_of(target) for n in range(9)}  # more than a byte of bits, and a bar in a name
    write(tmp_path, {**many, "Left-Kidney": contours_of(organ), "empty": []})
    labels = LabelScheme(("left_kidney", "empty"), (0, 4, 7))
    (path,) = convert_segmentations(tmp_path / "sets", tmp_path / "out", tmp_path / "series", labels)
    values = np.asarray(nib.load(path).dataobj)  # type: ignore[attr-defined]
    np.testing.assert_array_equal(np.sort(np.unique(values)), [0, 4])
    assert np.count_nonzero(values) == organ.sum()
    assert json.loads((tmp_path / "out" / "dataset.json").read_text())["labels"] == {
        "background": 0, "left_kidney": 4, "empty": 7,
    }  # fmt: skip
    assert read_segmentation(tmp_path / "sets" / "plan.dcm", series(tmp_path), ["margin|3"])[2] == {"margin|3": 1}


@needs_plastimatch
def test_a_series_that_is_not_axial_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, {"bladder": [(2, box(10, 29, 5, 24))]}, OBLIQUE)
    with pytest.raises(InputError, match=r"plan\.dcm: the image series of this structure set is not axial"):
        read_segmentation(path, series(tmp_path))


def test_without_series_or_program_a_line_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, {"bladder": [(2, box(10, 29, 5, 24))]})
    with pytest.raises(InputError, match=r"plan\.dcm: a structure set \(RTSTRUCT\) has no voxels: give its image"):
        read_segmentation(path)
    words = ["from-dicom", "--segmentations", str(path.parent), "--output", str(tmp_path / "out")]
    with pytest.raises(SystemExit):
        cli.main(words)
    assert "but 1 structure sets (RTSTRUCT) without their image series" in capsys.readouterr().err
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=r"plan\.dcm: .* needs the program plastimatch: apt install plastimatch"):
        read_segmentation(path, series(tmp_path))


def test_a_set_without_the_structures_names_those_that_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gnsm_monai.data.structure_set.can_read_structure_sets", lambda: True)
    path = write(tmp_path, {"bladder": [(2, box(10, 29, 5, 24))], "rectum": []})
    with pytest.raises(InputError, match=r"plan\.dcm: none of the structures that count; it has bladder, rectum$"):
        read_segmentation(path, series(tmp_path), ["heart"])
    damaged = pydicom.dcmread(path)
    del damaged.ROIContourSequence, damaged.StructureSetROISequence
    damaged.save_as(path)
    with pytest.raises(InputError, match=r"plan\.dcm: none .*; it has none at all$"):
        read_segmentation(path, series(tmp_path))


def test_a_set_without_contours_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """plastimatch takes its structures for empty."""
    monkeypatch.setattr("gnsm_monai.data.structure_set.can_read_structure_sets", lambda: True)
    path = write(tmp_path, {"bladder": [(2, box(10, 29, 5, 24))]})
    content = pydicom.dcmread(path)
    del content.ROIContourSequence
    content.save_as(path)
    with pytest.raises(InputError, match=r"plan\.dcm: a structure set without contours"):
        read_segmentation(path, series(tmp_path))


def test_what_plastimatch_says_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, {"bladder": [(2, box(10, 29, 5, 24))]})
    program = tmp_path / "plastimatch"
    program.write_text("#!/bin/sh\necho one >&2\necho out of memory >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    with pytest.raises(InputError) as caught:
        read_segmentation(path, series(tmp_path))
    assert str(caught.value) == f"{path}: plastimatch could not read this structure set: out of memory"
