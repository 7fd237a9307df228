"""Label maps by cells, and what a network of shapes answers for their voxels."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from gnsm_monai.data.transforms import encode_labels
from gnsm_monai.networks.bottleneck import BottleneckNetwork
from gnsm_monai.noise import NoiseSchedule
from gnsm_monai.scoring.shape_network import ShapeNetwork, cells_of, in_cells, labels_in_cells

SCHEDULE = NoiseSchedule((0.3, 0.7), (1.0, 1.0))


def random_map(size: tuple[int, ...], seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """A one-hot map of three classes and which voxels are observed, of one batch."""
    generator = torch.Generator().manual_seed(seed)
    index = torch.randint(3, size, generator=generator)
    observed = (torch.rand(1, 1, *size, generator=generator) > 0.4).float()
    return torch.nn.functional.one_hot(index).movedim(-1, 0)[None].float() * observed, observed


@pytest.mark.parametrize(("size", "cell"), [((8, 6), (2, 2)), ((8, 6, 4), (2, 2, 1)), ((9, 8), (3, 2))])
def test_a_cell_has_the_shares_of_its_observed_voxels(size: tuple[int, ...], cell: tuple[int, ...]) -> None:
    one_hot, observed = random_map(size)
    coarse, seen = in_cells(one_hot, observed, cell)
    cells = [n // s for n, s in zip(size, cell, strict=True)]
    assert coarse.shape == (1, 3, *cells) and seen.shape == (1, 1, *cells)
    for place in itertools.product(*map(range, cells)):
        voxels = tuple(slice(i * s, i * s + s) for i, s in zip(place, cell, strict=True))
        counts = one_hot[(0, slice(None), *voxels)].flatten(1).sum(1)
        half = bool(observed[(0, 0, *voxels)].mean() >= 0.5)
        assert bool(seen[(0, 0, *place)]) == half
        expected = counts / counts.sum() if half else torch.full((3,), 1 / 3)
        torch.testing.assert_close(coarse[(0, slice(None), *place)], expected)


def test_a_map_of_another_size_lies_about_the_centre_of_the_cells() -> None:
    one_hot, observed = random_map((4, 4))
    around, seen = in_cells(one_hot, observed, (2, 2), (4, 4))
    coarse, inside = in_cells(one_hot, observed, (2, 2))
    torch.testing.assert_close(around[..., 1:3, 1:3], coarse)
    torch.testing.assert_close(seen[..., 1:3, 1:3], inside)
    assert float(seen.sum()) == float(inside.sum())


def test_cells_of_one_voxel_are_the_map_itself() -> None:
    soft = torch.rand(1, 3, 4, 4)
    same, observed = in_cells(soft, torch.ones(1, 1, 4, 4), (1, 1))
    assert same is soft and float(observed.sum()) == 16


def test_a_posterior_is_that_of_the_cell_around_and_linear_between_their_centres() -> None:
    """An untrained network answers with its prior, whatever the mask: a ramp stays a ramp."""
    network = BottleneckNetwork(SCHEDULE, 2, [6, 8], [[2, 2]], latents=4, hidden=8, width=16).eval()
    ramp = np.linspace(0.2, 0.8, 6)[:, None].repeat(8, 1)
    network.set_prior(torch.as_tensor(np.stack([ramp, 1 - ramp]), dtype=torch.float32))
    voxels = torch.zeros(1, 2, 12, 16)
    voxels[:, 0] = 1
    with torch.no_grad():
        posterior = ShapeNetwork(network, (2, 2)).posterior(voxels, torch.ones(1, 1, 12, 16))
    assert posterior.shape == (2, 2, 12, 16)
    torch.testing.assert_close(posterior.sum(1), torch.ones(2, 12, 16))
    centres = np.arange(12) / 2 - 0.25  # of voxels, in cells
    expected = 0.999 * np.interp(centres, np.arange(6), ramp[:, 0]) + 0.0005
    np.testing.assert_allclose(posterior[0, 0, :, 5], expected, atol=1e-5)


def test_a_file_of_an_earlier_version_has_cells_of_one_voxel() -> None:
    network = ShapeNetwork(BottleneckNetwork(SCHEDULE, 3, [8, 8], [[2, 2], [2, 2]]).eval(), (2, 1))
    arrays = network.to_arrays()
    read = ShapeNetwork.from_arrays(arrays)
    assert read is not None and read.cell == (2, 1) and read.num_levels == 2
    del arrays["bottleneck_cell"]
    earlier = ShapeNetwork.from_arrays(arrays)
    assert earlier is not None and earlier.cell == (1, 1)
    assert ShapeNetwork.from_arrays({}) is None


@pytest.mark.parametrize(
    ("size", "cell"), [((8, 6), (2, 2)), ((7, 6, 5), (2, 2, 1)), ((9, 8), (4, 3)), ((4, 4), (1, 1))]
)
def test_labels_in_cells_are_what_their_one_hot_maps_give(size: tuple[int, ...], cell: tuple[int, ...]) -> None:
    label = torch.randint(-1, 3, (2, 1, *size), generator=torch.Generator().manual_seed(0)).to(torch.int16)
    shares, seen = labels_in_cells(label, 3, cell)
    expected, observed = in_cells(*encode_labels(label, 3), cell)
    torch.testing.assert_close(shares, expected)
    torch.testing.assert_close(seen, observed)


def test_cells_grow_until_a_map_is_small() -> None:
    strides = [[2, 2, 1], [2, 2, 2], [2, 2, 2]]
    assert cells_of(3, [48, 56, 48], strides) == ((1, 1, 1), strides)
    assert cells_of(4, [88, 96, 24], strides) == ((2, 2, 1), strides[1:])
    assert cells_of(40, [88, 96, 24], strides) == ((4, 4, 2), strides[2:])
    assert cells_of(10**6, [88, 96, 24], strides) == ((8, 8, 4), [])
