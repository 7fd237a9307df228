from __future__ import annotations

import pytest
import speed
import torch
from monai.utils import optional_import

_, has_einops = optional_import("einops")
CPU = torch.device("cpu")
needs_einops = pytest.mark.skipif(not has_einops, reason="the rival needs einops")


def test_ratios_and_shares_are_those_of_the_times() -> None:
    own, other = {"seconds": 0.5, "flop": 1e12}, {"seconds": 2.0, "flop": 6e12}
    parts = {
        part: {"ours, fp32": own, "DiffusionModelUNet, fp32": other} for part in ("training", "forward", "scoring")
    }
    peak = {"fp32": {"matmul 8": 8e12, "conv 16, 4^3": 4e12}}
    found = {"command": "python", "torch": "2", "size": [8] * 3, "patch": [16] * 3, "batch": 2, "peak": peak, **parts}
    lines = speed.lines({"CPU": found})
    assert "| training step, 16x16x16, batch 2 | ours, fp32 | 500.0 | 4.00 | 2 | 25% | 50% |" in lines
    assert "| scoring a case, 8x8x8 | DiffusionModelUNet, fp32 | 2000.0 | 1.00 | 3 | 38% | 75% |" in lines


@needs_einops
def test_what_is_timed_runs_and_its_work_is_counted() -> None:
    size = [8, 8, 8]
    for part in (speed.training(size, 1, CPU, ["fp32"], 1), speed.forward(size, 1, CPU, ["fp32"], 1)):
        assert set(part) == {"ours, fp32", "DiffusionModelUNet, fp32"}
        assert all(values["seconds"] > 0 and values["flop"] > 0 for values in part.values())
    # Convolutions of the rival's own width at the finest resolution alone: 2 * 27 * 16 * 16 per voxel, many of them.
    assert part["DiffusionModelUNet, fp32"]["flop"] > 4 * 2 * 27 * 16 * 16 * 8**3


@needs_einops
def test_the_rival_scores_at_all_its_levels() -> None:
    found = speed.scoring([8, 8, 8], CPU, ["fp32"], 1)
    one = speed.forward([8, 8, 8], 1, CPU, ["fp32"], 1)
    own = one["DiffusionModelUNet, fp32"]["flop"]
    assert found["DiffusionModelUNet, fp32"]["flop"] == pytest.approx(speed.LEVELS * own, rel=0.01)
