"""Level statistics of one label map: how well the score network can explain it at every noise level."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from monai.inferers import Inferer, SimpleInferer
from torch import Tensor, nn

from gnsm_monai.networks import score_from_logits
from gnsm_monai.networks.separable import dilate, smooth
from gnsm_monai.noise import NoiseSchedule, gumbel_noise, hide, relax
from gnsm_monai.noise.gumbel import CLASS_DIM, upcast
from gnsm_monai.scoring.agreement import disagreement, doubt
from gnsm_monai.scoring.planes import PLACE_VOXELS
from gnsm_monai.scoring.reference_shapes import ReferenceShapes
from gnsm_monai.scoring.statistics import STATISTICS, CaseStatistics

__all__ = ["MOST_VALUES", "Scorer"]

MOST_VALUES = 20_000_000
"""Classes times voxels times levels that are looked at together: 80 MB, of which a dozen arrays exist at a time."""


class Scorer:
    """Runs the score network over all noise levels of one label map at a time.

    A mask's statistics depend on the mask and the model alone: the noise is either left out (the centre of each
    level) or drawn from a fixed seed, the same numbers for every mask, and masks are never batched together, so that
    neither batch size nor order can change a score.

    Args:
        schedule: the noise that the network was trained with.
        parametrisation: what the network's logits mean, ``posterior`` or ``direct``.
        band_voxels: half-width per axis, in voxels, of the band around the structures.
        structures: the classes that each structure consists of; by default each foreground class is one.
        always_present: per structure, whether every reference has it; one that is missing from such a mask counts as
            full disagreement. Default: all of them.
        num_draws: noise draws per level to average over; 0 scores the noise-free centre.
        seed: seed of the draws.
        inferer: how the network is run over the noisy maps of a case, which come as one batch.
        shapes: those of the references.
        chunk_size: noise levels at a time, at most; all by default. Memory grows with it, and no score depends on it.
            Of maps of many classes it is fewer, so that they hold :data:`MOST_VALUES` numbers or one level's; the
            network of shapes is always asked for the two levels that it knows.
    """

    def __init__(
        self,
        schedule: NoiseSchedule,
        parametrisation: str = "posterior",
        band_voxels: Sequence[int] = (2, 2, 2),
        structures: Sequence[Sequence[int]] | None = None,
        always_present: Sequence[bool] | None = None,
        num_draws: int = 0,
        seed: int = 0,
        inferer: Inferer | None = None,
        shapes: ReferenceShapes | None = None,
        chunk_size: int | None = None,
    ) -> None:
        if chunk_size is not None and chunk_size < 1:
            raise ValueError(f"chunk_size must be at least 1, got {chunk_size}")
        self.schedule, self.parametrisation = schedule, parametrisation
        self.band_voxels, self.structures, self.always_present = tuple(band_voxels), structures, always_present
        self.num_draws, self.seed = num_draws, seed
        self.inferer = inferer or SimpleInferer()
        self.shapes, self.chunk_size = shapes, chunk_size

    @torch.inference_mode()
    def __call__(
        self,
        network: nn.Module,
        probabilities: Tensor,
        mask: Tensor | None = None,
        image: Tensor | None = None,
        level_weights: np.ndarray | None = None,
        only_levels: Sequence[int] | None = None,
        shapes: ReferenceShapes | None = None,
    ) -> CaseStatistics:
        """Statistics of one (soft) label map.

        Args:
            network: the score network, in eval mode.
            probabilities: ``(1, K, *spatial)``, one-hot or soft.
            mask: ``(1, 1, *spatial)``, 1 where a voxel counts; all by default.
            image: ``(1, C, *spatial)`` for a network with image channels.
            level_weights: of the levels in the anomaly map and the denoised mask, ``(L,)``; equal by default.
            only_levels: the ``L`` levels to look at; all by default.
            shapes: by which this map is judged; by default those that the scorer was given.

        Raises:
            ValueError: another number of weights than of levels.
        """
        probabilities = probabilities.float()
        mask = torch.ones_like(probabilities[:, :1]) if mask is None else mask.to(probabilities)
        chosen = range(self.schedule.num_levels) if only_levels is None else only_levels
        levels = torch.tensor(list(chosen), device=probabilities.device)
        equal = np.full(len(levels), 1 / len(levels))
        shares = torch.as_tensor(equal if level_weights is None else level_weights).to(probabilities)
        if len(shares) != len(levels):
            raise ValueError(f"{len(levels)} levels need as many level_weights, got {len(shares)}")
        noise = self._noise(probabilities)
        found, anomaly, posterior = [], torch.zeros_like(mask[0, 0]), torch.zeros_like(probabilities[0])
        size = self.levels_at_once(probabilities.numel())
        for some, share in zip(levels.split(size), shares.split(size), strict=True):
            rows, structures, maps, posteriors = self._look(network, probabilities, mask, image, some, noise)
            found.append((rows, structures))
            anomaly += torch.tensordot(share, maps, dims=1)
            posterior += torch.tensordot(share, posteriors, dims=1)
        rows, structures = (torch.cat(values) for values in zip(*found, strict=True))
        shapes = self.shapes if shapes is None else shapes
        size_statistic = self._size(probabilities, mask, shapes).expand(len(levels))
        whole = [self._shape(probabilities, mask, levels, shapes), size_statistic]
        measured, doubts = rows[:, :-1], rows[:, -1:]
        rows = torch.cat([measured, torch.stack([values.to(rows) for values in whole], dim=1), doubts], dim=1)
        denoised = _likeliest(posterior[None])[0]
        either = (_likeliest(probabilities)[0] > 0) | (denoised > 0)
        return CaseStatistics(
            rows.double().cpu().numpy().copy(),  # kept of every case: not with a tensor behind it
            structures.double().cpu().numpy().T.copy(),
            anomaly.cpu().numpy(),
            denoised.to(torch.int16).cpu().numpy(),
            (self._band(either[None, None]) * mask)[0, 0].bool().cpu().numpy(),
        )

    def _look(
        self,
        network: nn.Module,
        probabilities: Tensor,
        mask: Tensor,
        image: Tensor | None,
        levels: Tensor,
        noise: Sequence[Tensor | None],
    ) -> tuple[Tensor, ...]:
        """What :meth:`_statistics` gives of ``n`` levels, mean over the draws."""
        log_alpha = self.schedule.log_alpha(probabilities.expand(len(levels), *probabilities.shape[1:]), levels)
        extra = {} if image is None else {"image": image.expand(len(levels), *image.shape[1:])}
        total: list[Tensor] = []
        for one in noise:
            x = hide(relax(log_alpha, self.schedule.temperature(levels), one), mask)
            logits = upcast(self.inferer(x, network, levels, **extra))
            drawn = self._statistics(logits, x, levels, probabilities, mask, image is not None)
            total = [a + b for a, b in zip(total, drawn, strict=True)] if total else list(drawn)
        return tuple(values / len(noise) for values in total)

    def levels_at_once(self, values: int) -> int:
        """Noise levels that the network sees at a time, one at least, of a map of so many classes times voxels."""
        return max(1, min(self.chunk_size or self.schedule.num_levels, MOST_VALUES // values))

    def _noise(self, probabilities: Tensor) -> list[Tensor | None]:
        """The common random numbers: drawn on the CPU, so that every device gets the same ones."""
        if not self.num_draws:
            return [None]
        generator = torch.Generator().manual_seed(self.seed)
        like = torch.empty(probabilities.shape)
        return [gumbel_noise(like, generator).to(probabilities.device) for _ in range(self.num_draws)]

    def _statistics(
        self, logits: Tensor, x: Tensor, levels: Tensor, probabilities: Tensor, mask: Tensor, reads: bool
    ) -> tuple[Tensor, ...]:
        """Of ``n`` levels, the statistics but shape and size, those of the structures, the map, and the posterior.

        ``(n, statistics - 2)``, ``(n, structures)``, ``(n, *spatial)`` and ``(n, K, *spatial)``; without a posterior,
        the mask is in its place. ``reads``: whether the network sees an image.
        """
        score = score_from_logits(self.parametrisation, logits, x, levels, self.schedule) * mask
        squared = (score.double() ** 2).sum(CLASS_DIM)
        norm = squared.flatten(1).sum(1).sqrt()
        if self.parametrisation == "direct":
            nan = torch.full_like(norm, torch.nan)
            count = logits.shape[CLASS_DIM] - 1 if self.structures is None else len(self.structures)
            structures = nan[:, None].expand(-1, count)
            rows = torch.stack([norm, *[nan] * (len(STATISTICS) - 3)], dim=1)
            return rows, structures, squared.float(), probabilities.expand_as(logits)
        log_posterior = F.log_softmax(logits, CLASS_DIM)
        posterior = log_posterior.exp()
        misfit = -(probabilities * log_posterior).sum(CLASS_DIM, keepdim=True) * mask
        entropy = -(posterior * log_posterior).sum(CLASS_DIM, keepdim=True)
        own, denoised = self._present(probabilities) * mask, self._present(logits) * mask
        inside = own.amax(CLASS_DIM, keepdim=True)
        band = self._band((inside + denoised.amax(CLASS_DIM, keepdim=True)) > 0) * mask
        expected, needed = self._grouped(posterior) * mask, self._needed(own)
        structures = disagreement(own, denoised, expected, needed)
        unread = torch.full_like(norm, torch.nan)
        values = [
            norm,
            _mean(misfit, band),
            _mean(misfit, inside if inside.any() else band),
            _mean(misfit, mask - band),
            _over_structures(structures),
            _mean(entropy, band),
            smooth(misfit * band, PLACE_VOXELS).flatten(1).amax(1),
            _over_structures(doubt(structures, expected, needed)) if reads else unread,
        ]
        return torch.stack([v.double() for v in values], dim=1), structures, misfit[:, 0], posterior

    def _shape(self, probabilities: Tensor, mask: Tensor, levels: Tensor, shapes: ReferenceShapes | None) -> Tensor:
        """``shape``, ``(n,)`` of ``n`` levels."""
        own = self._present(probabilities) * mask

        def differs(expected: Tensor) -> Tensor:
            denoised, grouped = self._present(expected) * mask, self._grouped(expected) * mask
            return _over_structures(disagreement(own, denoised, grouped, self._needed(own)))

        opinions = []
        if shapes is not None and self.parametrisation == "posterior":
            size = self.levels_at_once(probabilities.numel())
            opinions = shapes.judge(differs, self.schedule, probabilities, mask, levels, size)
        if not opinions:
            return torch.full(levels.shape, torch.nan, device=levels.device)
        return torch.stack(opinions).mean(0)

    def _size(self, probabilities: Tensor, mask: Tensor, shapes: ReferenceShapes | None) -> Tensor:
        """``size``, ``(1,)``; structures that are missing and may be are left out."""
        if shapes is None or shapes.sizes is None or self.parametrisation == "direct":
            return torch.full((1,), torch.nan, device=probabilities.device)
        axes = tuple(range(2, mask.ndim))
        deviation = shapes.sizes.deviation((self._grouped(probabilities) * mask).double().sum(axes))
        counts = self._needed(deviation) | (self._present(probabilities) * mask).bool().flatten(2).any(2)
        return _over_structures(torch.where(counts, deviation, torch.nan))

    def _needed(self, structures: Tensor) -> Tensor:
        """Whether every reference has each structure, ``(S,)`` bool, on the device of ``(n, S)`` values."""
        if self.always_present is None:
            return torch.ones(structures.shape[1], dtype=torch.bool, device=structures.device)
        return torch.as_tensor(self.always_present, dtype=torch.bool, device=structures.device)

    def _present(self, weights: Tensor) -> Tensor:
        """Where the likeliest class belongs to each structure, ``(n, S, *spatial)`` bool of ``(n, K, *spatial)``."""
        index = _likeliest(weights)
        members = [[c] for c in range(1, weights.shape[CLASS_DIM])] if self.structures is None else self.structures
        return torch.stack([torch.stack([index == c for c in classes]).any(0) for classes in members], dim=1)

    def _grouped(self, classes: Tensor) -> Tensor:
        """Sums over the classes of each structure, ``(n, S, *spatial)`` of ``(n, K, *spatial)``."""
        if self.structures is None:
            return classes[:, 1:]
        return torch.stack([classes[:, list(members)].sum(1) for members in self.structures], dim=1)

    def _band(self, foreground: Tensor) -> Tensor:
        """Voxels within ``band_voxels`` of ``foreground``, ``(n, 1, *spatial)``."""
        return dilate(foreground.float(), self.band_voxels)


def _likeliest(weights: Tensor) -> Tensor:
    """Index of the greatest class weight, ``(n, *spatial)``: what ``argmax`` gives, ten times as fast on a CPU."""
    return weights.max(CLASS_DIM).indices


def _over_structures(values: Tensor) -> Tensor:
    """Mean over those that count, ``(n,)`` of ``(n, S)``; 0 where none does: nothing here and nothing expected."""
    return values.nanmean(1).nan_to_num(0.0)


def _mean(values: Tensor, where: Tensor) -> Tensor:
    """Mean over ``where``, per sample ``(n,)``; 0 over nothing."""
    axes = tuple(range(1, values.ndim))
    return (values * where).sum(axes) / where.sum(axes).clamp_min(1)
