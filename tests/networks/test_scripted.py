"""The score network in TorchScript says what it says in Python."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from gnsm_monai.networks import ScoreUNet
from gnsm_monai.noise import mixing_schedule


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("channels", [0, 2])
def test_the_script_gives_the_networks_logits_at_every_level(channels: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = ScoreUNet(2, 3, channels, noise=mixing_schedule(3), channels=(4, 8), position_size=(9, 8)).eval()
    nn.init.normal_(network.head[-1].weight)
    torch.jit.script(network).save(tmp_path / "network.ts")
    script = torch.jit.load(tmp_path / "network.ts")
    x, image = torch.randn(3, 3, 9, 8).log_softmax(1), torch.randn(3, channels, 9, 8) if channels else None
    weakest = torch.zeros(3).long()
    with torch.no_grad():
        for level in (None, torch.tensor([2, 0, 1])):
            expected = network(x, weakest if level is None else level, image)
            torch.testing.assert_close(script(x, level, image), expected)
            if image is not None:  # as MONAI's tools for bundles give it
                together = torch.cat([x, image], 1)
                assert torch.equal(network(together, level), expected)
                torch.testing.assert_close(script(together, level), expected)
        assert torch.equal(network(x, None, image), network(x, weakest, image))
        assert not torch.equal(network(x, None, image), network(x, weakest + 2, image))
