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
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from monai.networks.nets import VarAutoEncoder
from rivals import common_grid, pad_or_crop
from torch import Tensor

from gnsm_monai.data.overlap import mean_foreground_dice
from gnsm_monai.data.transforms import centred_extent

__all__ = ["SegVAE"]

CHANNELS, STRIDES = (8, 16, 32, 64), (2, 2, 2, 1)
MULTIPLE = 8
"""Grids are multiples of all strides together."""

_Labels = npt.NDArray[np.integer[Any]]


class SegVAE:
    """Fitted on reference label maps, it scores one mask, higher = worse; class 0 is background.

    Args:
        centred: move the middle of the structures' box to the middle of the grid, as published; otherwise the grid
            stays at the centre of the field of view. It holds the structures of all references; what a mask has outside
            of it is not seen.
        seed: of weights, batches and latent draws.
        steps: of training.
        batch_size: masks per step.
        learning_rate: of Adam, the highest of a cycle over all steps.
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
        self.centred, self.seed, self.steps, self.batch_size = centred, seed, steps, batch_size
        self.learning_rate, self.latent_size, self.beta = learning_rate, latent_size, beta

    def fit(self, labels: Sequence[_Labels], num_classes: int) -> SegVAE:
        """Trains on label maps, (*spatial) each, which may differ in shape."""
        self._plan(labels, num_classes)
        placed = torch.from_numpy(np.stack([self._place(label) for label in labels]))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self.network = self._build()
            optimizer = torch.optim.Adam(self.network.parameters(), self.learning_rate)
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.learning_rate, total_steps=self.steps)
            self.network.train()
            for _ in range(self.steps):
                chosen = torch.randint(len(placed), (self.batch_size,))
                optimizer.zero_grad()
                self._loss(self._channels(placed[chosen]))[0].mean().backward()
                # Without normalisation layers a single batch can throw the variances beyond what floats hold.
                torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
                optimizer.step()
                schedule.step()
        self.network.eval()
        return self

    def score(self, label: _Labels) -> float:
        """Negative ELBO of a mask (*spatial), in nats per voxel and channel."""
        with torch.inference_mode():
            return float(self._loss(self._channels(torch.from_numpy(self._place(label))[None]))[0])

    def reconstruction_error(self, label: _Labels) -> float:
        """1 - mean foreground Dice between a mask (*spatial) and its reconstruction, in [0, 1]; 1 for an empty mask."""
        placed = self._place(label)
        with torch.inference_mode():
            logits = self._loss(self._channels(torch.from_numpy(placed)[None]))[1][0]
        likeliest = torch.where(logits.amax(0) > 0, logits.argmax(0) + 1, 0).numpy()
        if not (placed > 0).any():
            return 1.0
        return 1 - mean_foreground_dice(placed, likeliest, self.num_classes)

    def save(self, path: Path) -> None:
        """Weights, for `load`."""
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(self.network.state_dict(), path)

    def load(self, path: Path, labels: Sequence[_Labels], num_classes: int) -> SegVAE:
        """What `fit` made of the same label maps."""
        self._plan(labels, num_classes)
        self.network = self._build()
        self.network.load_state_dict(torch.load(path, weights_only=True))
        self.network.eval()
        return self

    def _plan(self, labels: Sequence[_Labels], num_classes: int) -> None:
        self.num_classes = num_classes
        sizes = [_box(label)[1] if self.centred else centred_extent(label) for label in labels]
        self.grid = common_grid(sizes, MULTIPLE)

    def _build(self) -> VarAutoEncoder:
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

    def _place(self, label: _Labels) -> npt.NDArray[np.int64]:
        """In the grid; what is ignored is background."""
        label = np.maximum(label, 0)
        if self.centred and label.any():
            low, size = _box(label)
            label = label[tuple(slice(a, a + n) for a, n in zip(low, size, strict=True))]
        return np.ascontiguousarray(pad_or_crop(label, self.grid), dtype=np.int64)

    def _channels(self, placed: Tensor) -> Tensor:
        """(B, *grid) to one channel per structure, (B, K - 1, *grid)."""
        return torch.stack([placed == structure for structure in range(1, self.num_classes)], dim=1).float()

    def _loss(self, masks: Tensor) -> tuple[Tensor, Tensor]:
        """Negative ELBO (B,) and logits of the reconstruction."""
        mean, log_variance = self.network.encode_forward(masks)
        latent = mean
        if self.network.training:
            latent = mean + torch.randn_like(mean) * torch.exp(0.5 * log_variance)
        logits = self.network.decode_forward(latent, use_sigmoid=False)
        missed = F.binary_cross_entropy_with_logits(logits, masks, reduction="none").flatten(1).mean(1)
        divergence = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).mean(1)
        return missed + self.beta * divergence, logits


def _box(label: _Labels) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """First voxel and size per axis of the smallest box around all structures; size 1 without any."""
    places = np.argwhere(label > 0)
    if len(places) == 0:
        return np.zeros(label.ndim, np.intp), np.ones(label.ndim, np.intp)
    return places.min(0), places.max(0) - places.min(0) + 1
