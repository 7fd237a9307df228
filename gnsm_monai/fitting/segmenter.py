"""Failures as networks make them: masks of a small segmentation network that was stopped early or sees poor images."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from ignite.engine import Events
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedTrainer
from monai.inferers import SlidingWindowInferer
from monai.losses import DiceCELoss
from monai.networks.nets import UNet
from torch import Tensor, nn

from gnsm_monai.data.augmentation import RandPoorImaged, augmentation
from gnsm_monai.data.constants import IGNORE_INDEX, IMAGE, LABEL
from gnsm_monai.data.references import References
from gnsm_monai.handlers import EndInTime, TerminalProgress
from gnsm_monai.handlers.trainer import LOG_SECONDS
from gnsm_monai.time_limit import NO_LIMIT, TimeLimit

__all__ = ["SNAPSHOTS", "EarlySegmenter"]

SNAPSHOTS = (24, 40, 64, 100, 160, 280)
"""Training steps after which a copy is kept: from one that barely finds the structures to a fair segmenter."""

FAIR = 64
"""Training steps after which the masks of a copy are mostly right."""

CHANNELS = (8, 16, 32, 32)
LEARNING_RATE = 2e-3
CERTAIN = 20.0
"""Logit of background at ignored voxels: whatever the network gives there, the loss is 0."""


class EarlySegmenter:
    """Copies of one small U-Net, kept while it learns to segment the training references' images.

    Their masks of images that it has not seen fail as the masks of trained networks do: fuzzy borders, missed ends,
    islands, confusions where images are poor. The masks that are to be ranked take no part.

    Args:
        snapshots: the copies by training step.
        spatial_size: voxels per axis that a network sees at once.
    """

    def __init__(self, snapshots: Mapping[int, nn.Module], spatial_size: Sequence[int]) -> None:
        self.snapshots = dict(snapshots)
        self.inferer = SlidingWindowInferer(tuple(spatial_size), sw_batch_size=1, overlap=0.25)

    @classmethod
    def train(
        cls,
        cases: Sequence[Mapping[str, Any]],
        references: References,
        seed: int = 0,
        device: str | torch.device = "cpu",
        steps: Sequence[int] = SNAPSHOTS,
        limit: TimeLimit = NO_LIMIT,
    ) -> EarlySegmenter:
        """Trains on cases, each a ``label`` ``(1, *spatial)`` and an ``image`` ``(C, *spatial)`` on the model's grid.

        Random numbers are drawn from ``seed``, and those of the caller are left as they were. Where the limit ends
        training early, there are the copies of the steps so far.
        """
        dims = len(references.spatial_size)
        augment = augmentation(dims, references.flip_axes, truncate=0, poor_images=0, keys=[LABEL, IMAGE])
        augment.set_random_state(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = UNet(
                dims, len(cases[0][IMAGE]), references.scheme.num_classes, CHANNELS, (2, 2, 2), num_res_units=1
            ).to(device)
            loader = DataLoader(
                Dataset([dict(case) for case in cases], augment),
                batch_size=min(len(cases), 2 if dims == 3 else 8),
                shuffle=True,
                drop_last=True,
                generator=torch.Generator().manual_seed(seed),
            )
            snapshots: dict[int, nn.Module] = {}
            trainer = SupervisedTrainer(
                device=torch.device(device),
                max_epochs=1,
                epoch_length=max(steps),
                train_data_loader=loader,
                network=network,
                optimizer=torch.optim.AdamW(network.parameters(), LEARNING_RATE),
                loss_function=KnownVoxelsLoss(),
                decollate=False,
            )
            trainer.add_event_handler(
                Events.ITERATION_COMPLETED(event_filter=lambda _, step: step in steps),
                lambda engine: snapshots.update({engine.state.iteration: copy.deepcopy(network).eval()}),
            )
            EndInTime(limit).attach(trainer)
            TerminalProgress("training the small segmentation network", LOG_SECONDS, limit).attach(trainer)
            trainer.logger.setLevel(logging.WARNING)
            trainer.run()
        return cls(snapshots, references.spatial_size)

    @property
    def kinds(self) -> list[str]:
        """Kinds of masks: those of every copy, from the image itself and from one made poor."""
        return [f"{kind}_{step}" for step in self.snapshots for kind in ("early", "poor_image")]

    @property
    def damaged_kinds(self) -> list[str]:
        """Masks that a good copy made from the image itself, beside an image made poor: as if the file was damaged
        afterwards. Some of these images can hardly be read. A score that blames the mask for this is not chosen.
        """
        return [f"damaged_{step}" for step in self.snapshots if step >= FAIR]

    @torch.inference_mode()
    def mask(self, case: Mapping[str, Any], kind: str, seed: Sequence[int]) -> dict[str, Any]:
        """The case with a mask in place of its label, and the image as the copy saw it, or as it was damaged later.

        Args:
            case: ``image`` ``(C, *spatial)`` and ``label`` ``(1, *spatial)``, of which ignored voxels alone are seen.
            kind: of :attr:`kinds` or :attr:`damaged_kinds`.
            seed: of the image's defects.
        """
        name, step = kind.rsplit("_", 1)
        network = self.snapshots[int(step)]
        shown = case
        if name != "early":
            poor = RandPoorImaged(IMAGE, prob=1.0)
            poor.set_random_state(int(np.random.default_rng([*seed, int(step)]).integers(2**31)))
            shown = {**case, IMAGE: poor(case)[IMAGE]}
        device = next(network.parameters()).device
        segmented = (shown if name == "poor_image" else case)[IMAGE]
        image = torch.as_tensor(np.asarray(segmented), dtype=torch.float32, device=device)
        logits = self.inferer(image[None], network)
        assert isinstance(logits, Tensor)
        label = logits[0].argmax(0, keepdim=True).to(device="cpu", dtype=torch.int16)
        ignored = torch.as_tensor(np.asarray(case[LABEL])) == IGNORE_INDEX
        return {**shown, LABEL: label.masked_fill(ignored, IGNORE_INDEX)}


class KnownVoxelsLoss(nn.Module):
    """Dice and cross-entropy of logits ``(B, K, *spatial)`` where the label ``(B, 1, *spatial)`` is not ignored."""

    def __init__(self) -> None:
        super().__init__()
        self.loss = DiceCELoss(to_onehot_y=True, softmax=True)

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        background = F.one_hot(torch.zeros_like(label[:, 0], dtype=torch.long), logits.shape[1]).movedim(-1, 1)
        answers = torch.where(label == IGNORE_INDEX, CERTAIN * background.to(logits), logits)
        loss: Tensor = self.loss(answers, label.clamp_min(0).float())
        return loss
