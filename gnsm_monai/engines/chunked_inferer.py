"""Large batches in small pieces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.inferers import Inferer
from torch import Tensor

__all__ = ["ChunkedInferer"]


class ChunkedInferer(Inferer):
    """Runs the network on a few samples at a time and joins what it gives.

    All noise levels of a case make a batch; its activations should fit the memory. Small pieces are faster on a CPU.

    Args:
        chunk_size: samples at a time.
    """

    def __init__(self, chunk_size: int) -> None:
        super().__init__()
        if chunk_size < 1:
            raise ValueError(f"chunk_size must be at least 1, got {chunk_size}")
        self.chunk_size = chunk_size

    def __call__(self, inputs: Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Tensor:
        """Tensors among the arguments that have the batch's length are split with it."""

        def piece(value: Any, start: int) -> Any:
            is_batch = isinstance(value, Tensor) and value.ndim > 0 and len(value) == len(inputs)
            return value[start : start + self.chunk_size] if is_batch else value

        return torch.cat(
            [
                network(piece(inputs, s), *(piece(a, s) for a in args), **{k: piece(v, s) for k, v in kwargs.items()})
                for s in range(0, len(inputs), self.chunk_size)
            ]
        )
