"""What is measured of a label map at every noise level."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["STATISTICS", "CaseStatistics"]

STATISTICS = (
    "score_norm", "misfit", "misfit_inside", "misfit_rest", "disagreement", "uncertainty", "peak", "shape", "size",
    "doubt",
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
- ``doubt``: 1 - mean over structures of the highest soft Dice that any mask could have with the posterior of a network
  that sees an image: how little it can tell from it and from what the noise leaves of the mask. ``disagreement`` is
  never lower. A structure that may be absent counts the less, the surer that is. NaN for one that sees no image.
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
