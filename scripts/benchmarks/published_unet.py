"""What a MONAI user would build today of the paper alone: a diffusion network asked for its score, level by level.

MONAI's DiffusionModelUNet of this package's width (its mandatory attention in the middle included) learns the published
noise and loss (arXiv 2304.03220: 20 temperatures, direct parametrisation, KL divergence). A mask's norms of the score
at the levels' centres are one point, and its anomaly is minus the log density of a Gaussian mixture fitted to those of
held-out references. ``speed.py`` measures its time.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from monai.networks.nets import DiffusionModelUNet
from rivals import common_grid, pad_or_crop

from gnsm_monai.data.constants import LABEL
from gnsm_monai.data.transforms import centred_extent, encode_labels
from gnsm_monai.engines import NoisyLabelPrepareBatch
from gnsm_monai.losses import ScoreMatchingLoss
from gnsm_monai.noise import build_schedule
from gnsm_monai.rules.density import GaussianMixtureDensity
from gnsm_monai.scoring.scorer import Scorer
from gnsm_monai.scoring.structures import Structures

__all__ = ["CHANNELS", "LEVELS", "PublishedUNet", "diffusion_unet"]

CHANNELS, LEVELS = (16, 64, 96), 20
MULTIPLE = 2 ** (len(CHANNELS) - 1)
"""Grids are multiples of all strides together."""

HELD_OUT = 0.15
"""Share of the references that the density is fitted to, as ours keeps it."""

_Labels = npt.NDArray[np.integer[Any]]


def diffusion_unet(
    spatial_dims: int, num_classes: int, device: str | torch.device = "cpu", channels: Sequence[int] = CHANNELS
) -> DiffusionModelUNet:
    """With torch's fused attention on a GPU, as the plain one does not fit there at 128^3."""
    network = DiffusionModelUNet(
        spatial_dims=spatial_dims,
        in_channels=num_classes,
        out_channels=num_classes,
        channels=channels,
        num_res_blocks=1,
        attention_levels=(False,) * len(channels),
        norm_num_groups=16,
        num_head_channels=32,
        use_flash_attention=torch.device(device).type == "cuda",
    )
    return network.to(device)


class PublishedUNet:
    """Fitted on reference label maps, it scores one mask, higher = worse.

    Args:
        seed: of weights, batches and noise.
        steps: of training.
        batch_size: maps per step.
        learning_rate: of AdamW, the highest of a cycle over all steps.
        channels: of the network, from the finest grid on.
    """

    def __init__(
        self,
        seed: int = 0,
        steps: int = 400,
        batch_size: int = 2,
        learning_rate: float = 1e-3,
        channels: Sequence[int] = CHANNELS,
    ) -> None:
        self.seed, self.steps, self.batch_size, self.learning_rate = seed, steps, batch_size, learning_rate
        self.channels = tuple(channels)
        self.schedule = build_schedule({"name": "temperature", "num_levels": LEVELS})

    def fit(self, labels: Sequence[_Labels], num_classes: int) -> PublishedUNet:
        """Trains on label maps, (*spatial) each, which may differ in shape."""
        self._plan(labels, num_classes)
        order = np.random.default_rng(self.seed).permutation(len(labels))
        held, known = np.split(order, [max(2, round(HELD_OUT * len(labels)))])
        placed = torch.from_numpy(np.stack([self._place(labels[number]) for number in known]))
        prepare = NoisyLabelPrepareBatch(self.schedule, num_classes)
        loss = ScoreMatchingLoss("kl", self.schedule)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self._build()
            optimizer = torch.optim.AdamW(self.network.parameters(), self.learning_rate)
            rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.learning_rate, total_steps=self.steps)
            self.network.train()
            for _ in range(self.steps):
                x, target, (level,), _ = prepare({LABEL: placed[torch.randint(len(placed), (self.batch_size,))]})
                optimizer.zero_grad()
                loss(self.network(x, level), target).mean().backward()
                torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
                optimizer.step()
                rate.step()
        self.network.eval()
        self.density = GaussianMixtureDensity.fit(np.stack([self.norms(labels[number]) for number in held]), self.seed)
        return self

    def norms(self, label: _Labels) -> npt.NDArray[np.float64]:
        """Euclidean norm of the score of a mask (*spatial) at the centre of each noise level, (LEVELS,)."""
        probabilities, _ = encode_labels(torch.from_numpy(self._place(label))[None], self.num_classes)
        scorer = Scorer(self.schedule, "direct", Structures(band_voxels=(2,) * len(self.grid)), chunk_size=1)
        return scorer(self.network, probabilities).levels["score_norm"]

    def score(self, label: _Labels) -> float:
        """Minus the log density of a mask's norms (*spatial), in nats."""
        return float(GaussianMixtureDensity.anomaly(self.norms(label)[None], self.density)[0])

    def save(self, path: Path) -> None:
        """Weights and density, for `load`."""
        path.parent.mkdir(parents=True, exist_ok=True)
        density = {name: torch.as_tensor(values) for name, values in self.density.items()}
        torch.save({"network": self.network.state_dict(), "density": density}, path)

    def load(self, path: Path, labels: Sequence[_Labels], num_classes: int) -> PublishedUNet:
        """What `fit` made of the same label maps."""
        self._plan(labels, num_classes)
        kept = torch.load(path, weights_only=True)
        self._build()
        self.network.load_state_dict(kept["network"])
        self.network.eval()
        self.density = {name: values.numpy() for name, values in kept["density"].items()}
        return self

    def _plan(self, labels: Sequence[_Labels], num_classes: int) -> None:
        self.num_classes = num_classes
        self.grid = common_grid([centred_extent(label) for label in labels], MULTIPLE)

    def _build(self) -> None:
        self.network = diffusion_unet(len(self.grid), self.num_classes, channels=self.channels)

    def _place(self, label: _Labels) -> npt.NDArray[np.int16]:
        """In the grid, with a channel, ``(1, *grid)``; what is ignored is background."""
        return np.ascontiguousarray(pad_or_crop(np.maximum(label, 0), self.grid)[None], dtype=np.int16)
