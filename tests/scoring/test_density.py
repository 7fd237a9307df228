from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import mahalanobis
from scipy.stats import multivariate_normal
from sklearn.neighbors import NearestNeighbors

from gnsm_monai.files import load_arrays, save_arrays
from gnsm_monai.scoring.density import (
    DENSITIES,
    GaussianMixtureDensity,
    MahalanobisDistance,
    NearestNeighbourDensity,
)


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


def test_mahalanobis_distance_agrees_with_scipy_where_references_are_many() -> None:
    rng = np.random.default_rng(0)
    many = rng.normal(size=(20_000, 3)) @ rng.normal(size=(3, 3)) + [5, -3, 1000]
    distance = MahalanobisDistance.anomaly(many[:5], MahalanobisDistance.fit(many))
    inverse = np.linalg.inv(np.cov(many.T))
    expected = [mahalanobis(point, many.mean(0), inverse) for point in many[:5]]
    np.testing.assert_allclose(distance, expected, rtol=0.01)


@pytest.mark.parametrize("seed", range(3))
def test_references_in_error_do_not_hide_their_like(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(5, 5))
    clean, unseen = rng.normal(size=(40, 5)) @ mixing, rng.normal(size=(200, 5)) @ mixing
    error = 25 * mixing[:1]
    spoilt = np.concatenate([clean[:-4], error + 0.1 * rng.normal(size=(4, 5))])
    fitted = MahalanobisDistance.fit(spoilt)
    assert MahalanobisDistance.anomaly(error, fitted) > 3 * MahalanobisDistance.anomaly(unseen, fitted).max()
    by_clean = MahalanobisDistance.anomaly(unseen, MahalanobisDistance.fit(clean))
    assert np.corrcoef(MahalanobisDistance.anomaly(unseen, fitted), by_clean)[0, 1] > 0.8


def test_mahalanobis_distance_of_features_of_less_than_full_rank_is_finite() -> None:
    points = np.random.default_rng(0).normal(size=(40, 1)) * [1, 2, 0]
    fitted = MahalanobisDistance.fit(points)
    near, far = MahalanobisDistance.anomaly(np.array([[0.0, 0.0, 0.0], [9.0, 18.0, 0.0]]), fitted)
    assert near < far < np.inf


def test_mahalanobis_distance_of_a_few_references_is_finite_and_two_sided() -> None:
    rng = np.random.default_rng(0)
    few = rng.normal(size=(4, 1)) * [1, 2, 3, 4, 5]  # five features on one line
    fitted = MahalanobisDistance.fit(few)
    high, low = MahalanobisDistance.anomaly(few.mean(0) + np.array([[5.0] * 5, [-5.0] * 5]), fitted)
    assert high == pytest.approx(low)
    assert high > MahalanobisDistance.anomaly(few, fitted).max()


@pytest.mark.parametrize("name", DENSITIES)
def test_what_is_far_from_the_references_is_more_anomalous(name: str, features: np.ndarray) -> None:
    fitted = DENSITIES[name].fit(features)
    inside, outside = (
        DENSITIES[name].anomaly(x, fitted) for x in (features, features.mean(0) + 8 * features.std(0) * [[1, -1, 1]])
    )
    assert outside.min() > inside.max()


@pytest.mark.parametrize("name", DENSITIES)
def test_a_fitted_density_survives_a_file_without_pickle(name: str, features: np.ndarray, tmp_path) -> None:  # type: ignore[no-untyped-def]
    fitted = DENSITIES[name].fit(features)
    save_arrays(tmp_path / "density.npz", fitted)
    loaded = load_arrays(tmp_path / "density.npz")
    assert np.array_equal(DENSITIES[name].anomaly(features, loaded), DENSITIES[name].anomaly(features, fitted))


def test_a_constant_feature_is_legal(features: np.ndarray) -> None:
    features[:, 1] = 7.0
    for density in DENSITIES.values():
        assert np.isfinite(density.anomaly(features, density.fit(features))).all()
