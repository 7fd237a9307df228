"""One table written in many ways: it means the same, and so has the same codes."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas._libs.parsers import STR_NA_VALUES

from gnsm_monai.errors import InputError
from gnsm_monai.tabular import GNSMDetector, TableEncoder
from gnsm_monai.tabular.files import read_table
from gnsm_monai.tabular.values import MISSING_TEXTS, canonical


@given(st.decimals(allow_nan=False, allow_infinity=False, places=4, min_value=-(10**6), max_value=10**6))
def test_a_number_has_one_spelling(number: Decimal) -> None:
    plain = format(number, "f")
    spellings = {plain, f"{plain}00", repr(float(number)), f"{number:+.9e}".removeprefix("+")}
    assert {canonical(text) for text in spellings} == {canonical(repr(float(number)))}
    assert Decimal(canonical(plain)) == number


@pytest.mark.parametrize(
    "text",
    [
        *("", "a", "007", "+5", "1.2.3", "1e5", "2024-01-01", "1,5", "12345678901234567890", "truth", "5."),
        *("1E+20240131", "3E-1234567", "7E-123456", "1E+99999999999999999999", "0.12345678901234567890123456789"),
    ],
)
def test_all_else_stays_as_it_is(text: str) -> None:
    assert canonical(text) == text


def test_zero_has_one_spelling() -> None:
    assert {canonical(text) for text in ("0", "-0", "0.0", "-.00", "0E+99999999999999999999")} == {"0"}


def test_an_underscore_makes_a_name() -> None:
    names = [f"{plate}_{well}" for plate in range(1, 13) for well in range(1, 31)]
    table = np.array([[name] for name in names], dtype=object)
    codes = TableEncoder([]).fit(table).transform(table)[:, 0]
    assert len(set(codes.tolist())) == len(names)
    with pytest.raises(InputError, match=r"column 0 is to be numerical: .*'1_1'"):
        TableEncoder([0]).fit(table)


def test_truth_values_have_one_spelling() -> None:
    assert {canonical(text) for text in ("True", "TRUE", "true")} == {"True"}


def test_missing_is_what_pandas_takes_for_it_and_a_dash() -> None:
    assert set(MISSING_TEXTS) == set(STR_NA_VALUES) | {"-"}


ROWS = st.lists(
    st.tuples(
        st.one_of(st.none(), st.integers(-50, 50)),
        st.one_of(st.none(), st.booleans()),
        st.one_of(st.none(), st.sampled_from([0.25, 1.5, -3.75, 2.0])),
        st.sampled_from(["red", "blue"]),
    ),
    min_size=2,
    max_size=12,
)


def spelled(draw: st.DrawFn, value: Any, comma: bool) -> str:
    if value is None:
        return draw(st.sampled_from(sorted(MISSING_TEXTS)))
    if isinstance(value, bool):
        return draw(st.sampled_from([str(value), str(value).upper(), str(value).lower()]))
    if isinstance(value, str):
        return value
    text = draw(st.sampled_from([f"{value:g}", f"{value:.2f}", f"{value:.3f}"]))
    return text.replace(".", ",") if comma else text


@settings(deadline=None, max_examples=60)
@given(ROWS, st.data())
def test_a_file_means_the_same_however_it_is_written(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[Any, ...]], data: st.DataObject
) -> None:
    frame = pd.DataFrame(rows, columns=["whole", "truth", "number", "text"], dtype=object)
    encoder = TableEncoder([]).fit(frame)
    comma = data.draw(st.booleans())
    draw: Any = data.draw
    lines = [";".join(spelled(draw, value, comma) for value in row) for row in rows]
    path = tmp_path_factory.mktemp("spelled") / "table.csv"
    path.write_text("\n".join(["whole;truth;number;text", *lines]) + "\n")
    table = read_table(path, decimal="," if comma else ".")
    assert np.array_equal(encoder.transform(table.values), encoder.transform(frame))


def example() -> pd.DataFrame:
    draw = np.random.default_rng(0)
    whole, text = draw.integers(1, 4, 200), draw.choice(["a", "b", "c"], 200)
    number = draw.normal(size=200).astype(np.float32).astype(str).astype(np.float64)
    few = draw.choice([0.1, 0.25, 3.5], 200)
    return pd.DataFrame({"whole": whole, "truth": whole > 2, "number": number, "text": text, "few": few})


@pytest.mark.parametrize(
    "write",
    [
        lambda frame: frame.astype({"whole": np.float32, "number": np.float32, "few": np.float32}),
        lambda frame: frame.astype({"whole": float, "truth": object, "text": "category", "few": "category"}),
        lambda frame: frame.astype({"whole": str, "truth": str, "few": str}),
        lambda frame: frame.convert_dtypes(),
        lambda frame: frame.to_numpy(dtype=object)[:, [0, 1, 2, 3, 4]],
    ],
    ids=["float32", "categories", "text", "nullable", "objects"],
)
def test_types_of_pandas_and_numpy_make_no_difference(write: Any) -> None:
    frame = example()
    encoder, other = TableEncoder().fit(frame), TableEncoder()
    if isinstance(write(frame), pd.DataFrame):
        assert other.fit(write(frame)).to_dict() == encoder.to_dict()
    assert np.array_equal(encoder.transform(write(frame)), encoder.transform(frame))


@pytest.mark.parametrize("library", ["polars", "pyarrow"])
def test_frames_of_other_libraries_are_read_column_by_column(library: str) -> None:
    module, frame = pytest.importorskip(library), example()
    columns = {name: frame[name].to_list() for name in frame}
    columns["whole"][3] = None
    frame["whole"] = pd.array(columns["whole"], dtype="Int64")
    other = module.DataFrame(columns) if library == "polars" else module.table(columns)
    assert TableEncoder().fit(other).to_dict() == TableEncoder().fit(frame).to_dict()
    quick = {"max_steps": 2, "width": 8, "depth": 1, "random_state": 0}
    detectors = [GNSMDetector(**quick).fit(table) for table in (other, frame)]
    assert np.array_equal(detectors[0].decision_scores_, detectors[1].decision_scores_)


def test_numpy_text_is_text() -> None:
    encoder = TableEncoder().fit(np.array([[1], [2]]))
    assert encoder.transform(np.array([["2"], ["2.0"], ["1"]]))[:, 0].tolist() == [1, 1, 0]
    assert encoder.transform(np.array([[b"2"], [b"1"]]))[:, 0].tolist() == [1, 0]


def test_an_encoder_of_version_0_2_finds_its_own_spellings_first() -> None:
    encoder = TableEncoder.from_dict({"edges": [None], "categories": [["1.0", "2", "2.0", "TRUE"]]})
    values = np.array([["2"], ["2.0"], ["2.00"], ["1"], ["true"], ["3"]], dtype=object)
    assert encoder.transform(values)[:, 0].tolist() == [1, 2, 1, 0, 3, 4]


def test_text_among_numbers_to_score_is_unknown() -> None:
    encoder = TableEncoder([0]).fit(np.linspace(0, 1, 50)[:, None])
    codes = encoder.transform(np.array([["0.5"], ["much"], [None]], dtype=object))[:, 0]
    assert codes[0] < encoder.cardinalities[0] - 1 and codes[1] == codes[2] == encoder.cardinalities[0] - 1
