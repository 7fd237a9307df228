"""Level statistics of one label map: how well the score network can explain it at every noise level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from monai.inferers import Inferer, SimpleInferer
from monai.networks.layers import GaussianFilter
from torch import Tensor, nn

from gnsm_monai.networks import score_from_logits
from gnsm_monai.noise import NoiseSchedule, gumbel_noise, hide, relax
from gnsm_monai.noise.gumbel import CLASS_DIM, upcast
from gnsm_monai.scoring.planes import PLACE_VOXELS
from gnsm_monai.scoring.reference_shapes import ReferenceShapes

__all__ = ["STATISTICS", "CaseStatistics", "Scorer"]

STATISTICS = (
    "score_norm", "misfit", "misfit_inside", "misfit_rest", "disagreement", "uncertainty", "peak", "shape", "size",
)  # fmt: skip
"""Statistics per level; higher = worse, but for ``uncertainty``.

- ``score_norm``: ``sqrt(sum_v || s_v ||^2)``, the norm of the score over all voxels (published feature, MSMA).
- ``misfit``: mean of ``-log P(m_v | x)`` in nats over the band around the structures of the mask and of its denoised
  version; a level-wise pseudo-likelihood. NaN for the ``direct`` parametrisation, which has no posterior.
- ``misfit_inside``: the same mean over the mask's own structures alone; at a level that hides every label this is the
  mask's improbability under the voxelwise prior. An empty mask gets the mean over the band, where all of it is missing.
- ``misfit_rest``: the same mean over the voxels outside the band.
- ``disagreement``: 1 - mean soft Dice over structures between the mask and the posterior ``P(c | x)``, about the
  Dice loss that the network expects of the mask.
- ``uncertainty``: mean entropy of ``P(c | x)`` in nats over the band, the misfit that a mask drawn from the posterior
  would have: it tells how much a misfit says.
- ``peak``: misfit at the place of the band where it is highest, a place being a Gaussian of
  :data:`gnsm_monai.scoring.planes.PLACE_VOXELS`: what is wrong there alone, which a mean dilutes.
- ``shape``: 1 - mean soft Dice over structures between the mask and the shape that a model of the references' shapes
  finds in it; mean over a linear model (:class:`gnsm_monai.scoring.shape.ShapeModel`) and a network with a bottleneck
  (:class:`gnsm_monai.networks.bottleneck.BottleneckNetwork`), NaN without either. The network knows the weakest levels
  alone, and looks at stronger ones as at the strongest of these.
- ``size``: mean over structures of the spreads of the references' sizes by which the mask's is larger or smaller
  (:class:`gnsm_monai.scoring.sizes.ReferenceSizes`), the same at every level; NaN without any.
