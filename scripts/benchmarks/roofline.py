"""The least time that the operations of a call could take: arithmetic at the peak, or memory at its bandwidth.

Williams, Waterman & Patterson, Roofline: an insightful visual performance model, CACM 2009. Every operation of torch is
taken as it stands: it reads its inputs and writes its outputs once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

__all__ = ["Roofline", "bandwidth"]


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


def bandwidth(values: int, seconds: Callable[[Callable[[], Any]], float]) -> float:
    """Bytes per second of the sum of two arrays of so many float32 values, written to a third.

    Args:
        values: of each array.
        seconds: times a call.
    """
    a, b = torch.rand(values), torch.rand(values)
    out = torch.empty(values)
    return 3 * 4 * values / seconds(lambda: torch.add(a, b, out=out))
