"""A world of four binary voxels, small enough to enumerate: every training recipe must end at the exact score.

The 16 label maps have known probabilities, so that the marginal of a noisy map is a sum of 16 densities and its score
a gradient. A small network is trained on samples alone, and compared with that score on fresh noisy maps.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from gnsm_monai.losses import LOSSES, ScoreMatchingLoss
from gnsm_monai.networks import score_from_logits
from gnsm_monai.noise import NoiseSchedule, log_density

# With three neighbours alone, stronger noise would leave no context to learn.
SCHEDULE = NoiseSchedule(betas=(0.4, 0.65), temperatures=(0.8, 1.5))
MAPS = torch.tensor(list(itertools.product((0, 1), repeat=4))).reshape(16, 2, 2)
ONE_HOT = nn.functional.one_hot(MAPS, 2).movedim(-1, 1).float()
# A few likely maps and many unlikely ones, so that a voxel's neighbours tell much about it.
LOG_PRIOR = (2 * torch.randn(16, generator=torch.Generator().manual_seed(6), dtype=torch.float64)).log_softmax(0)

Score = Callable[[Tensor, Tensor], Tensor]


class SmallNet(nn.Module):
    """Logits of two classes per voxel, from all four voxels and the level."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        inputs = 8 + SCHEDULE.num_levels
        self.layers = nn.Sequential(
            nn.Linear(inputs, width), nn.GELU(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, 4)
        )
        self.skip = nn.Linear(inputs, 4)

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        u = (x[:, 1] - x[:, 0]).flatten(1) * SCHEDULE.temperature(level)[:, None]
        # A voxel's evidence for its label is bounded, as the second feature is.
        features = torch.cat([u / 3, 2 * (u / 2).tanh(), nn.functional.one_hot(level, SCHEDULE.num_levels)], dim=1)
        logit = self.layers(features) + self.skip(features)
        return torch.stack([-logit, logit], dim=1).reshape(-1, 2, 2, 2)


def noisy_maps(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Maps drawn from the table, ``(B, 2, 2, 2)`` one-hot, a level each, and what the noise makes of them."""
    y = ONE_HOT[torch.multinomial(LOG_PRIOR.exp(), count, replacement=True, generator=generator)]
    level = torch.arange(count) % SCHEDULE.num_levels
    return y, level, SCHEDULE.sample(y, level, generator)


def exact_score(x: Tensor, level: Tensor) -> Tensor:
    """Gradient of ``log sum_maps P(map) prod_v p(x_v | map_v)``, in float64."""
    x = x.double().requires_grad_()
    tau = SCHEDULE.temperature(level)
    log_joint = []
    for one_hot, log_prior in zip(ONE_HOT, LOG_PRIOR, strict=True):
        log_alpha = SCHEDULE.log_alpha(one_hot.double().expand_as(x), level)
        log_joint.append(log_prior + log_density(x, log_alpha, tau).sum((1, 2)))
    (gradient,) = torch.autograd.grad(torch.stack(log_joint).logsumexp(0).sum(), x)
    return gradient


def voxelwise_score(x: Tensor, level: Tensor) -> Tensor:
    """The exact score of a world with the same share of each label per voxel, but independent voxels."""
    x = x.double().requires_grad_()
    tau = SCHEDULE.temperature(level)
    shares = (LOG_PRIOR.exp()[:, None, None, None] * ONE_HOT).sum(0)
    log_joint = []
    for c in (0, 1):
        label = torch.zeros_like(x)
        label[:, c] = 1
        log_joint.append(shares[c].log() + log_density(x, SCHEDULE.log_alpha(label, level), tau))
    (gradient,) = torch.autograd.grad(torch.stack(log_joint).logsumexp(0).sum(), x)
    return gradient


def relative_error(score: Score, draws: int = 30_000, seed: int = 99) -> list[float]:
    """Root mean square of the score's error over that of the exact score, per level, on fresh noisy maps."""
    _, level, x = noisy_maps(draws, torch.Generator().manual_seed(seed))
    exact = exact_score(x, level)
    error = (score(x, level) - exact).square().sum((1, 2, 3))
    size = exact.square().sum((1, 2, 3))
    return [
        (error[level == index].mean() / size[level == index].mean()).sqrt().item()
        for index in range(SCHEDULE.num_levels)
    ]


def train(kind: str, steps: int = 1500, batch: int = 1024, seed: int = 0) -> Score:
    """Adam with a rate that rises and falls, on maps drawn from the table; the score of the averaged weights."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    net, loss = SmallNet(), ScoreMatchingLoss(kind, SCHEDULE)
    ema = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.99))
    optimizer = torch.optim.Adam(net.parameters(), betas=(0.9, 0.99))
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.04, total_steps=steps)
    mask = torch.ones(batch, 1, 2, 2)
    for _ in range(steps // 50):
        draws = noisy_maps(50 * batch, generator)
        for y, level, x in zip(*(part.split(batch) for part in draws), strict=True):
            value = loss(net(x, level), {"x": x, "probabilities": y, "level": level, "mask": mask}).mean()
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            rate.step()
            ema.update_parameters(net)

    @torch.no_grad()
    def score(x: Tensor, level: Tensor) -> Tensor:
        return score_from_logits(LOSSES[kind], ema(x, level), x, level, SCHEDULE)

    return score


def test_a_score_without_context_is_far_from_the_exact_one() -> None:
    """What makes the next test mean something: each voxel's own value does not suffice, at any level."""
    errors = relative_error(voxelwise_score)
    print("\nvoxelwise: relative error per level", [round(error, 4) for error in errors])
    assert min(errors) > 0.1


@pytest.mark.parametrize("kind", LOSSES)
def test_training_ends_at_the_exact_score(kind: str) -> None:
    errors = relative_error(train(kind))
    print(f"\n{kind} ({LOSSES[kind]}): relative error per level", [round(error, 4) for error in errors])
    assert max(errors) < 0.05
