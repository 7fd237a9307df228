from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from monai.utils import optional_import
from published_unet import LEVELS, PublishedUNet
from rivals import pad_or_crop

from tests.builders import square, squares_near_the_centre

_, has_einops = optional_import("einops")
pytestmark = pytest.mark.skipif(not has_einops, reason="DiffusionModelUNet needs einops")


REFERENCES = squares_near_the_centre()


def network() -> PublishedUNet:
    return PublishedUNet(steps=20, channels=(16, 32))


@pytest.fixture(scope="module")
def fitted() -> PublishedUNet:
    return network().fit(REFERENCES, 2)


def test_norms_are_those_of_the_published_score_at_the_levels_centres(fitted: PublishedUNet) -> None:
    placed = torch.from_numpy(pad_or_crop(square(), fitted.grid)).long()
    one_hot = torch.nn.functional.one_hot(placed, 2).movedim(-1, 0)[None].float()
    temperatures = torch.logspace(np.log10(2), np.log10(20), LEVELS, dtype=torch.float64)
    norms = []
    for level, tau in enumerate(temperatures):
        x = one_hot.clamp_min(fitted.schedule.floor).log() / tau.float()
        x = x - x.logsumexp(1, keepdim=True)
        with torch.no_grad():
            share = fitted.network(x, torch.tensor([level])).softmax(1)
        norms.append(float((tau * (2 * share - 1)).norm()))
    assert fitted.norms(square()) == pytest.approx(norms, rel=1e-4)


def test_what_was_saved_scores_as_before(fitted: PublishedUNet, tmp_path: Path) -> None:
    fitted.save(tmp_path / "model" / "model.pt")
    again = network().load(tmp_path / "model" / "model.pt", REFERENCES, 2)
    assert again.score(square()) == fitted.score(square())


def test_a_mask_of_another_kind_is_less_likely_than_a_reference(fitted: PublishedUNet) -> None:
    speckles = (np.indices((16, 16)).sum(0) % 2).astype(np.int16)
    assert fitted.score(speckles) > max(fitted.score(label) for label in REFERENCES)
