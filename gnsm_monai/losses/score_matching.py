"""Denoising score matching for relaxed one-hot variables: label maps, and tables feature block by feature block."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gnsm_monai.noise import FeatureBlocks, NoiseSchedule
from gnsm_monai.noise import gumbel as concrete
from gnsm_monai.noise.gumbel import CLASS_DIM, upcast

__all__ = ["LOSSES", "ScoreMatchingLoss", "TableScoreMatchingLoss"]

LOSSES = {"posterior": "posterior", "kl": "direct", "dsm": "direct"}
"""Each loss, and the parametrisation whose logits it trains."""


class ScoreMatchingLoss(nn.Module):
    """Loss of the network's logits against the label map that its noisy input was made from.

    With ``z = log alpha - tau x``, whose softmax holds the noise that was drawn, and ``p = softmax(f)``, per voxel:

    - ``dsm``: ``|| s_f - s ||^2 / tau^2 = K^2 || p - softmax(z) ||^2``, denoising score matching (Vincent 2011) with
      the usual weight ``1 / tau^2`` over levels; for ``direct`` logits.
    - ``kl``: ``KL(softmax(z) || p)``, the published loss (arXiv 2304.03220); for ``direct`` logits. Its minimiser is
      the same conditional mean.
    - ``posterior``: cross-entropy of ``p`` against the (soft) label; for ``posterior`` logits. Its minimiser is the
      label's posterior, hence the exact score of the noisy marginal.

    Args:
        kind: ``dsm``, ``kl`` or ``posterior``.
        schedule: the noise.
        level_weights: factor per level; 1 by default.

    Shapes: logits ``(B, K, *spatial)``; target as :class:`gnsm_monai.engines.NoisyLabelPrepareBatch` makes it, a
    mapping of ``x`` ``(B, K, *spatial)``, ``probabilities`` (the clean map, same shape), ``level`` ``(B,)`` and
    ``mask`` ``(B, 1, *spatial)``, 1 where a voxel counts. Returns the mean over the voxels that count, weighted by
    level, per sample, ``(B,)``: a sample without such a voxel gives 0.

    Raises:
        ValueError: unknown ``kind``, or level weights of the wrong number.
    """

    def __init__(self, kind: str, schedule: NoiseSchedule, level_weights: Sequence[float] | None = None) -> None:
        super().__init__()
        if kind not in LOSSES:
            raise ValueError(f"loss must be one of {tuple(LOSSES)}, got '{kind}'")
        weights = [1.0] * schedule.num_levels if level_weights is None else list(level_weights)
        if len(weights) != schedule.num_levels:
            raise ValueError(f"{len(weights)} level weights for {schedule.num_levels} levels")
        self.kind, self.schedule = kind, schedule
        self.register_buffer("level_weights", torch.tensor(weights), persistent=False)

    def forward(self, logits: Tensor, target: Mapping[str, Tensor]) -> Tensor:
        mask, level = target["mask"], target["level"]
        voxel_loss = self.voxel_loss(upcast(logits), target)
        axes = tuple(range(1, mask.ndim))
        mean = (voxel_loss * mask).sum(axes) / mask.sum(axes).clamp_min(1)
        return mean * self.level_weights.to(level.device)[level]  # type: ignore[index]

    def voxel_loss(self, logits: Tensor, target: Mapping[str, Tensor]) -> Tensor:
        """Loss of every voxel, ``(B, 1, *spatial)``, unmasked and unweighted."""
        terms: Callable[[Tensor, Mapping[str, Tensor]], Tensor] = getattr(self, f"_{self.kind}")
        return terms(logits, target).sum(CLASS_DIM, keepdim=True)

    def _posterior(self, logits: Tensor, target: Mapping[str, Tensor]) -> Tensor:
        return -target["probabilities"] * F.log_softmax(logits, CLASS_DIM)

    def _kl(self, logits: Tensor, target: Mapping[str, Tensor]) -> Tensor:
        log_noise = F.log_softmax(self._residual(target), CLASS_DIM)
        return log_noise.exp() * (log_noise - F.log_softmax(logits, CLASS_DIM))

    def _dsm(self, logits: Tensor, target: Mapping[str, Tensor]) -> Tensor:
        difference = F.softmax(logits, CLASS_DIM) - F.softmax(self._residual(target), CLASS_DIM)
        return (logits.shape[CLASS_DIM] * difference) ** 2

    def _residual(self, target: Mapping[str, Tensor]) -> Tensor:
        level = target["level"]
        log_alpha = self.schedule.log_alpha(target["probabilities"], level)
        return concrete.residual(target["x"], log_alpha, self.schedule.temperature(level))


class TableScoreMatchingLoss(nn.Module):
    """:class:`ScoreMatchingLoss` of rows: the mean over a row's features, in nats per feature, ``(B,)``.

    Arguments and errors are the same; ``cardinalities`` are the categories per feature.

    Shapes: logits ``(B, D)``, flat as :class:`gnsm_monai.noise.FeatureBlocks` has it; target as
    :class:`gnsm_monai.tabular.batches.NoisyRowPrepareBatch` makes it, a mapping of ``x`` and ``probabilities``, flat as
    well, and ``level`` ``(B,)``.
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
            block_target = {"x": x, "probabilities": probabilities, "level": target["level"], "mask": mask}
            total = total + x.shape[-1] * self.loss(block, block_target)
        return total / self.blocks.num_features
