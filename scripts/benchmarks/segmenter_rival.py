"""A rival that segments: a small U-Net learns the references' images, and says of a new image how sure it is.

Its entropy under flips and dropout tells of the image alone; its own mask also tells of the mask that is judged.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import confidence
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from monai.losses import DiceCELoss
from monai.networks.nets import UNet

from gnsm_monai.data.compare import mean_foreground_dice

__all__ = ["SmallSegmenter"]

CHANNELS = (16, 32, 64, 64)
STRIDE = 8
MAX_PATCH = {2: 256, 3: 64}
BATCH = {2: 8, 3: 4}
LEARNING_RATE = 2e-3
DROPOUT = 0.2
PASSES = 8
"""Passes of an image: each with another flip, and with dropout."""

Case = tuple[npt.NDArray[np.floating[Any]], npt.NDArray[np.integer[Any]]]


class SmallSegmenter:
    """Fitted to images and references, it scores a mask beside its image; higher = worse.

    Args:
        seed: of weights, batches and dropout.
        steps: of training.
    """

    def __init__(self, seed: int = 0, steps: int = 1200) -> None:
        self.seed, self.steps = seed, steps

    def fit(self, cases: Sequence[Case], num_classes: int) -> SmallSegmenter:
        """Learns from images ``(C, *spatial)`` and their label maps ``(*spatial)``, -1 where ignored."""
        self.num_classes, self.dims, self.channels = num_classes, cases[0][1].ndim, len(cases[0][0])
        largest = np.max([label.shape for _, label in cases], axis=0)
        patch = [min(MAX_PATCH[self.dims], _rounded_up(n)) for n in largest]
        rng = np.random.default_rng(self.seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self.network = self._build()
            optimizer = torch.optim.AdamW(self.network.parameters(), LEARNING_RATE)
            rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=self.steps)
            loss = DiceCELoss(to_onehot_y=True, softmax=True)
            self.network.train()
            for _ in range(self.steps):
                batch = [_patch(*cases[i], patch, rng) for i in rng.integers(0, len(cases), BATCH[self.dims])]
                images, labels = (torch.from_numpy(np.stack(column)) for column in zip(*batch, strict=True))
                optimizer.zero_grad()
                loss(self.network(images), labels[:, None].clamp_min(0)).backward()
                optimizer.step()
                rate.step()
        self.network.eval()
        return self

    @torch.inference_mode()
    def probabilities(self, image: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
        """Of an image ``(C, *spatial)``, mean over flips and dropout: ``(K, *spatial)``."""
        shape = image.shape[1:]
        before = torch.from_numpy(normalised(image))[None]
        padded = F.pad(before, [n for size in reversed(shape) for n in (0, _rounded_up(size) - size)])
        axes = range(2, 2 + self.dims)
        flips = [list(some) for count in range(self.dims + 1) for some in itertools.combinations(axes, count)]
        total = torch.zeros(1, self.num_classes, *padded.shape[2:], dtype=torch.float64)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            for number in range(PASSES):
                flip = flips[number % len(flips)]
                for module in self.network.modules():
                    module.train(isinstance(module, (torch.nn.Dropout2d, torch.nn.Dropout3d, torch.nn.Dropout)))
                total += self.network(padded.flip(flip)).softmax(1).double().flip(flip) / PASSES
        self.network.eval()
        return total[(0, slice(None), *(slice(0, size) for size in shape))].numpy()

    def entropy(self, image: npt.NDArray[np.floating[Any]]) -> float:
        """Mean entropy of its probabilities; see :func:`confidence.entropy`."""
        return confidence.entropy(self.probabilities(image))

    def disagreement(self, image: npt.NDArray[np.floating[Any]], mask: npt.NDArray[np.integer[Any]]) -> float:
        """1 - mean foreground Dice of a mask ``(*spatial)`` and its own."""
        dice = mean_foreground_dice(mask, self.probabilities(image).argmax(0).astype(np.int16), self.num_classes)
        return 1.0 if np.isnan(dice) else 1 - dice

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(self.network.state_dict(), path)

    def load(self, path: Path, dims: int, num_classes: int, channels: int) -> SmallSegmenter:
        """What :meth:`fit` made."""
        self.num_classes, self.dims, self.channels = num_classes, dims, channels
        self.network = self._build()
        self.network.load_state_dict(torch.load(path, weights_only=True))
        self.network.eval()
        return self

    def _build(self) -> UNet:
        return UNet(self.dims, self.channels, self.num_classes, CHANNELS, (2, 2, 2), num_res_units=1, dropout=DROPOUT)


def normalised(image: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float32]:
    """Channels ``(C, *spatial)`` of mean 0 and spread 1 each."""
    axes = tuple(range(1, image.ndim))
    values = (image - image.mean(axes, keepdims=True)) / (image.std(axes, keepdims=True) + 1e-6)
    return values.astype(np.float32)


def _rounded_up(size: int) -> int:
    return -(-int(size) // STRIDE) * STRIDE


def _patch(
    image: npt.NDArray[np.floating[Any]],
    label: npt.NDArray[np.integer[Any]],
    size: Sequence[int],
    rng: np.random.Generator,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """A random patch, flipped at random, of an image and its label map, with background where they end."""
    starts = [int(rng.integers(0, max(0, n - s) + 1)) for n, s in zip(label.shape, size, strict=True)]
    window = (..., *(slice(start, start + s) for start, s in zip(starts, size, strict=True)))
    margins = [(0, max(0, s - n)) for n, s in zip(label.shape, size, strict=True)]
    flips = [axis for axis in range(-label.ndim, 0) if rng.random() < 0.5]
    values = np.pad(normalised(image)[window], [(0, 0), *margins])
    classes = np.pad(label.astype(np.int64)[window], margins)
    return np.flip(values, flips).copy(), np.flip(classes, flips).copy()
