"""Pictures or volumes, found without being asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gnsm_monai.data.datalist import find_spatial_dims
from gnsm_monai.errors import InputError

Save = Callable[..., Path]


@pytest.mark.parametrize(
    ("name", "shape", "dims"),
    [
        ("a.png", (8, 9), 2),
        ("a.tif", (8, 9), 2),
        ("a.nii.gz", (8, 9), 2),
        ("a.nii.gz", (8, 9, 1), 2),  # a slice stored as a volume
        ("a.nii.gz", (8, 9, 4), 3),
        ("a.mha", (8, 9, 1), 2),
        ("a.nrrd", (8, 9, 4), 3),
    ],
)
def test_the_header_of_a_file_tells(tmp_path: Path, save: Save, name: str, shape: tuple[int, ...], dims: int) -> None:
    save(name, np.ones(shape, np.uint8))
    assert find_spatial_dims(tmp_path, bare=True) == dims


def test_one_volume_among_slices_makes_them_volumes(tmp_path: Path, save: Save) -> None:
    save("a.nii.gz", np.ones((8, 9, 1), np.uint8))
    save("b.nii.gz", np.ones((8, 9, 2), np.uint8))
    assert find_spatial_dims(tmp_path, bare=True) == 3


def test_a_file_that_cannot_be_read_is_passed_over(tmp_path: Path, save: Save) -> None:
    (tmp_path / "a.nii.gz").write_bytes(b"no header")
    assert find_spatial_dims(tmp_path, bare=True) == 3
    save("b.png", np.ones((8, 9), np.uint8))
    assert find_spatial_dims(tmp_path, bare=True) == 2


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no label maps"):
        find_spatial_dims(tmp_path, bare=True)
