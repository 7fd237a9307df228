from __future__ import annotations

import pytest
import torch

from gnsm_monai.data.constants import IGNORE_INDEX
from gnsm_monai.engines import ChunkedInferer, NoisyLabelPrepareBatch
from gnsm_monai.noise import mixing_schedule

SCHEDULE = mixing_schedule(num_levels=4)


def labels(batch: int = 3) -> torch.Tensor:
    label = torch.randint(0, 3, (batch, 1, 5, 6), generator=torch.Generator().manual_seed(0), dtype=torch.int16)
    label[:, :, 0, 0] = IGNORE_INDEX
    return label


def test_training_draws_a_level_per_sample_and_fresh_noise() -> None:
    prepare = NoisyLabelPrepareBatch(SCHEDULE, 3)
    torch.manual_seed(0)
    first, target, (level,), extra = prepare({"label": labels()}, "cpu")
    second, *_ = prepare({"label": labels()}, "cpu")
    assert first.shape == (3, 3, 5, 6) and level.shape == (3,) and extra == {}
    assert not torch.equal(first, second)
    assert torch.equal(target["x"], first)
    levels = torch.cat([prepare({"label": labels()}, "cpu")[2][0] for _ in range(60)])
    assert set(levels.tolist()) == {0, 1, 2, 3}


def test_ignored_voxels_are_background_and_masked() -> None:
    _, target, _, _ = NoisyLabelPrepareBatch(SCHEDULE, 3)({"label": labels()}, "cpu")
    assert target["probabilities"][:, 0, 0, 0].tolist() == [1, 1, 1]
    assert target["mask"][:, 0, 0, 0].tolist() == [0, 0, 0]
    assert target["mask"].sum() == 3 * 29


def test_validation_sees_every_level_under_the_same_noise() -> None:
    prepare = NoisyLabelPrepareBatch(SCHEDULE, 3, fixed_seed=7)
    image = torch.rand(3, 1, 5, 6)
    batch = {"label": labels(), "image": image}
    (x, target, (level,), extra), (again, *_) = prepare(batch, "cpu"), prepare(batch, "cpu")
    assert torch.equal(x, again)
    assert level.tolist() == [0, 1, 2, 3] * 3
    assert len(x) == len(target["mask"]) == len(extra["image"]) == 12
    assert torch.equal(extra["image"][4], image[1]) and torch.equal(extra["image"][7], image[1])


class TestChunkedInferer:
    def test_pieces_give_what_the_whole_gives(self) -> None:
        x, level, image = torch.rand(7, 2, 3), torch.arange(7), torch.rand(7, 1, 3)

        def network(x: torch.Tensor, level: torch.Tensor, image: torch.Tensor, factor: float) -> torch.Tensor:
            assert len(x) == len(level) == len(image) <= 3
            return x * level[:, None, None] + image * factor

        found = ChunkedInferer(3)(x, network, level, image=image, factor=2.0)
        assert torch.equal(found, x * level[:, None, None] + image * 2.0)

    def test_a_size_below_one_is_refused(self) -> None:
        with pytest.raises(ValueError, match="chunk_size must be at least 1, got 0"):
            ChunkedInferer(0)
