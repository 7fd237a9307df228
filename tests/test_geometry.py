"""One mask in every geometry that files have: the same score, the same Dice, or one line that says what was done."""

from __future__ import annotations

import json
import math
import tempfile
from itertools import permutations, product
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import tifffile
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nibabel.orientations import axcodes2ornt, ornt_transform
from torch import nn

from gnsm_monai.data.alignment import FieldsOfView, place_of
from gnsm_monai.data.constants import IMAGE, LABEL, REFERENCE, SOFT
from gnsm_monai.data.datalist import find_predictions
from gnsm_monai.data.transforms import encode_labels, load_case
from gnsm_monai.networks import ScoreUNet
from gnsm_monai.noise import mixing_schedule
from gnsm_monai.rules import to_array
from gnsm_monai.scoring import Scorer
from tests.reading import scoring_dataset
from tests.test_inputs import AFFINE, SETTINGS, SHAPE, anatomy

ORIENTATIONS = ["".join(axes) for ends in product("RL", "AP", "SI") for axes in permutations(ends)]
"""All 48."""

LAYOUTS = (
    "p1.nii.gz", "p1_seg.mha", "p1.seg.nrrd", "p1/p1_trans.nii", "p1/mri/aseg.mgz", "sub-p1/anat/sub-p1_dseg.nii.gz",
    "p1/{}.nii.gz", "p1/segmentations/{}.nrrd",
)  # fmt: skip
"""Where tools leave the mask of a case; a name with braces is one of a file per structure."""


def turned(image: nib.Nifti1Image, axes: str) -> nib.Nifti1Image:
    return image.as_reoriented(ornt_transform(nib.orientations.io_orientation(image.affine), axcodes2ornt(axes)))


def placed(labels: np.ndarray | None = None) -> nib.Nifti1Image:
    """The anatomy in LPS, as most tools write it, off the centre of the world."""
    affine = AFFINE.copy()
    affine[:3, 3] = [-20.0, 30.0, -7.0]
    return turned(nib.Nifti1Image(anatomy() if labels is None else labels, affine), "LPS")


def lay_out(folder: Path, name: str, image: nib.Nifti1Image, dtype: str) -> None:
    """Writes a mask by the programs whose layout it is: ITK but for NIfTI and FreeSurfer's format."""
    labels = np.asarray(image.dataobj)
    parts = {"a": labels == 1, "b": labels == 2} if "{}" in name else {"": labels}
    for part, values in parts.items():
        path = folder / name.format(part)
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".mgz":
            nib.save(nib.MGHImage(values.astype("i4"), image.affine), path)
            continue
        nifti = path if ".nii" in path.name else folder.parent / "between.nii"
        nib.save(nib.Nifti1Image(values.astype(dtype), image.affine), nifti)
        if nifti is path:
            continue
        stored = sitk.Cast(sitk.ReadImage(str(nifti)), sitk.sitkUInt8)
        if path.name.endswith(".seg.nrrd"):
            for number, called in enumerate("ab"):
                stored.SetMetaData(f"Segment{number}_Name", called)
                stored.SetMetaData(f"Segment{number}_LabelValue", str(number + 1))
        sitk.WriteImage(stored, str(path))


def read(case: dict[str, Any], **settings: Any) -> dict[str, Any]:
    (loaded,) = scoring_dataset([{"case": "a", **case}], {**SETTINGS, **settings})  # type: ignore[misc]
    return loaded  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def network() -> ScoreUNet:
    """A network that knows positions, with a prior under which the mask would rather lie two voxels further."""
    torch.manual_seed(0)
    net = ScoreUNet(3, 3, noise=mixing_schedule(2), channels=(4, 8), position_size=(16, 16, 16)).eval()
    nn.init.normal_(net.head[-1].weight)
    index = torch.from_numpy(np.roll(np.pad(anatomy(), [(2, 2), (1, 1), (3, 3)]), 2, 0).astype(np.int64))
    net.set_prior((0.05 + nn.functional.one_hot(index, 3).movedim(-1, 0)).softmax(0))
    return net


