"""Logits to score: the closed form against the sum it stands for, and against autograd of the marginal density."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gnsm_monai.networks import direct_score, posterior_score, score_from_logits
from gnsm_monai.noise import NoiseSchedule, log_density, mixing_schedule, score, temperature_schedule
from gnsm_monai.noise.gumbel import residual

SCHEDULES = {
    "mixing": NoiseSchedule((0.05, 0.7, 0.997), (0.5, 1.0, 3.0)),
    "temperature": temperature_schedule(num_levels=3),
    "raised floor": NoiseSchedule((0.0, 0.01, 1.0), (1.0, 2.0, 0.3), floor=0.02),
}
SHAPES = {"table": (3,), "2D": (3, 4, 5), "3D": (3, 2, 3, 4)}


def one_hot(c: int, x: Tensor) -> Tensor:
    """The label map that is class ``c`` everywhere, shaped like ``x``."""
    y = torch.zeros_like(x)
    y[:, c] = 1
    return y


def sum_over_classes(posterior: Tensor, x: Tensor, level: Tensor, schedule: NoiseSchedule) -> Tensor:
    """``sum_c P(c | x) score(x | alpha(c), tau)``, term by term."""
    tau = schedule.temperature(level)
    terms = [
        posterior[:, c : c + 1] * score(x, schedule.log_alpha(one_hot(c, x), level), tau) for c in range(x.shape[1])
    ]
    return torch.stack(terms).sum(0)


def case(schedule: NoiseSchedule, num_classes: int, shape: str, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Posterior logits, noisy maps of random labels, and one level per sample."""
    generator = torch.Generator().manual_seed(num_classes)
    batch, *spatial = SHAPES[shape]
    label = torch.randint(num_classes, (batch, *spatial), generator=generator)
    y = torch.nn.functional.one_hot(label, num_classes).movedim(-1, 1).to(dtype)
    level = torch.arange(batch)
    logits = 3 * torch.randn(y.shape, generator=generator, dtype=dtype)
    return logits, schedule.sample(y, level, generator), level


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("num_classes", [2, 3, 25])
class TestPosteriorScore:
    @pytest.mark.parametrize("shape", SHAPES)
    def test_is_the_posterior_mean_of_the_conditional_scores(self, name: str, num_classes: int, shape: str) -> None:
        schedule = SCHEDULES[name]
        for dtype, tolerance in ((torch.float64, 1e-6), (torch.float32, 1e-4)):
            logits, x, level = case(schedule, num_classes, shape, dtype)
            value = posterior_score(logits, x, level, schedule)
            assert value.dtype == dtype and value.shape == x.shape
            # The levels are kept in float32, from which two routes to the weights differ by a few 1e-7.
            tau = schedule.temperature(level).to(dtype).reshape(-1, *[1] * (x.ndim - 1))
            naive = sum_over_classes(logits.softmax(1), x, level, schedule)
            torch.testing.assert_close(value / tau, naive / tau, rtol=tolerance, atol=tolerance * num_classes)

    def test_is_the_gradient_of_the_log_marginal_when_the_posterior_is_exact(self, name: str, num_classes: int) -> None:
        """One voxel, any prior: ``log p(x) = log sum_c prior_c p(x | c)``, differentiated."""
        schedule = SCHEDULES[name]
        _, x, level = case(schedule, num_classes, "table", torch.float64)
        tau = schedule.temperature(level)
        x.requires_grad_()
        generator = torch.Generator().manual_seed(0)
        log_prior = torch.randn(num_classes, generator=generator, dtype=torch.float64).log_softmax(0)
        log_joint = torch.stack(
            [log_prior[c] + log_density(x, schedule.log_alpha(one_hot(c, x), level), tau) for c in range(num_classes)],
            dim=1,
        )
        (exact,) = torch.autograd.grad(log_joint.logsumexp(1).sum(), x)
        value = posterior_score(log_joint, x, level, schedule)
        scale = tau.double()[:, None]
        torch.testing.assert_close(value / scale, exact / scale, rtol=1e-5, atol=1e-6 * num_classes)

    def test_sums_to_zero_over_the_classes(self, name: str, num_classes: int) -> None:
        schedule = SCHEDULES[name]
        logits, x, level = case(schedule, num_classes, "2D", torch.float64)
        total = posterior_score(logits, x, level, schedule).sum(1)
        torch.testing.assert_close(total, torch.zeros_like(total), rtol=0, atol=1e-10)

    def test_stays_finite_for_a_posterior_that_is_sure(self, name: str, num_classes: int) -> None:
        schedule = SCHEDULES[name]
        _, x, level = case(schedule, num_classes, "2D", torch.float32)
        for c in (0, num_classes - 1):
            value = posterior_score(1e4 * one_hot(c, x), x, level, schedule)
            torch.testing.assert_close(value, sum_over_classes(one_hot(c, x), x, level, schedule), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("parametrisation", ["posterior", "direct"])
def test_arithmetic_of_low_precision_logits_is_close_to_float64(parametrisation: str, dtype: torch.dtype) -> None:
    schedule = SCHEDULES["mixing"]
    logits, x, level = case(schedule, 3, "2D", torch.float32)
    low = logits.to(dtype)
    value = score_from_logits(parametrisation, low, x, level, schedule)
    assert value.dtype == torch.float32
    exact = score_from_logits(parametrisation, low.double(), x.double(), level, schedule)
    torch.testing.assert_close(value.double(), exact, rtol=1e-4, atol=1e-5)


class TestDirectScore:
    @pytest.mark.parametrize("name", SCHEDULES)
    def test_is_the_conditional_score_when_the_logits_are_the_residual(self, name: str) -> None:
        schedule = SCHEDULES[name]
        _, x, level = case(schedule, 3, "3D", torch.float64)
        log_alpha, tau = schedule.log_alpha(one_hot(1, x), level), schedule.temperature(level)
        value = direct_score(residual(x, log_alpha, tau), tau)
        torch.testing.assert_close(value, score(x, log_alpha, tau), rtol=1e-12, atol=1e-12)

    def test_equal_logits_give_no_score(self) -> None:
        assert not direct_score(torch.full((2, 4, 3), 7.0), 2.0).any()


class TestScoreFromLogits:
    def test_reads_each_parametrisation_its_own_way(self) -> None:
        schedule = SCHEDULES["mixing"]
        logits, x, level = case(schedule, 3, "2D", torch.float64)
        direct = score_from_logits("direct", logits, x, level, schedule)
        posterior = score_from_logits("posterior", logits, x, level, schedule)
        assert torch.equal(direct, direct_score(logits, schedule.temperature(level)))
        assert torch.equal(posterior, posterior_score(logits, x, level, schedule))
        assert not torch.allclose(direct, posterior, atol=0.1)

    def test_unknown_parametrisation_is_refused(self) -> None:
        schedule = mixing_schedule(3)
        logits, x, level = case(schedule, 2, "table", torch.float32)
        with pytest.raises(ValueError, match=r"one of \('posterior', 'direct'\), got 'kl'"):
            score_from_logits("kl", logits, x, level, schedule)
