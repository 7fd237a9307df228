"""What a table's score network says of a row of known categories: how improbable each is given the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from gnsm_monai.networks.score_mlp import ScoreMLP

__all__ = ["ContextMisfit"]

LOWEST, HIGHEST = 1e-30, 1e30
"""Sums of exponentials that float32 holds to full precision."""


class ContextMisfit:
    """``-log P(c_f | x_others)`` of rows of known categories at the centre of a noise level, in nats; higher = worse.

    That is the log-softmax of the network's logits for those rows, relaxed, less what each feature says of itself,
    ``log p(x_f | c)``. Rows are many, so all that no row changes is computed once, with the weights of the moment:

    - A feature whose category is known is one column of the stem's weights and the sum of the others. The stem adds
      ``F`` columns up where it would multiply by ``D``.
    - The noise level is one, so that FiLM is part of the norm before it.
    - The logits are written to memory that the caller has, and are overwritten there by their exponentials: fresh
      memory of that size costs as much as the arithmetic.

    Args:
        network: in eval mode.
        level: of noise.

    Raises:
        ValueError: the network has direct logits.
    """

    @torch.inference_mode()
    def __init__(self, network: ScoreMLP, level: int) -> None:
        if not network.posterior:
            raise ValueError("direct logits hold no posterior")
        self.blocks, self.width = network.blocks, network.stem.out_features
        at = torch.tensor([level], device=network.log_prior.device)
        cells, other = [], []
        for block, (k, features) in enumerate(self.blocks.blocks):
            first = F.one_hot(torch.zeros_like(at)[:, None], k).transpose(1, 2).float()
            evidence = network.schedule.log_likelihood(network.schedule.noise_free(first, at), at)
            seen = network.standardise(evidence, at, block).flatten()
            cells.append(seen[:1].expand(k * len(features)))
            other.append(seen[1:2].expand(k * len(features)))
        apart, weight = torch.cat(other), network.stem.weight.T
        self.columns = (weight * (torch.cat(cells) - apart)[:, None]).contiguous()  # rows are read one by one
        self.stem, embedding = apart @ weight + network.stem.bias, network.embedding(at)
        self.layers: list[Any] = [(layers, *_with_film(layers, embedding)) for layers in network.layers]
        last: Any = network.head[-1]
        self.head = network.head[0]
        self.weight: Tensor = last.weight.T
        self.bias: Tensor = last.bias + network.log_prior

    @torch.inference_mode()
    def __call__(self, codes: Tensor, scratch: Tensor | None = None) -> Tensor:
        """Misfits ``(B, F)`` of category codes ``(B, F)``; ``scratch``, at least ``(B, D)``, is overwritten."""
        places = self.blocks.places(codes)
        h = F.embedding_bag(places, self.columns, mode="sum").add_(self.stem)
        for layers, scale, shift in self.layers:
            g = layers.linear1(F.silu(layers.norm1(h), inplace=True))
            g = F.silu(F.layer_norm(g, (self.width,), scale, shift, layers.norm2.eps), inplace=True)
            h.add_(layers.linear2.bias).addmm_(g, layers.linear2.weight.T)
        h = F.silu(self.head(h), inplace=True)
        out = None if scratch is None else scratch[: len(codes)]
        logits = torch.addmm(self.bias, h, self.weight, out=out)
        said = logits.gather(1, places)
        total = self.blocks.features([block.sum(1) for block in self.blocks.split(logits.exp_())])
        low, high = total.aminmax()
        if low > LOWEST and high < HIGHEST:
            return total.log_().sub_(said)
        # The usual logsumexp takes off the highest value first. It needs the logits again, and far more time.
        logits = torch.addmm(self.bias, h, self.weight, out=out)
        return self.blocks.features([block.logsumexp(1) for block in self.blocks.split(logits)]) - said


def _with_film(layers: Any, embedding: Tensor) -> tuple[Tensor, Tensor]:
    """Scale and shift ``(width,)`` of the second norm and the FiLM behind it as one."""
    scale, shift = layers.film.project(embedding)[0].chunk(2)
    return layers.norm2.weight * (1 + scale), layers.norm2.bias * (1 + scale) + shift