class TestScore:
    def score(self, network: ScoreUNet, path: Path) -> np.ndarray:
        return self.score_case(network, {"case": "a", LABEL: path}, path.parent)

    def score_case(self, network: ScoreUNet, given: dict[str, Any], folder: Path) -> np.ndarray:
        place = place_of(load_case(None, 3)({LABEL: self.usual(folder)})[LABEL])
        usual = FieldsOfView.of([place])
        usual = FieldsOfView(usual.lengths, usual.corners, usual.centre, [3.0, 3.0, 3.0], usual.spacings)
        (case,) = scoring_dataset([given], SETTINGS, network, usual)  # type: ignore[misc]
        assert "message" not in case and "note" not in case
        if REFERENCE in given:
            assert case["dice"].tolist() == [1, 1]
        return to_array(Scorer(mixing_schedule(2))(network, *encode_labels(case["label"][None], 3)).levels)

    @staticmethod
    def usual(folder: Path) -> Path:
        """The mask as references are stored."""
        path = folder / "usual.nii.gz"
        if not path.exists():
            nib.save(placed(), path)
        return path

    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        axes=st.sampled_from(ORIENTATIONS),
        codes=st.sampled_from([(0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2, 4), (3, 0)]),
        dtype=st.sampled_from(["u1", "i1", "i2", "u2", "i4", "f4", "f8"]),
        slope=st.sampled_from([1.0, 0.5, 1 / 3, 0.1]),
        ending=st.sampled_from([".nii", ".nii.gz", ".mha", ".nrrd"]),
    )
    def test_the_score_does_not_hang_on_how_a_file_is_stored(
        self,
        network: ScoreUNet,
        tmp_path: Path,
        axes: str,
        codes: tuple[int, int],
        dtype: str,
        slope: float,
        ending: str,
    ) -> None:
        image = turned(placed(), axes)
        stored = np.rint(np.asarray(image.dataobj) / slope)
        file = nib.Nifti1Image(stored.astype(dtype if stored.max() < 127 else "i2"), image.affine)
        file.set_qform(image.affine, codes[0])
        file.set_sform(image.affine, codes[1])
        file.header.set_slope_inter(slope, 0)
        path = tmp_path / ("stored.nii.gz" if ending == ".nii.gz" else "stored.nii")
        nib.save(file, path)
        if ending in (".mha", ".nrrd"):
            sitk.WriteImage(sitk.ReadImage(str(path)), str(path := tmp_path / f"stored{ending}"))
        expected = self.score(network, self.usual(tmp_path))
        np.testing.assert_allclose(self.score(network, path), expected, rtol=1e-5)

    @settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        layouts=st.tuples(st.sampled_from(LAYOUTS), st.sampled_from(LAYOUTS)),
        axes=st.tuples(st.sampled_from(ORIENTATIONS), st.sampled_from(ORIENTATIONS)),
        dtype=st.sampled_from(["u1", "i2", "f4", "f8"]),
    )
    def test_the_score_does_not_hang_on_the_layout_nor_the_dice_on_that_of_the_references(
        self, network: ScoreUNet, tmp_path: Path, layouts: tuple[str, str], axes: tuple[str, str], dtype: str
    ) -> None:
        with tempfile.TemporaryDirectory(dir=tmp_path) as place:
            folders = [Path(place) / "masks", Path(place) / "references"]
            for folder, name, codes in zip(folders, layouts, axes, strict=True):
                lay_out(folder, name, turned(placed(), codes), dtype)
            (case,) = find_predictions(*folders, structures=("a", "b"))
            score = self.score_case(network, case, tmp_path)
        np.testing.assert_allclose(score, self.score(network, self.usual(tmp_path)), rtol=1e-5)

    @pytest.mark.parametrize("axes", ["LPS", "RAS", "SLA"])
    def test_a_file_without_a_place_is_one_with_every_tool_that_read_and_wrote_it(
        self, network: ScoreUNet, tmp_path: Path, axes: str
    ) -> None:
        """nibabel and ITK make different places up for a NIfTI file whose codes are 0."""
        voxels = np.asarray(turned(placed(), axes).dataobj)
        plain = nib.Nifti1Image(voxels, None)
        plain.header["pixdim"][1:4] = 1.5, 1.0, 2.0
        plain.header["qform_code"] = plain.header["sform_code"] = 0
        paths = [tmp_path / name for name in ("plain.nii.gz", "itk.nii.gz", "itk.mha", "nibabel.nii.gz")]
        nib.save(plain, paths[0])
        for path in paths[1:3]:
            sitk.WriteImage(sitk.ReadImage(str(paths[0])), str(path))
        nib.save(nib.Nifti1Image(voxels, nib.load(paths[0]).affine), paths[3])  # as MONAI's SaveImage does
        tifffile.imwrite(tmp_path / "plain.tif", voxels.T)
        (tmp_path / "plain.json").write_text(json.dumps({"spacing": [2.0, 1.0, 1.5]}))
        paths.append(tmp_path / "plain.tif")
        maps = [read({LABEL: path})[LABEL] for path in paths]
        for other in maps[1:]:
            assert torch.equal(maps[0].as_tensor(), other.as_tensor())
            np.testing.assert_allclose(maps[0].affine, other.affine, atol=1e-3)
        scores = [self.score(network, path) for path in paths]
        for other_score in scores[1:]:
            np.testing.assert_allclose(other_score, scores[0], rtol=1e-5)


