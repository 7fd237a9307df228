"""Cropping and padding keep every voxel where it was, and are the same for all files of a case."""

from __future__ import annotations

from pathlib import Path

import field_of_view
import nibabel as nib
import numpy as np
import pytest

AFFINE = np.array([[0.0, -2.0, 0.0, 10.0], [1.5, 0.0, 0.0, -20.0], [0.0, 0.0, 3.0, 5.0], [0.0, 0.0, 0.0, 1.0]])


def place_of(image: nib.Nifti1Image, value: int) -> np.ndarray:
    """Position in mm of the voxel that has a value of its own."""
    (index,) = np.argwhere(np.asarray(image.dataobj) == value)
    return image.affine @ [*index, 1]


def test_voxels_keep_their_place_in_mm() -> None:
    array = np.arange(1, 10 * 12 * 14 + 1, dtype=np.int16).reshape(10, 12, 14)
    image = nib.Nifti1Image(array, AFFINE)
    varied = field_of_view.vary(image, np.array([[-2, 3], [4, -1], [-3, -3]]))
    assert varied.shape == (11, 15, 8)
    middle = int(array[5, 6, 7])
    np.testing.assert_allclose(place_of(varied, middle), place_of(image, middle))
    kept = np.asarray(varied.dataobj)
    assert set(np.unique(kept)) == {0, *np.unique(array[2:, :11, 3:11])}


def test_label_maps_are_padded_with_background_and_images_with_their_edge() -> None:
    image = nib.Nifti1Image(np.full((8, 8, 8), 7, np.float32), np.eye(4))
    margins = np.array([[2, 0], [0, 1], [0, 0]])
    assert (np.asarray(field_of_view.vary(image, margins).dataobj)[:2] == 0).all()
    assert (np.asarray(field_of_view.vary(image, margins, mode="edge").dataobj) == 7).all()


def test_margins_stay_within_a_quarter_and_use_all_of_it() -> None:
    rng = np.random.default_rng(0)
    drawn = np.stack([field_of_view.draw_margins((40, 80, 120), rng) for _ in range(400)])
    for axis, length in enumerate((40, 80, 120)):
        own = drawn[:, axis]
        assert own.min() == -length // 4
        assert own.max() == length // 4
        assert abs(own.mean()) < 0.02 * length
    assert abs(np.corrcoef(drawn[:, 0, 0], drawn[:, 0, 1])[0, 1]) < 0.15


@pytest.mark.parametrize("length", [5, 8, 9, 12])
def test_a_crop_leaves_eight_voxels_where_there_are_as_many(length: int) -> None:
    rng = np.random.default_rng(0)
    left = [length + field_of_view.draw_margins((length,), rng).sum() for _ in range(200)]
    assert min(left) == min(length, 8)


def write_case(root: Path, case: str, first: int) -> None:
    labels = np.zeros((16, 16, 16), np.uint8)
    labels[first : first + 3, 6:9, 6:9] = 1
    for folder in ("references", "network"):
        (root / folder).mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(labels, AFFINE), root / folder / f"{case}.nii.gz")
    (root / "images").mkdir(exist_ok=True)
    nib.save(nib.Nifti1Image(labels.astype(np.float32) + 5, AFFINE), root / "images" / f"{case}_0000.nii.gz")


def test_files_of_a_case_are_cut_alike_and_cases_without_structure_are_named(tmp_path: Path) -> None:
    for case, first in {"a": 6, "b": 6, "c": 6, **{f"edge{n}": 0 for n in range(16)}}.items():
        write_case(tmp_path, case, first)
    folders = (tmp_path / "references", [tmp_path / "network"], [tmp_path / "images"])
    skipped = field_of_view.write_varied(*folders, tmp_path / "out")
    shapes = set()
    for case in "abc":
        files = [f"references/{case}.nii.gz", f"predictions/network/{case}.nii.gz", f"images/images/{case}_0000.nii.gz"]
        reference, mask, image = (nib.load(tmp_path / "out" / name) for name in files)
        assert reference.shape == mask.shape == image.shape
        np.testing.assert_allclose(reference.affine, image.affine)
        np.testing.assert_array_equal(reference.dataobj, mask.dataobj)
        np.testing.assert_array_equal(np.asarray(reference.dataobj), np.asarray(image.dataobj) - 5)
        shapes.add(reference.shape)
    assert len(shapes) > 1
    # A crop of more than two voxels before the first axis takes all of such a structure.
    gone = [
        n
        for n in range(16)
        if field_of_view.draw_margins((16,) * 3, field_of_view._generator(0, f"edge{n}"))[0, 0] < -2
    ]
    assert skipped == sorted(f"edge{n}" for n in gone)
    assert 0 < len(gone) < 16
    assert not (tmp_path / "out" / "references" / f"{skipped[0]}.nii.gz").exists()
    assert field_of_view.write_varied(*folders, tmp_path / "out") == skipped


def test_files_that_lie_elsewhere_are_refused(tmp_path: Path) -> None:
    write_case(tmp_path, "a", 6)
    moved = nib.load(tmp_path / "network" / "a.nii.gz")
    nib.save(nib.Nifti1Image(np.asarray(moved.dataobj), np.eye(4)), tmp_path / "network" / "a.nii.gz")
    with pytest.raises(ValueError, match=r"a\.nii\.gz: shape or place differs from its reference's$"):
        field_of_view.write_varied(tmp_path / "references", [tmp_path / "network"], [], tmp_path / "out")