"""


@dataclass(frozen=True)
class CaseStatistics:
    """What the network says of one label map.

    Args:
        levels: ``(L, len(STATISTICS))`` float64, per noise level.
        structures: ``(S, L)`` float64: ``1 - soft Dice`` between mask and posterior per structure and level; NaN
            where a structure is neither in the mask nor in its denoised version and may be missing.
        anomaly_map: ``(*spatial)`` float32, weighted mean over levels of the voxel's misfit (``posterior``) or squared
            score (``direct``); higher = worse.
        denoised: ``(*spatial)`` int16, the most probable class in the weighted mean posterior of all levels: what the
            mask would be if it were like the references. For ``direct`` the mask itself.
        band: ``(*spatial)`` bool, around the structures of the mask and of ``denoised``.
    """

    levels: np.ndarray
    structures: np.ndarray
    anomaly_map: np.ndarray
    denoised: np.ndarray
    band: np.ndarray


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
        inferer: how the network is run over the ``L`` noisy maps of a case, which come as one batch.
        shapes: those of the references.
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
    ) -> None:
        self.schedule, self.parametrisation = schedule, parametrisation
        self.band_voxels, self.structures, self.always_present = tuple(band_voxels), structures, always_present
        self.num_draws, self.seed = num_draws, seed
        self.inferer = inferer or SimpleInferer()
        self.shapes = shapes

    @torch.inference_mode()
    def __call__(
        self,
        network: nn.Module,
        probabilities: Tensor,
        mask: Tensor | None = None,
        image: Tensor | None = None,
        level_weights: np.ndarray | None = None,
        only_levels: Sequence[int] | None = None,
    ) -> CaseStatistics:
        """Statistics of one (soft) label map.

        Args:
            network: the score network, in eval mode.
            probabilities: ``(1, K, *spatial)``, one-hot or soft.
            mask: ``(1, 1, *spatial)``, 1 where a voxel counts; all by default.
            image: ``(1, C, *spatial)`` for a network with image channels.
            level_weights: of the levels in the anomaly map and the denoised mask, ``(L,)``; equal by default.
            only_levels: the ``L`` levels to look at; all by default.
        """
        mask = torch.ones_like(probabilities[:, :1]) if mask is None else mask.to(probabilities)
        chosen = range(self.schedule.num_levels) if only_levels is None else only_levels
        levels = torch.tensor(list(chosen), device=probabilities.device)
        log_alpha = self.schedule.log_alpha(probabilities.expand(len(levels), *probabilities.shape[1:]), levels)
        extra = {} if image is None else {"image": image.expand(len(levels), *image.shape[1:])}
        draws = []
        for noise in self._noise(probabilities):
            x = hide(relax(log_alpha, self.schedule.temperature(levels), noise), mask)
            logits = upcast(self.inferer(x, network, levels, **extra))
            posterior = probabilities[0]
            if self.parametrisation == "posterior":
                posterior = _level_mean(torch.softmax(logits, CLASS_DIM), level_weights)
            draws.append((*self._statistics(logits, x, levels, probabilities, mask), posterior))
        rows, structures, maps, posterior = (torch.stack(values).mean(0) for values in zip(*draws, strict=True))
        whole = [self._shape(probabilities, mask, levels), self._size(probabilities, mask).expand(len(levels))]
        rows = torch.cat([rows, torch.stack([values.to(rows) for values in whole], dim=1)], dim=1)
        denoised = _likeliest(posterior[None])[0]
        either = (_likeliest(probabilities)[0] > 0) | (denoised > 0)
        return CaseStatistics(
            rows.double().cpu().numpy().copy(),  # kept of every case: not with a tensor behind it
            structures.double().cpu().numpy().T.copy(),
            _level_mean(maps, level_weights).cpu().numpy(),
            denoised.to(torch.int16).cpu().numpy(),
            (self._band(either[None, None]) * mask)[0, 0].bool().cpu().numpy(),
        )

    def _noise(self, probabilities: Tensor) -> list[Tensor | None]:
        """The common random numbers: drawn on the CPU, so that every device gets the same ones."""
        if not self.num_draws:
            return [None]
        generator = torch.Generator().manual_seed(self.seed)
        like = torch.empty(probabilities.shape)
        return [gumbel_noise(like, generator).to(probabilities.device) for _ in range(self.num_draws)]

    def _statistics(
        self, logits: Tensor, x: Tensor, levels: Tensor, probabilities: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """``(n, statistics but the last two)``, ``(n, structures)`` and ``(n, *spatial)`` of ``n`` levels."""
        score = score_from_logits(self.parametrisation, logits, x, levels, self.schedule) * mask
        squared = (score.double() ** 2).sum(CLASS_DIM)
        norm = squared.flatten(1).sum(1).sqrt()
        if self.parametrisation == "direct":
            nan = torch.full_like(norm, torch.nan)
            count = logits.shape[CLASS_DIM] - 1 if self.structures is None else len(self.structures)
            structures = nan[:, None].expand(-1, count)
            return torch.stack([norm, *[nan] * (len(STATISTICS) - 3)], dim=1), structures, squared.float()
        log_posterior = F.log_softmax(logits, CLASS_DIM)
        posterior = log_posterior.exp()
        misfit = -(probabilities * log_posterior).sum(CLASS_DIM, keepdim=True) * mask
        entropy = -(posterior * log_posterior).sum(CLASS_DIM, keepdim=True)
        own, denoised = self._present(probabilities) * mask, self._present(logits) * mask
        inside = own.amax(CLASS_DIM, keepdim=True)
        band = self._band((inside + denoised.amax(CLASS_DIM, keepdim=True)) > 0) * mask
        structures = self._disagreement(own, denoised, self._grouped(posterior) * mask)
        values = [
            norm,
            _mean(misfit, band),
            _mean(misfit, inside if inside.any() else band),
            _mean(misfit, mask - band),
            structures.nanmean(1).nan_to_num(0.0),  # nothing here and nothing expected: full agreement
            _mean(entropy, band),
            self._smooth(misfit * band).flatten(1).amax(1),
        ]
        return torch.stack([v.double() for v in values], dim=1), structures, misfit[:, 0]

    def _shape(self, probabilities: Tensor, mask: Tensor, levels: Tensor) -> Tensor:
        """``shape``, ``(n,)`` of ``n`` levels."""
        expected = []
        if self.shapes is not None and self.parametrisation == "posterior":
            expected = self.shapes.expected(self.schedule, probabilities, mask, levels)
        if not expected:
            return torch.full(levels.shape, torch.nan, device=levels.device)
        own = self._present(probabilities) * mask
        opinions = [self._disagreement(own, self._present(e) * mask, self._grouped(e) * mask) for e in expected]
        return torch.stack([opinion.nanmean(1).nan_to_num(0.0) for opinion in opinions]).mean(0)

    def _size(self, probabilities: Tensor, mask: Tensor) -> Tensor:
        """``size``, ``(1,)``; structures that are missing and may be are left out."""
        if self.shapes is None or self.shapes.sizes is None or self.parametrisation == "direct":
            return torch.full((1,), torch.nan, device=probabilities.device)
        axes = tuple(range(2, mask.ndim))
        deviation = self.shapes.sizes.deviation((self._grouped(probabilities) * mask).double().sum(axes))
        counts = self._needed(deviation) | (self._present(probabilities) * mask).bool().flatten(2).any(2)
        return torch.where(counts, deviation, torch.nan).nanmean(1).nan_to_num(0.0)

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

    def _smooth(self, maps: Tensor) -> Tensor:
        """``(n, 1, *spatial)``, each voxel the mean of its place."""
        smooth: Tensor = GaussianFilter(maps.ndim - 2, PLACE_VOXELS)(maps)
        return smooth

    def _band(self, foreground: Tensor) -> Tensor:
        """Voxels within ``band_voxels`` of ``foreground``, ``(n, 1, *spatial)``."""
        pool = F.max_pool2d if foreground.ndim == 4 else F.max_pool3d
        kernel = [2 * r + 1 for r in self.band_voxels]
        return pool(foreground.float(), kernel, stride=1, padding=list(self.band_voxels))

    def _disagreement(self, own: Tensor, denoised: Tensor, expected: Tensor) -> Tensor:
        """``1 - soft Dice`` of mask and posterior per level and structure, ``(n, S)``."""
        axes = tuple(range(2, own.ndim))
        total = own.double().sum(axes) + expected.double().sum(axes)
        overlap = 2 * (own * expected).double().sum(axes)
        absent = torch.where(self._needed(total), 1.0, torch.nan).double()
        found = own.sum(axes) + denoised.sum(axes) > 0
        return torch.where(found, 1 - overlap / total.clamp_min(torch.finfo(torch.float64).tiny), absent)


def _likeliest(weights: Tensor) -> Tensor:
    """Index of the greatest class weight, ``(n, *spatial)``: what ``argmax`` gives, ten times as fast on a CPU."""
    return weights.max(CLASS_DIM).indices


def _level_mean(maps: Tensor, weights: np.ndarray | None) -> Tensor:
    equal = torch.full((len(maps),), 1 / len(maps))
    shares = equal if weights is None else torch.as_tensor(weights)
    mean: Tensor = torch.tensordot(shares.to(maps), maps, dims=1)
    return mean


def _mean(values: Tensor, where: Tensor) -> Tensor:
    """Mean over ``where``, per sample ``(n,)``; 0 over nothing."""
    axes = tuple(range(1, values.ndim))
    return (values * where).sum(axes) / where.sum(axes).clamp_min(1)
