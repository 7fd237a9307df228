"""What the noise levels do to a label, and how they are read from a configuration."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
import torch
from torch import Tensor

from gnsm_monai.errors import InputError
from gnsm_monai.noise import NoiseSchedule, build_schedule, mixing_schedule, relax, temperature_schedule
from gnsm_monai.noise.schedule import _table


def random_labels(num_classes: int, *shape: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Label map ``(B, *spatial)`` and its one-hot form ``(B, K, *spatial)``."""
    label = torch.randint(num_classes, shape, generator=torch.Generator().manual_seed(seed))
    return label, torch.nn.functional.one_hot(label, num_classes).movedim(-1, 1).float()


def flips(schedule: NoiseSchedule, level: int, num_classes: int, voxels: int = 40_000) -> Tensor:
    """Where the noise turned a label into another one."""
    label, one_hot = random_labels(num_classes, 1, voxels)
    noisy = schedule.sample(one_hot, torch.tensor([level]), torch.Generator().manual_seed(level + 1))
    return noisy.argmax(1) != label


class TestPublishedSchedule:
    def test_label_can_be_read_off_the_voxel_at_every_level(self) -> None:
        schedule = temperature_schedule()
        for level in range(schedule.num_levels):
            assert flips(schedule, level, 3).double().mean() < 1e-3
        # 1 e-5 for each of the two other classes, against 1 for the label's own.
        torch.testing.assert_close(schedule.flip_rates(3), torch.full((20,), 2e-5 / (1 + 2e-5)), rtol=0.01, atol=0)

    def test_has_the_published_levels(self) -> None:
        schedule = build_schedule("temperature")
        assert schedule.num_levels == 20
        assert schedule.temperatures[0] == 2 and schedule.temperatures[-1] == pytest.approx(20)
        ratios = [b / a for a, b in itertools.pairwise(schedule.temperatures)]
        assert ratios == pytest.approx([10 ** (1 / 19)] * 19)
        assert schedule.betas == (0.0,) * 20

    def test_weights_are_the_clipped_one_hot(self) -> None:
        _, one_hot = random_labels(3, 2, 50)
        log_alpha = temperature_schedule().log_alpha(one_hot, torch.tensor([0, 19]))
        torch.testing.assert_close(log_alpha, one_hot.clip(1e-5, 1).log())


class TestMixingSchedule:
    @pytest.mark.parametrize("num_classes", [2, 3, 25])
    def test_flip_rate_is_beta_times_the_share_of_other_classes(self, num_classes: int) -> None:
        schedule = mixing_schedule(num_levels=5, beta_min=0.1, beta_max=0.99)
        rates = schedule.flip_rates(num_classes)
        for level, beta in enumerate(schedule.betas):
            expected = beta * (1 - 1 / num_classes)
            assert rates[level].item() == pytest.approx(expected, rel=1e-5)
            flipped = flips(schedule, level, num_classes)
            spread = (expected * (1 - expected) / flipped.numel()) ** 0.5
            assert abs(flipped.double().mean().item() - expected) < 4 * spread

    def test_flip_rate_does_not_depend_on_the_temperature(self) -> None:
        cold, hot = (mixing_schedule(num_levels=2, temperature=tau) for tau in (0.2, 5.0))
        assert torch.equal(flips(cold, 1, 3), flips(hot, 1, 3))

    def test_levels_are_configurable(self) -> None:
        schedule = mixing_schedule(num_levels=4, beta_min=0.2, beta_max=0.9, temperature=0.5)
        assert schedule.num_levels == 4
        assert schedule.betas[0] == pytest.approx(0.2) and schedule.betas[-1] == pytest.approx(0.9)
        assert schedule.temperatures == (0.5,) * 4
        assert mixing_schedule(num_levels=1, beta_min=0.4).betas == pytest.approx((0.4,))

    def test_kept_share_of_the_label_is_geometric(self) -> None:
        kept = [1 - beta for beta in mixing_schedule(num_levels=6, beta_min=0.5, beta_max=0.98).betas]
        assert [b / a for a, b in itertools.pairwise(kept)] == pytest.approx([0.04**0.2] * 5)

    @pytest.mark.parametrize("betas", [(-0.1, 0.5), (0.6, 0.5), (0.5, 1.0)])
    def test_refuses_a_range_of_beta_without_a_geometric_spacing(self, betas: tuple[float, float]) -> None:
        with pytest.raises(InputError, match=f"0 <= beta_min <= beta_max < 1 is needed, got {betas[0]} and {betas[1]}"):
            mixing_schedule(beta_min=betas[0], beta_max=betas[1])


