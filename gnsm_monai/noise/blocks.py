"""Tables in the layout of label maps: categorical features of equal cardinality side by side."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

__all__ = ["FeatureBlocks"]


class FeatureBlocks:
    """Rows of ``F`` categorical features, each with its own number of categories ``K_f``, as a few dense blocks.

    Features of equal cardinality make one block ``(B, K, F_K)``: classes on axis 1 and features as the only spatial
    axis. All that acts on label maps ``(B, K, *spatial)`` (noise, losses, scores) then acts on tables as it is,
    without padding to the largest cardinality. A row's blocks, one after the other, are its flat form ``(B, D)`` with
    ``D = sum_f K_f``: one tensor that a network, a loader or an inferer can pass on.

    Args:
        cardinalities: ``K_f >= 2`` per feature.

    Raises:
        ValueError: no feature, or a feature with fewer than two categories.
    """

    def __init__(self, cardinalities: Sequence[int]) -> None:
        if not cardinalities or min(cardinalities) < 2:
            raise ValueError(f"features of at least two categories each are needed, got {list(cardinalities)}")
        self.cardinalities = tuple(int(k) for k in cardinalities)
        self.size = sum(self.cardinalities)
        self.blocks = [
            (k, [f for f, size in enumerate(self.cardinalities) if size == k]) for k in sorted(set(self.cardinalities))
        ]
        """Cardinality and features of each block."""
        order = [feature for _, features in self.blocks for feature in features]
        self._place = torch.tensor(order).argsort()
        sizes = [len(features) for _, features in self.blocks for _ in features]
        starts = itertools.accumulate((k * len(features) for k, features in self.blocks), initial=0)
        firsts = [
            start + n for start, (_, members) in zip(starts, self.blocks, strict=False) for n in range(len(members))
        ]
        self._first, self._step = (torch.tensor(values)[self._place] for values in (firsts, sizes))

    @property
    def num_features(self) -> int:
        return len(self.cardinalities)

    def split(self, flat: Tensor) -> list[Tensor]:
        """Blocks ``(B, K, F_K)``, views of the flat form ``(B, D)``."""
        parts = flat.split([k * len(features) for k, features in self.blocks], dim=1)
        # The number of rows is left open: an exported network must not have that of its example written into it.
        return [part.reshape(-1, k, len(members)) for part, (k, members) in zip(parts, self.blocks, strict=True)]

    def join(self, blocks: Sequence[Tensor]) -> Tensor:
        """The flat form ``(B, D)`` of blocks ``(B, K, F_K)``."""
        return torch.cat([block.flatten(1) for block in blocks], dim=1)

    def apply(self, function: Callable[..., Tensor], *flat: Tensor) -> Tensor:
        """``function`` of the blocks of flat tensors ``(B, D)``, block by block, joined again."""
        return self.join([function(*parts) for parts in zip(*(self.split(f) for f in flat), strict=True)])

    def features(self, blocks: Sequence[Tensor]) -> Tensor:
        """One value per feature, ``(B, F)`` in the order of the table, from values ``(B, F_K)`` of each block."""
        return torch.cat(list(blocks), dim=1).index_select(1, self._place.to(blocks[0].device))

    def columns(self, values: Tensor) -> list[Tensor]:
        """Values ``(B, F)`` of the table's columns as ``(B, F_K)`` per block; undone by :meth:`features`."""
        return [values[:, features] for _, features in self.blocks]

    def one_hot(self, codes: Tensor) -> Tensor:
        """Flat one-hot rows ``(B, D)`` float32 of category codes ``(B, F)`` integer, ``0 <= codes[:, f] < K_f``."""
        return torch.zeros(len(codes), self.size, device=codes.device).scatter_(1, self.places(codes), 1.0)

    def places(self, codes: Tensor) -> Tensor:
        """Where a row's categories stand in the flat form, ``(B, F)`` int64, from codes ``(B, F)``."""
        return self._first.to(codes.device) + self._step.to(codes.device) * codes.long()

    def at_codes(self, flat: Tensor, codes: Tensor) -> Tensor:
        """The entry of each feature's category, ``(B, F)``, from flat values ``(B, D)`` and codes ``(B, F)``."""
        return flat.gather(1, self.places(codes))
