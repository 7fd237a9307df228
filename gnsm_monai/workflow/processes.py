"""Processes that torchrun started: they join before the training and part after it."""

from __future__ import annotations

import os
from datetime import timedelta

import ignite.distributed as idist
import torch
from torch.nn.parallel import DistributedDataParallel

__all__ = ["is_first_process", "join_processes", "num_processes", "part_processes", "process_device"]


def num_processes() -> int:
    """How many processes torchrun started; 1 without it. Known before they join."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first_process() -> bool:
    """Whether this one speaks for all that torchrun started; true without it. Known before they join."""
    return os.environ.get("RANK", "0") == "0"


def process_device() -> str:
    """GPU of this process, where there is one; by LOCAL_RANK, as ignite knows no ranks before processes join."""
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else "cpu"


def join_processes(device: str) -> None:
    """Joins the processes that torchrun started: nccl between GPUs, gloo between CPU processes. Does nothing without.

    The time-out is long: the others wait while the first one scores the held-out references.
    """
    alone = num_processes() == 1 and not torch.distributed.is_torchelastic_launched()
    if alone or torch.distributed.is_initialized():
        return
    cuda = str(device).startswith("cuda")
    if cuda:
        torch.cuda.set_device(torch.device(device))
    torch.distributed.init_process_group("nccl" if cuda else "gloo", timeout=timedelta(hours=12))


def part_processes(network: DistributedDataParallel | None = None) -> None:
    """Ends the process group, threads included; ``network`` cannot be trained any further.

    A trained network holds the group as well. It must let go of it here: otherwise gloo's threads live until the
    interpreter ends and may abort the process (SIGABRT, after the model is complete) when they free a tensor:
    https://github.com/pytorch/pytorch/pull/179291.
    """
    if network is not None:
        for name in ("logger", "reducer", "process_group"):  # what DistributedDataParallel itself drops when copied
            vars(network).pop(name, None)
    idist.sync()  # or nothing is ended where ignite was not asked for a rank before
    idist.finalize()
