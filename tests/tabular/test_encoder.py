from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from gnsm_monai.errors import InputError
from gnsm_monai.tabular import TableEncoder


def test_categories_are_text_whatever_their_type() -> None:
    encoder = TableEncoder().fit(np.array([[1, "a"], [2, "b"]], dtype=object))
    same = pd.DataFrame({"x": [2.0, 1.0], "y": pd.Categorical(["b", "a"])})
    assert encoder.transform(same).tolist() == [[1, 1], [0, 0]]
    assert encoder.cardinalities == [3, 3]


def test_what_training_did_not_have_is_the_last_category() -> None:
    encoder = TableEncoder().fit(np.array([["a"], ["b"]], dtype=object))
    assert encoder.transform(np.array([["c"], [None], [""]], dtype=object)).tolist() == [[2], [2], [2]]


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA, pd.NaT])
def test_a_missing_value_is_a_category_of_its_own(missing: object) -> None:
    encoder = TableEncoder().fit(pd.DataFrame({"x": pd.Series(["a", missing, "b"], dtype=object)}))
    codes = encoder.transform(pd.DataFrame({"x": pd.Series([None, "a", np.nan], dtype=object)}))[:, 0]
    assert encoder.cardinalities == [4] and codes[0] == codes[2] != codes[1] and codes[0] < 3


def test_floating_point_columns_are_binned_and_codes_are_not() -> None:
    values = np.linspace(0, 1, 1001)
    encoder = TableEncoder(bins=4).fit(pd.DataFrame({"number": values, "code": np.arange(1001)}))
    assert encoder.cardinalities[1] == 1002
    # Quartiles and the two tails of 1%, each with its share of the rows.
    counts = np.bincount(encoder.transform(pd.DataFrame({"number": values, "code": 0}))[:, 0])
    assert sorted(counts.tolist()) == sorted([1, 10, 240, 250, 250, 240, 10])


def test_numbers_outside_the_range_of_training_are_unknown_and_infinity_is_no_exception() -> None:
    encoder = TableEncoder().fit(np.linspace(0, 1, 200)[:, None])
    unknown = encoder.cardinalities[0] - 1
    codes = encoder.transform(np.array([[1.1], [-0.1], [np.inf], [-np.inf], [np.nan], [0.5]]))[:, 0]
    assert codes[:5].tolist() == [unknown] * 5 and codes[5] < unknown


def test_named_numerical_columns_may_be_text() -> None:
    table = np.array([["1", "a"], ["2.5", "b"], ["", "c"]], dtype=object)
    encoder = TableEncoder(numerical_features=[0]).fit(table)
    assert encoder.edges[0] is not None and encoder.edges[1] is None
    with pytest.raises(InputError, match="column 1 is to be numerical"):
        TableEncoder(numerical_features=[1]).fit(table)
    with pytest.raises(InputError, match="no column 2"):
        TableEncoder(numerical_features=[2]).fit(table)


def test_duplicate_column_names_are_columns_of_their_own() -> None:
    frame = pd.DataFrame([["a", "x"], ["b", "x"]], columns=["same", "same"])
    assert TableEncoder().fit(frame).transform(frame).tolist() == [[0, 0], [1, 0]]


def test_identifiers_and_other_tables_are_refused() -> None:
    encoder = TableEncoder().fit(np.array([["a"], ["b"]], dtype=object))
    with pytest.raises(InputError, match="2 columns, training had 1"):
        encoder.transform(np.zeros((2, 2), dtype=int))
    with pytest.raises(InputError, match="more than 10000: leave identifiers out"):
        TableEncoder().fit(np.arange(10_001)[:, None])
    with pytest.raises(InputError, match="rows and columns"):
        encoder.fit(np.zeros(3))


def test_it_survives_json() -> None:
    table = pd.DataFrame({"number": np.linspace(-1, 1, 60), "text": ["é", "=", ""] * 20})
    encoder = TableEncoder().fit(table)
    again = TableEncoder.from_dict(json.loads(json.dumps(encoder.to_dict())))
    assert np.array_equal(encoder.transform(table), again.transform(table))
    assert again.cardinalities == encoder.cardinalities


@pytest.mark.parametrize(("categories", "dtype"), [(255, np.uint8), (256, np.int16), (9999, np.int16)])
def test_codes_are_as_small_as_the_last_category_allows(categories: int, dtype: type) -> None:
    values = np.arange(categories).astype(str)[:, None]
    encoder = TableEncoder().fit(values)
    codes = encoder.transform(np.concatenate([values, [["unheard"]]]))
    assert codes.dtype == dtype and sorted(codes[:, 0].tolist()) == list(range(categories + 1))
