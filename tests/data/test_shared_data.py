"""Real nnU-Net outputs, where the shared data sets are: what synthetic files may have left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gnsm_monai import workflow
from gnsm_monai.data.nnunet import read_label_scheme
from tests.reading import scoring_dataset

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "hippocampus"

pytestmark = [pytest.mark.data, pytest.mark.skipif(not DATA.is_dir(), reason=f"{DATA}: the shared data are not here")]


def test_the_likeliest_class_is_that_of_the_mask_in_every_file_of_a_real_network() -> None:
    """Any mistake in axes, orientation or channels would show: nnU-Net writes the argmax of what it saves."""
    scheme = read_label_scheme(DATA / "nnUNet_raw" / "Dataset504_HippocampusQC")
    assert scheme is not None
    settings = {
        "labels": scheme.to_dict(), "spatial_dims": 3, "network": {"image_channels": 0}, "voxel_size": [1, 1, 1],
        "spatial_size": [8, 8, 8],
    }  # fmt: skip
    cases = workflow.predictions(str(DATA / "predictions" / "epoch20"), None, None, settings)
    dataset = scoring_dataset(cases, settings)
    for number, case in enumerate(cases):
        found = dataset[number]  # type: ignore[index]
        label, soft = found["label"].numpy()[0], found["probabilities"].numpy()
        np.testing.assert_array_equal(soft.argmax(0)[label >= 0], label[label >= 0], err_msg=case["case"])
    assert len(cases) == 50


def test_masks_without_saved_probabilities_are_hard() -> None:
    scheme = read_label_scheme(DATA / "nnUNet_raw" / "Dataset504_HippocampusQC")
    assert scheme is not None
    settings = {"labels": scheme.to_dict(), "network": {"image_channels": 0}}
    cases = workflow.predictions(str(DATA / "predictions" / "epoch12"), None, None, settings)
    assert len(cases) == 50 and not any("probabilities" in case or "dice" in case for case in cases)
