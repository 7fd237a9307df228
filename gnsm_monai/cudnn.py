"""Versions of cuDNN whose convolutions of volumes are known to be wrong or slow: they are named before work begins."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import torch

__all__ = ["known_faults", "name_known_faults"]

logger = logging.getLogger("gnsm_monai.workflow")


@dataclass(frozen=True)
class Fault:
    """What goes wrong from one version of cuDNN to another, both included, with some versions of torch.

    Args:
        cudnn: first and last version, as ``torch.backends.cudnn.version()`` counts them: 91002 is 9.10.2.
        torch: first version, and the one that mends it, major, minor and patch.
        amp: only in mixed precision.
        text: what goes wrong, and what to do.
        source: where it was reported.
    """

    cudnn: tuple[int, int]
    torch: tuple[tuple[int, int, int], tuple[int, int, int]]
    amp: bool
    text: str
    source: str


FAULTS = (
    Fault(
        (91002, 91500),
        ((0, 0, 0), (2, 9, 1)),
        False,
        "convolutions of volumes in TF32 can be wrong: take torch 2.9.1 or later, or cuDNN 9.15.1 or later",
        "https://github.com/pytorch/pytorch/pull/167024",
    ),
    Fault(
        (0, 91499),
        ((2, 9, 0), (2, 10, 0)),
        True,
        "convolutions of volumes in bfloat16 take many times the time and memory: leave out amp, or take torch 2.10",
        "https://github.com/pytorch/pytorch/issues/166643",
    ),
)


def known_faults(torch_version: str, cudnn_version: int | None, amp: bool) -> list[str]:
    """One line for each fault of these versions, with its source; none without cuDNN."""
    numbers = [*torch_version.split("+")[0].split("."), "0", "0"][:3]
    version = tuple(int("".join(filter(str.isdigit, number)) or 0) for number in numbers)
    return [
        f"cuDNN {_name(cudnn_version)} with torch {torch_version}: {fault.text} ({fault.source})"
        for fault in FAULTS
        if cudnn_version is not None
        and fault.cudnn[0] <= cudnn_version <= fault.cudnn[1]
        and fault.torch[0] <= version < fault.torch[1]
        and (amp or not fault.amp)
    ]


def name_known_faults(device: str, spatial_dims: int, amp: bool) -> None:
    """Warns of the faults of this machine's versions, where volumes are convolved on a GPU."""
    if str(device).startswith("cuda") and spatial_dims == 3:
        for line in known_faults(torch.__version__, torch.backends.cudnn.version(), amp):
            logger.warning("%s", line)


def _name(version: int) -> str:
    """9.10.2 of 91002, 8.9.7 of 8907."""
    major, rest = divmod(version, 10_000 if version >= 90_000 else 1_000)
    return f"{major}.{rest // 100}.{rest % 100}"
