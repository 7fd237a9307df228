from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from monai.data import MetaTensor

from gnsm_monai.engines import ScoreStep
from gnsm_monai.scoring.result import FailedCase


def test_a_mask_whose_grid_does_not_fit_in_memory_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel would kill the process, and every case after this one would be lost."""
    monkeypatch.setattr(os, "sysconf", {"SC_PHYS_PAGES": 1 << 18, "SC_PAGE_SIZE": 1 << 12}.get)
    model: Any = SimpleNamespace(calibration=SimpleNamespace(scores=[]))
    scorer: Any = SimpleNamespace(levels_at_once=lambda values: 2 if values == 3 * 100 * 90 * 80 else 0)
    step = ScoreStep(model, scorer)
    network = torch.nn.Identity()
    network.num_classes = 3
    engine: Any = SimpleNamespace(network=network, state=SimpleNamespace(device=torch.device("cpu")))
    label = MetaTensor(torch.zeros(1, 100, 90, 80, dtype=torch.int16), meta={"filename_or_obj": "masks/a.nii.gz"})
    message = (
        "masks/a.nii.gz: its structures need a grid of 100 x 90 x 80 voxels, which take 1.1 GiB of memory, "
        "and there are 1.0"
    )
    assert step(engine, {"case": "a", "folder": "masks", "label": label}) == FailedCase("a", "masks", message)
