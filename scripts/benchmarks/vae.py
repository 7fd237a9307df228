"""VAE(seg): an auto-encoder of reference masks, to which a mask unlike them is a costly one.

As the benchmark of Zenk et al. 2024 (arXiv 2406.03323) has it, after Liu et al. 2019 (arXiv 1903.10645): one channel
per structure, a convolutional encoder down to a vector, no normalisation layers, binary cross-entropy per voxel plus
0.001 times the divergence from the standard normal, and that loss (the negative ELBO, both terms as means) as the
anomaly. Their masks are centred on their own structures, so that position is unknown to it; here the grid can also stay
where the field of view is, as for the other rivals. Liu et al. measure the reconstruction by Dice: see
`SegVAE.reconstruction_error`.

Smaller than theirs (four blocks instead of five, latent size 64 against 256) and trained for fewer steps at a higher
rate, as it has to be on a CPU; scores use the mean of the posterior where theirs draw from it, so that a mask has one
score.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from learned_rival import LabelMap, LearnedRival
from monai.networks.nets import VarAutoEncoder
from rivals import common_grid, pad_or_crop
from torch import Tensor

from gnsm_monai.data.compare import mean_foreground_dice
from gnsm_monai.data.transforms import centred_extent

__all__ = ["SegVAE"]

CHANNELS, STRIDES = (8, 16, 32, 64), (2, 2, 2, 1)
MULTIPLE = 8
"""Grids are multiples of all strides together."""


class SegVAE(LearnedRival):
    """The auto-encoder of reference masks.

    Args:
        centred: move the middle of the structures' box to the middle of the grid, as published; otherwise the grid
            stays at the centre of the field of view. It holds the structures of all references; what a mask has outside
            of it is not seen.
        seed: see `LearnedRival`, as the next three.
        steps: of training.
        batch_size: masks per step.
        learning_rate: of Adam.
        latent_size: length of the latent vector.
        beta: weight of the divergence.
    """

    def __init__(
        self,
        centred: bool = False,
        seed: int = 0,
        steps: int = 900,
        batch_size: int = 4,
        learning_rate: float = 1e-3,
        latent_size: int = 64,
        beta: float = 1e-3,
    ) -> None:
        super().__init__(seed, steps, batch_size, learning_rate)
        self.centred, self.latent_size, self.beta = centred, latent_size, beta

    def score(self, label: LabelMap) -> float:
        """Negative ELBO of a mask (*spatial), in nats per voxel and channel."""
        with torch.inference_mode():
            return float(self._elbo(torch.from_numpy(self.place(label))[None])[0])

    def reconstruction_error(self, label: LabelMap) -> float:
        """1 - mean foreground Dice between a mask (*spatial) and its reconstruction, in [0, 1]; 1 for an empty mask."""
        placed = self.place(label)
        with torch.inference_mode():
            logits = self._elbo(torch.from_numpy(placed)[None])[1][0]
        likeliest = torch.where(logits.amax(0) > 0, logits.argmax(0) + 1, 0).numpy()
        if not (placed > 0).any():
            return 1.0
        return 1 - mean_foreground_dice(placed, likeliest, self.num_classes)

    def plan(self, labels: Sequence[LabelMap]) -> tuple[int, ...]:
        sizes = [_box(label)[1] if self.centred else centred_extent(label) for label in labels]
        return common_grid(sizes, MULTIPLE)

    def place(self, label: LabelMap) -> npt.NDArray[np.int64]:
        label = np.maximum(label, 0)
        if self.centred and label.any():
            low, size = _box(label)
            label = label[tuple(slice(a, a + n) for a, n in zip(low, size, strict=True))]
        return np.ascontiguousarray(pad_or_crop(label, self.grid), dtype=np.int64)

    def build(self) -> VarAutoEncoder:
        return VarAutoEncoder(
            spatial_dims=len(self.grid),
            in_shape=(self.num_classes - 1, *self.grid),
            out_channels=self.num_classes - 1,
            latent_size=self.latent_size,
            channels=CHANNELS,
            strides=STRIDES,
            norm=None,
            use_sigmoid=False,
        )

    def loss(self, placed: Tensor) -> Tensor:
        return self._elbo(placed)[0]

    def _elbo(self, placed: Tensor) -> tuple[Tensor, Tensor]:
        """Negative ELBO (B,) of maps (B, *grid), and logits of the reconstruction (B, K - 1, *grid)."""
        masks = torch.stack([placed == structure for structure in range(1, self.num_classes)], dim=1).float()
        mean, log_variance = self.network.encode_forward(masks)
        latent = mean
        if self.network.training:
            latent = mean + torch.randn_like(mean) * torch.exp(0.5 * log_variance)
        logits = self.network.decode_forward(latent, use_sigmoid=False)
        missed = F.binary_cross_entropy_with_logits(logits, masks, reduction="none").flatten(1).mean(1)
        divergence = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).mean(1)
        return missed + self.beta * divergence, logits


def _box(label: LabelMap) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """First voxel and size per axis of the smallest box around all structures; size 1 without any."""
    places = np.argwhere(label > 0)
    if len(places) == 0:
        return np.zeros(label.ndim, np.intp), np.ones(label.ndim, np.intp)
    return places.min(0), places.max(0) - places.min(0) + 1
