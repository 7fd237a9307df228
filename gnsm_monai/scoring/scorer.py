"""Level statistics of one label map: how well the score network can explain it at every noise level."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import torch
from monai.inferers import Inferer, SimpleInferer
from torch import Tensor, nn

from gnsm_monai.networks import score_from_logits
from gnsm_monai.noise import NoiseSchedule, gumbel_noise, hide, relax
from gnsm_monai.noise.gumbel import CLASS_DIM, upcast
from gnsm_monai.rules.levels import CaseStatistics, LevelStatistics
from gnsm_monai.rules.reading import Reading
from gnsm_monai.rules.statistics import STATISTICS, MaskView, statistic_named
from gnsm_monai.scoring.beside_references import beside_references
from gnsm_monai.scoring.reference_shapes import ReferenceShapes
from gnsm_monai.scoring.seen import Seen, SeenMask
from gnsm_monai.scoring.structures import Structures, likeliest

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
        num_draws, seed: noise draws per level to average over, and their seed; 0 scores the noise-free centre.
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
        structure_weights: np.ndarray | None = None,
    ) -> CaseStatistics:
        """All statistics of one (soft) label map.

        Args:
            network: the score network, in eval mode.
            probabilities: ``(1, K, *spatial)``, one-hot or soft.
            observed: ``(1, 1, *spatial)``, 1 where a voxel counts; all by default.
            image: ``(1, C, *spatial)`` for a network with image channels.
            level_weights: of the levels in the anomaly map and the denoised mask, ``(L,)``; equal by default.
            only_levels: the ``L`` levels to look at; all by default.
            shapes: those of the references; without them ``shape`` and ``size`` are NaN.
            structure_weights: see :class:`gnsm_monai.scoring.seen.SeenMask`.

        Raises:
            ValueError: another number of weights than of levels.
        """
        mask = self._mask(probabilities, observed, image, structure_weights)
        indices = range(self.schedule.num_levels) if only_levels is None else only_levels
        levels = torch.tensor(list(indices), device=mask.observed.device)
        weights = np.full(len(levels), 1 / len(levels)) if level_weights is None else level_weights
        shares = torch.as_tensor(weights).to(mask.probabilities)
        if len(shares) != len(levels):
            raise ValueError(f"{len(levels)} levels need as many level_weights, got {len(shares)}")
        noise, size = self._noise(mask.probabilities), self.levels_at_once(probabilities.numel())
        anomaly, posterior = torch.zeros_like(mask.observed[0, 0]), torch.zeros_like(mask.probabilities[0])
        measured = []
        for some, share in zip(levels.split(size), shares.split(size), strict=True):
            values, structures, maps, posteriors = self._look(network, mask, some, noise)
            measured.append((values, structures))
            anomaly += torch.tensordot(share, maps, dims=1)
            posterior += torch.tensordot(share, posteriors, dims=1)
        of_mask = self._of_mask(mask, levels, shapes, OF_MASK)
        of_network, structures = (torch.cat(values, dim=-1) for values in zip(*measured, strict=True))
        denoised = likeliest(posterior[None])[0]
        either = (likeliest(mask.probabilities)[0] > 0) | (denoised > 0)
        return CaseStatistics(
            _by_name(torch.cat([of_network, of_mask])),
            structures.double().cpu().numpy().copy(),  # kept of every case: not with a tensor behind it
            anomaly.cpu().numpy(),
            denoised.to(torch.int16).cpu().numpy(),
            (self.structures.band(either[None, None]) * mask.observed)[0, 0].bool().cpu().numpy(),
        )

    @torch.inference_mode()
    def read(
        self,
        network: nn.Module,
        probabilities: Tensor,
        reading: Reading,
        observed: Tensor | None = None,
        image: Tensor | None = None,
        shapes: ReferenceShapes | None = None,
    ) -> tuple[LevelStatistics, np.ndarray]:
        """What a rule reads of one label map, the same numbers as :meth:`__call__` gives, and nothing else.

        Levels are looked at in the same groups as there, so that not even rounding differs.

        Returns:
            Every statistic ``(L,)``, and ``1 - soft Dice`` per structure ``(S, L)``; NaN for what is not read.
        """
        mask = self._mask(probabilities, observed, image)
        all_levels = torch.arange(self.schedule.num_levels, device=mask.observed.device)
        every = all_levels.split(self.levels_at_once(probabilities.numel()))
        groups = [group for group in every if not set(group.tolist()).isdisjoint(reading.levels)]
        levels = torch.cat(groups)
        of_network, of_mask = ([n for n in names if n in reading.statistics] for names in (OF_NETWORK, OF_MASK))
        structures = torch.full((self.structures.count(probabilities.shape[CLASS_DIM]), len(levels)), torch.nan)
        values = dict.fromkeys(STATISTICS, torch.full(levels.shape, torch.nan))
        if of_network:
            noise = self._noise(mask.probabilities)
            each = [self._mean_over_draws(network, mask, some, noise, of_network) for some in groups]
            measured, structures = (torch.cat(parts, dim=-1) for parts in zip(*each, strict=True))
            values |= dict(zip(of_network, measured, strict=True))
        if of_mask:
            values |= dict(zip(of_mask, self._of_mask(mask, levels, shapes, of_mask), strict=True))
        spread = partial(reading.at_its_levels, levels.tolist(), len(all_levels))
        numbers = {name: spread(row.double().cpu().numpy()) for name, row in values.items()}
        return numbers, spread(structures.double().cpu().numpy())

    def levels_at_once(self, values: int) -> int:
        """Noise levels that the network sees at a time, one at least, of a map of so many classes times voxels."""
        return max(1, min(self.chunk_size or self.schedule.num_levels, MAX_VALUES // values))

    def _mask(
        self,
        probabilities: Tensor,
        observed: Tensor | None,
        image: Tensor | None,
        weights: np.ndarray | None = None,
    ) -> SeenMask:
        probabilities = probabilities.float()
        observed = torch.ones_like(probabilities[:, :1]) if observed is None else observed.to(probabilities)
        return SeenMask(probabilities, observed, image, self.structures, weights)

    def _noise(self, probabilities: Tensor) -> list[Tensor | None]:
        """The common random numbers: drawn on the CPU, so that every device gets the same ones."""
        if not self.num_draws:
            return [None]
        generator = torch.Generator().manual_seed(self.seed)
        like = torch.empty(probabilities.shape)
        return [gumbel_noise(like, generator).to(probabilities.device) for _ in range(self.num_draws)]

    def _views(
        self, network: nn.Module, mask: SeenMask, levels: Tensor, noise: Sequence[Tensor | None]
    ) -> Iterator[Seen]:
        """What the network says of ``n`` levels, by each draw of the noise."""
        probabilities, image = mask.probabilities, mask.image
        log_alpha = self.schedule.log_alpha(probabilities.expand(len(levels), *probabilities.shape[1:]), levels)
        extra = {} if image is None else {"image": image.expand(len(levels), *image.shape[1:])}
        for one in noise:
            x = hide(relax(log_alpha, self.schedule.temperature(levels), one), mask.observed)
            logits = upcast(self.inferer(x, network, levels, **extra))
            yield Seen(mask, logits, partial(self._squared_score, logits, x, levels, mask.observed))

    def _squared_score(self, logits: Tensor, x: Tensor, levels: Tensor, observed: Tensor) -> Tensor:
        score = score_from_logits(self.parametrisation, logits, x, levels, self.schedule) * observed
        return (score.double() ** 2).sum(CLASS_DIM)

    def _look(
        self, network: nn.Module, mask: SeenMask, levels: Tensor, noise: Sequence[Tensor | None]
    ) -> tuple[Tensor, ...]:
        """What the network says of ``n`` levels, mean over the draws: statistics ``(len(OF_NETWORK), n)``, those of the
        structures ``(S, n)``, the anomaly map ``(n, *spatial)``, and the posterior ``(n, K, *spatial)`` or, where there
        is none, the mask."""
        total: list[Tensor] = []
        for view in self._views(network, mask, levels, noise):
            drawn = list(self._of_network(view, levels, OF_NETWORK))
            if self.parametrisation == "direct":
                drawn += [view.squared_score.float(), mask.probabilities.expand_as(view.logits)]
            else:
                drawn += [view.anomaly_map, view.posterior]
            total = [a + b for a, b in zip(total, drawn, strict=True)] if total else drawn
        return tuple(values / len(noise) for values in total)

    def _mean_over_draws(
        self, network: nn.Module, mask: SeenMask, levels: Tensor, noise: Sequence[Tensor | None], names: Sequence[str]
    ) -> tuple[Tensor, Tensor]:
        """Statistics of these names ``(len(names), n)``, and those of the structures ``(S, n)``."""
        drawn = [self._of_network(view, levels, names) for view in self._views(network, mask, levels, noise)]
        values, structures = (sum(parts[1:], parts[0]) / len(noise) for parts in zip(*drawn, strict=True))
        return values, structures

    def _of_network(self, view: Seen, levels: Tensor, names: Sequence[str]) -> tuple[Tensor, Tensor]:
        """The same of one draw."""
        values = self._measure(names, view, levels)
        if self.parametrisation == "posterior":
            return values, view.disagreements.T
        return values, values.new_full((self.structures.count(view.logits.shape[CLASS_DIM]), len(levels)), torch.nan)

    def _of_mask(self, mask: SeenMask, levels: Tensor, shapes: ReferenceShapes | None, names: Sequence[str]) -> Tensor:
        """Statistics of the mask alone, ``(len(names), n)``."""
        view = MaskView(len(levels), None, None)
        if shapes is not None and self.parametrisation == "posterior":
            size = self.levels_at_once(mask.probabilities.numel())
            view = beside_references(mask, shapes, self.schedule, levels, names, size)
        return self._measure(names, view, levels)

    def _measure(self, names: Sequence[str], view: MaskView | Seen, levels: Tensor) -> Tensor:
        """Statistics of a view of ``n`` levels, ``(len(names), n)`` float64."""
        unknown = torch.full(levels.shape, torch.nan, dtype=torch.float64, device=levels.device)
        posterior = self.parametrisation == "posterior"
        kinds = [statistic_named(name) for name in names]
        measured = [kind.measure(view) if posterior or not kind.needs_posterior else None for kind in kinds]
        return torch.stack([unknown if values is None else values.double() for values in measured])


def _by_name(values: Tensor) -> dict[str, np.ndarray]:
    """By name, in the order of files, of values in the order of :data:`OF_NETWORK` and :data:`OF_MASK`."""
    each = dict(zip([*OF_NETWORK, *OF_MASK], values.cpu().numpy().copy(), strict=True))
    return {name: each[name] for name in STATISTICS}
