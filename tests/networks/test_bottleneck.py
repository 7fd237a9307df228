"""The network with a bottleneck: any size, starts at the prior, few numbers pass, bounded weights."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from gnsm_monai.networks.bottleneck import MAX_CELLS, MAX_VALUES, BottleneckNetwork
from gnsm_monai.noise import NoiseSchedule

SCHEDULE = NoiseSchedule((0.3, 0.6), (1.0, 1.0))


def small(size: tuple[int, ...] = (16, 24), classes: int = 3, perturbed: bool = True) -> BottleneckNetwork:
    torch.manual_seed(0)
    strides = [[2] * len(size)] * 2
    network = BottleneckNetwork(SCHEDULE, classes, size, strides, latents=4, hidden=16, width=32)
    frequency = torch.rand(classes, *size, generator=torch.Generator().manual_seed(1))
    network.set_prior(frequency / frequency.sum(0))
    if perturbed:
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
    return network.eval()


def noisy(*size: int, classes: int = 3, batch: int = 2) -> tuple[Tensor, Tensor]:
    x = torch.randn(batch, classes, *size, generator=torch.Generator().manual_seed(2)).log_softmax(1)
    return x, torch.arange(batch) % 2


@pytest.mark.parametrize("size", [(16, 24), (15, 9), (40, 3), (1, 1), (31, 50)])
def test_every_size_comes_out_as_it_went_in(size: tuple[int, int]) -> None:
    logits = small()(*noisy(*size))
    assert logits.shape == (2, 3, *size)
    assert logits.isfinite().all()


@pytest.mark.parametrize("size", [(8, 12, 10), (9, 5, 14)])
def test_three_axes(size: tuple[int, int, int]) -> None:
    assert small((8, 12, 10))(*noisy(*size)).shape == (2, 3, *size)


def test_training_starts_at_the_prior() -> None:
    network = small(perturbed=False)
    torch.testing.assert_close(network(*noisy(16, 24)), network.log_prior.expand(2, -1, -1, -1))


def test_a_larger_map_is_read_in_its_middle_and_gets_the_prior_at_the_edge_outside() -> None:
    network = small()
    x, level = noisy(20, 30)
    found = network(x, level)
    torch.testing.assert_close(found[..., 2:18, 3:27], network(x[..., 2:18, 3:27], level))
    torch.testing.assert_close(found[..., 0, 3:27], found[..., 2, 3:27])


def test_what_a_smaller_map_lacks_says_nothing() -> None:
    """As a map that is hidden there: all classes equally likely, whatever the level."""
    network = small()
    x, level = noisy(16, 24)
    hidden = x.clone()
    hidden[..., :3] = hidden[..., -3:] = -math.log(3)
    torch.testing.assert_close(network(x[..., 3:-3], level), network(hidden, level)[..., 3:-3], atol=1e-4, rtol=1e-4)


def test_only_the_latents_pass() -> None:
    """The rank of the outputs' differences, before the writer bends them, is no more than the latents' number."""
    network = small()
    seen: list[Tensor] = []
    network.write.register_forward_hook(lambda module, inputs, output: seen.append(output))
    x = torch.randn(20, 3, 16, 24, generator=torch.Generator().manual_seed(3)).log_softmax(1)
    network(x, torch.zeros(20, dtype=torch.long))
    assert torch.linalg.matrix_rank((seen[0] - seen[0].mean(0)).double(), rtol=1e-4) == 4


@pytest.mark.parametrize(("classes", "size"), [(3, (40, 56, 48)), (6, (512, 512)), (105, (64, 64, 64)), (2, (3, 2, 2))])
def test_weights_are_bounded_whatever_the_grid_and_the_classes(classes: int, size: tuple[int, ...]) -> None:
    network = BottleneckNetwork(SCHEDULE, classes, size, [[2] * len(size)] * 3)
    assert math.prod(network.cells) <= MAX_CELLS
    assert network.read[0].in_features <= 2 ** len(size) * MAX_VALUES
    assert network(*noisy(*size, classes=classes, batch=1)).shape == (1, classes, *size)


def test_the_noise_free_map_matters_at_every_level() -> None:
    network = small()
    one_hot = torch.nn.functional.one_hot(torch.arange(384).reshape(1, 16, 24) % 3, 3).movedim(-1, 1).float()
    for level in (torch.tensor([0]), torch.tensor([1])):
        x = SCHEDULE.noise_free(one_hot, level)
        assert not torch.allclose(network(x, level), network(SCHEDULE.noise_free(one_hot.roll(1, 1), level), level))


@pytest.mark.parametrize("width", [1, 6, 15])
def test_a_narrow_writer_works(width: int) -> None:
    network = BottleneckNetwork(SCHEDULE, 3, (16, 24), [[2, 2]] * 2, latents=4, hidden=16, width=width)
    assert network(*noisy(16, 24)).shape == (2, 3, 16, 24)
