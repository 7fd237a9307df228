"""The inferer that replays CUDA graphs; a GPU's part is in tests/test_gpu.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gnsm_monai.engines import ChunkedInferer, GraphInferer
from gnsm_monai.networks import ScoreUNet
from gnsm_monai.noise import mixing_schedule


def unet() -> ScoreUNet:
    torch.manual_seed(0)
    net = ScoreUNet(2, 3, 1, mixing_schedule(8), (8, 16), position_size=(8, 8)).eval()
    nn.init.normal_(net.head[-1].weight)
    return net


def inputs(*size: int, batch: int = 7) -> tuple[Tensor, Tensor, Tensor]:
    return torch.randn(batch, 3, *size).log_softmax(1), torch.arange(batch), torch.randn(batch, 1, *size)


class FakeCapture:
    """What a capture does, by calls: inputs are copied to its own, and weights are read at each replay."""

    def __init__(self) -> None:
        self.shapes: list[tuple[tuple[int, ...], ...]] = []
        self.replays = 0

    def __call__(
        self, network: Callable[..., Tensor], args: Sequence[Tensor], kwargs: Mapping[str, Tensor]
    ) -> Callable[[Sequence[Tensor]], Tensor]:
        places = [value.clone() for value in (*args, *kwargs.values())]
        self.shapes.append(tuple(tuple(place.shape) for place in places))

        def replay(values: Sequence[Tensor]) -> Tensor:
            self.replays += 1
            for place, value in zip(places, values, strict=True):
                place.copy_(value)
            return network(*places[: len(args)], **dict(zip(kwargs, places[len(args) :], strict=True)))

        return replay


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeCapture:
    monkeypatch.setattr(GraphInferer, "_can_capture", staticmethod(lambda values: True))
    return FakeCapture()


@pytest.mark.parametrize("chunk_size", [1, 3, 16])
def test_on_a_cpu_it_is_the_chunked_inferer(chunk_size: int) -> None:
    def never(*_: Any) -> Any:
        raise AssertionError("nothing can be captured on a CPU")

    net, (x, level, image) = unet(), inputs(9, 6)
    with torch.inference_mode():
        expected = ChunkedInferer(chunk_size)(x, net, level, image=image)
        assert torch.equal(GraphInferer(chunk_size, capture=never)(x, net, level, image=image), expected)


def test_chunks_are_replayed_and_each_shape_is_captured_once(fake: FakeCapture) -> None:
    net, inferer = unet(), GraphInferer(3, capture=fake)
    with torch.inference_mode():
        for seed in range(3):
            torch.manual_seed(seed)
            x, level, image = inputs(9, 6)
            expected = ChunkedInferer(3)(x, net, level, image=image)
            assert torch.equal(inferer(x, net, level, image=image), expected)
    assert fake.shapes == [((n, 3, 9, 6), (n,), (n, 1, 9, 6)) for n in (3, 1)]
    assert fake.replays == 3 * 3


def test_the_graph_that_was_longest_unused_goes_first(fake: FakeCapture) -> None:
    net, inferer = unet(), GraphInferer(8, max_graphs=2, capture=fake)
    with torch.inference_mode():
        for side in (4, 5, 4, 6, 4, 5):
            x, level, image = inputs(side, side)
            assert torch.equal(inferer(x, net, level, image=image), net(x, level, image))
    assert [shapes[0][-1] for shapes in fake.shapes] == [4, 5, 6, 5]


def test_a_graph_is_of_a_network_and_of_where_its_weights_are(fake: FakeCapture) -> None:
    net, inferer = unet(), GraphInferer(8, max_graphs=8, capture=fake)
    x, level, image = inputs(4, 4)

    def captures() -> int:
        with torch.inference_mode():
            assert torch.equal(inferer(x, net, level, image=image), net(x, level, image))
        return len(fake.shapes)

    assert captures() == 1
    net.load_state_dict({name: value + 0.1 for name, value in net.state_dict().items()})  # in place
    assert captures() == 1
    net.compute_dtype = torch.bfloat16
    assert captures() == 2
    net.stem.weight.data = net.stem.weight.data * 2  # elsewhere
    assert captures() == 3
    net = unet()
    assert captures() == 4


def test_inputs_by_name_and_by_place_are_not_mixed_up(fake: FakeCapture) -> None:
    class Difference(nn.Module):
        def forward(self, x: Tensor, a: Tensor, b: Tensor) -> Tensor:
            return x + a - 2 * b

    net, inferer, (x, a, b) = Difference(), GraphInferer(4, capture=fake), torch.rand(3, 4, 2)
    with torch.no_grad():
        for _ in range(2):
            assert torch.equal(inferer(x, net, a=a, b=b), x + a - 2 * b)
            assert torch.equal(inferer(x, net, b=a, a=b), x + b - 2 * a)
            assert torch.equal(inferer(x, net, a, b), x + a - 2 * b)
    assert len(fake.shapes) == 3


def test_nothing_is_captured_with_gradients_or_of_a_function(fake: FakeCapture) -> None:
    net, inferer, (x, level, image) = unet(), GraphInferer(8, capture=fake), inputs(4, 4)
    inferer(x, net, level, image=image).sum().backward()
    assert net.stem.weight.grad is not None
    with torch.no_grad():
        inferer(x, lambda x: 2 * x)
    assert not fake.shapes


@pytest.mark.parametrize("values", [[torch.zeros(1)], [torch.zeros(1), 2.0], [None]])
def test_other_devices_and_inputs_that_are_no_tensors_are_not_captured(values: list[Any]) -> None:
    assert not GraphInferer._can_capture(values)


@pytest.mark.parametrize(("arguments", "name"), [({"chunk_size": 0}, "chunk_size"), ({"max_graphs": 0}, "max_graphs")])
def test_numbers_below_one_are_refused(arguments: dict[str, int], name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        GraphInferer(**{"chunk_size": 1, **arguments})
