"""Phantoms: one family, clearly different cases; a data set that is made once and repaired when torn."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from scipy import ndimage

from gnsm_monai.data.compare import mean_foreground_dice
from gnsm_monai.data.degradations import KINDS
from gnsm_monai.data.phantoms import LABELS, make_phantom, write_phantom_dataset
from gnsm_monai.errors import InputError


def phantom(dims: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    return make_phantom(np.random.default_rng(seed), dims)


def snapshot(folder: Path) -> dict[str, int]:
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("dims", [2, 3])
class TestMakePhantom:
    def test_every_structure_is_present_and_touches_the_next(self, dims: int) -> None:
        for seed in range(40):
            label, _ = phantom(dims, seed)
            assert set(np.unique(label)) == set(LABELS.values())
            for first, second in ((1, 2), (2, 3)):
                assert (ndimage.binary_dilation(label == first) & (label == second)).any()
            assert ndimage.label(label > 0)[1] == 1
            assert min(np.bincount(label.ravel())[1:]) >= 20

    def test_lies_inside_the_field_of_view(self, dims: int) -> None:
        for seed in range(40):
            label, _ = phantom(dims, seed)
            for axis in range(dims):
                assert not np.take(label, [0, -1], axis).any()

    def test_cases_differ_clearly_yet_overlap(self, dims: int) -> None:
        labels = [phantom(dims, seed)[0] for seed in range(12)]
        dice = [mean_foreground_dice(a, b, 4) for i, a in enumerate(labels) for b in labels[:i]]
        assert max(dice) < 0.9
        assert 0.2 < np.mean(dice) < 0.7
        volumes = np.array([np.count_nonzero(label) for label in labels])
        assert volumes.std() / volumes.mean() > 0.15

    def test_same_generator_state_gives_the_same_phantom(self, dims: int) -> None:
        for first, again in zip(phantom(dims, 5), phantom(dims, 5), strict=True):
            np.testing.assert_array_equal(first, again)

    def test_image_shows_the_tissues_with_noise(self, dims: int) -> None:
        label, image = phantom(dims, 1)
        assert label.dtype == np.uint8 and image.dtype == np.float32 and image.shape == label.shape
        means = [image[label == c].mean() for c in range(4)]
        assert means[0] < means[2] < min(means[1], means[3])
        assert image[label == 1].std() > 3

    def test_size_is_taken_and_default_is_documented(self, dims: int) -> None:
        assert phantom(dims, 0)[0].shape == {2: (64, 64), 3: (32, 32, 24)}[dims]
        size = (40, 30, 20)[:dims]
        assert make_phantom(np.random.default_rng(0), dims, size)[0].shape == size


def test_base_of_the_ventricle_is_open_in_3d() -> None:
    for seed in range(10):
        label, _ = phantom(3, seed)
        beside_background = ndimage.binary_dilation(label == 0) & (label == 1)
        assert beside_background.sum() >= 10


@pytest.mark.parametrize(("dims", "size"), [(4, None), (2, (32, 32, 32)), (3, (32, 32, 8))])
def test_impossible_sizes_are_refused(dims: int, size: tuple[int, ...] | None) -> None:
    with pytest.raises(InputError):
        make_phantom(np.random.default_rng(0), dims, size)


class TestWritePhantomDataset:
    @pytest.mark.parametrize(
        ("dims", "name", "ending"), [(2, "Dataset902_Phantom2D", ".png"), (3, "Dataset901_Phantom3D", ".nii.gz")]
    )
    def test_layout_is_nnunet_raw_with_predictions(self, tmp_path: Path, dims: int, name: str, ending: str) -> None:
        folder = write_phantom_dataset(tmp_path, dims, num_train=3, num_test=2)
        assert folder == tmp_path / name
        description = json.loads((folder / "dataset.json").read_text())
        assert description["channel_names"] == {"0": "MRI"} and description["labels"] == LABELS
        assert description["numTraining"] == 3 and description["file_ending"] == ending
        for part, count in (("Tr", 3), ("Ts", 2)):
            labels = sorted(p.name for p in (folder / f"labels{part}").iterdir())
            images = sorted(p.name for p in (folder / f"images{part}").iterdir())
            assert len(labels) == count
            assert images == [label.replace(ending, f"_0000{ending}") for label in labels]
        for kind in KINDS:
            assert {p.name for p in (folder / "predictions" / kind).iterdir()} == {
                p.name for p in (folder / "labelsTs").iterdir()
            }
        assert (folder / "predictions" / "degradations.csv").is_file()

    def test_files_hold_the_phantom_with_its_geometry(self, tmp_path: Path) -> None:
        folder = write_phantom_dataset(tmp_path, 3, num_train=1, num_test=1, seed=4)
        expected, image = make_phantom(np.random.default_rng([4, 3, 0]), 3)
        for file, array in (("labelsTr/phantom_000.nii.gz", expected), ("imagesTr/phantom_000_0000.nii.gz", image)):
            read = sitk.ReadImage(str(folder / file))
            assert read.GetSize() == (32, 32, 24) and read.GetSpacing() == pytest.approx((1.5, 1.5, 2.0))
            np.testing.assert_array_equal(sitk.GetArrayFromImage(read).T, array)
        prediction = sitk.ReadImage(str(folder / "predictions" / "holes" / "phantom_001.nii.gz"))
        assert prediction.GetSpacing() == pytest.approx((1.5, 1.5, 2.0))

    def test_png_files_are_8_bit(self, tmp_path: Path) -> None:
        folder = write_phantom_dataset(tmp_path, 2, num_train=1, num_test=1)
        for path in folder.rglob("*.png"):
            assert sitk.ReadImage(str(path)).GetPixelID() == sitk.sitkUInt8

    def test_complete_dataset_is_reused_untouched(self, tmp_path: Path) -> None:
        folder = write_phantom_dataset(tmp_path, 2, num_train=2, num_test=1)
        before = snapshot(folder)
        write_phantom_dataset(tmp_path, 2, num_train=2, num_test=1)
        assert snapshot(folder) == before

    @pytest.mark.parametrize("torn", ["dataset.json", "labelsTr/phantom_001.png", "predictions/holes/phantom_002.png"])
    def test_incomplete_dataset_is_made_again(self, tmp_path: Path, torn: str) -> None:
        folder = write_phantom_dataset(tmp_path, 2, num_train=2, num_test=1)
        before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        (folder / torn).unlink()
        write_phantom_dataset(tmp_path, 2, num_train=2, num_test=1)
        assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before

    def test_half_written_description_counts_as_incomplete(self, tmp_path: Path) -> None:
        folder = write_phantom_dataset(tmp_path, 2, num_train=1, num_test=1)
        (folder / "dataset.json").write_text('{"channel_names": {"0"')
        write_phantom_dataset(tmp_path, 2, num_train=1, num_test=1)
        assert json.loads((folder / "dataset.json").read_text())["numTraining"] == 1

    def test_other_parameters_make_it_again_without_leftovers(self, tmp_path: Path) -> None:
        folder = write_phantom_dataset(tmp_path, 2, num_train=3, num_test=1, seed=0)
        first = (folder / "labelsTr" / "phantom_000.png").read_bytes()
        write_phantom_dataset(tmp_path, 2, num_train=2, num_test=1, seed=1)
        assert len(list((folder / "labelsTr").iterdir())) == 2
        assert (folder / "labelsTr" / "phantom_000.png").read_bytes() != first

    def test_interrupted_remake_is_not_taken_for_a_finished_one(self, tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
        folder = write_phantom_dataset(tmp_path, 2, num_train=1, num_test=1)

        def interrupted(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("gnsm_monai.data.phantoms.degrade_folder", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_phantom_dataset(tmp_path, 2, num_train=2, num_test=1)
        assert not (folder / "dataset.json").exists()

    def test_dataset_of_someone_else_is_not_overwritten(self, tmp_path: Path) -> None:
        foreign = tmp_path / "Dataset902_Phantom2D"
        (foreign / "labelsTr").mkdir(parents=True)
        (foreign / "labelsTr" / "mine.png").write_bytes(b"x")
        (foreign / "dataset.json").write_text('{"labels": {}}')
        with pytest.raises(InputError, match="not made of phantoms"):
            write_phantom_dataset(tmp_path, 2)
        assert (foreign / "labelsTr" / "mine.png").exists()

    @pytest.mark.parametrize("arguments", [{"spatial_dims": 1}, {"num_train": 0}, {"num_test": 0}])
    def test_impossible_parameters_are_refused(self, tmp_path: Path, arguments: dict[str, int]) -> None:
        with pytest.raises(InputError):
            write_phantom_dataset(tmp_path, **arguments)
