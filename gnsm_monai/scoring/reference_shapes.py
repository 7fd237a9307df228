"""What shapes the references have, by a linear model and by a network with a bottleneck, what sizes, and what forms."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gnsm_monai.networks.bottleneck import BottleneckNetwork
from gnsm_monai.noise import NoiseSchedule, hide, relax
from gnsm_monai.noise.gumbel import CLASS_DIM, upcast
from gnsm_monai.scoring.forms import ReferenceForms
from gnsm_monai.scoring.shape import ShapeModel
from gnsm_monai.scoring.sizes import ReferenceSizes

__all__ = ["ReferenceShapes"]

PREFIX = "bottleneck_"


@dataclass(frozen=True)
class ReferenceShapes:
    """The linear model, the network, the structures' sizes, and their forms and places, each if there is one."""

    linear: ShapeModel | None = None
    network: BottleneckNetwork | None = None
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
            network = self.network.to(probabilities.device)
            # All the few levels that it knows, at once: one map alone takes torch's slow convolution, and rounds
            # otherwise.
            distinct = torch.arange(network.schedule.num_levels, device=levels.device)
            back = levels.clamp_max(network.schedule.num_levels - 1)
            log_alpha = network.schedule.log_alpha(
                probabilities.expand(len(distinct), *probabilities.shape[1:]), distinct
            )
            x = hide(relax(log_alpha, network.schedule.temperature(distinct)), mask)
            judgements.append(judgement(torch.softmax(upcast(network(x, distinct)), CLASS_DIM))[back])
        return judgements

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Plain arrays for an npz file; :meth:`from_arrays` reads them back."""
        arrays = {} if self.linear is None else self.linear.to_arrays()
        arrays |= {} if self.sizes is None else self.sizes.to_arrays()
        arrays |= {} if self.forms is None else self.forms.to_arrays()
        if self.network is not None:
            schedule = self.network.schedule
            arrays |= {
                f"{PREFIX}strides": np.array(self.network.strides),
                f"{PREFIX}betas": np.array(schedule.betas),
                f"{PREFIX}temperatures": np.array(schedule.temperatures),
                f"{PREFIX}floor": np.array(schedule.floor),
                **{f"{PREFIX}weight_{k}": v.cpu().half().numpy() for k, v in self.network.state_dict().items()},
            }
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> ReferenceShapes:
        linear, sizes = ShapeModel.from_arrays(arrays), ReferenceSizes.from_arrays(arrays)
        forms = ReferenceForms.from_arrays(arrays)
        if f"{PREFIX}strides" not in arrays:
            return cls(linear, None, sizes, forms)
        betas, temperatures = (tuple(arrays[PREFIX + name].tolist()) for name in ("betas", "temperatures"))
        schedule = NoiseSchedule(betas, temperatures, float(arrays[f"{PREFIX}floor"]))
        num_classes, *size = arrays[f"{PREFIX}weight_log_prior"].shape
        network = BottleneckNetwork(schedule, num_classes, size, arrays[f"{PREFIX}strides"].tolist())
        start = f"{PREFIX}weight_"
        weights = {name.removeprefix(start): value for name, value in arrays.items() if name.startswith(start)}
        network.load_state_dict({name: torch.as_tensor(value).float() for name, value in weights.items()})
        return cls(linear, network.eval(), sizes, forms)
