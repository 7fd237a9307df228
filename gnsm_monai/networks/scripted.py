"""The score network in TorchScript, as MONAI's ``ckpt_export`` asks for it."""

from __future__ import annotations

import copy
import warnings

import torch
from torch import Tensor, nn

__all__ = ["TracedNetwork"]


class TracedNetwork(nn.Module):
    """What ``torch.jit.script`` compiles in place of a score network: its trace, for any number of samples of one grid.

    Args:
        network: the score network.
        x, level, image: an example of each input; ``image`` is None where the network sees none.
    """

    __constants__ = ("sees_image",)  # of the two calls of the trace only the right one is compiled

    def __init__(self, network: nn.Module, x: Tensor, level: Tensor, image: Tensor | None = None) -> None:
        super().__init__()
        self.sees_image = image is not None
        inputs = (x, level) if image is None else (x, level, image)
        with torch.no_grad(), warnings.catch_warnings():
            # A trace holds constants, as it should: the schedule's, and the grid's size.
            warnings.simplefilter("ignore")
            self.traced = torch.jit.trace(copy.deepcopy(network).cpu().eval(), inputs, check_trace=False)

    def forward(self, x: Tensor, level: Tensor | None = None, image: Tensor | None = None) -> Tensor:
        if level is None:
            level = torch.zeros(x.shape[0], dtype=torch.long, device=x.device)
        if self.sees_image:
            assert image is not None
            with_image: Tensor = self.traced(x, level, image)
            return with_image
        logits: Tensor = self.traced(x, level)
        return logits
