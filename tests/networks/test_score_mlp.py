from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from gnsm_monai.networks import ScoreMLP
from gnsm_monai.noise import log_density, mixing_schedule

SCHEDULE = mixing_schedule(3, beta_min=0.2)


def noisy(network: ScoreMLP, rows: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    codes = torch.stack([torch.randint(k, (rows,)) for k in network.blocks.cardinalities], 1)
    level = torch.arange(rows) % 3
    x = network.blocks.apply(lambda block: SCHEDULE.sample(block, level), network.blocks.one_hot(codes))
    return x, level


def test_a_fresh_posterior_network_is_that_of_independent_features() -> None:
    network = ScoreMLP([2, 4], SCHEDULE, width=16, depth=1)
    frequencies = torch.tensor([0.9, 0.1, 0.4, 0.3, 0.2, 0.1])
    network.set_prior(frequencies)
    x, level = noisy(network)
    assert torch.equal(network(x, level), network.independent_logits(x, level))
    # By Bayes from the density itself: p(c | x) ~ p(c) p(x | c), here of the feature with four categories.
    four = network.blocks.split(x)[1][..., 0].double()
    joint = torch.stack(
        [
            _log_density(four, F.one_hot(torch.tensor([c] * len(x)), 4).double(), level) + frequencies[2 + c].log()
            for c in range(4)
        ],
        1,
    )
    found = network.blocks.split(network(x, level))[1][..., 0].softmax(1)
    assert torch.allclose(found.double(), joint.softmax(1), atol=1e-5)


def _log_density(x: torch.Tensor, one_hot: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
    return log_density(x, SCHEDULE.log_alpha(one_hot, level), SCHEDULE.temperature(level).double())


def test_direct_logits_start_at_zero_and_are_the_layers_own() -> None:
    network = ScoreMLP([3, 3, 2], SCHEDULE, width=16, depth=2, posterior=False)
    x, level = noisy(network)
    assert network(x, level).shape == (6, 8) and not network(x, level).any()
    torch.nn.init.ones_(network.head[-1].bias)
    assert torch.equal(network(x, level), torch.ones(6, 8))


def test_settings_make_an_equal_network() -> None:
    network = ScoreMLP([3, 2], SCHEDULE, width=16, depth=1, dropout=0.2)
    again = ScoreMLP(**network.settings)
    again.load_state_dict(network.state_dict())
    x, level = noisy(network)
    assert torch.equal(network.eval()(x, level), again.eval()(x, level))


def test_a_prior_of_zero_or_of_another_shape_is_refused() -> None:
    network = ScoreMLP([3, 2], SCHEDULE, width=16)
    for bad in (torch.ones(4), torch.tensor([1.0, 0.0, 0.0, 0.5, 0.5])):
        with pytest.raises(ValueError, match="positive frequencies"):
            network.set_prior(bad)
