"""Loss per noise level, as an ignite metric."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from ignite.metrics import Metric
from ignite.metrics.metric import reinit__is_reduced, sync_all_reduce
from torch import Tensor

__all__ = ["LevelLoss", "prediction_and_target"]


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
