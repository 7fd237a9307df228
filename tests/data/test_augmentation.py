"""Random changes of reference cases: what they may change, and what they must leave."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from gnsm_monai.data.augmentation import RandFieldOfViewd, RandGhost, RandPoorImaged, RandWrapAround, augmentation
from gnsm_monai.data.constants import IGNORE_INDEX, IMAGE, LABEL


def meta(array: np.ndarray) -> MetaTensor:
    """Map ``(1, *spatial)``."""
    return MetaTensor(torch.from_numpy(array[None].copy()))


class TestAugmentation:
    @pytest.mark.parametrize("dims", [2, 3])
    def test_labels_stay_class_indices(self, dims: int) -> None:
        label = meta(np.full((16,) * dims, IGNORE_INDEX, np.int16))
        label[(0, *[slice(3, 13)] * dims)] = 0
        label[(0, *[slice(5, 11)] * dims)] = 3  # 1 and 2, which interpolation would make, do not occur
        transform = augmentation(dims, flip_axes=[0]).set_random_state(0)
        changed = 0
        for _ in range(10):
            found = transform({LABEL: label})[LABEL]
            assert found.dtype == torch.int16 and found.shape == label.shape
            assert set(np.unique(found.numpy())) <= {IGNORE_INDEX, 0, 3}
            changed += not np.array_equal(found.numpy(), label.numpy())
        assert changed > 5

    def test_the_border_is_continued_rather_than_filled(self) -> None:
        transform = augmentation(2, translate=6.0, truncate=0.0).set_random_state(0)
        ignored, ones = meta(np.full((16, 16), IGNORE_INDEX, np.int16)), meta(np.ones((16, 16), np.int16))
        for _ in range(5):
            assert set(np.unique(transform({LABEL: ignored})[LABEL].numpy())) == {IGNORE_INDEX}
            assert set(np.unique(transform({LABEL: ones})[LABEL].numpy())) == {1}

    def test_only_the_axes_given_are_flipped(self) -> None:
        still = {"rotate": 0.0, "scale": 0.0, "shear": 0.0, "translate": 0.0, "truncate": 0.0}
        array = np.arange(64, dtype=np.int16).reshape(8, 8)
        transform = augmentation(2, flip_axes=[1], **still).set_random_state(0)
        found = {transform({LABEL: meta(array)})[LABEL].numpy()[0].tobytes() for _ in range(20)}
        assert found == {array.tobytes(), np.ascontiguousarray(array[:, ::-1]).tobytes()}

    def test_images_move_with_their_labels(self) -> None:
        array = np.zeros((32, 32), np.int16)
        array[8:20, 10:26] = 1
        case = {LABEL: meta(array), IMAGE: meta(array.astype(np.float32))}
        transform = augmentation(
            2, flip_axes=[0, 1], truncate=0.0, poor_images=0.0, keys=[LABEL, IMAGE]
        ).set_random_state(1)
        for _ in range(5):
            found = transform(case)
            assert found[IMAGE].dtype == torch.float32
            assert ((found[IMAGE].numpy() > 0.5) != (found[LABEL].numpy() == 1)).mean() < 0.02


class TestFieldOfView:
    def test_a_box_stays_and_the_rest_counts_nowhere(self) -> None:
        case = {LABEL: meta(np.ones((20, 12), np.int16)), IMAGE: meta(np.ones((20, 12), np.float32))}
        transform = RandFieldOfViewd([LABEL, IMAGE], prob=1.0, most=0.25).set_random_state(0)
        sizes = []
        for _ in range(30):
            found = transform(case)
            kept = np.argwhere(found[LABEL].numpy()[0] == 1)
            box = tuple(slice(low, high + 1) for low, high in zip(kept.min(0), kept.max(0), strict=True))
            expected = np.full((20, 12), IGNORE_INDEX)
            expected[box] = 1
            assert np.array_equal(found[LABEL].numpy()[0], expected)
            assert np.array_equal(found[IMAGE].numpy()[0], expected == 1)
            sizes.append([s.stop - s.start for s in box])
        assert (np.min(sizes, axis=0) >= [10, 6]).all()  # at most a quarter is lost on either side
        assert (np.max(sizes, axis=0) <= [20, 12]).all() and len({tuple(size) for size in sizes}) > 10

    def test_it_changes_its_share_of_cases(self) -> None:
        transform = RandFieldOfViewd(LABEL, prob=0.3, most=0.25).set_random_state(0)
        label = meta(np.ones((40, 40), np.int16))
        changed = [bool((transform({LABEL: label})[LABEL] != 1).any()) for _ in range(300)]
        assert 0.2 < np.mean(changed) < 0.4


class TestPoorImages:
    def test_intensities_stay_standardised_inside_the_field_of_view(self) -> None:
        rng = np.random.default_rng(0)
        label = np.zeros((24, 24, 24), np.int16)
        label[:3] = IGNORE_INDEX
        image = rng.normal(size=label.shape).astype(np.float32)
        transform = RandPoorImaged(IMAGE, prob=1.0).set_random_state(0)
        for _ in range(20):
            found = transform({LABEL: meta(label), IMAGE: meta(image)})[IMAGE].numpy()[0]
            inside = found[label != IGNORE_INDEX]
            assert inside.mean() == pytest.approx(0, abs=1e-3) and inside.std() == pytest.approx(1, abs=1e-3)
            assert (found[:3] == 0).all()
            assert not np.allclose(found[3:], image[3:], atol=0.1)

    def test_the_same_seed_gives_the_same_defects(self) -> None:
        image = meta(np.random.default_rng(0).normal(size=(16, 16)).astype(np.float32))
        first, again, other = (
            [RandPoorImaged(IMAGE, prob=1.0).set_random_state(seed)({IMAGE: image})[IMAGE] for seed in seeds]
            for seeds in ([0, 1, 2], [0, 1, 2], [3, 4, 5])
        )
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
        assert not any(torch.allclose(a, b) for a, b in zip(first, other, strict=True))

    def test_ghosts_are_weaker_copies_an_even_part_of_an_axis_apart(self) -> None:
        image = torch.zeros(1, 12, 12)
        image[0, 3, 5] = 1
        ghost = RandGhost()
        ghost.set_random_state(0)
        found = ghost(image)
        assert found[0, 3, 5] == 1
        places = torch.nonzero(found[0] * (image[0] == 0))
        assert len(places) in (1, 2, 3) and float(found[0][image[0] == 0].max()) <= 0.8
        apart = (places - torch.tensor([3, 5])).abs().sum(1) % (12 // (len(places) + 1))
        assert (apart == 0).all()

    def test_wrapped_intensities_are_those_of_integers_that_overflowed(self) -> None:
        image = torch.linspace(0, 100, 1000).reshape(1, 40, 25)
        wrap = RandWrapAround(least=0.5, most=0.5)
        wrap.set_random_state(0)
        found, period = wrap(image), 0.5 * float(image.std(correction=0))
        assert float(found.min()) >= 0 and float(found.max()) <= period
        steps = (found - image) / period  # whole numbers, but for where counting began
        assert torch.allclose(steps - steps[0, 0, 0], (steps - steps[0, 0, 0]).round(), atol=1e-3)
        assert len(torch.unique((steps - steps[0, 0, 0]).round())) > 5

    def test_a_constant_image_survives_every_defect(self) -> None:
        transform = RandPoorImaged(IMAGE, prob=1.0).set_random_state(0)
        for _ in range(30):
            assert torch.isfinite(transform({IMAGE: meta(np.ones((12, 12, 12), np.float32))})[IMAGE]).all()
