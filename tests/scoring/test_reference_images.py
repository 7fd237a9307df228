"""Smoothness of images: what it measures, what it leaves out, and when an image is unlike the references'."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from gnsm_monai.data.augmentation import RandWrapAround
from gnsm_monai.scoring.reference_images import ReferenceImages, smoothness


def image_of(seed: int, sigma: float = 1.5, size: int = 24) -> torch.Tensor:
    """``(1, size, size, size)``: smoothed noise, the smoother the larger ``sigma``."""
    noise = np.random.default_rng(seed).normal(size=(size, size, size))
    return torch.from_numpy(gaussian_filter(noise, sigma))[None]


def everywhere(image: torch.Tensor) -> torch.Tensor:
    return torch.ones(1, *image.shape[1:], dtype=torch.bool)


class TestSmoothness:
    def test_it_is_the_correlation_of_neighbours(self) -> None:
        values = np.random.default_rng(0).normal(size=20_000).cumsum() % 50  # one axis; large: no matter of its ends
        found = smoothness(torch.from_numpy(values)[None], torch.ones(1, len(values), dtype=torch.bool))
        assert found[0] == pytest.approx(np.corrcoef(values[1:], values[:-1])[0, 1], abs=1e-3)

    def test_noise_has_none_and_blur_adds_to_it(self) -> None:
        noise, sharp, blurred = (image_of(0, sigma) for sigma in (0.0, 1.0, 2.0))
        values = [float(smoothness(i, everywhere(i))[0]) for i in (noise, sharp, blurred)]
        assert values[0] == pytest.approx(0, abs=0.05) and values[0] < values[1] < values[2]

    def test_scale_offset_and_contrast_do_not_matter(self) -> None:
        image = image_of(0)
        usual = smoothness(image, everywhere(image))
        for other in (1000 * image, image + 5, -image):
            assert np.allclose(smoothness(other, everywhere(image)), usual)

    def test_what_is_outside_does_not_matter(self) -> None:
        image, inside = image_of(0), torch.zeros(1, 24, 24, 24, dtype=torch.bool)
        inside[:, 4:20, :, 2:] = True
        damaged = torch.where(inside, image, 100 * torch.randn(image.shape, dtype=torch.float64))
        cut = image[:, 4:20, :, 2:]
        assert np.allclose(smoothness(damaged, inside), smoothness(cut, everywhere(cut)))

    def test_every_channel_has_its_own(self) -> None:
        both = torch.cat([image_of(0, 1.0), image_of(1, 2.0)])
        assert np.allclose(smoothness(both, everywhere(both))[1:], smoothness(both[1:], everywhere(both)))

    def test_it_is_a_correlation_whatever_is_known(self) -> None:
        image, rng = image_of(0), np.random.default_rng(0)
        image[0, 12] += 10  # strong where little is known
        for share in (0.05, 0.3, 0.6):
            inside = torch.from_numpy(rng.random((1, 24, 24, 24)) < share)
            assert -1 <= smoothness(image, inside)[0] <= 1
        alone = torch.zeros(1, 24, 24, 24, dtype=torch.bool)
        alone[0, 3, 3, 3] = True
        assert np.isnan(smoothness(image, alone)).all()

    @pytest.mark.parametrize("shape", [(1, 6, 6), (1, 6, 6, 1)])
    def test_a_constant_image_is_smooth_and_no_error(self, shape: tuple[int, ...]) -> None:
        found = smoothness(torch.ones(shape), torch.ones(shape, dtype=torch.bool))
        assert found[0] == 1


@pytest.fixture(scope="module")
def references() -> ReferenceImages:
    return ReferenceImages.fit(np.stack([smoothness(i, everywhere(i)) for i in map(image_of, range(20))]))


class TestReferenceImages:
    def test_unseen_images_of_the_same_kind_are_nothing_to_speak_of(self, references: ReferenceImages) -> None:
        for seed in range(20, 60):
            image = image_of(seed)
            assert references.finding(smoothness(image, everywhere(image))) == ""

    def test_noise_and_overflow_are_named_and_blur_is_not(self, references: ReferenceImages) -> None:
        image = image_of(20)
        noisy, blurred = image + image.std() * torch.randn(image.shape), image_of(20, 4.0)
        wrap = RandWrapAround(0.25, 0.25)
        wrap.set_random_state(0)
        for rough in (noisy, wrap(image)):
            assert "rougher" in references.finding(smoothness(rough, everywhere(image)))
        assert references.finding(smoothness(blurred, everywhere(image))) == ""

    def test_one_bad_channel_is_enough_and_an_unknown_one_no_reason(self) -> None:
        two = ReferenceImages(np.array([1.0, 1.0]), np.array([0.05, 0.05]))
        assert "rougher" in two.finding(np.array([1.0, 0.0])) and two.finding(np.array([1.0, 1.1])) == ""
        assert two.finding(np.array([np.nan, np.nan])) == "" and "rougher" in two.finding(np.array([np.nan, 0.0]))

    def test_few_references_name_nothing_and_one_without_an_image_is_left_out(self) -> None:
        values = np.stack([smoothness(i, everywhere(i)) for i in map(image_of, range(12))])
        assert ReferenceImages.fit(values).finding(np.array([0.0])) != ""
        assert ReferenceImages.fit(values[:11]).finding(np.array([0.0])) == ""
        gap = ReferenceImages.fit(np.concatenate([values, [[np.nan]]]))
        assert np.array_equal(gap.centre, ReferenceImages.fit(values).centre)

    def test_arrays_bring_it_back(self, references: ReferenceImages) -> None:
        again = ReferenceImages.from_arrays(references.to_arrays())
        assert again is not None
        assert np.array_equal(again.centre, references.centre) and np.array_equal(again.spread, references.spread)
        assert ReferenceImages.from_arrays({}) is None
