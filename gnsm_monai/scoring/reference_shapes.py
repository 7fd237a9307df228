"""What shapes the references have, by a linear model and by a network with a bottleneck, what sizes, and what forms."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gnsm_monai.noise import NoiseSchedule
from gnsm_monai.noise.gumbel import CLASS_DIM
from gnsm_monai.scoring.forms import ReferenceForms
from gnsm_monai.scoring.shape import ShapeModel
from gnsm_monai.scoring.shape_network import ShapeNetwork
from gnsm_monai.scoring.sizes import ReferenceSizes

__all__ = ["ReferenceShapes"]


@dataclass(frozen=True)
class ReferenceShapes:
    """The linear model, the network, the structures' sizes, and their forms and places, each if there is one."""

    linear: ShapeModel | None = None
    network: ShapeNetwork | None = None
    sizes: ReferenceSizes | None = None
    forms: ReferenceForms | None = None

    def judge(
        self,
        judgement: Callable[[Tensor], Tensor],
        schedule: NoiseSchedule,
        probabilities: Tensor,
        mask: Tensor,
        levels: Tensor,
        chunk_size: int | None = None,
    ) -> list[Tensor]:
        """A judgement, ``(n, ...)``, of the shape that each model finds in a mask at ``n`` noise levels.

        Args:
            judgement: gives ``(m, ...)`` of class probabilities ``(m, K, *spatial)``.
            schedule: the noise.
            probabilities: ``(1, K, *spatial)``, one-hot or soft.
            mask: ``(1, 1, *spatial)``, 1 where a voxel is observed.
            levels: ``(n,)``.
            chunk_size: levels at a time, which bounds the memory; all by default.
        """
        judgements, size = [], probabilities.shape[2:]
        if self.linear is not None:
            _, deviation = schedule.log_likelihood_scale(probabilities.shape[CLASS_DIM])
            # What a voxel says of its label's probabilities, to first order, is its log-likelihood: of that variance.
            shape = self.linear.coefficients(probabilities, mask, deviation[levels.cpu()] ** -2)
            pieces = shape.split(chunk_size or len(levels))
            judgements.append(torch.cat([judgement(self.linear.maps(piece, size)) for piece in pieces]))
        if self.network is not None:
            judged = judgement(self.network.posterior(probabilities, mask))
            judgements.append(judged[levels.clamp_max(self.network.num_levels - 1)])  # as at the strongest it knows
        return judgements

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Plain arrays for an npz file; :meth:`from_arrays` reads them back."""
        arrays = {} if self.linear is None else self.linear.to_arrays()
        arrays |= {} if self.sizes is None else self.sizes.to_arrays()
        arrays |= {} if self.forms is None else self.forms.to_arrays()
        if self.network is not None:
            arrays |= self.network.to_arrays()
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> ReferenceShapes:
        return cls(
            ShapeModel.from_arrays(arrays),
            ShapeNetwork.from_arrays(arrays),
            ReferenceSizes.from_arrays(arrays),
            ReferenceForms.from_arrays(arrays),
        )
