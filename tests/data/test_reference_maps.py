"""References in memory: packed without loss, resampled as a reading of the file is, images within their bound."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from monai.data import MetaTensor
from monai.transforms import Lambdad

from gnsm_monai.data import reference_maps
from gnsm_monai.data.constants import IGNORE_INDEX, IMAGE, LABEL
from gnsm_monai.data.reference_maps import PackedMap
from gnsm_monai.data.references import References, read_references
from gnsm_monai.data.transforms import ToSpacingd, load_case

SPACINGS = ((1.0, 1.0, 2.0), (1.005, 1.0, 2.0), (1.3, 0.8, 2.2))
"""The model's, one within 1 % of it, and another."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten volumes of several spacings and orientations, with images; values without a dataset.json."""
    rng = np.random.default_rng(0)
    for name in ("labelsTr", "imagesTr"):
        (tmp_path / name).mkdir()
    for i in range(10):
        label = np.zeros((12, 14, 10), np.uint8)
        label[3 : 8 + i % 3, 4:9, 2:7], label[5:8, 5:8, 3:6] = 40, 7
        affine = np.diag([*SPACINGS[i % 4 if i % 4 < 3 else 0], 1.0])
        for name, array in ((f"labelsTr/{i}", label), (f"imagesTr/{i}_0000", rng.normal(size=label.shape))):
            image = nib.Nifti1Image(array.astype(np.float32), affine)
            if i % 2:
                image = image.as_reoriented(nib.orientations.axcodes2ornt("SLP"))
            nib.save(image, tmp_path / f"{name}.nii.gz")
    return tmp_path


def read_anew(references: References, case: dict[str, Any]) -> dict[str, MetaTensor]:
    keys = references.keys
    loaded = load_case(references.scheme, 3, keys)({key: case[key] for key in keys})
    found: dict[str, MetaTensor] = ToSpacingd(keys, references.voxel_size)(loaded)
    return found


def memory_order(tensor: torch.Tensor) -> list[int]:
    """Strides; those of axes of one voxel mean nothing."""
    return [step for step, n in zip(tensor.stride(), tensor.shape, strict=True) if n > 1]


@settings(max_examples=60, deadline=None)
@given(
    arrays(np.int16, st.tuples(st.just(1), *[st.integers(1, 6)] * 3), elements=st.integers(IGNORE_INDEX, 3)),
    st.permutations(range(4)),
)
def test_a_packed_map_comes_back_as_it_was(array: np.ndarray, order: list[int]) -> None:
    laid = np.ascontiguousarray(array.transpose(order)).transpose(np.argsort(order))
    label = MetaTensor(torch.from_numpy(laid), affine=torch.diag(torch.tensor([2.0, 3.0, 4.0, 1.0])))
    found = PackedMap.pack(label).unpack()
    assert torch.equal(found.as_tensor(), label.as_tensor()) and found.dtype == label.dtype
    assert torch.equal(found.affine, label.affine) and torch.equal(found.pixdim, label.pixdim)
    assert memory_order(found) == memory_order(label)


@pytest.mark.parametrize("with_images", [False, True])
def test_maps_are_those_of_the_files(folder: Path, with_images: bool) -> None:
    references = read_references(folder, 3, with_images)
    assert references.voxel_size == pytest.approx(SPACINGS[0], rel=0.01)
    for case, maps in zip(references.cases, references.maps_of(references.cases), strict=True):
        expected = read_anew(references, case)
        assert list(maps) == list(expected) == references.keys
        for key in maps:
            found, due = maps[key].as_tensor(), expected[key].as_tensor()
            assert torch.equal(found, due) and found.dtype == due.dtype and memory_order(found) == memory_order(due)


def test_images_beyond_the_bound_are_read_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = 4 * 12 * 14 * 10
    monkeypatch.setattr(reference_maps, "MAX_IMAGE_BYTES", 3 * size)
    references = read_references(folder, 3, with_images=True)
    assert 1 <= len(references.stored._images) <= 3
    for case, maps in zip(references.cases, references.maps_of(references.cases), strict=True):
        assert torch.equal(maps[IMAGE].as_tensor(), read_anew(references, case)[IMAGE].as_tensor())


def test_the_maps_of_a_use_are_a_sequence(folder: Path) -> None:
    references = read_references(folder, 3)
    maps = references.maps("train")
    assert len(maps) == len(references.used_for("train")) == len(list(maps)) == len(maps[1:]) + 1
    assert torch.equal(maps[1:][0][LABEL], maps[1][LABEL])


def test_images_of_a_model_of_label_maps_are_read_when_they_are_wanted(folder: Path) -> None:
    references = read_references(folder, 3)
    seen = read_references(folder, 3, with_images=True)
    case = references.cases[2]
    assert set(references.maps_of([case])[0]) == {LABEL}
    assert torch.equal(references.maps_with_image(case)[IMAGE], seen.maps_with_image(seen.cases[2])[IMAGE])


def test_transforms_of_loading_can_be_replaced(folder: Path) -> None:
    swap: Callable[[Any], Any] = lambda label: label.flip(1)  # noqa: E731
    plain = read_references(folder, 3)
    loading = [*load_case(None, 3, [LABEL, IMAGE]).transforms, Lambdad(LABEL, swap, allow_missing_keys=True)]
    flipped = read_references(folder, 3, loading=loading)
    found, due = (x.maps_of([plain.cases[0]])[0][LABEL].as_tensor() for x in (flipped, plain))
    assert torch.equal(found, swap(due)) and not torch.equal(found, due)


def test_images_are_turned_as_their_label_maps_and_other_headers_are_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Images in another storage order, and images whose headers were lost: each voxel stays beside its label."""
    rng = np.random.default_rng(0)
    for number in range(9):
        labels = rng.integers(0, 2, (9, 10, 8)).astype(np.uint8)
        label = nib.Nifti1Image(labels, np.diag([-1.0, -1, 2, 1]))
        image = nib.Nifti1Image(labels.astype(np.float32), label.affine)
        if number < 3:
            image = nib.as_closest_canonical(image)
        elif number < 6:
            image = nib.Nifti1Image(labels.astype(np.float32), np.diag([1.0, 1, 1, 1]))
        for folder, file in (("labelsTr", label), ("imagesTr", image)):
            (tmp_path / folder).mkdir(exist_ok=True)
            nib.save(file, tmp_path / folder / f"case{number}{'_0000' if folder == 'imagesTr' else ''}.nii.gz")
    references = read_references(tmp_path, 3, with_images=True)
    assert "headers of images and label maps differ by up to " in caplog.text
    for case in references.cases:
        maps = references.maps_of([case])[0]
        references.stored._images.clear()  # as if they had not fitted in memory
        again = references.maps_of([case])[0]
        for image in (maps[IMAGE], again[IMAGE]):
            values = image.numpy()[maps[LABEL].numpy() == 1]
            assert np.ptp(values) < 1e-5 and values.min() > image.numpy()[maps[LABEL].numpy() == 0].max()
