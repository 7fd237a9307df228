"""Score matching of tables: the same loss, feature block by feature block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from gnsm_monai.losses.score_matching import ScoreMatchingLoss
from gnsm_monai.noise import FeatureBlocks, NoiseSchedule

__all__ = ["TableScoreMatchingLoss"]


class TableScoreMatchingLoss(nn.Module):
    """:class:`ScoreMatchingLoss` of rows: the mean over a row's features, in nats per feature, ``(B,)``.

    Args:
        kind: ``dsm``, ``kl`` or ``posterior``.
        schedule: the noise.
        cardinalities: categories per feature.
        level_weights: factor per level; 1 by default.

    Shapes: logits ``(B, D)``, flat as :class:`gnsm_monai.noise.FeatureBlocks` has it; target as
    :class:`gnsm_monai.tabular.batches.NoisyRowPrepareBatch` makes it, a mapping of ``x`` and ``probabilities``, flat as
    well, and ``level`` ``(B,)``.

    Raises:
        ValueError: unknown ``kind``, or level weights of the wrong number.
    """

    def __init__(
        self,
        kind: str,
        schedule: NoiseSchedule,
        cardinalities: Sequence[int],
        level_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.blocks = FeatureBlocks(cardinalities)
        self.loss = ScoreMatchingLoss(kind, schedule, level_weights)

    @property
    def kind(self) -> str:
        return self.loss.kind

    def forward(self, logits: Tensor, target: Mapping[str, Tensor]) -> Tensor:
        pieces = zip(*(self.blocks.split(flat) for flat in (logits, target["x"], target["probabilities"])), strict=True)
        total = torch.zeros(len(logits), device=logits.device)
        for block, x, probabilities in pieces:
            mask = torch.ones_like(x[:, :1])
            own = {"x": x, "probabilities": probabilities, "level": target["level"], "mask": mask}
            total = total + x.shape[-1] * self.loss(block, own)
        return total / self.blocks.num_features
