"""What a MONAI user would build from the paper alone: a diffusion network that gives the score at each level.

MONAI's DiffusionModelUNet of this package's width (its mandatory attention in the middle included) learns the published
noise and loss (arXiv 2304.03220: 20 temperatures, direct parametrisation, KL divergence). A mask's norms of the score
at the levels' centres are one point, and its anomaly is minus the log density of a Gaussian mixture fitted to those of
held-out references. ``speed.py`` measures its time.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from learned_rival import LabelMap, LearnedRival
from monai.networks.nets import DiffusionModelUNet
from rivals import common_grid, pad_or_crop
from torch import Tensor

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


def diffusion_unet(
    spatial_dims: int, num_classes: int, device: str | torch.device = "cpu", channels: Sequence[int] = CHANNELS
) -> DiffusionModelUNet:
    """MONAI's network, with torch's fused attention on a GPU, as the plain one does not fit there at 128^3."""
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


class PublishedUNet(LearnedRival):
    """The published noise, loss and density on MONAI's network.

    Args:
        seed: see `LearnedRival`, as the next three.
        steps: of training.
        batch_size: maps per step.
        learning_rate: of AdamW.
        channels: of the network, from the finest grid on.
    """

    optimizer = torch.optim.AdamW

    def __init__(
        self,
        seed: int = 0,
        steps: int = 400,
        batch_size: int = 2,
        learning_rate: float = 1e-3,
        channels: Sequence[int] = CHANNELS,
    ) -> None:
        super().__init__(seed, steps, batch_size, learning_rate)
        self.channels = tuple(channels)
        self.schedule = build_schedule({"name": "temperature", "num_levels": LEVELS})
        self.kl = ScoreMatchingLoss("kl", self.schedule)

    def train(self, labels: Sequence[LabelMap]) -> None:
        """Trains on most of the label maps, and fits the density to the norms of the others."""
        order = np.random.default_rng(self.seed).permutation(len(labels))
        held, trained = np.split(order, [max(2, round(HELD_OUT * len(labels)))])
        super().train([labels[number] for number in trained])
        self.fitted = GaussianMixtureDensity.fit(np.stack([self.norms(labels[number]) for number in held]), self.seed)

    def norms(self, label: LabelMap) -> npt.NDArray[np.float64]:
        """Euclidean norm of the score of a mask (*spatial) at the centre of each noise level, (LEVELS,)."""
        probabilities, _ = encode_labels(torch.from_numpy(self.place(label))[None], self.num_classes)
        scorer = Scorer(self.schedule, "direct", Structures(band_voxels=(2,) * len(self.grid)), chunk_size=1)
        return scorer(self.network, probabilities).levels["score_norm"]

    def score(self, label: LabelMap) -> float:
        """Minus the log density of a mask's norms (*spatial), in nats."""
        return float(GaussianMixtureDensity.anomaly(self.norms(label)[None], self.fitted)[0])

    def plan(self, labels: Sequence[LabelMap]) -> tuple[int, ...]:
        return common_grid([centred_extent(label) for label in labels], MULTIPLE)

    def place(self, label: LabelMap) -> npt.NDArray[np.int16]:
        """A map in the grid, with a channel, ``(1, *grid)``."""
        return np.ascontiguousarray(pad_or_crop(np.maximum(label, 0), self.grid)[None], dtype=np.int16)

    def build(self) -> DiffusionModelUNet:
        return diffusion_unet(len(self.grid), self.num_classes, channels=self.channels)

    def loss(self, placed: Tensor) -> Tensor:
        x, target, (level,), _ = NoisyLabelPrepareBatch(self.schedule, self.num_classes)({LABEL: placed})
        return self.kl(self.network(x, level), target)
