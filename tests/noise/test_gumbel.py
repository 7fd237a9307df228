"""The relaxed one-hot distribution, against autograd, quadrature and its defining properties."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import integrate, stats
from torch import Tensor

from gnsm_monai.noise import gumbel_noise, log_density, relax, score
from gnsm_monai.noise.gumbel import residual

SHAPES = [(3, 5), (3, 4, 5, 2), (3, 3, 2, 4, 3)]
TEMPERATURES = [0.1, 1.0, 20.0]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_log_alpha(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64).log_softmax(1)


def near_one_hot(shape: tuple[int, ...], small: float = 1e-5, seed: int = 0) -> Tensor:
    """Log-weights of random labels whose other classes have the weight ``small``."""
    label = torch.randint(shape[1], (shape[0], 1, *shape[2:]), generator=generator(seed))
    return torch.full(shape, small, dtype=torch.float64).scatter_(1, label, 1.0).log()


@pytest.mark.parametrize("shape", SHAPES)
class TestAnyNumberOfAxes:
    @pytest.mark.parametrize("temperature", [0.7, torch.tensor([0.3, 1.0, 7.0])], ids=["one", "per sample"])
    def test_score_is_the_gradient_of_the_log_density(
        self, shape: tuple[int, ...], temperature: Tensor | float
    ) -> None:
        log_alpha = random_log_alpha(shape)
        x = relax(log_alpha, temperature, gumbel_noise(log_alpha, generator(1))).requires_grad_()
        density = log_density(x, log_alpha, temperature)
        assert density.shape == (shape[0], *shape[2:])
        (gradient,) = torch.autograd.grad(density.sum(), x)
        torch.testing.assert_close(score(x, log_alpha, temperature), gradient, rtol=1e-10, atol=1e-10)

    def test_one_temperature_per_sample_acts_on_that_sample(self, shape: tuple[int, ...]) -> None:
        log_alpha, taus = random_log_alpha(shape), [0.3, 1.0, 7.0]
        gumbel = gumbel_noise(log_alpha, generator(1))
        x = relax(log_alpha, torch.tensor(taus, dtype=torch.float64), gumbel)
        for i, tau in enumerate(taus):
            own = slice(i, i + 1)
            torch.testing.assert_close(x[own], relax(log_alpha[own], tau, gumbel[own]))
            for function in (score, log_density):
                together = function(x, log_alpha, torch.tensor(taus, dtype=torch.float64))
                torch.testing.assert_close(together[own], function(x[own], log_alpha[own], tau))

    def test_relaxed_maps_are_log_probabilities(self, shape: tuple[int, ...]) -> None:
        log_alpha = random_log_alpha(shape)
        for tau in TEMPERATURES:
            for gumbel in (None, gumbel_noise(log_alpha, generator(1))):
                x = relax(log_alpha, tau, gumbel)
                assert x.shape == log_alpha.shape
                assert (x <= 0).all()
                torch.testing.assert_close(x.logsumexp(1), torch.zeros_like(x[:, 0]), rtol=0, atol=1e-12)

    def test_score_sums_to_zero_over_the_classes(self, shape: tuple[int, ...]) -> None:
        log_alpha = random_log_alpha(shape)
        for tau in TEMPERATURES:
            total = score(relax(log_alpha, tau, gumbel_noise(log_alpha, generator(1))), log_alpha, tau).sum(1)
            torch.testing.assert_close(total, torch.zeros_like(total), rtol=0, atol=1e-11)

    def test_residual_holds_the_noise_that_was_drawn(self, shape: tuple[int, ...]) -> None:
        for tau in TEMPERATURES:
            for log_alpha in (random_log_alpha(shape), near_one_hot(shape)):
                gumbel = gumbel_noise(log_alpha, generator(1))
                z = residual(relax(log_alpha, tau, gumbel), log_alpha, tau)
                torch.testing.assert_close(z.softmax(1), (-gumbel).softmax(1), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("alpha", [0.5, 0.9, 0.03])
@pytest.mark.parametrize("tau", [0.3, 1.0, 2.5])
def test_density_of_two_classes_integrates_to_one(alpha: float, tau: float) -> None:
    """Over the logit u = x_1 - x_2."""
    log_alpha = torch.tensor([[alpha, 1 - alpha]], dtype=torch.float64).log()

    def density(u: float) -> float:
        x = torch.tensor([[u / 2, -u / 2]], dtype=torch.float64).log_softmax(1)
        return float((log_density(x, log_alpha, tau)).exp())

    centre, width = math.log(alpha / (1 - alpha)) / tau, 40 / tau
    total, _ = integrate.quad(density, centre - width, centre + width, points=[centre], limit=200)
    assert total == pytest.approx(1, abs=1e-7)


@pytest.mark.parametrize("tau", [0.3, 1.0, 2.5])
def test_density_of_three_classes_integrates_to_one(tau: float) -> None:
    """Over the logits u_k = x_k - x_3, by the trapezoidal rule, which is accurate for what decays on both sides."""
    log_alpha = torch.tensor([[0.7, 0.1, 0.2]], dtype=torch.float64).log()
    u = torch.linspace(-30, 30, 401, dtype=torch.float64) / tau
    first, second = torch.meshgrid(u, u, indexing="ij")
    x = torch.stack([first, second, torch.zeros_like(first)]).flatten(1).T.log_softmax(1)
    total = log_density(x, log_alpha, tau).exp().sum() * (u[1] - u[0]) ** 2
    assert total.item() == pytest.approx(1, abs=1e-4)


def test_noise_free_point_is_the_centre_of_the_noise() -> None:
    """Without a draw the classes keep the order and, in units of the temperature, the distances of their weights."""
    log_alpha = random_log_alpha((2, 4, 3))
    x = relax(log_alpha, 2.5)
    torch.testing.assert_close(2.5 * (x[:, 1:] - x[:, :1]), log_alpha[:, 1:] - log_alpha[:, :1])


def test_weights_need_not_be_normalised() -> None:
    log_alpha = random_log_alpha((2, 4, 3))
    gumbel = gumbel_noise(log_alpha, generator(1))
    x = relax(log_alpha, 0.5, gumbel)
    torch.testing.assert_close(relax(log_alpha + 3, 0.5, gumbel), x)
    torch.testing.assert_close(log_density(x, log_alpha + 3, 0.5), log_density(x, log_alpha, 0.5))
    torch.testing.assert_close(score(x, log_alpha + 3, 0.5), score(x, log_alpha, 0.5))


@pytest.mark.parametrize("tau", TEMPERATURES)
@pytest.mark.parametrize("num_classes", [2, 3, 25])
def test_mean_score_of_samples_is_zero(num_classes: int, tau: float) -> None:
    draws = 20_000
    log_alpha = random_log_alpha((1, num_classes)).expand(draws, -1)
    values = score(relax(log_alpha, tau, gumbel_noise(log_alpha, generator(2))), log_alpha, tau)
    assert (values.std(0) > 0.1 * tau).all()
    assert (values.mean(0).abs() < 5 * values.std(0) / draws**0.5).all()


@pytest.mark.parametrize("num_classes", [2, 3, 25])
def test_argmax_is_a_draw_from_the_weights(num_classes: int) -> None:
    draws = 100_000
    log_alpha = random_log_alpha((1, num_classes))
    x = relax(log_alpha.expand(draws, -1), 3.0, gumbel_noise(log_alpha.expand(draws, -1), generator(3)))
    counts = torch.bincount(x.argmax(1), minlength=num_classes)
    assert stats.chisquare(counts.numpy(), (draws * log_alpha[0].exp()).numpy()).pvalue > 1e-3


class TestPrecision:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
    @pytest.mark.parametrize("tau", [0.1, 1.0, 20.0])
    @pytest.mark.parametrize("small", [1e-5, 0.2])
    def test_arithmetic_of_low_precision_inputs_is_close_to_float64(
        self, dtype: torch.dtype, tau: float, small: float
    ) -> None:
        """Both sides get the same rounded numbers, so that only the arithmetic is compared."""
        log_alpha = near_one_hot((4, 3, 500), small).to(dtype)
        exact = log_alpha.double()
        gumbel = gumbel_noise(log_alpha, generator(1))
        x = relax(log_alpha, tau, gumbel)
        assert x.dtype == torch.float32
        torch.testing.assert_close(x.double(), relax(exact, tau, gumbel.double()), rtol=1e-6, atol=2e-5)
        low = x.to(dtype)
        assert low.isfinite().all()
        for function in (score, log_density):
            value = function(low, log_alpha, tau)
            assert value.dtype == torch.float32 and value.isfinite().all()
            torch.testing.assert_close(value.double(), function(low.double(), exact, tau), rtol=1e-4, atol=1e-4 * tau)

    def test_float64_is_kept(self) -> None:
        log_alpha = random_log_alpha((2, 3, 4))
        x = relax(log_alpha, 1.0, gumbel_noise(log_alpha, generator(1)))
        assert {x.dtype, score(x, log_alpha, 1.0).dtype, log_density(x, log_alpha, 1.0).dtype} == {torch.float64}


class TestGumbelNoise:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_follows_the_standard_gumbel_distribution(self, dtype: torch.dtype) -> None:
        draws = gumbel_noise(torch.empty(1_000_000, dtype=dtype), generator(4))
        assert draws.isfinite().all()
        assert stats.kstest(draws.double().numpy(), stats.gumbel_r.cdf).pvalue > 1e-3
        # The tails, of which the Kolmogorov-Smirnov test sees little.
        assert 11 < draws.max() < 19
        assert -3.1 < draws.min() < -2.2

    def test_stays_finite_where_the_underlying_draw_is_zero(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.Tensor, "exponential_", lambda self, generator=None: self.zero_())
        for dtype in (torch.float32, torch.float64):
            assert gumbel_noise(torch.empty(3, dtype=dtype)).isfinite().all()

    def test_generator_makes_it_reproducible(self) -> None:
        like = torch.empty(2, 3, 4)
        first = gumbel_noise(like, generator(5))
        torch.testing.assert_close(gumbel_noise(like, generator(5)), first, rtol=0, atol=0)
        assert not torch.equal(gumbel_noise(like, generator(6)), first)

    def test_does_not_depend_on_the_memory_layout(self) -> None:
        like = torch.empty(2, 3, 4, 5)
        moved = torch.empty(2, 4, 5, 3).movedim(-1, 1)
        assert torch.equal(gumbel_noise(moved, generator(5)), gumbel_noise(like, generator(5)))

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_is_float32_for_low_precision(self, dtype: torch.dtype) -> None:
        draws = gumbel_noise(torch.empty(2, 3, 4, dtype=dtype), generator(5))
        assert torch.equal(draws, gumbel_noise(torch.empty(2, 3, 4), generator(5)))
