"""Levels of noise that say nothing of the label, beside those that do."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gnsm_monai.networks import ScoreMLP, ScoreUNet
from gnsm_monai.networks.bottleneck import BottleneckNetwork
from gnsm_monai.networks.evidence import evidence_scale
from gnsm_monai.noise import FeatureBlocks, NoiseSchedule, mixing_schedule

SCHEDULE = NoiseSchedule((0.3, 1.0), (1.0, 1.0))


def test_only_the_level_that_says_nothing_has_another_scale() -> None:
    for k in (2, 3, 104):
        mean, deviation = SCHEDULE.log_likelihood_scale(k)
        found = evidence_scale(SCHEDULE, k)
        assert torch.equal(found[0], mean) and found[1][0] == deviation[0] and found[1][1] == 1
        same = zip(evidence_scale(mixing_schedule(), k), mixing_schedule().log_likelihood_scale(k), strict=True)
        assert all(torch.equal(*pair) for pair in same)


@pytest.mark.parametrize("k", [3, 7])
def test_logits_at_noise_that_leaves_nothing_are_finite_and_see_nothing(k: int) -> None:
    blocks = FeatureBlocks([k, k])
    networks: list[tuple[nn.Module, torch.Tensor]] = [
        (ScoreUNet(2, k, noise=SCHEDULE, channels=(4, 8), position_size=(8, 8)), torch.randn(4, k, 8, 8)),
        (BottleneckNetwork(SCHEDULE, k, [8, 8], [[2, 2], [2, 2]], width=16), torch.randn(4, k, 8, 8)),
        (ScoreMLP([k, k], SCHEDULE, width=16, depth=1), torch.randn(4, k, 2)),
    ]
    for network, maps in networks:
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.1)
        x = maps.log_softmax(1)
        x = blocks.join([x]) if isinstance(network, ScoreMLP) else x
        logits = network.eval()(x, torch.ones(4, dtype=torch.long))
        assert logits.isfinite().all()
        torch.testing.assert_close(logits, logits[:1].expand_as(logits), atol=1e-3, rtol=1e-3)
