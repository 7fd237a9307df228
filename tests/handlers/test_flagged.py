from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from ignite.engine import Engine

from gnsm_monai.data.nnunet import LabelScheme
from gnsm_monai.evaluation.ranking import Ranking
from gnsm_monai.handlers import FlaggedWriter
from gnsm_monai.scoring.result import FailedCase, Result
from tests.results import case_result

AFFINES = {
    "straight": np.array([[-1.5, 0, 0, 40], [0, -1, 0, 30], [0, 0, 2, -7], [0, 0, 0, 1]]),
    "turned": np.array([[0, 0, -2.0, 11], [0, 1, 0, -3], [-1.5, 0, 0, 7], [0, 0, 0, 1]]),
}


def write(folder: Path, results: list[Result], cases: list[dict[str, Any]], dims: int = 3) -> Path:
    scheme = LabelScheme(("left atrium", "aorta"), (0, 1, 300))
    ranking: Any = SimpleNamespace(ranking=Ranking(results, {}))
    engine = Engine(lambda engine, batch: batch)
    FlaggedWriter(folder, ranking, cases, scheme, dims).attach(engine)
    engine.run([0])
    return folder / "flagged"


@pytest.mark.parametrize("name", AFFINES)
@pytest.mark.parametrize("ending", [".nii.gz", ".mha"])
def test_flagged_masks_have_values_and_place_of_their_files_in_both_libraries(
    tmp_path: Path, name: str, ending: str
) -> None:
    label = np.zeros((6, 5, 4), np.int16)
    label[1:4, 2:4, 1:3], label[5, 0, 3] = 1, 300
    nib.save(nib.Nifti1Image(label, AFFINES[name]), tmp_path / "a.nii.gz")
    original = sitk.ReadImage(str(tmp_path / "a.nii.gz"))
    if ending == ".mha":
        sitk.WriteImage(original, str(tmp_path / "a.mha"))
    results = [case_result("fold_0/a", flagged=True), case_result("fold_0/b"), FailedCase("fold_0/c", "fold_0", "torn")]
    folder = write(tmp_path, results, [{"case": result.case, "label": tmp_path / f"a{ending}"} for result in results])
    assert sorted(path.name for path in folder.rglob("*") if path.is_file()) == [
        "a.nii.gz",
        "labels.ctbl",
        "labels.label.txt",
    ]
    image: Any = nib.load(folder / "fold_0" / "a.nii.gz")
    assert image.get_data_dtype() == np.int16
    np.testing.assert_array_equal(np.asarray(image.dataobj), label)
    np.testing.assert_allclose(image.affine, AFFINES[name], atol=1e-5)
    assert image.header.get_xyzt_units()[0] == "mm"
    found = sitk.ReadImage(str(folder / "fold_0" / "a.nii.gz"))
    for part in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
        np.testing.assert_allclose(getattr(found, part)(), getattr(original, part)(), atol=1e-5)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(found), label.T)


def test_a_flagged_picture_becomes_a_volume_of_one_slice(tmp_path: Path) -> None:
    label = np.arange(12, dtype=np.uint8).reshape(4, 3) % 2
    sitk.WriteImage(sitk.GetImageFromArray(label.T), str(tmp_path / "p.png"))
    folder = write(tmp_path, [case_result("p", flagged=True)], [{"case": "p", "label": tmp_path / "p.png"}], dims=2)
    image: Any = nib.load(folder / "p.nii.gz")
    assert (image.shape, image.get_data_dtype()) == ((4, 3, 1), np.uint8)
    np.testing.assert_array_equal(np.asarray(image.dataobj)[..., 0], label)


def test_a_flagged_mask_in_another_numbering_has_that_of_the_colour_tables(tmp_path: Path) -> None:
    label = np.zeros((6, 5, 4), np.int16)
    label[1:4, 2:4, 1:3], label[5, 0, 3] = 1, 2
    nib.save(nib.Nifti1Image(label, AFFINES["straight"]), tmp_path / "a.nii.gz")
    (tmp_path / "labels.tsv").write_text("index\tname\n1\taorta\n2\tleft_atrium\n")
    folder = write(tmp_path, [case_result("a", flagged=True)], [{"case": "a", "label": tmp_path / "a.nii.gz"}])
    copy: Any = nib.load(folder / "a.nii.gz")
    np.testing.assert_array_equal(np.asarray(copy.dataobj), np.array([0, 300, 1])[label])
