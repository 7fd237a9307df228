from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from gnsm_monai.noise import hide, log_density, mixing_schedule, temperature_schedule


@pytest.mark.parametrize("schedule", [mixing_schedule(3), temperature_schedule(3)], ids=["mixing", "temperature"])
@pytest.mark.parametrize("num_classes", [2, 3, 7])
def test_it_differs_between_classes_as_the_log_density_does(schedule, num_classes: int) -> None:  # type: ignore[no-untyped-def]
    level = torch.tensor([0, 1, 2])
    x = torch.randn(3, num_classes, 4, dtype=torch.float64).log_softmax(1)
    every_class = torch.eye(num_classes, dtype=torch.float64)
    expected = torch.stack(
        [
            log_density(
                x, schedule.log_alpha(c[None, :, None].expand_as(x), level), schedule.temperature(level).double()
            )
            for c in every_class
        ],
        dim=1,
    )
    found = schedule.log_likelihood(x, level)
    torch.testing.assert_close(found - found[:, :1], expected - expected[:, :1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("num_classes", [2, 3, 25])
def test_its_scale_is_that_of_noise_alone(num_classes: int) -> None:
    """At beta = 1 - 1e-9 nothing of the label is left, but the likelihood of every other level can be read there."""
    schedule = mixing_schedule(4)
    mean, deviation = schedule.log_likelihood_scale(num_classes)
    torch.manual_seed(0)
    x = torch.log_softmax(-torch.empty(1, num_classes, 100_000).exponential_().log(), 1)
    for level in range(4):
        values = schedule.log_likelihood(x, torch.tensor([level]))
        assert values.mean().item() == pytest.approx(mean[level].item(), rel=1e-2)
        assert values.std().item() == pytest.approx(deviation[level].item(), rel=3e-2)


def test_the_sure_label_is_the_most_likely_one_without_noise() -> None:
    schedule = temperature_schedule(2)
    label = F.one_hot(torch.tensor([[0, 2, 1]]), 3).movedim(-1, 1).float()
    x = schedule.noise_free(label, torch.tensor([1]))
    assert torch.equal(schedule.log_likelihood(x, torch.tensor([1])).argmax(1), torch.tensor([[0, 2, 1]]))


@pytest.mark.parametrize("schedule", [mixing_schedule(3), temperature_schedule(3)], ids=["mixing", "temperature"])
def test_what_is_hidden_speaks_for_no_class_at_any_level(schedule) -> None:  # type: ignore[no-untyped-def]
    x = torch.randn(3, 4, 5, 6).log_softmax(1)
    observed = torch.zeros(3, 1, 5, 6)
    observed[..., :3] = 1
    hidden = hide(x, observed)
    assert torch.equal(hidden[..., :3], x[..., :3])
    torch.testing.assert_close(hidden.exp().sum(1), torch.ones(3, 5, 6))
    evidence = schedule.log_likelihood(hidden, torch.arange(3))[..., 3:]
    torch.testing.assert_close(evidence, evidence[:, :1].expand_as(evidence))