class TestComparison:
    @pytest.mark.parametrize("key", [REFERENCE, IMAGE])
    def test_near_45_degrees_all_maps_are_turned_as_the_mask(self, tmp_path: Path, key: str) -> None:
        """By rounding alone one header is turned to other axes than the other."""
        paths = []
        for name, off in (("mask", 1e-6), ("other", -1e-6)):
            angle = math.pi / 4 + off
            turn = np.array([[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1]])
            affine = np.eye(4)
            affine[:3, :3] = turn @ np.diag([1.5, 1.5, 2.0])
            labels = anatomy().astype(np.float32 if key == IMAGE and name == "other" else np.uint8)
            nib.save(nib.Nifti1Image(labels, affine), path := tmp_path / f"{name}.nii.gz")
            paths.append(path)
        first, second = (load_case(None, 3)({LABEL: path})[LABEL] for path in paths)
        assert first.shape != second.shape
        case = read({LABEL: paths[0], key: paths[1]}, voxel_size=[1.5, 1.5, 2.0])
        assert "message" not in case and "note" not in case
        if key == REFERENCE:
            assert case["dice"].tolist() == [1, 1]
        else:
            inside = case[LABEL] > 0
            assert len(np.unique(case[IMAGE][inside])) == 2 and case[IMAGE].shape == case[LABEL].shape

    @settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(mask=st.sampled_from(ORIENTATIONS), reference=st.sampled_from(ORIENTATIONS))
    def test_references_are_compared_in_the_world_where_headers_agree(
        self, tmp_path: Path, mask: str, reference: str
    ) -> None:
        other = np.roll(anatomy(), 1, axis=1)
        nib.save(turned(placed(), mask), tmp_path / "mask.nii")
        nib.save(turned(placed(other), reference), tmp_path / "reference.nii")
        case = read({LABEL: tmp_path / "mask.nii", REFERENCE: tmp_path / "reference.nii"})
        a, b = anatomy(), other
        expected = [2 * ((a == c) & (b == c)).sum() / ((a == c).sum() + (b == c).sum()) for c in (1, 2)]
        np.testing.assert_allclose(case["dice"], expected)
        assert "note" not in case

    def test_an_sform_that_another_tool_drops_costs_no_dice(self, tmp_path: Path) -> None:
        image = placed()
        moved = image.affine.copy()
        moved[:3, 3] += [10, -5, 3]
        image.set_qform(image.affine, 1)
        image.set_sform(moved, 2)
        nib.save(image, reference := tmp_path / "reference.nii.gz")
        sitk.WriteImage(sitk.ReadImage(str(reference)), str(mask := tmp_path / "mask.nii.gz"))
        case = read({LABEL: mask, REFERENCE: reference})
        assert case["dice"].tolist() == [1, 1]
        assert case["note"] == "the headers of mask and reference place them 12 mm apart: taken voxel by voxel"


