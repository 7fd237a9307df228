"""What is learnt from images: no more of a mask than others show, at voxels whose features are what they should be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from gnsm_monai.folder.consensus import Consensus
from gnsm_monai.folder.image_features import SCALES, features_of
from gnsm_monai.folder.image_reader import MAX_READ, reader_of
from gnsm_monai.folder.image_sampling import OTHER_CHANNELS, SampledImages, sample_images
from gnsm_monai.folder.images import LearntImages, with_images
from gnsm_monai.folder.reading import FolderMasks, ReadOptions, read_masks
from tests.folder.masks import blob

SHAPE = (40, 44)


def flat(seed: int) -> np.ndarray:
    """Class indices of an ellipse whose place differs from mask to mask."""
    rng = np.random.default_rng(seed)
    halves = blob(tuple(rng.normal((20, 22), 2.5)), (9, 11), SHAPE)  # type: ignore[arg-type]
    return np.asarray(halves[0] + 2 * halves[1], dtype=np.uint8)


def colours(mask: np.ndarray, seed: int) -> np.ndarray:
    """RGB in which the structures differ in hue alone: grey values tell nothing."""
    palette = np.array([(90, 90, 90), (150, 60, 60), (60, 60, 150)])
    noisy = palette[mask] + np.random.default_rng(seed).normal(0, 12, (*mask.shape, 3))
    return np.clip(noisy, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def pictures(few_trees: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("pictures")
    for name in ("masks", "images"):
        (where / name).mkdir()
    for i in range(12):
        Image.fromarray(flat(i)).save(where / "masks" / f"c{i:02d}.png")
        Image.fromarray(colours(flat(i), i)).save(where / "images" / f"c{i:02d}_0000.png")
    return where


@pytest.fixture(scope="module")
def masks(pictures: Path) -> FolderMasks:
    return read_masks([pictures / "masks"], images_dir=pictures / "images")


@pytest.fixture(scope="module")
def consensus(masks: FolderMasks) -> Consensus:
    return Consensus.of(masks.one_hot, [mask.name for mask in masks.masks])


@pytest.fixture(scope="module")
def sampled(consensus: Consensus, masks: FolderMasks) -> SampledImages:
    return sample_images(consensus, masks, 0, ReadOptions())[0]


def test_features_at_a_voxel_are_those_of_the_whole_image() -> None:
    image = np.random.default_rng(0).normal(3, 2, (2, 50, 60)).astype(np.float32)
    voxels = np.array([20 * 60 + 30, 25 * 60 + 31, 0])
    features = features_of(image, voxels)
    values = (image[1] - image[1].mean()) / image[1].std()
    per_channel = (features.shape[1] - 2) // 2
    np.testing.assert_allclose(features[:, per_channel], values.ravel()[voxels], rtol=1e-4, atol=1e-4)
    smooth = ndimage.gaussian_filter(values, SCALES[1])
    expected = [smooth, np.gradient(smooth, axis=0), np.gradient(smooth, axis=1)]
    for column, one in enumerate(expected, start=per_channel + 4):
        np.testing.assert_allclose(features[:, column], one.ravel()[voxels], rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(features[:, -2:], [[-4.5, 0.5], [0.5, 1.5], [-24.5, -29.5]])


def test_few_voxels_of_a_large_image_have_the_features_that_they_have_among_all() -> None:
    image = np.random.default_rng(1).normal(size=(1, 70, 30, 12)).astype(np.float32)
    some = np.ravel_multi_index(([33, 40], [12, 16], [5, 6]), image.shape[1:])
    for block in (1, 2):
        everything = features_of(image, np.arange(image.size), (1, 1, 3), block)
        np.testing.assert_allclose(features_of(image, some, (1, 1, 3), block), everything[some], atol=2e-5)


def test_thick_slices_are_not_smoothed_over_many() -> None:
    image = np.zeros((1, 31, 31, 9), dtype=np.float32)
    image[0, 15, 15, 4] = 1
    beside = [np.ravel_multi_index((15, 15, 5), image.shape[1:]), np.ravel_multi_index((15, 16, 4), image.shape[1:])]
    thick, near = features_of(image, np.array(beside), (1, 1, 6))[:, 1]
    assert thick < 0.001 < near


def test_numbers_that_are_none_are_refused() -> None:
    image = np.ones((1, 8, 8), dtype=np.float32)
    image[0, 2, 2] = np.inf
    with pytest.raises(ValueError, match="no finite numbers"):
        features_of(image, np.array([3]))


def test_hues_tell_structures_that_grey_values_do_not(consensus: Consensus, masks: FolderMasks) -> None:
    groups = [mask.name for mask in masks.masks]
    images = with_images(consensus, masks, groups, 0)
    assert images.said["used"] and images.said["read"] == 12
    read = 2 * images.consensus.scores - consensus.scores
    assert np.median(read) < 0.05  # masks lie where their images show them


def test_a_picture_of_other_channels_or_of_another_size_is_not_used_and_is_said_to_be_so(
    pictures: Path, tmp_path: Path
) -> None:
    (tmp_path / "images").mkdir()
    other = {"c04_0000": lambda picture: picture.convert("L"), "c05_0000": lambda picture: picture.resize((22, 20))}
    for path in (pictures / "images").iterdir():
        picture = Image.open(path)
        other.get(path.stem, lambda same: same)(picture).save(tmp_path / "images" / path.name)
    masks = read_masks([pictures / "masks"], images_dir=tmp_path / "images")
    consensus = Consensus.of(masks.one_hot, range(12))
    sampled, notes = sample_images(consensus, masks, 0, ReadOptions())
    assert [number for number, one in enumerate(sampled.samples) if one is None] == [4, 5]
    assert notes[4].endswith(f"c04_0000.png: {OTHER_CHANNELS}") and not any(notes[:4])
    words = "c05_0000.png: shows another part of the body than the mask: 22 x 20 voxels of 1 x 1 mm, the mask 44 x 40 "
    assert words in notes[5]


def test_a_mask_has_no_part_in_what_it_is_read_by(sampled: SampledImages, masks: FolderMasks) -> None:
    """Whatever the masks of a fold are, its reader says the same of an image."""
    fold = int(sampled.folds[3])
    samples = [
        one if one is None or of != fold else replace(one, classes=np.zeros_like(one.classes), features=-one.features)
        for one, of in zip(sampled.samples, sampled.folds, strict=True)
    ]
    maps = [
        one if of != fold else replace(one, shares=np.zeros_like(one.shares))
        for one, of in zip(sampled.maps, sampled.folds, strict=True)
    ]
    reads = []
    for some in (sampled, replace(sampled, samples=samples, maps=maps)):
        reader = reader_of(some, fold, masks.scheme)
        assert reader is not None
        reads.append(reader.read(masks.masks[3], masks, 0).structures)
    np.testing.assert_array_equal(*reads)


def test_masks_that_stand_apart_teach_nothing(sampled: SampledImages, masks: FolderMasks) -> None:
    usual = sampled.usual.copy()
    usual[5] = False
    fold = int(sampled.folds[3])
    assert sampled.folds[5] != fold
    one = sampled.samples[5]
    assert one is not None
    samples = [*sampled.samples[:5], replace(one, classes=np.zeros_like(one.classes)), *sampled.samples[6:]]
    reads = []
    for some in (replace(sampled, usual=usual), replace(sampled, usual=usual, samples=samples)):
        reader = reader_of(some, fold, masks.scheme)
        assert reader is not None
        reads.append(reader.read(masks.masks[3], masks, 0).structures)
    np.testing.assert_array_equal(*reads)


def test_what_is_drawn_of_a_large_mask_says_what_all_of_it_says(
    sampled: SampledImages, masks: FolderMasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = reader_of(sampled, int(sampled.folds[2]), masks.scheme)
    assert reader is not None
    everything = reader.read(masks.masks[2], masks, 0).structures
    assert np.prod(SHAPE) < MAX_READ
    monkeypatch.setattr("gnsm_monai.folder.image_reader.MAX_READ", 600)
    np.testing.assert_allclose(reader.read(masks.masks[2], masks, 0).structures, everything, atol=0.03)


def test_what_stands_for_a_missing_image_is_that_of_masks_of_the_same_score(sampled: SampledImages) -> None:
    learnt = LearntImages(sampled, np.array([0.1, 0.2, 0.4]), np.array([0.05, 0.1, 0.5]))
    assert [learnt.in_place_of(score) for score in (0.0, 0.1, 0.3, 0.4, 0.9)] == pytest.approx(
        [0.05, 0.05, 0.3, 0.5, 0.5]
    )
