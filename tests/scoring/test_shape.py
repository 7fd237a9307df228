"""The linear model of shapes, against scikit-learn's PCA and the conditional of a Gaussian written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import spearmanr
from sklearn.decomposition import PCA

from gnsm_monai.data.compare import mean_foreground_dice
from gnsm_monai.scoring.shape import ShapeModel, coarse_maps

SIZE = (16, 24)
NOISE = torch.tensor([1e-6, 0.5, 1e6])


def ellipse(rng: np.random.Generator) -> torch.Tensor:
    """One-hot ``(2, *SIZE)`` of an ellipse of random place and size."""
    centre, radius = np.array([8.0, 12.0]) + rng.normal(0, 1, 2), np.array([4.0, 7.0]) + rng.normal(0, 0.7, 2)
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in SIZE], indexing="ij"), -1)
    inside = (((grid - centre) / radius) ** 2).sum(-1) <= 1
    return F.one_hot(torch.from_numpy(inside).long(), 2).movedim(-1, 0).float()


@pytest.fixture(scope="module")
def maps() -> list[torch.Tensor]:
    rng = np.random.default_rng(0)
    return [ellipse(rng) for _ in range(30)]


@pytest.fixture(scope="module")
def model(maps: list[torch.Tensor]) -> ShapeModel:
    model = ShapeModel.fit(*coarse_maps(maps, [[2, 2], [2, 2]]))
    assert model is not None
    return model


def coarse(maps: list[torch.Tensor]) -> np.ndarray:
    return F.avg_pool2d(torch.stack(maps), 2).flatten(1).numpy()


def test_modes_and_variances_are_those_of_pca(model: ShapeModel, maps: list[torch.Tensor]) -> None:
    pca = PCA().fit(coarse(maps))
    kept = len(model.variance)
    np.testing.assert_allclose(model.variance, pca.explained_variance_[:kept], rtol=1e-4)
    similarity = np.abs((model.modes.flatten(1).numpy() * pca.components_[:kept]).sum(1))
    np.testing.assert_allclose(similarity[:10], 1, atol=1e-3)


def expected(model: ShapeModel, probabilities: torch.Tensor, mask: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    return model.maps(model.coefficients(probabilities, mask, noise), probabilities.shape[2:])


@pytest.mark.parametrize("observed", [1.0, 0.5])
def test_shape_is_the_conditional_mean_of_a_gaussian(
    model: ShapeModel, maps: list[torch.Tensor], observed: float
) -> None:
    """``E[mean + B z | y_o]`` by the covariance of the observed cells, written out."""
    one_hot = ellipse(np.random.default_rng(7))
    mask = torch.ones(1, 1, *SIZE)
    mask[..., int(SIZE[1] * observed) :] = 0
    noise = torch.tensor([0.3])
    found = expected(model, one_hot[None], mask, noise)
    b, mean = model.modes.flatten(1).double().numpy().T, model.mean.flatten().double().numpy()
    seen = F.avg_pool2d(mask, 2).expand(1, 2, -1, -1).flatten().numpy() > 0
    prior = b @ np.diag(model.variance.double().numpy()) @ b.T
    noisy = prior[np.ix_(seen, seen)] + (0.3 / 4 + model.rest) * np.eye(seen.sum())
    y = coarse([one_hot])[0].astype(np.float64)
    posterior_mean = mean + prior[:, seen] @ np.linalg.solve(noisy, y[seen] - mean[seen])
    fine = F.interpolate(torch.from_numpy(posterior_mean).reshape(1, 2, 8, 12), size=SIZE, mode="bilinear").clamp_min(
        1e-6
    )
    np.testing.assert_allclose(found, fine / fine.sum(1, keepdim=True), atol=1e-4)


def test_weak_noise_keeps_a_possible_shape_and_strong_noise_leaves_the_mean(
    model: ShapeModel, maps: list[torch.Tensor]
) -> None:
    one_hot = ellipse(np.random.default_rng(8))
    weak, _, strong = expected(model, one_hot[None], torch.ones(1, 1, *SIZE), NOISE)
    usual = F.interpolate(model.mean[None], size=SIZE, mode="bilinear")[0]
    np.testing.assert_allclose(strong, usual / usual.sum(0), atol=1e-3)
    assert (weak - one_hot).abs().mean() < 0.6 * (strong - one_hot).abs().mean()


def without_quarter(one_hot: torch.Tensor, columns: int = 12) -> torch.Tensor:
    """The map with the lower right part cut off from that column on."""
    cut = one_hot.clone()
    cut[1, 8:, columns:], cut[0, 8:, columns:] = 0, 1
    return cut


def test_an_impossible_shape_is_not_kept_however_weak_the_noise(model: ShapeModel) -> None:
    for seed in range(9, 14):
        true = ellipse(np.random.default_rng(seed))
        cut = without_quarter(true)
        shape = expected(model, cut[None], torch.ones(1, 1, *SIZE), NOISE[:1])[0]
        missing = (true[1] - cut[1]).bool()
        assert missing.sum() > 10 and shape[1][missing].mean() > 0.25


def test_disagreement_with_the_shape_follows_dice(model: ShapeModel) -> None:
    rng = np.random.default_rng(10)
    dice, disagreement = [], []
    for number in range(40):
        true = ellipse(rng)
        wrong = without_quarter(true, 20 - number % 10)
        shape = expected(model, wrong[None], torch.ones(1, 1, *SIZE), NOISE[:1])[0]
        overlap = 2 * (shape[1] * wrong[1]).sum() / (shape[1].sum() + wrong[1].sum())
        dice.append(mean_foreground_dice(wrong.argmax(0).numpy(), true.argmax(0).numpy(), 2))
        disagreement.append(1 - float(overlap))
    assert spearmanr(disagreement, dice).statistic < -0.7


@pytest.mark.parametrize("size", [(20, 30), (12, 20), (17, 23)])
def test_a_mask_of_another_size_is_centred_on_the_grid(model: ShapeModel, size: tuple[int, int]) -> None:
    one_hot = ellipse(np.random.default_rng(11))[None]
    padding = [p for n, m in reversed(list(zip(size, SIZE, strict=True))) for p in ((n - m) // 2, n - m - (n - m) // 2)]
    other = F.pad(one_hot, padding)
    other[:, 0] = 1 - other[:, 1]
    shape = expected(model, other, torch.ones(1, 1, *size), NOISE[:1])
    assert shape.shape == (1, 2, *size)
    np.testing.assert_allclose(shape.sum(1), 1, atol=1e-5)
    if all(n >= m for n, m in zip(size, SIZE, strict=True)):
        inside = F.pad(shape, [-p for p in padding])
        np.testing.assert_allclose(inside, expected(model, one_hot, torch.ones(1, 1, *SIZE), NOISE[:1]), atol=1e-6)


def test_arrays_bring_the_model_back(model: ShapeModel) -> None:
    again = ShapeModel.from_arrays(model.to_arrays())
    assert again is not None and again.stride == model.stride
    one_hot, mask = ellipse(np.random.default_rng(12))[None], torch.ones(1, 1, *SIZE)
    np.testing.assert_allclose(expected(again, one_hot, mask, NOISE), expected(model, one_hot, mask, NOISE), atol=5e-3)
    assert ShapeModel.from_arrays({}) is None


def test_maps_with_many_classes_get_coarser_cells(monkeypatch: pytest.MonkeyPatch, maps: list[torch.Tensor]) -> None:
    monkeypatch.setattr("gnsm_monai.scoring.shape.MAX_VALUES", 60)
    model = ShapeModel.fit(*coarse_maps(maps, [[2, 2], [2, 2]]))
    assert model is not None and model.stride == (4, 4) and model.mean.shape == (2, 4, 6)
    assert ShapeModel.fit(*coarse_maps(maps[:2], [[2, 2]])) is None
