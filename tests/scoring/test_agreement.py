"""Soft Dice by structure: what a mask has with a posterior, and what the best mask would have."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
from torch import Tensor

from gnsm_monai.scoring.structures import disagreement, doubt, highest_soft_dice

NEEDED, OPTIONAL = torch.tensor([True]), torch.tensor([False])


def soft_dice(mask: list[int], probabilities: Tensor) -> float:
    return float(2 * probabilities[mask].sum() / (len(mask) + probabilities.sum()))


def maps(*values: float) -> Tensor:
    """One map of one structure, ``(1, 1, V)``."""
    return torch.tensor(values)[None, None]


@pytest.mark.parametrize("power", [0.3, 1, 4])
def test_the_highest_soft_dice_is_that_of_the_best_of_all_masks(power: float) -> None:
    expected = torch.rand(2, 3, 8, generator=torch.Generator().manual_seed(0)) ** power
    masks = [list(mask) for size in range(1, 9) for mask in combinations(range(8), size)]
    found = highest_soft_dice(expected.reshape(2, 3, 2, 4))
    for one, values in zip(found.flatten(), expected.flatten(0, 1), strict=True):
        assert float(one) == pytest.approx(max(soft_dice(mask, values) for mask in masks))


def test_where_nothing_is_expected_no_mask_agrees() -> None:
    assert highest_soft_dice(torch.zeros(1, 1, 3, 3)).item() == 0


def test_a_sure_network_has_no_doubt_and_one_that_knows_nothing_has_much() -> None:
    sure, unsure = maps(0, 1, 1, 0), maps(0.5, 0.5, 0.5, 0.5)
    for expected, least in ((sure, 0.0), (unsure, 1 / 3)):
        denoised = (expected > 0.4).float()
        for own in (maps(0, 1, 1, 0), maps(1, 0, 0, 0)):  # it is the same for every mask
            distance = disagreement(own, denoised, expected, NEEDED)
            assert doubt(distance, expected, NEEDED).item() == pytest.approx(least)
            assert distance.item() >= least - 1e-12


def test_a_structure_that_is_surely_absent_is_not_doubted() -> None:
    """Else a false island would be excused: no mask agrees with a posterior that is near 0 everywhere."""
    expected, none = maps(0.01, 0.01, 0.01, 0.01), maps(0, 0, 0, 0)
    island = disagreement(maps(1, 0, 0, 0), none, expected, OPTIONAL)
    assert doubt(island, expected, OPTIONAL).item() < 0.05
    assert doubt(island, expected, NEEDED).item() > 0.9
    absent = disagreement(none, none, expected, OPTIONAL)
    assert doubt(absent, expected, OPTIONAL).isnan().all()


@pytest.mark.parametrize("probability", [0.55, 0.51, 0.49, 0.45])
def test_a_structure_that_may_be_absent_is_doubted_whether_or_not_it_is_the_likeliest(probability: float) -> None:
    expected = torch.full((1, 1, 4), probability)
    own = torch.ones(1, 1, 4)
    found = disagreement(own, (expected > 0.5).float(), expected, OPTIONAL)
    assert doubt(found, expected, OPTIONAL).item() == pytest.approx(found.item())
