"""Beside the library's kernels, which are the oracle."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from monai.networks.layers import GaussianFilter

from gnsm_monai.networks.separable import dilate, smooth, upsample

SIZES = [(7, 5), (6, 4, 9)]


@pytest.fixture(params=SIZES, ids=["2D", "3D"])
def maps(request: pytest.FixtureRequest) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    found = torch.randn(2, 3, *request.param, generator=generator)
    memory = torch.channels_last if found.ndim == 4 else torch.channels_last_3d
    return found.contiguous(memory_format=memory)


@pytest.mark.parametrize("factors", [(2, 3, 1), (1, 1, 1), (4, 2, 2)])
def test_upsample_is_linear_interpolation(maps: torch.Tensor, factors: tuple[int, ...]) -> None:
    size = [n * f for n, f in zip(maps.shape[2:], factors, strict=False)]
    expected = F.interpolate(maps, size=size, mode="bilinear" if maps.ndim == 4 else "trilinear")
    torch.testing.assert_close(upsample(maps, size), expected, rtol=1e-5, atol=1e-6)


def test_upsample_has_the_gradient_of_linear_interpolation(maps: torch.Tensor) -> None:
    size, gradients = [2 * n for n in maps.shape[2:]], []
    weight = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
    mode = "bilinear" if maps.ndim == 4 else "trilinear"
    for function in (upsample, lambda m, size: F.interpolate(m, size=size, mode=mode)):
        own = maps.clone().requires_grad_()
        (function(own, size) * weight).sum().backward()
        gradients.append(own.grad)
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("sigma", [0.4, 1.5, 5.0])
def test_smooth_is_monais_gaussian_filter(maps: torch.Tensor, sigma: float) -> None:
    torch.testing.assert_close(smooth(maps, sigma), GaussianFilter(maps.ndim - 2, sigma)(maps), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("radius", [(0, 0, 0), (1, 2, 0), (2, 3, 5), (7, 9, 11)])
def test_dilate_is_max_pooling(maps: torch.Tensor, radius: tuple[int, ...]) -> None:
    """Also by more than there are voxels, which torch's kernel refuses unless it is padded by hand."""
    reach = radius[: maps.ndim - 2]
    pool = F.max_pool2d if maps.ndim == 4 else F.max_pool3d
    padded = F.pad(maps, [r for n in reversed(reach) for r in (n, n)], value=-torch.inf)
    before = maps.clone()
    torch.testing.assert_close(dilate(maps, reach), pool(padded, [2 * r + 1 for r in reach], stride=1), rtol=0, atol=0)
    torch.testing.assert_close(maps, before, rtol=0, atol=0)


def test_autocast_does_not_blunt_them(maps: torch.Tensor) -> None:
    size = [2 * n for n in maps.shape[2:]]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        blunt = upsample(maps, size)
    torch.testing.assert_close(blunt, upsample(maps, size), rtol=0, atol=0)


def test_a_radius_is_needed_for_every_axis(maps: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"shorter|longer"):
        dilate(maps, (1,))
