"""One table is one table, however it is written: equal codes, and so equal scores."""

from __future__ import annotations

import csv
import datetime
import functools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import scipy.sparse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import feather, parquet

from gnsm_monai.errors import InputError
from gnsm_monai.tabular import GNSMDetector, TableEncoder
from gnsm_monai.tabular.files import numerical_columns, read_table

Rows = list[tuple[int | None, bool, str | None, datetime.date]]

DAY = datetime.date(2024, 1, 30)
BASE: Rows = [
    (number % 4 if number % 7 else None, number % 3 == 0, "ab?"[number % 3], DAY + datetime.timedelta(number % 5))
    for number in range(60)
]


def _frame(rows: Rows) -> pd.DataFrame:
    whole, truth, text, day = zip(*rows, strict=True)
    columns = {"whole": pd.array(whole, "Int64"), "truth": list(truth), "text": list(text)}
    return pd.DataFrame({**columns, "day": pd.to_datetime(pd.Series(day))})


FRAMES = {
    "nullable": _frame,
    "as float": lambda rows: _frame(rows).astype({"whole": "float32"}),
    "objects": lambda rows: pd.DataFrame(rows, dtype=object),
    "categories, another order": lambda rows: _frame(rows).assign(
        text=pd.Categorical([row[2] for row in rows], sorted({row[2] for row in rows if row[2]}, reverse=True))
    ),
    "time zone": lambda rows: _frame(rows).assign(day=lambda frame: frame["day"].dt.tz_localize("UTC")),
    "pyarrow": lambda rows: pa.Table.from_pandas(_frame(rows)),
    "polars": lambda rows: pl.from_pandas(_frame(rows)),
    "polars dates": lambda rows: pl.from_pandas(_frame(rows)).with_columns(pl.col("day").cast(pl.Date)),
    "text": lambda rows: np.array([[None if value is None else str(value) for value in row] for row in rows], object),
}


@functools.cache
def _detector() -> GNSMDetector:
    return GNSMDetector(max_steps=12, width=8, random_state=0).fit(_frame(BASE))


ROW = st.tuples(st.none() | st.integers(0, 5), st.booleans(), st.none() | st.sampled_from("ab?é"), st.dates(DAY, DAY))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(ROW, min_size=1, max_size=8), st.sampled_from(sorted(FRAMES)))
def test_every_frame_of_the_same_rows_has_the_same_scores(rows: Rows, way: str) -> None:
    expected = _detector().decision_function(_frame(BASE[:1] + rows))
    assert _detector().decision_function(FRAMES[way](BASE[:1] + rows)).tolist() == expected.tolist()


def _write(path: Path, rows: Rows, missing: str, truth: Any, number: str, day: str, **options: Any) -> Path:
    def text(value: Any) -> str:
        if value is None:
            return missing
        if isinstance(value, bool):
            return str(truth(str(value)))
        if isinstance(value, datetime.date):
            return value.strftime(day)
        return number % value if isinstance(value, int) else str(value)

    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, **options).writerows([("whole", "truth", "text", "day"), *(map(text, row) for row in rows)])
    return path


WAYS: dict[str, dict[str, Any]] = {
    "R": {"missing": "NA", "truth": str.upper, "number": "%d", "day": "%Y-%m-%d", "quoting": csv.QUOTE_NONNUMERIC},
    "German": {"missing": "", "truth": str.upper, "number": "%d,00", "day": "%d.%m.%Y", "delimiter": ";"},
    "pandas": {"missing": "", "truth": str, "number": "%d.0", "day": "%Y-%m-%d %H:%M:%S"},
    "tabs": {"missing": "-", "truth": str.lower, "number": "%d", "day": "%Y-%m-%dT%H:%M:%SZ", "delimiter": "\t"},
}


@pytest.mark.parametrize("way", WAYS)
def test_every_file_of_the_same_rows_has_the_same_codes(tmp_path: Path, way: str) -> None:
    encoder = TableEncoder().fit(_frame(BASE))
    table = read_table(_write(tmp_path / "rows.csv", BASE, **WAYS[way]))
    assert encoder.transform(table.values).tolist() == encoder.transform(_frame(BASE)).tolist()


@pytest.mark.parametrize("suffix", ["parquet", "feather"])
def test_files_of_typed_columns_are_the_same_table(tmp_path: Path, suffix: str) -> None:
    frame = _frame(BASE).set_index(np.arange(len(BASE)) % 9)
    path = tmp_path / f"rows.{suffix}"
    if suffix == "parquet":
        parquet.write_table(pa.Table.from_pandas(frame), path, row_group_size=7)
    else:
        feather.write_feather(pa.Table.from_pandas(frame), path)
    table = read_table(path)
    assert table.names == list(frame.columns) and table.values[0, 0] is None
    encoder = TableEncoder().fit(frame)
    assert encoder.transform(table.values).tolist() == encoder.transform(frame).tolist()
    path.write_bytes(b"PAR1 and nothing of the kind")
    with pytest.raises(InputError, match=f"rows.{suffix}: cannot be read as {suffix}"):
        read_table(path)


def test_numpy_strings_and_one_hot_columns(tmp_path: Path) -> None:
    texts = np.array([["a", "1"], ["b", "2"]])
    encoder = TableEncoder().fit(texts)
    for other in (texts.astype(object), texts.astype("S"), texts.astype(np.dtypes.StringDType())):
        assert encoder.transform(other).tolist() == encoder.transform(texts).tolist()
    dense = pd.get_dummies(pd.Series(list("abca")))
    sparse = pd.get_dummies(pd.Series(list("abca")), sparse=True)
    encoder = TableEncoder().fit(dense)
    assert encoder.transform(sparse).tolist() == encoder.transform(dense).tolist()
    for table in (scipy.sparse.csr_array(dense.to_numpy(int)), scipy.sparse.coo_matrix(dense.to_numpy(int))):
        with pytest.raises(InputError, match="sparse matrix"):
            TableEncoder().fit(table)


def test_columns_of_dates_are_numbers_where_they_have_many(tmp_path: Path) -> None:
    dates = [DAY + datetime.timedelta(number) for number in range(80)]
    text = "\n".join(["day;other", *(f"{date:%d.%m.%Y};x" for date in dates)])
    (tmp_path / "rows.csv").write_text(text)
    table = read_table(tmp_path / "rows.csv")
    assert numerical_columns(table, None, "") == [0]
    from_file = TableEncoder([0]).fit(table.values)
    frame = pd.DataFrame({"day": pd.to_datetime(pd.Series(dates)), "other": "x"})
    of_frame = TableEncoder().fit(frame)
    assert from_file.edges[0] is not None and of_frame.edges[0] is not None
    assert from_file.edges[0].tolist() == of_frame.edges[0].tolist()
    assert from_file.transform(frame).tolist() == of_frame.transform(table.values).tolist()
    later = from_file.transform(np.array([["2030-01-01", "x"], ["soon", "x"]], dtype=object))[:, 0]
    assert later.tolist() == [from_file.cardinalities[0] - 1] * 2