class _Temperatures(torch.nn.Module):
    def __init__(self, schedule: NoiseSchedule) -> None:
        super().__init__()
        self.schedule = schedule

    def forward(self, level: torch.Tensor) -> torch.Tensor:
        return self.schedule.temperature(level)


class TestNoiseSchedule:
    def test_each_sample_gets_its_own_level(self) -> None:
        schedule = NoiseSchedule((0.1, 0.5, 0.9), (1.0, 2.0, 3.0))
        level = torch.tensor([2, 0, 2, 1])
        assert schedule.beta(level).tolist() == pytest.approx([0.9, 0.1, 0.9, 0.5])
        assert schedule.temperature(level).tolist() == [3, 1, 3, 2]
        _, one_hot = random_labels(3, 4, 5, 6)
        log_alpha = schedule.log_alpha(one_hot, level)
        for i, beta in enumerate((0.9, 0.1, 0.9, 0.5)):
            torch.testing.assert_close(log_alpha[i].exp(), (1 - beta) * one_hot[i] + beta / 3)

    @pytest.mark.parametrize("first", ["inference", "training", "export"])
    def test_values_are_those_given_wherever_they_were_asked_for_first(self, first: str) -> None:
        """Tables are stored: what inference mode or an export makes must not reach a training step."""
        schedule = NoiseSchedule((0.1, 0.25, len(first) / 100), (1.0, 2.0, 3.0))  # values that no other test has
        level = torch.tensor([2, 0, 1])
        if first == "inference":
            with torch.inference_mode():
                assert schedule.beta(level).tolist() == pytest.approx([len(first) / 100, 0.1, 0.25])
        if first == "export":
            module = _Temperatures(schedule)
            exported = torch.export.export(module, (level,)).module()
            assert torch.equal(exported(level), module(level))
        assert torch.equal(schedule.beta(level), torch.tensor(schedule.betas)[level])
        assert torch.equal(schedule.temperature(level), torch.tensor(schedule.temperatures)[level])
        weight = torch.rand(3, requires_grad=True)
        (weight * schedule.beta(level)).sum().backward()  # saves the table's values for the gradient
        assert weight.grad is not None and torch.equal(weight.grad, schedule.beta(level))
        assert not schedule.beta(level).is_inference()

    def test_a_value_lies_where_it_lay(self) -> None:
        """A captured graph reads it there."""
        tables = [_table((0.125, 0.375), torch.device("cpu")) for _ in range(2)]
        assert tables[0].data_ptr() == tables[1].data_ptr()
        assert _table((0.125, 0.5), torch.device("cpu")).tolist() == [0.125, 0.5]
        schedule, level = NoiseSchedule((0.125, 0.375), (1.0, 1.0)), torch.tensor([1])
        schedule.beta(level).zero_()  # what callers get is theirs
        assert schedule.beta(level).item() == 0.375

    def test_class_weights_are_those_of_a_one_hot_map(self) -> None:
        schedule = NoiseSchedule((0.0, 0.3, 1.0), (1.0, 1.0, 1.0), floor=1e-3)
        level = torch.arange(3)
        own, other = schedule.class_weights(level, 4)
        alpha = schedule.log_alpha(torch.eye(4)[:1].expand(3, -1), level).exp()
        torch.testing.assert_close(alpha, torch.stack([own, other, other, other], dim=1))

    def test_beta_of_one_forgets_the_label(self) -> None:
        schedule = NoiseSchedule((0.2, 1.0), (1.0, 1.0))
        _, first = random_labels(3, 1, 100, seed=1)
        _, second = random_labels(3, 1, 100, seed=2)
        remembered, forgotten = (
            [schedule.sample(y, torch.tensor([level]), torch.Generator().manual_seed(7)) for y in (first, second)]
            for level in (0, 1)
        )
        assert torch.equal(*forgotten)
        assert not torch.equal(*remembered)
        assert schedule.flip_rates(3)[1].item() == pytest.approx(2 / 3)

    def test_soft_label_maps_are_mixed_like_hard_ones(self) -> None:
        soft = torch.tensor([[0.7, 0.2, 0.1]]).expand(50_000, -1)
        schedule = NoiseSchedule((0.5,), (2.0,))
        expected = torch.tensor([0.35, 0.1, 0.05]) + 0.5 / 3
        level = torch.zeros(50_000, dtype=torch.long)
        torch.testing.assert_close(schedule.log_alpha(soft, level)[0].exp(), expected)
        shares = schedule.sample(soft, level, torch.Generator().manual_seed(0)).argmax(1).bincount() / 50_000
        assert ((shares - expected).abs() < 4 * (expected * (1 - expected) / 50_000).sqrt()).all()

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
    def test_label_maps_of_any_float_type_are_taken(self, dtype: torch.dtype) -> None:
        schedule, level = mixing_schedule(num_levels=2), torch.tensor([0, 1])
        _, one_hot = random_labels(3, 2, 8)
        log_alpha = schedule.log_alpha(one_hot.to(dtype), level)
        assert log_alpha.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        torch.testing.assert_close(log_alpha, schedule.log_alpha(one_hot, level), check_dtype=False)

    def test_floor_keeps_every_level_finite(self) -> None:
        _, one_hot = random_labels(3, 2, 8)
        for floor in (1e-5, 1e-2):
            log_alpha = NoiseSchedule((0.0,), (1.0,), floor).log_alpha(one_hot, torch.tensor([0, 0]))
            assert log_alpha.min().exp().item() == pytest.approx(floor)

    def test_noise_free_map_is_the_sample_without_noise(self) -> None:
        schedule = NoiseSchedule((0.1, 0.6), (0.5, 2.0))
        level = torch.tensor([1, 0])
        label, one_hot = random_labels(3, 2, 4, 5)
        centre = schedule.noise_free(one_hot, level)
        assert torch.equal(centre.argmax(1), label)
        for i in (0, 1):
            own = schedule.log_alpha(one_hot, level)[i : i + 1]
            torch.testing.assert_close(centre[i : i + 1], relax(own, schedule.temperatures[level[i]]))

    def test_generator_makes_samples_reproducible(self) -> None:
        schedule, level = mixing_schedule(num_levels=1), torch.tensor([0])
        _, one_hot = random_labels(3, 1, 30)
        first, again, other = (
            schedule.sample(one_hot, level, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
        )
        assert torch.equal(first, again) and not torch.equal(first, other)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (((), ()), "0 betas and 0 temperatures do not match"),
            (((0.1, 0.2), (1.0,)), "2 betas and 1 temperatures do not match"),
            (((0.1, 1.5), (1.0, 1.0)), r"every beta must lie in \[0, 1\], got \(0.1, 1.5\)"),
            (((-0.1,), (1.0,)), r"every beta must lie in \[0, 1\]"),
            (((float("nan"),), (1.0,)), r"every beta must lie in \[0, 1\]"),
            (((0.1,), (0.0,)), r"every temperature must be positive and finite, got \(0.0,\)"),
            (((0.1,), (-1.0,)), "every temperature must be positive and finite"),
            (((0.1,), (float("inf"),)), "every temperature must be positive and finite"),
            (((0.1,), (1.0,), 0.0), r"floor must lie in \(0, 1\), got 0.0"),
            (((0.1,), (1.0,), 1.0), r"floor must lie in \(0, 1\), got 1.0"),
        ],
    )
    def test_refuses_values_out_of_range(self, arguments: tuple[Any, ...], message: str) -> None:
        with pytest.raises(InputError, match=f"^noise: {message}"):
            NoiseSchedule(*arguments)


