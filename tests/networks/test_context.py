"""Misfits of rows of known categories against the network as a function of relaxed rows, in double precision."""

from __future__ import annotations

import pytest
import torch

from gnsm_monai.networks import ContextMisfit, ScoreMLP
from gnsm_monai.noise import mixing_schedule

SCHEDULE = mixing_schedule(3, beta_min=0.2)
PRIOR = torch.tensor([0.9, 0.1, 0.5, 0.5, 0.2, 0.3, 0.5, 0.6, 0.1, 0.1, 0.1, 0.1])
CODES = torch.tensor([[0, 4, 1, 2], [1, 0, 0, 1], [1, 2, 1, 0]])


def network() -> ScoreMLP:
    torch.manual_seed(3)
    made = ScoreMLP([2, 5, 2, 3], SCHEDULE, width=16, depth=2).eval()
    made.set_prior(PRIOR)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return made


def oracle(made: ScoreMLP, level: int) -> torch.Tensor:
    """By the network's forward pass and Bayes, feature by feature."""
    at = torch.full((len(CODES),), level)
    x = made.blocks.apply(lambda block: SCHEDULE.noise_free(block, at), made.blocks.one_hot(CODES))
    said = made.blocks.apply(lambda block: SCHEDULE.log_likelihood(block, at), x)
    logits = made.blocks.split((made(x, at) - said).double())
    return -made.blocks.at_codes(made.blocks.join([block.log_softmax(1) for block in logits]), CODES)


@pytest.mark.parametrize("level", range(3))
def test_misfits_are_those_of_the_relaxed_row_less_what_features_say_of_themselves(level: int) -> None:
    made = network()
    scratch = torch.full((5, made.blocks.size), torch.nan)
    misfit = ContextMisfit(made, level)
    for given in (None, scratch, scratch):  # memory that was used before is as good
        assert torch.allclose(misfit(CODES, given).double(), oracle(made, level), atol=1e-5)


@pytest.mark.parametrize("logit", [-500.0, 500.0])
def test_logits_whose_exponentials_float32_cannot_hold_make_no_difference(logit: float) -> None:
    made = network()
    with torch.no_grad():
        made.head[-1].bias[4:9] += logit  # of one feature
        made.head[-1].bias[0] += 200.0  # of one category
    found, expected = ContextMisfit(made, 1)(CODES).double(), oracle(made, 1)
    assert expected.max() > 100 and torch.allclose(found, expected, rtol=1e-5, atol=1e-3)


def test_direct_logits_have_no_context() -> None:
    with pytest.raises(ValueError, match="posterior"):
        ContextMisfit(ScoreMLP([3, 2], SCHEDULE, width=16, posterior=False), 0)
