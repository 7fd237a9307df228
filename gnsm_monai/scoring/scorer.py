"""Level statistics of one label map: how well the score network can explain it at every noise level."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from monai.inferers import Inferer, SimpleInferer
from torch import Tensor, nn

from gnsm_monai.explain.planes import PLACE_VOXELS
from gnsm_monai.networks import score_from_logits
from gnsm_monai.networks.separable import smooth
from gnsm_monai.noise import NoiseSchedule, gumbel_noise, hide, relax
from gnsm_monai.noise.gumbel import CLASS_DIM, upcast
from gnsm_monai.rules.levels import CaseStatistics
from gnsm_monai.rules.statistics import STATISTICS, MaskView, NetworkView, PosteriorView, statistic_named
from gnsm_monai.scoring.reference_shapes import ReferenceShapes
from gnsm_monai.scoring.structures import Structures, disagreement, doubt, likeliest

__all__ = ["MAX_VALUES", "Scorer"]

MAX_VALUES = 20_000_000
"""Classes times voxels times levels that are looked at together: 80 MB, of which a dozen arrays exist at a time."""

OF_NETWORK = [name for name in STATISTICS if not statistic_named(name).of_mask]
OF_MASK = [name for name in STATISTICS if statistic_named(name).of_mask]


class Scorer:
    """Runs the score network over all noise levels of one label map at a time.

    A mask's statistics depend on the mask and the model alone: the noise is either left out (the centre of each
    level) or drawn from a fixed seed, the same numbers for every mask, and masks are never batched together, so that
    neither batch size nor order can change a score.

    Args:
        schedule: the noise that the network was trained with.
        parametrisation: what the network's logits mean, ``posterior`` or ``direct``.
        structures: the structures of a label map; by default those of :class:`Structures`.
        num_draws: noise draws per level to average over; 0 scores the noise-free centre.
        seed: seed of the draws.
        inferer: how the network is run over the noisy maps of a case, which come as one batch.
        chunk_size: noise levels at a time, at most; all by default. Memory grows with it, and no score depends on it.
            Maps of many classes are seen fewer levels at a time, so that they hold :data:`MAX_VALUES` numbers or one
            level's. The network of shapes is always asked for the two levels that it knows.

    Raises:
        ValueError: ``chunk_size`` below 1.
    """

    def __init__(
        self,
        schedule: NoiseSchedule,
        parametrisation: str = "posterior",
        structures: Structures | None = None,
        num_draws: int = 0,
        seed: int = 0,
        inferer: Inferer | None = None,
        chunk_size: int | None = None,
    ) -> None:
        if chunk_size is not None and chunk_size < 1:
            raise ValueError(f"chunk_size must be at least 1, got {chunk_size}")
        self.schedule, self.parametrisation, self.structures = schedule, parametrisation, structures or Structures()
        self.num_draws, self.seed = num_draws, seed
        self.inferer, self.chunk_size = inferer or SimpleInferer(), chunk_size

    @torch.inference_mode()
    def __call__(
        self,
        network: nn.Module,
        probabilities: Tensor,
        observed: Tensor | None = None,
        image: Tensor | None = None,
        level_weights: np.ndarray | None = None,
        only_levels: Sequence[int] | None = None,
        shapes: ReferenceShapes | None = None,
    ) -> CaseStatistics:
        """Statistics of one (soft) label map.

        Args:
            network: the score network, in eval mode.
            probabilities: ``(1, K, *spatial)``, one-hot or soft.
            observed: ``(1, 1, *spatial)``, 1 where a voxel counts; all by default.
            image: ``(1, C, *spatial)`` for a network with image channels.
            level_weights: of the levels in the anomaly map and the denoised mask, ``(L,)``; equal by default.
            only_levels: the ``L`` levels to look at; all by default.
            shapes: those of the references; without them ``shape`` and ``size`` are NaN.

        Raises:
            ValueError: another number of weights than of levels.
        """
        probabilities = probabilities.float()
        observed = torch.ones_like(probabilities[:, :1]) if observed is None else observed.to(probabilities)
        indices = range(self.schedule.num_levels) if only_levels is None else only_levels
        levels = torch.tensor(list(indices), device=probabilities.device)
        equal = np.full(len(levels), 1 / len(levels))
        shares = torch.as_tensor(equal if level_weights is None else level_weights).to(probabilities)
        if len(shares) != len(levels):
            raise ValueError(f"{len(levels)} levels need as many level_weights, got {len(shares)}")
        noise, size = self._noise(probabilities), self.levels_at_once(probabilities.numel())
        measured, anomaly, posterior = [], torch.zeros_like(observed[0, 0]), torch.zeros_like(probabilities[0])
        for some, share in zip(levels.split(size), shares.split(size), strict=True):
            values, structures, maps, posteriors = self._look(network, probabilities, observed, image, some, noise)
            measured.append((values, structures))
            anomaly += torch.tensordot(share, maps, dims=1)
            posterior += torch.tensordot(share, posteriors, dims=1)
        of_mask = self._measure(OF_MASK, self._mask_view(probabilities, observed, levels, shapes), levels)
        of_network, structures = (torch.cat(values, dim=-1) for values in zip(*measured, strict=True))
        denoised = likeliest(posterior[None])[0]
        either = (likeliest(probabilities)[0] > 0) | (denoised > 0)
        return CaseStatistics(
            _by_name(torch.cat([of_network, of_mask])),
            structures.double().cpu().numpy().copy(),  # kept of every case: not with a tensor behind it
            anomaly.cpu().numpy(),
            denoised.to(torch.int16).cpu().numpy(),
            (self.structures.band(either[None, None]) * observed)[0, 0].bool().cpu().numpy(),
        )

    def levels_at_once(self, values: int) -> int:
        """Noise levels that the network sees at a time, one at least, of a map of so many classes times voxels."""
        return max(1, min(self.chunk_size or self.schedule.num_levels, MAX_VALUES // values))

    def _noise(self, probabilities: Tensor) -> list[Tensor | None]:
        """The common random numbers: drawn on the CPU, so that every device gets the same ones."""
        if not self.num_draws:
            return [None]
        generator = torch.Generator().manual_seed(self.seed)
        like = torch.empty(probabilities.shape)
        return [gumbel_noise(like, generator).to(probabilities.device) for _ in range(self.num_draws)]

    def _look(
        self,
        network: nn.Module,
        probabilities: Tensor,
        observed: Tensor,
        image: Tensor | None,
        levels: Tensor,
        noise: Sequence[Tensor | None],
    ) -> tuple[Tensor, ...]:
        """What the network says of ``n`` levels, mean over the draws.

        Statistics ``(len(OF_NETWORK), n)``, those of the structures ``(S, n)``, the anomaly map ``(n, *spatial)``, and
        the posterior ``(n, K, *spatial)`` or in its place, where there is none, the mask.
        """
        log_alpha = self.schedule.log_alpha(probabilities.expand(len(levels), *probabilities.shape[1:]), levels)
        extra = {} if image is None else {"image": image.expand(len(levels), *image.shape[1:])}
        total: list[Tensor] = []
        for one in noise:
            x = hide(relax(log_alpha, self.schedule.temperature(levels), one), observed)
            logits = upcast(self.inferer(x, network, levels, **extra))
            score = score_from_logits(self.parametrisation, logits, x, levels, self.schedule) * observed
            squared = (score.double() ** 2).sum(CLASS_DIM)
            if self.parametrisation == "direct":
                values = self._measure(OF_NETWORK, NetworkView(squared), levels)
                count = self.structures.count(logits.shape[CLASS_DIM])
                unknown = values.new_full((count, len(levels)), torch.nan)
                drawn = [values, unknown, squared.float(), probabilities.expand_as(logits)]
            else:
                view = self._posterior_view(squared, logits, probabilities, observed, image is not None)
                values = self._measure(OF_NETWORK, view, levels)
                drawn = [values, view.disagreements.T, view.misfit[:, 0], view.posterior]
            total = [a + b for a, b in zip(total, drawn, strict=True)] if total else drawn
        return tuple(values / len(noise) for values in total)

    def _measure(self, names: Sequence[str], view: MaskView | NetworkView, levels: Tensor) -> Tensor:
        """Statistics of a view of ``n`` levels, ``(len(names), n)`` float64."""
        unknown = torch.full(levels.shape, torch.nan, dtype=torch.float64, device=levels.device)
        posterior = self.parametrisation == "posterior"
        measured = [
            s.measure(view) if posterior or not s.needs_posterior else None for s in map(statistic_named, names)
        ]
        return torch.stack([unknown if values is None else values.double() for values in measured])

    def _posterior_view(
        self, squared_score: Tensor, logits: Tensor, probabilities: Tensor, observed: Tensor, sees_image: bool
    ) -> PosteriorView:
        log_posterior = F.log_softmax(logits, CLASS_DIM)
        posterior = log_posterior.exp()
        misfit = -(probabilities * log_posterior).sum(CLASS_DIM, keepdim=True) * observed
        entropy = -(posterior * log_posterior).sum(CLASS_DIM, keepdim=True) * observed
        mask_structures, denoised = (self.structures.present(weights) * observed for weights in (probabilities, logits))
        inside = mask_structures.amax(CLASS_DIM, keepdim=True)
        band = self.structures.band((inside + denoised.amax(CLASS_DIM, keepdim=True)) > 0) * observed
        expected, needed = self.structures.grouped(posterior) * observed, self.structures.needed(mask_structures)
        disagreements = disagreement(mask_structures, denoised, expected, needed)
        return PosteriorView(
            squared_score=squared_score,
            observed=observed,
            posterior=posterior,
            inside=inside,
            band=band,
            misfit=misfit,
            smooth_misfit=smooth(misfit * band, PLACE_VOXELS),
            entropy=entropy,
            disagreements=disagreements,
            doubts=doubt(disagreements, expected, needed) if sees_image else None,
        )

    def _mask_view(
        self, probabilities: Tensor, observed: Tensor, levels: Tensor, shapes: ReferenceShapes | None
    ) -> MaskView:
        if shapes is None or self.parametrisation == "direct":
            return MaskView(len(levels), None, None)
        mask_structures = self.structures.present(probabilities) * observed
        needed = self.structures.needed(mask_structures)

        def differs(expected: Tensor) -> Tensor:
            denoised, grouped = self.structures.present(expected) * observed, self.structures.grouped(expected)
            return disagreement(mask_structures, denoised, grouped * observed, needed)

        size = self.levels_at_once(probabilities.numel())
        opinions = shapes.judge(differs, self.schedule, probabilities, observed, levels, size)
        deviations = None
        if shapes.sizes is not None:
            axes = tuple(range(2, observed.ndim))
            voxels = (self.structures.grouped(probabilities) * observed).double().sum(axes)
            counts = needed | mask_structures.bool().flatten(2).any(2)
            deviations = torch.where(counts, shapes.sizes.deviation(voxels), torch.nan)
        forms: dict[str, Tensor] = {}
        if shapes.forms is not None:
            measured = shapes.forms.measure(mask_structures[0].cpu().numpy(), needed.cpu().numpy())
            forms = {
                name: torch.full(levels.shape, value, dtype=torch.float64, device=levels.device)
                for name, value in measured.items()
            }
        return MaskView(len(levels), torch.stack(opinions) if opinions else None, deviations, forms)


def _by_name(values: Tensor) -> dict[str, np.ndarray]:
    """By name, in the order of files, of values in the order of :data:`OF_NETWORK` and :data:`OF_MASK`."""
    each = dict(zip([*OF_NETWORK, *OF_MASK], values.cpu().numpy().copy(), strict=True))
    return {name: each[name] for name in STATISTICS}