class TestBuildSchedule:
    def test_reads_a_name(self) -> None:
        assert build_schedule("mixing") == mixing_schedule()
        assert build_schedule("temperature") == temperature_schedule()

    def test_reads_a_name_with_arguments(self) -> None:
        noise = {"name": "mixing", "num_levels": 3, "beta_min": 0.5}
        assert build_schedule(noise) == mixing_schedule(3, 0.5)
        assert noise == {"name": "mixing", "num_levels": 3, "beta_min": 0.5}
        assert build_schedule({"name": "temperature", "tau_max": 5.0}) == temperature_schedule(tau_max=5.0)

    def test_reads_explicit_levels(self) -> None:
        schedule = build_schedule({"betas": [0.1, 0.9], "temperatures": [1, 2], "floor": 1e-4})
        assert schedule == NoiseSchedule((0.1, 0.9), (1, 2), 1e-4)

    def test_takes_a_schedule_as_it_is(self) -> None:
        schedule = mixing_schedule(2)
        assert build_schedule(schedule) is schedule

    @pytest.mark.parametrize("schedule", [mixing_schedule(), temperature_schedule(), NoiseSchedule((1.0,), (3,), 0.1)])
    def test_plain_values_make_an_equal_schedule(self, schedule: NoiseSchedule) -> None:
        plain = schedule.to_dict()
        assert build_schedule(plain) == schedule
        assert build_schedule(json.loads(json.dumps(plain))) == schedule

    @pytest.mark.parametrize(
        ("noise", "message"),
        [
            ("gaussian", "unknown schedule 'gaussian', known are mixing, temperature"),
            ({"name": "gaussian"}, "unknown schedule 'gaussian'"),
            ({"name": ["mixing"]}, "cannot read .*unhashable"),
            ({"num_levels": 3}, "cannot read .*'name'"),
            ({"name": "mixing", "levels": 3}, "cannot read .*unexpected keyword argument 'levels'"),
            ({"name": "mixing", "num_levels": 2.5}, "cannot read .*cannot be interpreted as an integer"),
            ({"name": "mixing", "num_levels": -1}, "cannot read .*must be non-negative"),
            ({"name": "mixing", "num_levels": 0}, "0 betas and 0 temperatures"),
            ({"name": "mixing", "temperature": "warm"}, "cannot read .*could not convert string to float"),
            ({"name": "mixing", "beta_max": 1.0}, "0 <= beta_min <= beta_max < 1 is needed, got 0.3 and 1.0"),
            ({"name": "temperature", "tau_min": 0}, "cannot read .*zero"),
            ({"name": "temperature", "floor": 0}, r"floor must lie in \(0, 1\)"),
            ({"betas": [0.1]}, "cannot read .*'temperatures'"),
            ({"betas": 0.1, "temperatures": 1}, "cannot read .*not iterable"),
            ({"betas": ["high"], "temperatures": [1]}, "cannot read .*not supported"),
            ({"betas": [0.1, 0.2], "temperatures": [1]}, "2 betas and 1 temperatures do not match"),
            ({"betas": [0.1], "temperatures": [1], "name": "mixing"}, "cannot read .*unexpected keyword .*'name'"),
            (["mixing"], "cannot read .*dictionary update sequence"),
            (5, "cannot read 5: 'int' object is not iterable"),
            (None, "cannot read None: 'NoneType' object is not iterable"),
        ],
    )
    def test_names_what_it_cannot_read(self, noise: Any, message: str) -> None:
        with pytest.raises(InputError, match=f"^noise: {message}"):
            build_schedule(noise)
