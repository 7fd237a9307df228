from __future__ import annotations

import pytest
import torch

from gnsm_monai.networks import ScoreUNet
from gnsm_monai.noise import mixing_schedule

SCHEDULE = mixing_schedule(2)


def network(**arguments) -> ScoreUNet:  # type: ignore[no-untyped-def]
    return ScoreUNet(2, 3, noise=SCHEDULE, channels=(4, 8), position_size=(6, 8), **arguments).eval()


def frequencies() -> torch.Tensor:
    return torch.rand(3, 6, 8, generator=torch.Generator().manual_seed(0)).softmax(0)


def test_a_fresh_network_is_the_posterior_of_independent_voxels() -> None:
    net = network()
    net.set_prior(frequencies())
    level = torch.tensor([0, 1])
    x = torch.randn(2, 3, 6, 8).log_softmax(1)
    expected = torch.softmax((0.999 * frequencies() + 0.001 / 3).log() + SCHEDULE.log_likelihood(x, level), 1)
    torch.testing.assert_close(net(x, level).softmax(1), expected)
    torch.testing.assert_close(net.independent_logits(x, level).softmax(1), expected)


def test_the_direct_form_starts_at_nothing() -> None:
    x = torch.randn(1, 3, 6, 8).log_softmax(1)
    assert (network(posterior=False)(x, torch.tensor([0])) == 0).all()


@pytest.mark.parametrize("size", [(10, 9), (4, 5), (7, 8)])
def test_the_prior_is_centred_on_other_fields_of_view_and_its_edge_repeated(size: tuple[int, int]) -> None:
    net = network()
    net.set_prior(frequencies())
    found = net._prior(torch.zeros(1, 3, *size))[0]
    first, second = (
        [min(max(i - (n - usual) // 2, 0), usual - 1) for i in range(n)] for n, usual in zip(size, (6, 8), strict=True)
    )
    assert torch.equal(found, net.log_prior[:, first][:, :, second])


def test_the_prior_travels_with_the_weights() -> None:
    net, other = network(), network()
    net.set_prior(frequencies())
    other.load_state_dict(net.state_dict())
    assert torch.equal(other.log_prior, net.log_prior)
    assert net.log_prior.std() > 0


def test_frequencies_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"frequencies of shape \(3, 6, 8\) are needed"):
        network().set_prior(torch.ones(3, 8, 6) / 3)
