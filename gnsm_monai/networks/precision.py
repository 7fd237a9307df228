"""Layers in a lower precision than that of their parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

__all__ = ["in_precision", "with_amp"]

Network = TypeVar("Network", bound=nn.Module)


def with_amp(network: Network, amp: bool) -> Network:
    """The network, which computes in bfloat16 from now on if ``amp``, and as its parameters otherwise."""
    network.compute_dtype = torch.bfloat16 if amp else None  # type: ignore[assignment]
    return network


class _Part(nn.Module):
    """Some layers of a network as a module, because torch exchanges the parameters of a module alone."""

    def __init__(self, network: nn.Module, layers: Callable[..., Tensor]) -> None:
        super().__init__()
        self.network, self.layers = network, layers

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.layers(*inputs)


def in_precision(
    dtype: torch.dtype, network: nn.Module, names: set[str], layers: Callable[..., Tensor], *inputs: Tensor
) -> Tensor:
    """What ``layers`` says of ``inputs``, where these and the parameters are cast once, and nothing in between.

    ``torch.autocast`` casts at every layer, and back for every norm. Here the parameters themselves stay as they are,
    and gradients reach them through the cast: optimisers, averages and checkpoints see one precision.

    Args:
        dtype: what is computed in, such as ``torch.bfloat16``.
        network: whose parameters they are.
        names: of its children that ``layers`` consist of.
        layers: a method of ``network``.

    Returns:
        The same in the type of the first input.
    """
    part = _Part(network, layers)
    cast = {
        f"network.{name}.{parameter_name}": parameter.to(dtype)
        for name, child in network.named_children()
        if name in names
        for parameter_name, parameter in child.named_parameters()
    }
    values = tuple(value.to(dtype) for value in inputs)
    said: Tensor = torch.func.functional_call(part, cast, values, tie_weights=False)  # no two layers share any
    return said.to(inputs[0].dtype)
