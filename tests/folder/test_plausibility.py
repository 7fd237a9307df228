"""What general knowledge says against a folder of masks as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from gnsm_monai.data.nnunet import LabelScheme
from gnsm_monai.folder.plausibility import folder_warnings, side_pairs
from gnsm_monai.folder.reading import ReadOptions, read_masks

SHAPE = (24, 12, 12)  # axis 0 grows towards the patient's right
NAMES = ("left lobe", "right_lobe", "stem")


def box(low: int, size: int) -> tuple[slice, ...]:
    return slice(low, low + size), slice(3, 9), slice(3, 9)


def mask(left: int = 3, right: int = 15, size: int = 6, stem: bool = True) -> np.ndarray:
    values = np.zeros(SHAPE, dtype=np.uint8)
    values[box(left, 6)] = 1
    values[box(right, size)] = 2
    if stem:
        values[11:13, 3:9, 3:9] = 3
    return values


def warnings(folder: Path, masks: Sequence[np.ndarray], affine: np.ndarray | None = None) -> list[str]:
    for number, values in enumerate(masks):
        nib.save(nib.Nifti1Image(values, np.eye(4) if affine is None else affine), folder / f"c{number}.nii.gz")
    return folder_warnings(read_masks([folder], options=ReadOptions(scheme=LabelScheme(NAMES, (0, 1, 2, 3)))))


def test_nothing_is_said_of_sound_masks_or_of_errors_of_a_few(tmp_path: Path) -> None:
    odd = [mask(size=2), mask(left=15, right=3), mask(stem=False)]
    assert warnings(tmp_path, [*[mask()] * 4, *odd]) == []


def test_exchanged_sides_are_a_warning_for_the_folder(tmp_path: Path) -> None:
    (text,) = warnings(tmp_path, [*[mask(left=15, right=3)] * 4, mask()])
    assert text.startswith("left lobe lies to the patient's right of right_lobe in 80% of the masks")


def test_the_side_is_that_of_the_patient_and_not_of_the_array(tmp_path: Path) -> None:
    turned = np.diag([-1.0, 1, 1, 1])  # the first axis of the file grows towards the left
    assert warnings(tmp_path, [mask(left=15, right=3)] * 4, turned) == []
    assert len(warnings(tmp_path, [mask()] * 4, turned)) == 1


def test_sides_of_unequal_size_are_a_warning(tmp_path: Path) -> None:
    (text,) = warnings(tmp_path, [*[mask(size=3)] * 3, mask()])
    assert text == "left lobe is over 1.5 times as large as right_lobe in 75% of the masks"


def test_a_structure_that_most_masks_lack_is_a_warning(tmp_path: Path) -> None:
    (text,) = warnings(tmp_path, [*[mask(stem=False)] * 3, mask()])
    assert text.startswith("stem is missing from 75% of the masks")


def in_pieces(number: int) -> np.ndarray:
    values = mask(stem=False)
    for piece in range(number):
        values[11, 2 * piece : 2 * piece + 1] = 3
    return values


def test_pieces_count_where_their_number_varies(tmp_path: Path) -> None:
    (text,) = warnings(tmp_path, [in_pieces(number) for number in (1, 2, 3, 4, 5)])
    assert text == "stem is in several pieces in 80% of the masks that have it, and their number varies"


def test_an_organ_of_two_parts_has_two_parts(tmp_path: Path) -> None:
    assert warnings(tmp_path, [in_pieces(2) for _ in range(5)]) == []


@pytest.mark.parametrize(
    ("names", "pairs"),
    [
        (("kidney_left", "spleen", "kidney_right"), [(0, 2)]),
        (("lh.thalamus", "rh.thalamus"), [(0, 1)]),
        (("left ventricle", "right atrium"), []),
        (("larynx", "rib", "clavicle"), []),
        (("R lung", "L lung", "Left-Kidney", "Right-Kidney"), [(1, 0), (2, 3)]),
    ],
)
def test_pairs_are_told_by_their_names(names: tuple[str, ...], pairs: list[tuple[int, int]]) -> None:
    assert side_pairs(names) == pairs
