"""The score network in TorchScript, as MONAI's ``ckpt_export`` asks for it."""

from __future__ import annotations

import copy
import warnings

import torch
from torch import Tensor, nn

from gnsm_monai.networks.precision import with_amp

__all__ = ["TracedNetwork"]


class TracedNetwork(nn.Module):
    """What ``torch.jit.script`` compiles in place of a score network: its trace, for any number of samples of one grid.

    It computes in the precision of the parameters, whatever the network's ``compute_dtype``.

    Args:
        network: the score network.
        x: an example of its first input; channels of the image, if it sees any, follow those of the classes.
        level: an example of its second.
    """

    def __init__(self, network: nn.Module, x: Tensor, level: Tensor) -> None:
        super().__init__()
        network = with_amp(copy.deepcopy(network).cpu().eval(), False)  # a trace cannot exchange parameters
        with torch.no_grad(), warnings.catch_warnings():
            # A trace holds constants, as it should: the schedule's, and the grid's size.
            warnings.simplefilter("ignore")
            self.traced = torch.jit.trace(network, (x, level), check_trace=False)

    def forward(self, x: Tensor, level: Tensor | None = None, image: Tensor | None = None) -> Tensor:
        if level is None:
            level = torch.zeros(x.shape[0], dtype=torch.long, device=x.device)
        if image is not None:
            x = torch.cat([x, image.to(x.dtype)], dim=1)
        logits: Tensor = self.traced(x, level)
        return logits
