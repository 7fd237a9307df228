"""Batches of the score network: noisy label maps to train on, and large batches in small pieces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.data import MetaTensor
from monai.engines.utils import PrepareBatch
from monai.inferers import Inferer
from torch import Tensor

from gnsm_monai.data.constants import IMAGE, LABEL
from gnsm_monai.data.transforms import encode_labels
from gnsm_monai.noise import NoiseSchedule, gumbel_noise, hide, relax

__all__ = ["ChunkedInferer", "NoisyLabelPrepareBatch"]


class NoisyLabelPrepareBatch(PrepareBatch):
    """``prepare_batch`` of MONAI's ``SupervisedTrainer`` and ``SupervisedEvaluator`` for denoising score matching.

    A batch ``{"label": (B, 1, *spatial)}`` of class indices, and ``"image"`` ``(B, C, *spatial)`` for a network with
    image channels, becomes ``(inputs, target, args, kwargs)``: the noisy relaxed one-hot maps, the target of
    :class:`gnsm_monai.losses.ScoreMatchingLoss`, the noise level and the image.

    Args:
        schedule: the noise.
        num_classes: classes ``K``, background included.
        fixed_seed: ``None`` draws one level per sample and fresh noise (training). A number repeats every sample at
            all ``L`` levels, with noise from that seed, the same for every batch (validation): losses of different
            epochs are then compared on equal noise. The batch grows to ``B * L``.
        encode: from class indices and ``K`` to class probabilities and what is observed, on the network's grid.
    """

    def __init__(
        self,
        schedule: NoiseSchedule,
        num_classes: int,
        fixed_seed: int | None = None,
        encode: Callable[[Tensor, int], tuple[Tensor, Tensor]] = encode_labels,
    ) -> None:
        self.schedule, self.num_classes, self.fixed_seed, self.encode = schedule, num_classes, fixed_seed, encode
        self._noise: Tensor | None = None

    def __call__(
        self,
        batchdata: dict[str, Tensor],
        device: str | torch.device | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[Tensor, dict[str, Tensor], tuple[Tensor], dict[str, Tensor]]:
        label = batchdata[LABEL].to(device, non_blocking=non_blocking)
        probabilities, mask = self.encode(label, self.num_classes)
        image = batchdata.get(IMAGE)
        if image is not None:
            image = image.as_tensor() if isinstance(image, MetaTensor) else image
            image = image.to(device, non_blocking=non_blocking)
        if self.fixed_seed is None:
            level = torch.randint(self.schedule.num_levels, (len(label),), device=label.device)
        else:
            copies = self.schedule.num_levels
            level = torch.arange(copies, device=label.device).repeat(len(label))
            probabilities, mask = probabilities.repeat_interleave(copies, 0), mask.repeat_interleave(copies, 0)
            image = None if image is None else image.repeat_interleave(copies, 0)
        log_alpha = self.schedule.log_alpha(probabilities, level)
        noise = gumbel_noise(log_alpha) if self.fixed_seed is None else self._fixed_noise(log_alpha, self.fixed_seed)
        x = hide(relax(log_alpha, self.schedule.temperature(level), noise), mask)
        target = {"x": x, "probabilities": probabilities, "level": level, "mask": mask}
        return x, target, (level,), {} if image is None else {"image": image}

    def _fixed_noise(self, like: Tensor, seed: int) -> Tensor:
        """The noise of every batch of this shape: drawn once, and on the CPU, so that all devices get the same."""
        if self._noise is None or self._noise.shape != like.shape:
            self._noise = gumbel_noise(torch.empty(like.shape), torch.Generator().manual_seed(seed))
        return self._noise.to(like.device)


class ChunkedInferer(Inferer):
    """Runs the network on a few samples at a time and joins what it gives.

    All noise levels of a case make a batch; its activations should fit the memory. Small pieces are faster on a CPU.

    Args:
        chunk_size: samples at a time.
    """

    def __init__(self, chunk_size: int) -> None:
        super().__init__()
        if chunk_size < 1:
            raise ValueError(f"chunk_size must be at least 1, got {chunk_size}")
        self.chunk_size = chunk_size

    def __call__(self, inputs: Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Tensor:
        """Tensors among the arguments that have the batch's length are split with it."""

        def piece(value: Any, start: int) -> Any:
            is_batch = isinstance(value, Tensor) and value.ndim > 0 and len(value) == len(inputs)
            return value[start : start + self.chunk_size] if is_batch else value

        return torch.cat(
            [
                network(piece(inputs, s), *(piece(a, s) for a in args), **{k: piece(v, s) for k, v in kwargs.items()})
                for s in range(0, len(inputs), self.chunk_size)
            ]
        )
