"""The score network: any size, any axes, one sample at a time, told its level, rebuilt from its settings."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gnsm_monai.networks import ScoreUNet, plan_strides
from gnsm_monai.networks.evidence import surprise
from gnsm_monai.networks.layers import FiLM, LevelEmbedding, padded
from gnsm_monai.noise import NoiseSchedule, build_schedule, mixing_schedule

SMALL: dict[str, Any] = {"num_classes": 3, "channels": (8, 16, 16), "noise": mixing_schedule(4)}


def small_unet(spatial_dims: int = 2, perturbed: bool = True, **settings: Any) -> ScoreUNet:
    """A small network; perturbed, as training leaves it, because a fresh one gives zeros whatever it is shown."""
    torch.manual_seed(0)
    net = ScoreUNet(spatial_dims, **{**SMALL, **settings})
    if perturbed:
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
    return net


def noisy(net: ScoreUNet, *size: int, batch: int = 2, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Relaxed maps ``(B, K, *size)`` and one level per sample."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, net.num_classes, *size, generator=generator).log_softmax(1)
    return x, torch.arange(batch) % net.schedule.num_levels


class TestShapes:
    @pytest.mark.parametrize("size", [(8, 8), (7, 13), (1, 1), (2, 3), (1, 21), (8, 4, 12), (5, 9, 1), (1, 1, 1)])
    @pytest.mark.parametrize("batch", [1, 3])
    def test_every_size_comes_out_as_it_went_in(self, size: tuple[int, ...], batch: int) -> None:
        net = small_unet(len(size))
        x, level = noisy(net, *size, batch=batch)
        logits = net(x, level)
        assert logits.shape == x.shape
        assert logits.isfinite().all()

    @pytest.mark.parametrize(("strides", "size"), [([2, [1, 2], [2, 1]], (5, 7)), ([(1, 2, 2), 2, 1], (3, 5, 6))])
    def test_strides_may_differ_between_axes(self, strides: Any, size: tuple[int, ...]) -> None:
        net = small_unet(len(size), strides=strides)
        x, level = noisy(net, *size)
        assert net(x, level).shape == x.shape
        assert [conv.stride for conv in (net.stem, *net.down)] == [
            (s,) * len(size) if isinstance(s, int) else tuple(s) for s in strides
        ]

    @pytest.mark.parametrize(("size", "before", "after"), [((7, 6), (0, 1), (1, 1)), ((5, 8), (1, 0), (2, 0))])
    def test_padding_is_even_and_cropped_where_it_was_put(
        self, size: tuple[int, int], before: tuple[int, int], after: tuple[int, int]
    ) -> None:
        inputs = torch.randn(2, 3, *size)
        maps, crop = padded(inputs, small_unet().strides)
        assert torch.equal(maps, F.pad(inputs, (before[1], after[1], before[0], after[0])))
        assert torch.equal(maps[crop], inputs)

    def test_one_channel_per_group_is_never_normalised_alone(self) -> None:
        """A group of one value would be normalised to zero, and torch refuses it."""
        for channels in (2, 4, 6, 8, 12, 16, 24, 32):
            for module in small_unet(channels=(channels,)).modules():
                if isinstance(module, nn.GroupNorm):
                    assert module.num_channels >= 2 * module.num_groups


class TestImage:
    @pytest.mark.parametrize("spatial_dims", [2, 3])
    def test_logits_depend_on_the_image(self, spatial_dims: int) -> None:
        net = small_unet(spatial_dims, image_channels=2)
        x, level = noisy(net, *[6] * spatial_dims)
        image = torch.randn(2, 2, *[6] * spatial_dims, generator=torch.Generator().manual_seed(2))
        logits = net(x, level, image)
        assert logits.shape == x.shape
        assert not torch.allclose(logits, net(x, level, image.flip(1)), atol=1e-3)

    def test_missing_image_is_refused(self) -> None:
        net = small_unet(image_channels=1)
        with pytest.raises(ValueError, match="the network has 1 image channels, image given: False"):
            net(*noisy(net, 4, 4))

    def test_unexpected_image_is_refused(self) -> None:
        net = small_unet()
        with pytest.raises(ValueError, match="the network has 0 image channels, image given: True"):
            net(*noisy(net, 4, 4), torch.zeros(2, 1, 4, 4))


class TestPosition:
    @pytest.mark.parametrize("size", [(8, 12), (5, 6, 9)])
    def test_logits_depend_on_where_a_voxel_lies_only_if_positions_are_given(self, size: tuple[int, ...]) -> None:
        """The same weights with another usual field of view: every voxel lies elsewhere in it."""
        near = small_unet(len(size), position_size=size)
        far = small_unet(len(size), position_size=[3 * n for n in size])
        x, level = noisy(near, *size)
        assert near.stem.in_channels == 3 * near.num_classes + len(size)  # evidence, surprise, prior, coordinates
        assert not torch.allclose(near(x, level), far(x, level), atol=1e-2)
        assert small_unet(len(size)).stem.in_channels == 2 * near.num_classes

    def test_coordinates_run_from_the_centre_in_half_widths(self) -> None:
        net = small_unet(position_size=(4, 8))
        inside = net._coordinates(torch.zeros(2, 3, 4, 8))
        assert inside.shape == (2, 2, 4, 8)
        torch.testing.assert_close(inside[0, 0, :, 0], torch.tensor([-0.75, -0.25, 0.25, 0.75]))
        torch.testing.assert_close(inside[1, 1, 3], torch.arange(-7.0, 8.0, 2.0) / 8)

    def test_a_wider_field_of_view_keeps_the_coordinates_of_its_middle(self) -> None:
        net = small_unet(position_size=(4, 8))
        usual, wide = net._coordinates(torch.zeros(1, 3, 4, 8)), net._coordinates(torch.zeros(1, 3, 8, 12))
        torch.testing.assert_close(wide[:, :, 2:6, 2:10], usual)

    def test_number_of_axes_must_fit(self) -> None:
        with pytest.raises(ValueError, match=r"position_size \(4, 4, 4\) needs 2 axes"):
            small_unet(position_size=(4, 4, 4))


class TestLevel:
    def test_each_level_gives_its_own_output(self) -> None:
        net = small_unet()
        x, _ = noisy(net, 6, 6, batch=1)
        outputs = [net(x, torch.tensor([level])) for level in range(4)]
        for first, second in itertools.combinations(outputs, 2):
            assert not torch.allclose(first, second, atol=1e-3)

    def test_input_is_the_same_at_every_temperature(self) -> None:
        """The same class weights and the same draw, relaxed at any temperature, say the same of the label."""
        schedule = NoiseSchedule((0.5,) * 3, (0.2, 1.0, 20.0))
        net = small_unet(noise=schedule)
        label = F.one_hot(torch.arange(3).repeat(4), 3).T[None].float()
        shown = []
        for level in torch.arange(3)[:, None]:
            x = schedule.sample(label, level, torch.Generator().manual_seed(1))
            shown.append(net._standardise(schedule.log_likelihood(x, level), level))
        assert 0.3 < shown[0].std() < 3
        torch.testing.assert_close(shown[1], shown[0], rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(shown[2], shown[0], rtol=1e-3, atol=1e-4)

    @pytest.mark.parametrize("num_levels", [1, 2, 10, 50])
    def test_no_two_levels_share_their_features(self, num_levels: int) -> None:
        features = LevelEmbedding(num_levels, 32).features
        distance = torch.cdist(features, features) + 10 * torch.eye(num_levels)
        assert features.shape == (num_levels, 32)
        assert distance.min() > 0.1

    def test_film_starts_as_the_identity_and_then_scales_and_shifts(self) -> None:
        film, x = FiLM(4, 2), torch.randn(3, 2, 5, 6)
        embedding = torch.randn(3, 4)
        torch.testing.assert_close(film(x, embedding), x)
        film.project.bias.data = torch.tensor([1.0, 2.0, 10.0, 20.0])
        expected = torch.stack([2 * x[:, 0] + 10, 3 * x[:, 1] + 20], dim=1)
        torch.testing.assert_close(film(x, embedding), expected)


class TestNeighbourhood:
    @pytest.mark.parametrize("size", [(32, 48), (16, 16, 16)])
    def test_the_mean_of_a_neighbourhood_is_in_units_of_its_noise(self, size: tuple[int, ...]) -> None:
        """A mean of n voxels of noise spreads by 1 / sqrt(n): what is shown spreads alike at all resolutions."""
        net = small_unet(len(size), noise=mixing_schedule(1, 0.9, 0.9))
        noise = torch.randn(4, 2 * net.num_classes, *size, generator=torch.Generator().manual_seed(0))
        assert [part.shape[2:] for part in net._pooled(noise)] == [
            tuple(n // 2**step for n in size) for step in (1, 2, 3)
        ]
        for part in net._pooled(noise):
            assert part.std().item() == pytest.approx(1, abs=0.1)

    def test_images_and_prior_are_averaged_as_they_are(self) -> None:
        net = small_unet(image_channels=1)
        seen = torch.randn(2, 2 * net.num_classes + 1, 16, 16)
        for step, part in enumerate(net._pooled(seen), start=1):
            torch.testing.assert_close(part[:, -1:], F.avg_pool2d(seen[:, -1:], 2**step))

    def test_surprise_is_the_gradient_of_the_likelihood_by_the_logits_of_the_prior(self) -> None:
        net = small_unet(noise=mixing_schedule(2, 0.9, 0.99))
        x, level = noisy(net, 5, 6)
        evidence = net.schedule.log_likelihood(x, level)
        prior = torch.randn(2, 3, 5, 6).requires_grad_()
        likelihood = (torch.log_softmax(prior, 1) + evidence).logsumexp(1).sum()
        (expected,) = torch.autograd.grad(likelihood, prior)
        found = surprise(evidence, prior.detach(), net.evidence_deviation[level]) * net.evidence_deviation[level].view(
            -1, 1, 1, 1
        )
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)

    def test_what_a_uniform_neighbourhood_says_is_added_by_the_learnt_share(self) -> None:
        net = small_unet(perturbed=False, noise=mixing_schedule(1, 0.9, 0.9))
        with torch.no_grad():
            net.gate.bias.copy_(torch.tensor([0.5, 0.0, 0.0]))
        x = torch.tensor([0.7, 0.2, 0.1]).log().view(1, 3, 1, 1).expand(1, 3, 16, 16)
        level = torch.tensor([0])
        own = net.independent_logits(x, level)
        said = surprise(net.schedule.log_likelihood(x, level), net._prior(x), net.evidence_deviation[level])
        torch.testing.assert_close(net(x, level), own + 0.5 * 2 * said)  # sqrt of 2 x 2 voxels


@pytest.mark.parametrize(("spatial_dims", "size"), [(2, (6, 7)), (3, (4, 5, 6))])
def test_a_sample_does_not_depend_on_its_neighbours_in_the_batch(spatial_dims: int, size: tuple[int, ...]) -> None:
    net = small_unet(spatial_dims)
    x, level = noisy(net, *size, batch=4)
    together = net(x, level)
    for i in range(4):
        torch.testing.assert_close(net(x[i : i + 1], level[i : i + 1]), together[i : i + 1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_gradient_reaches_every_parameter(spatial_dims: int) -> None:
    net = small_unet(spatial_dims, image_channels=1, position_size=[8] * spatial_dims)
    size = [8] * spatial_dims
    x, level = noisy(net, *size)
    target = torch.randn(x.shape, generator=torch.Generator().manual_seed(3))
    (net(x, level, torch.randn(2, 1, *size)) * target).sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


class TestSettings:
    @pytest.mark.parametrize(
        "changes",
        [
            {},
            {"noise": "temperature", "image_channels": 2, "channels": [8, 16]},
            {"strides": [2, (1, 2), 2], "position_size": (12, 10)},
            {"noise": {"name": "mixing", "num_levels": 2}},
        ],
    )
    def test_make_an_equal_network(self, changes: dict[str, Any]) -> None:
        net = small_unet(**changes)
        again = ScoreUNet(**json.loads(json.dumps(net.settings)))
        assert again.settings == net.settings
        assert again.schedule == net.schedule
        again.load_state_dict(net.state_dict(), strict=True)
        x, level = noisy(net, 7, 6)
        image = torch.randn(2, net.image_channels, 7, 6) if net.image_channels else None
        assert torch.equal(again(x, level, image), net(x, level, image))

    def test_defaults_halve_every_axis_in_three_steps(self) -> None:
        net = ScoreUNet(3, 2)
        assert net.settings["strides"] == [[2, 2, 2]] * 3
        assert net.schedule == build_schedule("mixing")

    @pytest.mark.parametrize(
        "strides", [[2, 2], [2, 2, 2, 2], [2, 2, [2]], [2, 2, [2, 2, 2]]], ids=["few", "many", "one axis", "three axes"]
    )
    def test_strides_that_do_not_fit_are_refused(self, strides: Any) -> None:
        with pytest.raises(ValueError, match="3 channels and 2 axes do not fit the strides"):
            small_unet(strides=strides)


class TestPlanStrides:
    @pytest.mark.parametrize(
        ("size", "spacing", "steps", "expected"),
        [
            ((64, 64, 64), (1, 1, 1), 3, [[2, 2, 2]] * 3),
            ((64, 64), (0.5, 0.5), 2, [[2, 2]] * 2),
            # 1, 1, 5 mm: the planes are halved until their 2 and then 4 mm are within a factor of 2 of the 5 mm.
            ((256, 256, 32), (1, 1, 5), 4, [[2, 2, 1], [2, 2, 1], [2, 2, 2], [2, 2, 2]]),
            # 1.9 < 2 × 1: all axes at once.
            ((64, 64, 64), (1, 1, 1.9), 2, [[2, 2, 2]] * 2),
            ((64, 64, 64), (1, 1, 2), 2, [[2, 2, 1], [2, 2, 2]]),
            # 9 -> 5 voxels, which halved would be less than 4.
            ((9, 9), (1, 1), 2, [[2, 2], [1, 1]]),
            ((8, 7), (1, 1), 2, [[2, 1], [1, 1]]),
            # An axis too short to halve does not hold the others back, however fine it is.
            ((160, 160, 8), (1, 1, 1), 4, [[2, 2, 2], [2, 2, 1], [2, 2, 1], [2, 2, 1]]),
            ((64, 64, 4), (3, 3, 1), 2, [[2, 2, 1], [2, 2, 1]]),
            ((16, 16), (1, 1), 0, []),
        ],
    )
    def test_follows_spacing_and_size(self, size: Any, spacing: Any, steps: int, expected: list[list[int]]) -> None:
        assert plan_strides(size, spacing, steps) == expected

    def test_makes_a_network_for_the_planned_size(self) -> None:
        size = (12, 10, 5)
        net = small_unet(3, strides=plan_strides(size, (1, 1, 3), 3))
        x, level = noisy(net, *size)
        assert net(x, level).shape == x.shape

    def test_axes_must_match(self) -> None:
        with pytest.raises(ValueError, match="zip"):
            plan_strides((8, 8), (1, 1, 1), 1)
