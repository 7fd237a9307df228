"""What the network says of a mask at some noise levels, each part computed when it is first asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gnsm_monai.explain.planes import PLACE_VOXELS
from gnsm_monai.networks.separable import smooth
from gnsm_monai.noise.gumbel import CLASS_DIM
from gnsm_monai.scoring.structures import Structures, disagreement, doubt

__all__ = ["Seen", "SeenMask"]


@dataclass(frozen=True)
class SeenMask:
    """A mask, and which structures it has where: the same at all levels.

    Args:
        probabilities: ``(1, K, *spatial)``, one-hot or soft.
        observed: ``(1, 1, *spatial)``, 1 where a voxel counts.
        image: ``(1, C, *spatial)`` for a network that sees images.
        structures: the structures of a label map.
        weights: of the structures in the anomaly map, ``(S,)``; without them it is of voxels.
    """

    probabilities: Tensor
    observed: Tensor
    image: Tensor | None
    structures: Structures
    weights: np.ndarray | None = None

    @cached_property
    def present(self) -> Tensor:
        """Whether a voxel belongs to each structure, ``(1, S, *spatial)``, 0 or 1."""
        return self.structures.present(self.probabilities) * self.observed

    @cached_property
    def inside(self) -> Tensor:
        """Whether it belongs to any, ``(1, 1, *spatial)``."""
        return self.present.amax(CLASS_DIM, keepdim=True)

    @cached_property
    def needed(self) -> Tensor:
        """Whether every reference has each structure, ``(S,)`` bool."""
        return self.structures.needed(self.present)

    def disagreements(self, weights: Tensor, expected: Tensor) -> Tensor:
        """:func:`gnsm_monai.scoring.structures.disagreement` of the mask, ``(n, S)``.

        Args:
            weights: of the classes, the likeliest with the highest, ``(n, K, *spatial)``.
            expected: probability of each structure, ``(n, S, *spatial)``.
        """
        return disagreement(self.present, self.structures.present(weights) * self.observed, expected, self.needed)


class Seen:
    """A mask as a network with a posterior sees it: what :class:`gnsm_monai.rules.views.PosteriorView` holds.

    Args:
        mask: the mask.
        logits: of the network, ``(n, K, *spatial)``.
        squared_score: gives ``|| s_v ||^2``, ``(n, *spatial)``.
    """

    def __init__(self, mask: SeenMask, logits: Tensor, squared_score: Callable[[], Tensor]) -> None:
        self.mask, self.logits, self._squared_score = mask, logits, squared_score
        self.observed = mask.observed

    @cached_property
    def squared_score(self) -> Tensor:
        return self._squared_score()

    @cached_property
    def log_posterior(self) -> Tensor:
        return F.log_softmax(self.logits, CLASS_DIM)

    @cached_property
    def posterior(self) -> Tensor:
        return self.log_posterior.exp()

    @property
    def inside(self) -> Tensor:
        return self.mask.inside

    @cached_property
    def misfit(self) -> Tensor:
        return -(self.mask.probabilities * self.log_posterior).sum(CLASS_DIM, keepdim=True) * self.observed

    @cached_property
    def entropy(self) -> Tensor:
        return -(self.posterior * self.log_posterior).sum(CLASS_DIM, keepdim=True) * self.observed

    @cached_property
    def denoised(self) -> Tensor:
        """Whether a voxel's likeliest class belongs to each structure, ``(n, S, *spatial)``."""
        return self.mask.structures.present(self.logits) * self.observed

    @cached_property
    def band(self) -> Tensor:
        either = (self.inside + self.denoised.amax(CLASS_DIM, keepdim=True)) > 0
        return self.mask.structures.band(either) * self.observed

    @cached_property
    def smooth_misfit(self) -> Tensor:
        return smooth(self.misfit * self.band, PLACE_VOXELS)

    @cached_property
    def expected(self) -> Tensor:
        """Probability of each structure, ``(n, S, *spatial)``."""
        return self.mask.structures.grouped(self.posterior) * self.observed

    @cached_property
    def disagreements(self) -> Tensor:
        return disagreement(self.mask.present, self.denoised, self.expected, self.mask.needed)

    @property
    def anomaly_map(self) -> Tensor:
        """Where mask and posterior disagree, ``(n, *spatial)``, higher = worse.

        It is the misfit, or with weights of structures a sum over these.

        A structure ``s`` gives ``w_s |m_s - p_s| / sqrt(|m_s| + |p_s|)``, with sums over all voxels below. So neither
        the many voxels of a large structure nor the few of a small one hide the other.
        """
        if self.mask.weights is None:
            return self.misfit[:, 0]
        present, expected = self.mask.present, self.expected
        axes = tuple(range(2, expected.ndim))
        size = (present.sum(axes, keepdim=True) + expected.sum(axes, keepdim=True)).clamp_min(1)
        shares = torch.as_tensor(self.mask.weights).to(expected).reshape(1, -1, *[1] * len(axes)) / size.sqrt()
        return ((present - expected).abs_() * shares).sum(CLASS_DIM)

    @cached_property
    def doubts(self) -> Tensor | None:
        return None if self.mask.image is None else doubt(self.disagreements, self.expected, self.mask.needed)
