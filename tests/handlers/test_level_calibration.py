from __future__ import annotations

import numpy as np
import torch

from gnsm_monai.handlers import LevelCalibration


def _batch(certainty: list[float], right: list[bool], level: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """One sample of two classes: class 0 is chosen everywhere, with that certainty, and right where told."""
    p = torch.tensor(certainty)[None]
    logits = torch.stack([p, 1 - p], dim=1).log()
    truth = torch.tensor(right)[None]
    target = {
        "probabilities": torch.stack([truth, ~truth], dim=1).float(),
        "level": torch.tensor([level]),
        "mask": torch.ones(1, 1, p.shape[1]),
    }
    return logits, target


def _metric() -> LevelCalibration:
    return LevelCalibration(2, num_bins=10, output_transform=lambda output: output)


def test_the_error_is_the_gap_between_certainty_and_share_that_is_right() -> None:
    metric = _metric()
    metric.update(_batch([0.95] * 4, [True, True, True, False], level=0))  # |0.75 - 0.95|
    metric.update(_batch([0.65] * 4, [True, False, False, False], level=0))  # |0.25 - 0.65|
    found = metric.compute()
    np.testing.assert_allclose(found[0].item(), (0.2 + 0.4) / 2, atol=1e-6)
    assert found[1].isnan()  # a level that no sample had


def test_it_agrees_with_a_count_by_hand_over_several_batches() -> None:
    rng, metric = np.random.default_rng(0), _metric()
    certainty, right = rng.uniform(0.5, 1, (3, 50)), rng.random((3, 50)) < 0.8
    for c, r in zip(certainty, right, strict=True):
        metric.update(_batch(c.tolist(), r.tolist(), level=1))
    bins = (certainty * 10).astype(int)
    gaps = [abs(right[bins == b].sum() - certainty[bins == b].sum()) for b in range(10)]
    np.testing.assert_allclose(metric.compute()[1].item(), sum(gaps) / 150, atol=1e-5)


def test_voxels_that_do_not_count_are_left_out() -> None:
    metric = _metric()
    logits, target = _batch([0.95, 0.55], [True, False], level=0)
    target["mask"][..., 1] = 0
    metric.update((logits, target))
    np.testing.assert_allclose(metric.compute()[0].item(), 0.05, atol=1e-6)
