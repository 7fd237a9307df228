from __future__ import annotations

import numpy as np
import pytest
from sklearn.preprocessing import OneHotEncoder

from gnsm_monai.tabular.coupling import coupled_frequencies


def by_contingency_tables(codes: np.ndarray, cardinalities: list[int]) -> list[np.ndarray]:
    """The definition, from the dense table of every pair of features."""
    rows, features = codes.shape
    one_hot = OneHotEncoder(categories=[range(k) for k in cardinalities], sparse_output=False).fit_transform(codes)
    blocks = np.split(one_hot, np.cumsum(cardinalities)[:-1], axis=1)
    terms = []
    for here in range(features):
        logs = []
        for there in set(range(features)) - {here}:
            expected = np.outer(blocks[here].sum(0), blocks[there].sum(0)) / rows
            lift = (blocks[here].T @ blocks[there] + 0.5) / (expected + 0.5)
            logs.append(np.log(lift[:, blocks[there].any(0)].mean(1)))
        terms.append(np.mean(logs, axis=0))
    return terms


@pytest.mark.parametrize("cardinalities", [[3, 4], [5, 2, 7, 4], [40, 3, 3]])
@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_it_is_its_definition_by_contingency_tables(cardinalities: list[int], dtype: type) -> None:
    draw = np.random.default_rng(0)
    # The last category of each feature never occurs, as in tables to be trained on; the others depend on the first.
    columns = [draw.integers(0, k - 1, 300) for k in cardinalities]
    columns[1] = np.where(draw.random(300) < 0.7, columns[0] % (cardinalities[1] - 1), columns[1])
    codes = np.stack(columns, 1).astype(dtype)
    terms = coupled_frequencies(codes, cardinalities)
    for term, expected in zip(terms, by_contingency_tables(codes, cardinalities), strict=True):
        np.testing.assert_allclose(term, expected, rtol=1e-12, atol=1e-12)
        assert term[-1] == pytest.approx(0, abs=1e-12)


def test_company_of_rare_values_counts_and_independence_does_not() -> None:
    # "b" of the first feature is as frequent as "a", but only "b" occurs with the second feature's rare value.
    first = np.repeat([0, 1], 5000)
    second = np.r_[np.zeros(5000), np.zeros(4800), np.ones(200)].astype(int)
    third = np.arange(10_000) % 2
    terms = coupled_frequencies(np.stack([first, second, third], 1), [3, 3, 3])
    assert terms[0][1] > 0.15 and terms[0][0] < -0.15
    assert np.abs(terms[2]).max() < 1e-3


def test_one_feature_has_no_company() -> None:
    assert coupled_frequencies(np.zeros((5, 1), dtype=int), [2])[0].tolist() == [0, 0]
