"""The rival that segments."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from segmenter_rival import SmallSegmenter

from tests.builders import square

Case = tuple[np.ndarray, np.ndarray]


def case(low: int, noise: float = 0.1) -> Case:
    label = square(low=low, size=6)
    image = label + noise * np.random.default_rng(low).standard_normal(label.shape)
    return image[None].astype(np.float32), label


@pytest.fixture(scope="module")
def fitted() -> SmallSegmenter:
    return SmallSegmenter(steps=40).fit([case(low) for low in range(2, 8)], 2)


def test_it_finds_what_it_has_learned_and_blames_another_mask(fitted: SmallSegmenter) -> None:
    image, label = case(4)
    assert fitted.disagreement(image, label) < 0.2 < 0.8 < fitted.disagreement(image, square(low=10, size=6))
    assert fitted.probabilities(image).sum(0) == pytest.approx(1, abs=1e-5)


def test_it_doubts_an_image_that_shows_little(fitted: SmallSegmenter) -> None:
    assert fitted.entropy(case(4)[0]) < fitted.entropy(case(4, noise=2.0)[0])


def test_the_same_seed_gives_the_same_answers_and_a_file_keeps_them(fitted: SmallSegmenter, tmp_path: Path) -> None:
    image, label = case(3)
    torch.manual_seed(3)
    following = torch.rand(2)
    torch.manual_seed(3)
    answer = fitted.disagreement(image, label)
    assert torch.equal(torch.rand(2), following)
    fitted.save(tmp_path / "model.pt")
    again = SmallSegmenter().load(tmp_path / "model.pt", 2, 2, 1)
    assert again.disagreement(image, label) == answer


def test_volumes_of_odd_sizes_and_channels_keep_their_shape() -> None:
    image, label = np.random.default_rng(0).random((2, 9, 13, 5)), np.zeros((9, 13, 5), np.int16)
    label[2:5, 3:8, 1:4] = 1
    segmenter = SmallSegmenter(steps=1).fit([(image, label)], 2)
    assert segmenter.probabilities(image).shape == (2, 9, 13, 5)
