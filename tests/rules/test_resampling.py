"""Correlations on resamples that are given by how often they draw each mask."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from gnsm_monai.rules.choice import rank_correlation
from gnsm_monai.rules.resampling import rank_correlations


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.sampled_from([0, 1, 6]))
def test_correlations_are_those_of_masks_written_out(seed: int, count: int, decimals: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = np.round(3 * rng.random((2, count)), decimals)
    draws = [rng.integers(count, size=rng.integers(count + 1)) for _ in range(20)]
    counts = np.stack([np.bincount(draw, minlength=count) for draw in draws]).astype(float)
    expected = [
        spearmanr(x[draw], y[draw])[0] if min(len(set(x[draw])), len(set(y[draw]))) > 1 else 0.0 for draw in draws
    ]
    np.testing.assert_allclose(rank_correlations(x, y, counts), expected, atol=1e-12)


def test_one_resample_of_all_masks_is_the_plain_correlation() -> None:
    x, y = np.random.default_rng(0).random((2, 30))
    np.testing.assert_allclose(rank_correlations(x, y, np.ones((1, 30))), rank_correlation(x, y))
    assert rank_correlations(x[:0], y[:0], np.ones((4, 0))).tolist() == [0] * 4
