"""Time that calls take, and the least that their operations could: arithmetic at the peak, memory at its bandwidth.

Williams, Waterman & Patterson, Roofline: an insightful visual performance model, CACM 2009. Every operation of torch is
taken as it stands: it reads its inputs and writes its outputs once.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

__all__ = ["Roofline", "bandwidth", "peak", "seconds"]

MATMULS = (1024, 2048, 4096, 8192)
CONVOLUTIONS = ((16, 48), (32, 48), (64, 32), (96, 32), (128, 32), (256, 32))  # channels in and out, voxels per axis


class Roofline(TorchDispatchMode):
    """Context that adds up what operations need, per kind: :attr:`flop`, :attr:`bytes` and :attr:`seconds` at best.

    Args:
        peak: FLOP/s.
        bandwidth: bytes per second, of arrays as large as those of the call.
    """

    def __init__(self, peak: float, bandwidth: float) -> None:
        super().__init__()
        self.peak, self.bandwidth = peak, bandwidth
        self.flop: dict[str, float] = defaultdict(float)
        self.bytes: dict[str, float] = defaultdict(float)
        self.seconds: dict[str, float] = defaultdict(float)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        read, written = (
            {id(t): t for t in tree_leaves(values) if isinstance(t, Tensor)} for values in ((args, kwargs), out)
        )
        shared = {t.untyped_storage().data_ptr() for t in read.values()}
        if all(t.untyped_storage().data_ptr() in shared for t in written.values()) and not func._schema.is_mutable:
            return out  # a view: nothing is moved
        packet = func._overloadpacket
        flop = float(flop_registry[packet](*args, **(kwargs or {}), out_val=out)) if packet in flop_registry else 0.0
        moved = float(sum(t.numel() * t.element_size() for t in [*read.values(), *written.values()]))
        name = packet.__name__
        self.flop[name] += flop
        self.bytes[name] += moved
        self.seconds[name] += max(flop / self.peak, moved / self.bandwidth)
        return out

    def run(self, call: Callable[[], Any]) -> Roofline:
        """Watches one call."""
        with self:
            call()
        return self


def bandwidth(values: int, device: torch.device, repeats: int) -> float:
    """Bytes per second of the sum of two arrays of so many float32 values, written to a third."""
    a, b, out = (torch.rand(values, device=device) for _ in range(3))
    return 3 * 4 * values / seconds({"": lambda: torch.add(a, b, out=out)}, device, repeats)[""]


def peak(device: torch.device, dtype: torch.dtype) -> dict[str, float]:
    """FLOP/s of each listed shape."""
    rates = {}
    for n in MATMULS[: None if device.type == "cuda" else 2]:
        a, b = torch.randn(n, n, device=device, dtype=dtype), torch.randn(n, n, device=device, dtype=dtype)
        rates[f"matmul {n}"] = 2 * n**3 / seconds({"": lambda a=a, b=b: a @ b}, device, 5)[""]  # type: ignore[misc]
    for c, n in CONVOLUTIONS:
        x = torch.randn(1, c, n, n, n, device=device, dtype=dtype).contiguous(memory_format=torch.channels_last_3d)
        layer = nn.Conv3d(c, c, 3, padding=1, device=device, dtype=dtype).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        with torch.inference_mode():
            time_taken = seconds({"": lambda x=x, layer=layer: layer(x)}, device, 5)[""]  # type: ignore[misc]
        rates[f"conv {c}, {n}^3"] = 2 * 27 * c * c * n**3 / time_taken
    return rates


def seconds(calls: Mapping[str, Callable[[], Any]], device: torch.device, repeats: int) -> dict[str, float]:
    """Median of each call; they take turns, so that a busy machine slows all of them."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(repeats + 2):  # the first two warm up
        for name, call in calls.items():
            _wait(device)
            start = time.perf_counter()
            call()
            _wait(device)
            if turn > 1:
                taken[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in taken.items()}


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
