from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from gnsm_monai.losses import ScoreMatchingLoss, TableScoreMatchingLoss
from gnsm_monai.noise import FeatureBlocks, mixing_schedule

CARDINALITIES = [3, 2, 3, 4]
SCHEDULE = mixing_schedule(3)


@pytest.mark.parametrize("kind", ["posterior", "kl", "dsm"])
def test_it_is_the_mean_of_each_features_own_loss(kind: str) -> None:
    torch.manual_seed(0)
    blocks, level = FeatureBlocks(CARDINALITIES), torch.tensor([0, 2, 1, 1, 0])
    codes = torch.stack([torch.randint(k, (5,)) for k in CARDINALITIES], 1)
    weights = [1.0, 0.5, 2.0]
    probabilities = blocks.one_hot(codes)
    x = blocks.apply(lambda block: SCHEDULE.sample(block, level), probabilities)
    logits = torch.randn(5, blocks.size)
    found = TableScoreMatchingLoss(kind, SCHEDULE, CARDINALITIES, weights)(
        logits, {"x": x, "probabilities": probabilities, "level": level}
    )
    total = torch.zeros(5)
    for k, features in blocks.blocks:
        for place, feature in enumerate(features):
            block = [own for own, _ in blocks.blocks].index(k)
            target = {
                "x": blocks.split(x)[block][..., place],
                "probabilities": F.one_hot(codes[:, feature], k).float(),
                "level": level,
                "mask": torch.ones(5, 1),
            }
            total += ScoreMatchingLoss(kind, SCHEDULE, weights)(blocks.split(logits)[block][..., place], target)
    assert torch.allclose(found, total / 4, atol=1e-6)
