"""Scoring by CUDA graphs: the kernels of a forward pass are recorded once, and later started all together."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from gnsm_monai.engines.batches import ChunkedInferer

__all__ = ["GraphInferer", "capture"]

MAX_GRAPHS = 4
"""Graphs at a time: each holds the memory of a forward pass."""

WARM_UPS = 3
"""Passes before the one that is recorded, in which libraries set up what they must not set up while recording."""

Replay: TypeAlias = Callable[[Sequence[Tensor]], Tensor]


def capture(network: Callable[..., Tensor], args: Sequence[Tensor], kwargs: Mapping[str, Tensor]) -> Replay:
    """Records a forward pass on inputs of these shapes, on their CUDA device, without gradients.

    Weights are read where they lie when the graph is started, so that it says what the network says of them.

    Returns:
        from the tensors of ``args`` and then ``kwargs`` to what the network makes of them.
    """
    device = args[0].device
    # Tensors of inference mode could not be written to outside of it.
    with torch.inference_mode(False), torch.no_grad(), torch.cuda.device(device):
        inputs = [torch.empty_like(value).copy_(value) for value in (*args, *kwargs.values())]
        forward = partial(network, *inputs[: len(args)], **dict(zip(kwargs, inputs[len(args) :], strict=True)))
        stream = torch.cuda.Stream(device)
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                forward()
        torch.cuda.current_stream(device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # Threads that load data may use the device meanwhile.
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            output = forward()

    def replay(values: Sequence[Tensor]) -> Tensor:
        with torch.no_grad(), torch.cuda.device(device):
            for place, value in zip(inputs, values, strict=True):
                place.copy_(value)
            graph.replay()
            return output.clone()

    return replay


class GraphInferer(ChunkedInferer):
    """:class:`ChunkedInferer` that records the network's forward pass once per shape of its inputs, and replays it.

    A small network spends much of its time on starting kernels, which a CUDA graph starts all together. Where nothing
    can be recorded the network is called: on other devices, with gradients, with inputs that are no tensors, and for
    functions that are no modules.

    Args:
        chunk_size: samples at a time.
        max_graphs: graphs at a time; the one that was longest unused goes first.
        capture: see :func:`capture`.

    Raises:
        ValueError: ``chunk_size`` or ``max_graphs`` below 1.
    """

    def __init__(self, chunk_size: int, max_graphs: int = MAX_GRAPHS, capture: Callable[..., Replay] = capture) -> None:
        super().__init__(chunk_size)
        if max_graphs < 1:
            raise ValueError(f"max_graphs must be at least 1, got {max_graphs}")
        self.max_graphs, self.capture = max_graphs, capture
        self._graphs: OrderedDict[Hashable, Replay] = OrderedDict()

    def __call__(self, inputs: Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Tensor:
        return super().__call__(inputs, partial(self._run, network), *args, **kwargs)

    def _run(self, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        values = [*args, *kwargs.values()]
        if torch.is_grad_enabled() or not isinstance(network, nn.Module) or not self._can_capture(values):
            return network(*args, **kwargs)
        key = _key(network, values, kwargs)
        if key in self._graphs:
            self._graphs.move_to_end(key)
        else:
            # Recording waits for the device: no graph that goes is still at work.
            self._graphs[key] = self.capture(network, args, kwargs)
            if len(self._graphs) > self.max_graphs:
                self._graphs.popitem(last=False)
        return self._graphs[key](values)

    @staticmethod
    def _can_capture(values: Sequence[Any]) -> bool:
        """Whether these are tensors on one CUDA device."""
        return all(isinstance(value, Tensor) and value.is_cuda and value.device == values[0].device for value in values)


def _key(network: nn.Module, values: Sequence[Tensor], names: Mapping[str, Any]) -> Hashable:
    """What a graph is of: the network, in this mode and with its weights at these places, and the inputs' shapes."""
    places = tuple(value.data_ptr() for value in itertools.chain(network.parameters(), network.buffers()))
    mode = network.training, getattr(network, "compute_dtype", None)
    return network, mode, places, tuple(names), tuple((value.shape, value.dtype, value.device) for value in values)
