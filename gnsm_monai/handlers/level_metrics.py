"""Loss and calibration per noise level, as ignite metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from ignite.metrics import Metric
from ignite.metrics.metric import reinit__is_reduced, sync_all_reduce
from torch import Tensor

from gnsm_monai.scoring.structures import likeliest

__all__ = ["LevelCalibration", "LevelLoss", "prediction_and_target"]


def prediction_and_target(output: Mapping[str, Any]) -> tuple[Tensor, Mapping[str, Tensor]]:
    """The output of MONAI's supervised engines as the pair that a loss takes."""
    return output["pred"], output["label"]


class LevelLoss(Metric):
    """Mean loss of the samples of each noise level, gathered over all processes.

    ``update`` takes ``(logits, target)`` as :class:`gnsm_monai.losses.ScoreMatchingLoss` does; ``compute`` gives a
    float64 tensor ``(L,)``, NaN at a level that no sample had. ``LevelLoss(...).nanmean()`` is a scalar key metric.

    Args:
        loss: gives one value per sample, ``(B,)``.
        num_levels: noise levels ``L``.
    """

    _state_dict_all_req_keys = ("_sum", "_count")

    def __init__(
        self,
        loss: Callable[[Tensor, Mapping[str, Tensor]], Tensor],
        num_levels: int,
        output_transform: Callable[[Any], Sequence[Any]] = prediction_and_target,
        device: str | torch.device = "cpu",
    ) -> None:
        self.loss, self.num_levels = loss, num_levels
        super().__init__(output_transform=output_transform, device=device)

    @reinit__is_reduced
    def reset(self) -> None:
        self._sum = torch.zeros(self.num_levels, dtype=torch.float64, device=self._device)
        self._count = torch.zeros(self.num_levels, dtype=torch.float64, device=self._device)

    @reinit__is_reduced
    def update(self, output: Sequence[Any]) -> None:
        logits, target = output
        level = target["level"].to(self._device)
        losses = self.loss(logits.detach(), target).to(self._device, torch.float64)
        self._sum.index_add_(0, level, losses)
        self._count.index_add_(0, level, torch.ones_like(losses))

    @sync_all_reduce("_sum", "_count")
    def compute(self) -> Tensor:
        return self._sum / self._count


class LevelCalibration(Metric):
    """Expected calibration error of the posterior at each noise level, gathered over all processes.

    Voxels are sorted by how sure the network is of its most probable class, into bins of equal width; the error is the
    mean over voxels of ``|share that is right - mean certainty|`` of their bin (Naeini et al., AAAI 2015; Guo et al.,
    ICML 2017). In ``[0, 1]``, 0 is best. ``update`` takes ``(logits, target)`` as
    :class:`gnsm_monai.losses.ScoreMatchingLoss` does; ``compute`` gives a float64 tensor ``(L,)``, NaN at a level that
    no sample had. It is meaningful only for a network whose logits are those of the posterior.

    Args:
        num_levels: noise levels ``L``.
        num_bins: bins of certainty.
    """

    _state_dict_all_req_keys = ("_sums",)

    def __init__(
        self,
        num_levels: int,
        num_bins: int = 15,
        output_transform: Callable[[Any], Sequence[Any]] = prediction_and_target,
        device: str | torch.device = "cpu",
    ) -> None:
        self.num_levels, self.num_bins = num_levels, num_bins
        super().__init__(output_transform=output_transform, device=device)

    @reinit__is_reduced
    def reset(self) -> None:
        """Voxels, certainty and right voxels, per level and bin."""
        self._sums = torch.zeros(3, self.num_levels * self.num_bins, dtype=torch.float64, device=self._device)

    @reinit__is_reduced
    def update(self, output: Sequence[Any]) -> None:
        logits, target = output
        certainty, answer = torch.softmax(logits.detach().float(), 1).max(1)
        right = answer == likeliest(target["probabilities"])
        counted = target["mask"][:, 0].double()
        level = target["level"].reshape(-1, *[1] * (certainty.ndim - 1))
        bins = (certainty * self.num_bins).long().clamp_max(self.num_bins - 1) + level * self.num_bins
        for row, values in zip(self._sums, (counted, certainty * counted, right * counted), strict=True):
            row.index_add_(0, bins.flatten().to(self._device), values.flatten().double().to(self._device))

    @sync_all_reduce("_sums")
    def compute(self) -> torch.Tensor:
        voxels, certainty, right = self._sums.reshape(3, self.num_levels, self.num_bins)
        error: torch.Tensor = (right - certainty).abs().sum(1) / voxels.sum(1)
        return error