class TestProbabilities:
    """Of a mask in LPS, as nnU-Net saves them beside it."""

    @pytest.fixture
    def mask(self, tmp_path: Path) -> Path:
        nib.save(placed(), tmp_path / "a.nii.gz")
        return tmp_path / "a.nii.gz"

    @staticmethod
    def saved(path: Path, labels: np.ndarray) -> Path:
        certain = np.stack([np.where(labels == c, 0.8, 0.1) for c in range(3)]).astype(np.float16)
        np.savez(path, probabilities=certain.transpose(0, 3, 2, 1))
        return path

    @pytest.mark.parametrize("stored", ["LPS", "SLA", "AIL"])
    def test_those_in_the_axes_of_the_network_are_turned_to_the_masks(self, tmp_path: Path, stored: str) -> None:
        """nnU-Net's readers that reorient show the network RAS, save that, and turn back the mask alone."""
        nib.save(turned(placed(), stored), mask := tmp_path / "a.nii.gz")
        npz = [
            self.saved(tmp_path / f"{axes}.npz", np.asarray(turned(placed(), axes).dataobj)) for axes in (stored, "RAS")
        ]
        straight, reoriented = (read({LABEL: mask, SOFT: path}) for path in npz)
        assert torch.equal(straight[SOFT].as_tensor(), reoriented[SOFT].as_tensor()) and "note" not in straight
        assert reoriented["note"] == "probabilities turned to the axes of the mask: they were saved as RAS"

    def test_those_of_another_mask_are_not_scored(self, tmp_path: Path, mask: Path) -> None:
        npz = self.saved(tmp_path / "a.npz", np.roll(np.asarray(nib.load(mask).dataobj), 2, axis=0))
        case = read({LABEL: mask, SOFT: npz})
        assert SOFT not in case and case[LABEL].shape[1:] == (16, 16, 16)
        assert case["note"].startswith(f"{npz}: decides otherwise than the mask in ")
        assert case["note"].endswith("% of the structures' voxels: the mask itself is scored")

    @pytest.mark.parametrize(("voxels", "counts"), [(1, True), (40, False)])
    def test_a_component_that_was_removed_afterwards_is_forgiven_if_small(
        self, tmp_path: Path, mask: Path, voxels: int, counts: bool
    ) -> None:
        labels = np.asarray(nib.load(mask).dataobj).copy()
        labels.ravel()[np.flatnonzero(labels == 0)[:voxels]] = 2
        assert (labels > 0).sum() > 100
        assert (SOFT in read({LABEL: mask, SOFT: self.saved(tmp_path / "a.npz", labels)})) == counts

    def test_ties_of_half_precision_are_no_difference(self, tmp_path: Path, mask: Path) -> None:
        labels = np.asarray(nib.load(mask).dataobj)
        tied = np.stack([np.where(labels > 0, 0.4, 0.9), *[np.where(labels == c, 0.4004, 0.05) for c in (1, 2)]])
        tied[0][labels > 0] = 0.4009
        tied += (1 - tied.sum(0)) / 3
        np.savez(tmp_path / "a.npz", probabilities=tied.astype(np.float16).transpose(0, 3, 2, 1))
        assert SOFT in read({LABEL: mask, SOFT: tmp_path / "a.npz"})


def test_the_shape_of_these_masks_has_no_axis_twice() -> None:
    assert len(set(SHAPE)) == 3
