"""The layers of the score network in bfloat16: nearly the same logits and gradients, and the same parameters."""

from __future__ import annotations

import copy
import io
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gnsm_monai.networks import ScoreUNet
from gnsm_monai.noise import mixing_schedule

SEEN = pytest.mark.parametrize(
    ("spatial_dims", "image_channels", "positions"),
    [(2, 0, False), (2, 0, True), (2, 2, True), (3, 0, True), (3, 1, False), (3, 1, True)],
)


def unet(spatial_dims: int = 2, image_channels: int = 0, positions: bool = True, **settings: Any) -> ScoreUNet:
    """A small network whose layers say something, as trained ones do."""
    torch.manual_seed(0)
    size = [8] * spatial_dims if positions else None
    net = ScoreUNet(spatial_dims, 3, image_channels, mixing_schedule(4), (8, 16), position_size=size, **settings)
    for part in (net.head[-1], net.gate, *(m.film.project for m in net.modules() if hasattr(m, "film"))):
        for parameter in part.parameters():
            nn.init.normal_(parameter, std=0.3)
    return net


def inputs(net: ScoreUNet, batch: int = 4) -> tuple[Tensor, ...]:
    """Noisy maps of which the sides are no multiples of the strides, a level each, and images."""
    generator = torch.Generator().manual_seed(1)
    size = (9, 8, 7)[: net.spatial_dims]
    label = torch.randint(0, 3, (batch, *size), generator=generator)
    level = torch.arange(batch) % net.schedule.num_levels
    x = net.schedule.sample(F.one_hot(label, 3).movedim(-1, 1).float(), level, generator)
    image = torch.randn(batch, net.image_channels, *size, generator=generator)
    return (x, level, image) if net.image_channels else (x, level)


def in_bfloat16(net: ScoreUNet) -> ScoreUNet:
    lower = copy.deepcopy(net)
    lower.compute_dtype = torch.bfloat16
    return lower


@SEEN
def test_logits_differ_by_what_bfloat16_rounds(spatial_dims: int, image_channels: int, positions: bool) -> None:
    """A number in bfloat16 is right to 2^-9. Errors of a dozen layers add up as random numbers: to some 2^-7 of what
    the layers say; 2^-5 is allowed."""
    net = unet(spatial_dims, image_channels, positions)
    x, level, *image = inputs(net)
    with torch.no_grad():
        exact, lower = net(x, level, *image), in_bfloat16(net)(x, level, *image)
        said = exact - net.independent_logits(x, level)
    assert lower.dtype == torch.float32
    error = (lower - exact).square().mean().sqrt() / said.square().mean().sqrt()
    assert 0 < error < 2**-5


def test_evidence_prior_and_neighbourhoods_stay_in_float32() -> None:
    """Where the layers say nothing, the logits are those of float32, bit for bit."""
    net = unet()
    for parameter in net.head[-1].parameters():
        nn.init.zeros_(parameter)
    net.set_prior(torch.rand(3, 8, 8).softmax(0))
    x, level = inputs(net)
    assert torch.equal(in_bfloat16(net)(x, level), net(x, level))
    assert not torch.allclose(net(x, level), net.independent_logits(x, level))


def test_every_layer_computes_in_bfloat16() -> None:
    net, seen = in_bfloat16(unet(2, 1)), {}
    for name, module in net.named_modules():
        if not list(module.children()):
            module.register_forward_hook(lambda _, __, out, name=name: seen.update({name: out.dtype}))  # type: ignore[misc]
    net(*inputs(net))
    in_float32 = {name for name, dtype in seen.items() if dtype == torch.float32}
    assert {name.partition(".")[0] for name in in_float32} == {"embedding", "gate"}
    assert {name for name in seen if name not in in_float32} > {"stem", "inject.1", "middle.norm1", "head.2"}


@SEEN
def test_gradients_reach_the_parameters_in_float32(spatial_dims: int, image_channels: int, positions: bool) -> None:
    net = unet(spatial_dims, image_channels, positions)
    lower, seen = in_bfloat16(net), inputs(net)
    target = torch.randint(0, 3, (len(seen[0]), *seen[0].shape[2:]), generator=torch.Generator().manual_seed(2))
    for each in (net, lower):
        F.cross_entropy(each(*seen), target).backward()
    for (name, exact), (_, value) in zip(net.named_parameters(), lower.named_parameters(), strict=True):
        assert exact.grad is not None and value.grad is not None and value.grad.dtype == torch.float32, name
        assert F.cosine_similarity(exact.grad.flatten(), value.grad.flatten(), dim=0) > 0.995, name


def test_parameters_are_the_same_before_and_after() -> None:
    net = in_bfloat16(unet())
    before, objects = copy.deepcopy(net.state_dict()), list(net.parameters())
    with torch.no_grad():
        net(*inputs(net))
    net(*inputs(net)).sum().backward()
    assert all(a is b for a, b in zip(net.parameters(), objects, strict=True))
    assert list(net.state_dict()) == list(before)
    assert all(torch.equal(value, before[name]) and value.dtype == before[name].dtype
               for name, value in net.state_dict().items())  # fmt: skip
    assert net.settings == unet().settings


def test_parameters_that_change_are_seen_at_the_next_call() -> None:
    net = in_bfloat16(unet())
    with torch.inference_mode():
        first = net(*inputs(net))
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.05)
    net(*inputs(net)).square().mean().backward()
    optimizer.step()
    with torch.inference_mode():
        second = net(*inputs(net))
    assert not torch.allclose(first, second, atol=0.01)
    torch.testing.assert_close(second, in_bfloat16(net)(*inputs(net)))


def test_copies_and_stored_weights_say_the_same() -> None:
    net = in_bfloat16(unet())
    file = io.BytesIO()
    torch.save(net.state_dict(), file)
    file.seek(0)
    again = ScoreUNet(**net.settings)
    assert again.compute_dtype is None
    again.load_state_dict(torch.load(file, weights_only=True), strict=True)
    with torch.no_grad():
        expected = net(*inputs(net))
        assert torch.equal(copy.deepcopy(net)(*inputs(net)), expected)
        assert torch.equal(in_bfloat16(again)(*inputs(net)), expected)


def test_an_exported_network_computes_in_float32() -> None:
    net = unet().eval()
    scripted, (x, level) = torch.jit.script(in_bfloat16(net)), inputs(net)
    x = x[:, :, :8]  # a trace is of one grid
    torch.testing.assert_close(scripted(x, level), net(x, level), rtol=1e-4, atol=1e-5)


def test_it_trains_in_several_processes(tmp_path: Path) -> None:
    """DistributedDataParallel asks that the gradient of each parameter is announced."""
    net = in_bfloat16(unet())
    expected = copy.deepcopy(net)
    expected(*inputs(net)).square().mean().backward()
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        parallel = nn.parallel.DistributedDataParallel(net)
        for _ in range(2):
            parallel.zero_grad()
            parallel(*inputs(net)).square().mean().backward()
        for parameter, other in zip(net.parameters(), expected.parameters(), strict=True):
            torch.testing.assert_close(parameter.grad, other.grad)
        for name in ("logger", "reducer", "process_group"):
            vars(parallel).pop(name, None)
    finally:
        torch.distributed.destroy_process_group()
