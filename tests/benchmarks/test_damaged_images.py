"""Images whose integers overflowed are told from sound ones, and leaving their masks out changes what it should."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from damaged_images import overflowed, quality
from scores import Scores


@pytest.mark.parametrize(
    ("dtype", "top", "expected"),
    [("int16", 5e5, True), ("int16", 3e4, False), ("uint8", 1e3, False), ("float32", 5e5, False)],
)
def test_integers_that_fill_their_type_have_overflowed(tmp_path: Path, dtype: str, top: float, expected: bool) -> None:
    values = np.linspace(0, top, 20 * 20 * 20).reshape(20, 20, 20)
    stored = values.astype(np.int64).astype(dtype) if dtype != "float32" else values.astype(dtype)
    nib.save(nib.Nifti1Image(stored, np.eye(4)), tmp_path / "image.nii.gz")
    assert overflowed(tmp_path / "image.nii.gz") is expected


def test_masks_of_damaged_images_are_left_out_of_the_second_figure() -> None:
    cases = np.array([f"case_{n}" for n in range(20)])
    dice = np.linspace(0.1, 0.9, 20)
    score = -dice.copy()
    score[19] = 5.0  # the best mask, whose image cannot be read
    scores = Scores("hippocampus", "gnsm_image", 0, np.array(["a"] * 20), cases, dice, score)
    (row,) = quality({"gnsm_image": [scores]}, {"a": {"case_19"}})
    assert row["sound_masks"] == 19
    assert row["all"]["Spearman"]["value"] > -0.9 and row["sound"]["Spearman"]["value"] == pytest.approx(-1)
    assert quality({"gnsm_image": [scores]}, {"a": set(), "b": set()}) == []  # a method that saw one folder only
