from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import vae

from tests.builders import square, squares_near_the_centre


@pytest.fixture(scope="module")
def fitted() -> vae.SegVAE:
    return vae.SegVAE(steps=500).fit(squares_near_the_centre(), 2)


def test_a_reference_is_cheaper_and_better_rebuilt_than_a_mask_elsewhere(fitted: vae.SegVAE) -> None:
    usual, elsewhere = square(), square(low=0, size=5)
    assert fitted.score(usual) < 0.5 * fitted.score(elsewhere)
    assert fitted.reconstruction_error(usual) < 0.25 < 0.5 < fitted.reconstruction_error(elsewhere) <= 1
    assert fitted.reconstruction_error(np.zeros((16, 16), np.int16)) == 1


def test_score_is_cross_entropy_and_divergence_as_torch_has_them(fitted: vae.SegVAE) -> None:
    mask = torch.from_numpy(square()).float()[None, None]
    with torch.no_grad():
        mean, log_variance = fitted.network.encode_forward(mask)
        rebuilt = torch.sigmoid(fitted.network.decode_forward(mean, use_sigmoid=False))
    posterior = torch.distributions.Normal(mean, torch.exp(log_variance / 2))
    divergence = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0, 1)).mean()
    missed = -torch.where(mask > 0, rebuilt, 1 - rebuilt).log().mean()
    assert fitted.score(square()) == pytest.approx(float(missed + 0.001 * divergence), rel=1e-4)


def test_a_centred_one_knows_no_position_and_the_fixed_grid_does(fitted: vae.SegVAE) -> None:
    centred = vae.SegVAE(centred=True, steps=5).fit(squares_near_the_centre(), 2)
    assert centred.score(square(low=5)) == centred.score(square(low=0))
    assert fitted.score(square(low=5)) != fitted.score(square(low=0))
    assert fitted.score(np.pad(square(), 8)) == fitted.score(square())


def test_the_same_seed_is_the_same_network_and_the_callers_numbers_stay(tmp_path: Path) -> None:
    torch.manual_seed(7)
    following = torch.rand(3)
    torch.manual_seed(7)
    first, again, other = (vae.SegVAE(steps=3, seed=seed).fit(squares_near_the_centre(), 2) for seed in (0, 0, 1))
    assert torch.equal(torch.rand(3), following)
    assert first.score(square()) == again.score(square()) != other.score(square())
    first.save(tmp_path / "model.pt")
    loaded = vae.SegVAE().load(tmp_path / "model.pt", squares_near_the_centre(), 2)
    assert loaded.score(square()) == first.score(square())


def test_volumes_with_two_structures() -> None:
    shape = (9, 10, 11)
    mask = np.maximum(square(2, 4, 1, shape), square(3, 2, 2, shape))
    network = vae.SegVAE(steps=2).fit([mask, np.roll(mask, 1, 0)], 3)
    # Boxes of 5, 6 and 7 voxels around the middle hold both maps; with two voxels of margin, up to a multiple of 8.
    assert network.grid == (16, 16, 16)
    assert 0 < network.score(mask) < 2
