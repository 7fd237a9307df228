"""What statistics are measured of: a mask beside the references, and as the network sees it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["MaskView", "NetworkView", "PosteriorView"]


@dataclass(frozen=True)
class MaskView:
    """A mask beside the references' shapes, at all ``n`` noise levels at once.

    Args:
        num_levels: ``n``.
        shape_disagreements: ``1 - soft Dice`` of the mask's structures with what each of ``k`` models of shapes finds
            in it, ``(k, n, S)``; None without such models.
        size_deviations: spreads of the references' sizes by which each structure is larger or smaller, ``(1, S)``;
            NaN for one that is missing and may be, None where sizes are not known.
        forms: of each of :data:`gnsm_monai.scoring.forms.FORM_STATISTICS`, ``(n,)``; none where they are not known.
    """

    num_levels: int
    shape_disagreements: Tensor | None
    size_deviations: Tensor | None
    forms: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class NetworkView:
    """A mask as the network sees it at ``n`` noise levels.

    Args:
        squared_score: ``|| s_v ||^2`` of every voxel, ``(n, *spatial)``; 0 where it is not observed.
    """

    squared_score: Tensor


@dataclass(frozen=True)
class PosteriorView(NetworkView):
    """The same by a network that has a posterior ``P(c | x)``. Other maps than its are 0 where not observed.

    Args:
        observed: 1 where a voxel is observed, ``(1, 1, *spatial)``.
        posterior: ``P(c | x)``, ``(n, K, *spatial)``.
        inside: 1 in the mask's structures, ``(1, 1, *spatial)``.
        band: 1 around the structures of the mask and of its denoised version, ``(n, 1, *spatial)``.
        misfit: ``-log P(m_v | x)`` in nats, ``(n, 1, *spatial)``.
        smooth_misfit: the band's misfit, smoothed, ``(n, 1, *spatial)``.
        entropy: of ``P(c | x)`` in nats, ``(n, 1, *spatial)``.
        disagreements: ``1 - soft Dice`` between the mask's structures and the posterior, ``(n, S)``; NaN for one that
            is in neither and may be missing.
        doubts: 1 - the highest soft Dice that any mask could have with the posterior, ``(n, S)``; None where the
            network sees no image.
    """

    observed: Tensor
    posterior: Tensor
    inside: Tensor
    band: Tensor
    misfit: Tensor
    smooth_misfit: Tensor
    entropy: Tensor
    disagreements: Tensor
    doubts: Tensor | None
