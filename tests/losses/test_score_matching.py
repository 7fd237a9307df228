"""Each loss against a loop over voxels, and what masks, level weights, soft labels and precision do to it."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gnsm_monai.losses import LOSSES, ScoreMatchingLoss
from gnsm_monai.networks import PARAMETRISATIONS, direct_score
from gnsm_monai.noise import NoiseSchedule, score
from gnsm_monai.noise.gumbel import residual

SCHEDULE = NoiseSchedule((0.0, 0.4, 0.9), (0.5, 1.0, 3.0))
LEVEL = torch.tensor([2, 0, 1])
SHAPES = [(3, 4), (3, 3, 4, 5), (3, 2, 3, 2, 4)]
KINDS = list(LOSSES)


def make_target(shape: tuple[int, ...], soft: bool = False, seed: int = 0) -> dict[str, Tensor]:
    """What the loss is given, in float64, with about a quarter of the voxels masked out (none in a table)."""
    generator = torch.Generator().manual_seed(seed)
    batch, num_classes, *spatial = shape
    if soft:
        probabilities = torch.randn(shape, generator=generator, dtype=torch.float64).softmax(1)
    else:
        label = torch.randint(num_classes, (batch, *spatial), generator=generator)
        probabilities = F.one_hot(label, num_classes).movedim(-1, 1).double()
    mask = torch.ones(batch, 1, *spatial, dtype=torch.float64)
    if spatial:
        mask = (torch.rand(mask.shape, generator=generator) < 0.75).double()
    x = SCHEDULE.sample(probabilities, LEVEL, generator)
    return {"x": x, "probabilities": probabilities, "level": LEVEL, "mask": mask}


def make_logits(shape: tuple[int, ...], seed: int = 1) -> Tensor:
    return 2 * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def softmax(values: list[float]) -> list[float]:
    top = max(values)
    weights = [math.exp(value - top) for value in values]
    return [weight / sum(weights) for weight in weights]


def loop(kind: str, logits: Tensor, target: dict[str, Tensor]) -> list[float]:
    """The formulas, voxel by voxel, in plain Python."""
    losses = []
    for b, level in enumerate(target["level"].tolist()):
        beta, tau = SCHEDULE.betas[level], SCHEDULE.temperatures[level]
        voxels = []
        f, x, y = (t[b].reshape(t.shape[1], -1).T.tolist() for t in (logits, target["x"], target["probabilities"]))
        for keep, f_v, x_v, y_v in zip(target["mask"][b].flatten().tolist(), f, x, y, strict=True):
            if not keep:
                continue
            K = len(f_v)
            p = softmax(f_v)
            alpha = [max((1 - beta) * y_k + beta / K, SCHEDULE.floor) for y_k in y_v]
            q = softmax([math.log(a) - tau * x_k for a, x_k in zip(alpha, x_v, strict=True)])
            if kind == "posterior":
                voxels.append(-sum(y_k * math.log(p_k) for y_k, p_k in zip(y_v, p, strict=True)))
            elif kind == "kl":
                voxels.append(sum(q_k * math.log(q_k / p_k) for q_k, p_k in zip(q, p, strict=True)))
            else:
                voxels.append(sum((K * (p_k - q_k)) ** 2 for p_k, q_k in zip(p, q, strict=True)))
        losses.append(sum(voxels) / len(voxels))
    return losses


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
def test_every_loss_follows_its_formula(kind: str, shape: tuple[int, ...], soft: bool) -> None:
    target, logits = make_target(shape, soft), make_logits(shape)
    value = ScoreMatchingLoss(kind, SCHEDULE)(logits, target)
    assert value.shape == (3,)
    # The schedule keeps its levels in float32.
    assert value.tolist() == pytest.approx(loop(kind, logits, target), rel=2e-5)


def test_every_loss_trains_a_known_parametrisation() -> None:
    assert set(LOSSES.values()) == set(PARAMETRISATIONS)


class TestDirectLosses:
    @pytest.mark.parametrize("shape", SHAPES)
    def test_dsm_is_the_squared_score_difference_over_squared_temperature(self, shape: tuple[int, ...]) -> None:
        target, logits = make_target(shape), make_logits(shape)
        tau = SCHEDULE.temperature(LEVEL)
        log_alpha = SCHEDULE.log_alpha(target["probabilities"], LEVEL)
        difference = direct_score(logits, tau) - score(target["x"], log_alpha, tau)
        squared = (difference**2).sum(1, keepdim=True) / tau.double().reshape(-1, *[1] * (len(shape) - 1)) ** 2
        torch.testing.assert_close(ScoreMatchingLoss("dsm", SCHEDULE).voxel_loss(logits, target), squared)

    @pytest.mark.parametrize("kind", ["kl", "dsm"])
    def test_is_zero_and_least_where_the_logits_are_the_residual(self, kind: str) -> None:
        loss, target = ScoreMatchingLoss(kind, SCHEDULE), make_target((3, 4, 6, 5))
        log_alpha = SCHEDULE.log_alpha(target["probabilities"], LEVEL)
        best = residual(target["x"], log_alpha, SCHEDULE.temperature(LEVEL)).requires_grad_()
        value = loss(best, target)
        torch.testing.assert_close(value, torch.zeros_like(value), rtol=0, atol=1e-12)
        (gradient,) = torch.autograd.grad(value.sum(), best)
        assert gradient.abs().max() < 1e-10
        with torch.no_grad():
            for seed in range(5):
                step = 0.1 * make_logits(tuple(best.shape), seed)
                assert (loss.voxel_loss(best + step, target) > 0).all()

    @pytest.mark.parametrize("kind", ["kl", "dsm"])
    def test_least_mean_loss_is_at_the_mean_of_the_noise(self, kind: str) -> None:
        """One pair of logits for many draws: its softmax is the mean of softmax(z), found by gradient descent."""
        draws, schedule = 2000, NoiseSchedule((0.5,), (1.0,))
        level = torch.zeros(draws, dtype=torch.long)
        y = F.one_hot(torch.arange(draws) % 4 // 3, 2).double()
        x = schedule.sample(y, level, torch.Generator().manual_seed(0))
        target = {"x": x, "probabilities": y, "level": level, "mask": torch.ones(draws, 1)}
        logits = torch.zeros(2, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.LBFGS([logits], line_search_fn="strong_wolfe")

        def closure() -> Tensor:
            optimizer.zero_grad()
            value = ScoreMatchingLoss(kind, schedule)(logits.expand(draws, -1), target).mean()
            value.backward()
            return value

        for _ in range(3):
            optimizer.step(closure)
        noise = residual(x, schedule.log_alpha(y, level), 1.0).softmax(1).mean(0)
        torch.testing.assert_close(logits.detach().softmax(0), noise, rtol=0, atol=1e-5)


class TestPosteriorLoss:
    @pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
    def test_equals_the_cross_entropy_of_torch(self, soft: bool) -> None:
        target, logits = make_target((3, 4, 6, 5), soft), make_logits((3, 4, 6, 5))
        target["mask"] = torch.ones_like(target["mask"])
        labels = target["probabilities"] if soft else target["probabilities"].argmax(1)
        expected = F.cross_entropy(logits, labels, reduction="none").mean((1, 2))
        torch.testing.assert_close(ScoreMatchingLoss("posterior", SCHEDULE)(logits, target), expected)


@pytest.mark.parametrize("kind", KINDS)
class TestMask:
    def test_masked_voxels_change_nothing(self, kind: str) -> None:
        shape = (3, 3, 4, 5)
        loss, target, other = ScoreMatchingLoss(kind, SCHEDULE), make_target(shape), make_target(shape, seed=5)
        logits = make_logits(shape)
        kept = target["mask"].bool()
        assert 0 < kept.double().mean() < 1
        changed = {**target, **{key: torch.where(kept, target[key], other[key]) for key in ("x", "probabilities")}}
        changed_logits = torch.where(kept, logits, make_logits(shape, seed=6)).requires_grad_()
        value = loss(changed_logits, changed)
        torch.testing.assert_close(value, loss(logits, target), rtol=1e-12, atol=0)
        (gradient,) = torch.autograd.grad(value.sum(), changed_logits)
        assert not gradient[(~kept).expand_as(gradient)].any()
        assert gradient[kept.expand_as(gradient)].all()

    def test_sample_without_a_voxel_gives_zero_and_a_finite_gradient(self, kind: str) -> None:
        shape = (3, 3, 4, 5)
        target, logits = make_target(shape), make_logits(shape).requires_grad_()
        target["mask"][1] = 0
        value = ScoreMatchingLoss(kind, SCHEDULE)(logits, target)
        assert value[1] == 0 and (value[[0, 2]] > 0).all()
        value.sum().backward()
        assert logits.grad is not None and logits.grad.isfinite().all()
        assert not logits.grad[1].any()

    def test_mean_does_not_depend_on_the_share_of_masked_voxels(self, kind: str) -> None:
        shape = (3, 3, 6, 5)
        target, logits = make_target(shape), make_logits(shape)
        target["mask"] = torch.zeros_like(target["mask"])
        target["mask"][:, :, :2] = 1
        cut = {key: value if key == "level" else value[:, :, :2] for key, value in target.items()}
        loss = ScoreMatchingLoss(kind, SCHEDULE)
        torch.testing.assert_close(loss(logits, target), loss(logits[:, :, :2], cut))


@pytest.mark.parametrize("kind", KINDS)
def test_level_weights_scale_the_samples_of_their_level(kind: str) -> None:
    shape = (3, 3, 4, 5)
    target, logits = make_target(shape), make_logits(shape)
    plain = ScoreMatchingLoss(kind, SCHEDULE)(logits, target)
    weighted = ScoreMatchingLoss(kind, SCHEDULE, level_weights=[2.0, 0.0, 0.5])(logits, target)
    torch.testing.assert_close(weighted, plain * torch.tensor([0.5, 2.0, 0.0], dtype=torch.float64))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_arithmetic_of_low_precision_logits_is_close_to_float64(kind: str, dtype: torch.dtype) -> None:
    shape = (3, 3, 8, 8)
    target, logits = make_target(shape), (4 * make_logits(shape)).to(dtype)
    single = {key: value if key == "level" else value.float() for key, value in target.items()}
    loss = ScoreMatchingLoss(kind, SCHEDULE)
    value = loss(logits, single)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value.double(), loss(logits.double(), target), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_extreme_logits_give_finite_losses_and_gradients(kind: str) -> None:
    shape = (3, 3, 4, 5)
    logits = (1e4 * make_logits(shape).sign()).float().requires_grad_()
    target = {key: value if key == "level" else value.float() for key, value in make_target(shape).items()}
    value = ScoreMatchingLoss(kind, SCHEDULE)(logits, target)
    value.sum().backward()
    assert value.isfinite().all()
    assert logits.grad is not None and logits.grad.isfinite().all()


def test_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match=r"loss must be one of \('posterior', 'kl', 'dsm'\), got 'mse'"):
        ScoreMatchingLoss("mse", SCHEDULE)


@pytest.mark.parametrize("weights", [[1.0], [1.0] * 4, []])
def test_wrong_number_of_level_weights_is_refused(weights: list[float]) -> None:
    with pytest.raises(ValueError, match=f"{len(weights)} level weights for 3 levels"):
        ScoreMatchingLoss("kl", SCHEDULE, level_weights=weights)
