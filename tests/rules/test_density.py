from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import median_abs_deviation, multivariate_normal
from sklearn.neighbors import NearestNeighbors

from gnsm_monai.files import load_arrays, save_arrays
from gnsm_monai.rules.density import Density, GaussianMixtureDensity, LargestDeviation, NearestNeighbourDensity

DENSITIES = [GaussianMixtureDensity, NearestNeighbourDensity, LargestDeviation]


@pytest.fixture
def features() -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.normal(size=(60, 3)) @ rng.normal(size=(3, 3)) * [1, 10, 100] + [5, -3, 1000]


def test_a_mixture_of_one_component_is_the_gaussian_density(features: np.ndarray) -> None:
    few = features[:15]  # too few for two components
    fitted = GaussianMixtureDensity.fit(few)
    z = (few - few.mean(0)) / few.std(0)
    expected = -multivariate_normal(z.mean(0), np.cov(z.T, bias=True) + 1e-3 * np.eye(3)).logpdf(z)
    np.testing.assert_allclose(GaussianMixtureDensity.anomaly(few, fitted), expected, rtol=1e-6)


def test_two_clusters_get_two_components(features: np.ndarray) -> None:
    clusters = np.concatenate([features, features + 40 * features.std(0)])
    assert len(GaussianMixtureDensity.fit(clusters)["weights"]) >= 2


def test_neighbour_distance_agrees_with_scikit_learn(features: np.ndarray) -> None:
    fitted = NearestNeighbourDensity.fit(features)
    queries = features[:7] * 1.1
    z, points = ((x - features.mean(0)) / features.std(0) for x in (queries, features))
    expected = NearestNeighbors(n_neighbors=5).fit(points).kneighbors(z)[0].mean(1)
    np.testing.assert_allclose(NearestNeighbourDensity.anomaly(queries, fitted), expected, rtol=1e-9)


def test_the_largest_deviation_agrees_with_scipy(features: np.ndarray) -> None:
    fitted = LargestDeviation.fit(features)
    spread = median_abs_deviation(features, axis=0, scale="normal")
    expected = np.abs((features - np.median(features, axis=0)) / spread).max(axis=1)
    np.testing.assert_allclose(LargestDeviation.anomaly(features, fitted), expected, rtol=1e-4)
    shift = np.array([[0, 7 * spread[1], -2 * spread[2]]])
    largest = LargestDeviation.anomaly(np.median(features, axis=0) + shift, fitted)
    assert largest == pytest.approx(7, rel=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_references_in_error_do_not_hide_their_like(seed: int) -> None:
    rng = np.random.default_rng(seed)
    clean, unseen = rng.normal(size=(40, 5)), rng.normal(size=(200, 5))
    error = np.array([[0.0, 0, 25, 0, 0]])
    fitted = LargestDeviation.fit(np.concatenate([clean[:-4], error + 0.1 * rng.normal(size=(4, 5))]))
    assert LargestDeviation.anomaly(error, fitted) > 3 * LargestDeviation.anomaly(unseen, fitted).max()


def test_alike_references_give_finite_deviations() -> None:
    fitted = LargestDeviation.fit(np.array([[1.0, 1], [1, 1], [1, 1], [1, 2]]))
    assert LargestDeviation.anomaly(np.array([[3.0, 1]]), fitted) == 2.0
    assert 0 < LargestDeviation.anomaly(np.array([[1.0, 5]]), fitted) < 20
    rounded = LargestDeviation.fit(np.array([[0.1], [0.1 + 1e-17], [0.3 - 0.2]]))
    assert LargestDeviation.anomaly(np.array([[0.2]]), rounded) == pytest.approx(0.1)


@pytest.mark.parametrize("density", DENSITIES)
def test_what_is_far_from_the_references_is_more_anomalous(density: type[Density], features: np.ndarray) -> None:
    fitted = density.fit(features)
    inside, outside = (
        density.anomaly(x, fitted) for x in (features, features.mean(0) + 8 * features.std(0) * [[1, -1, 1]])
    )
    assert outside.min() > inside.max()


@pytest.mark.parametrize("density", DENSITIES)
def test_a_fitted_density_survives_a_file_without_pickle(
    density: type[Density], features: np.ndarray, tmp_path
) -> None:  # type: ignore[no-untyped-def]
    fitted = density.fit(features)
    save_arrays(tmp_path / "density.npz", fitted)
    loaded = load_arrays(tmp_path / "density.npz")
    assert np.array_equal(density.anomaly(features, loaded), density.anomaly(features, fitted))


def test_a_constant_feature_is_legal(features: np.ndarray) -> None:
    features[:, 1] = 7.0
    for density in DENSITIES:
        assert np.isfinite(density.anomaly(features, density.fit(features))).all()
