from __future__ import annotations

import gzip
import io
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gnsm_monai.errors import InputError
from gnsm_monai.tabular.files import read_table
from gnsm_monai.tabular.steps_training import training_table

COMMA = "a comma in numbers as the decimal point"
UNSURE = "if these are thousands: --decimal ,"
THOUSANDS = " and the like as numbers with a sign between thousands"


@pytest.mark.parametrize(
    ("text", "names", "first"),
    [
        ("a,b\nx;y,1\n", ["a", "b"], ["x;y", "1"]),
        ("a;b;c\nx,y;1;\n", ["a", "b", "c"], ["x,y", "1", None]),
        ("a\tb\r\nx\t1,5\r\n", ["a", "b"], ["x", "1,5"]),
        ('"a;b",c\n1,2\n', ["a;b", "c"], ["1", "2"]),
        ('\ufeff"one\nname";b\n"x\ny";2\n', ["one\nname", "b"], ["x\ny", "2"]),
        ("only\nx\n", ["only"], ["x"]),
    ],
)
def test_commas_semicolons_and_tabs_separate_values(
    tmp_path: Path, text: str, names: list[str], first: list[str | None]
) -> None:
    (tmp_path / "table.csv").write_text(text, encoding="utf-8", newline="")
    table = read_table(tmp_path / "table.csv")
    assert table.names == names
    assert table.values[0].tolist() == first


@pytest.mark.parametrize(
    ("text", "options", "values", "read_as"),
    [
        ("a,b\nNA,-\n1,2\n", {}, [[None, None], ["1", "2"]], "'-' (1x) as missing; 'NA' (1x) as missing"),
        ("a,b\nNA,?\n", {"missing": ["?"]}, [["NA", None]], "'?' (1x) as missing"),
        ("a;b\n77,5;x\n4,5;y\n", {}, [["77.5", "x"], ["4.5", "y"]], COMMA),
        ("a;b\n77,5;x\n1.234,5;1.234\n", {}, [["77.5", "x"], ["1234.5", "1234"]], f"{COMMA}; '1.234,5'{THOUSANDS}"),
        ('a,b\n"1,234.5",x\n"12,345",2.5\n', {}, [["1234.5", "x"], ["12345", "2.5"]], f"'1,234.5'{THOUSANDS}"),
        ('a,b\n"1,234","7,5"\n', {}, [["1,234", "7,5"]], ""),
        ("a;b\n1\u00a0234,5;x\n1'234;1.5\n", {}, [["1234.5", "x"], ["1234", "1.5"]], f"'1\u00a0234,5'{THOUSANDS}"),
        ("a;b\n1.234;2.5\n", {}, [["1.234", "2.5"]], ""),
        ("a;b\n77,5;x\n1.5;y\n2.5;1,z\n", {}, [["77,5", "x"], ["1.5", "y"], ["2.5", "1,z"]], ""),
        ("a;b\n1,2;x\n", {"decimal": "."}, [["1,2", "x"]], ""),
        ('a,b\n"1,2",x\n', {"decimal": ","}, [["1.2", "x"]], COMMA),
        ("a;b\n1.234;7\n", {}, [["1.234", "7"]], "'1.234' and the like as numbers with three decimals; " + UNSURE),
        ("a;b\n1.234;7\n", {"decimal": ","}, [["1234", "7"]], f"'1.234'{THOUSANDS}"),
        ("a;b\n1.234;7\n", {"decimal": "."}, [["1.234", "7"]], ""),
        ("a,b\n99.0,990\n", {"missing": ["99"]}, [[None, "990"]], "'99.0' (1x) as missing"),
        ("sep=;\na;b\n1,5;2\n", {}, [["1.5", "2"]], COMMA),
        ("a;b;;\n1;2;;\n", {}, [["1", "2"]], "nothing from column 3 on, where no name and no value is"),
    ],
)
def test_missing_values_and_decimal_commas_are_found_and_told(
    tmp_path: Path, text: str, options: dict[str, Any], values: list[list[str | None]], read_as: str
) -> None:
    (tmp_path / "table.csv").write_text(text, encoding="utf-8")
    table = read_table(tmp_path / "table.csv", **options)
    assert table.values.tolist() == values and table.read_as == read_as


@pytest.mark.parametrize(
    "content",
    [
        bytes([0x50, 0x4B, 3, 4, 0, 0x81, 0xFF]),
        "a,b\n1,2\n".encode("utf-16-le"),
        b"a,b\n\x81\xff,2\n",
        b"x" * (1 << 20) + b"\0",
    ],
    ids=["archive", "UTF-16 without a mark", "no sign of Windows-1252", "zeros late in the file"],
)
def test_what_is_no_text_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "table.csv").write_bytes(content)
    with pytest.raises(InputError) as refusal:
        read_table(tmp_path / "table.csv")
    text = f"{tmp_path / 'table.csv'}: cannot be read as CSV: it is no text in UTF-8, UTF-16 or Windows-1252"
    assert str(refusal.value) == text


def test_empty_columns_between_others_are_columns(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("a,,b\n1,,2\n")
    assert read_table(tmp_path / "table.csv").names == ["a", "", "b"]
    (tmp_path / "table.csv").write_text("a,,\n1,,2\n")
    with pytest.raises(InputError, match="the column name '' occurs twice"):
        read_table(tmp_path / "table.csv")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"numerical_features": ["a"]}, "table.csv: column 1 ('a') is to be numerical: could not convert"),
        ({"numerical_features": ["b"], "ignore": ["b"]}, "table.csv is one of those to ignore"),
    ],
)
def test_what_is_wrong_with_a_numerical_column_is_told_with_its_file(
    tmp_path: Path, options: dict[str, Any], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "table.csv").write_text("\n".join(["a,b", *("xy"[row % 2] + f",{row}" for row in range(40))]))
    with pytest.raises(SystemExit):
        training_table(str(tmp_path / "table.csv"), **options)
    assert text in capsys.readouterr().err


def test_messages_name_a_column_as_the_file_does(tmp_path: Path) -> None:
    lines = [f"{number % 3},{number}" for number in range(13_000)]
    (tmp_path / "table.csv").write_text("\n".join(["grade,patient_id", *lines]))
    with pytest.raises(SystemExit), pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stderr", told := io.StringIO())
        training_table(str(tmp_path / "table.csv"), numerical_features=[], ignore=["grade"])
    assert "column 2 ('patient_id') has" in told.getvalue()


@pytest.mark.parametrize("ending", ["csv", "csv.gz"])
@pytest.mark.parametrize(
    ("encoding", "read_as"),
    [
        ("utf-8", ""),
        ("utf-8-sig", ""),
        ("cp1252", "its bytes as Windows-1252, as they are no UTF-8"),
        ("utf-16", "its bytes as UTF-16, as they are no UTF-8"),
    ],
)
def test_a_table_of_a_spreadsheet_is_read_in_its_encoding(
    tmp_path: Path, ending: str, encoding: str, read_as: str
) -> None:
    content = "Gerät;Ort\nA;Gießen\nB;Köln – „Süd“\nC;Ö".encode(encoding)
    path = tmp_path / f"table.{ending}"
    path.write_bytes(gzip.compress(content) if ending == "csv.gz" else content)
    table = read_table(path)
    assert table.names == ["Gerät", "Ort"] and table.read_as == read_as
    assert table.values.tolist() == [["A", "Gießen"], ["B", "Köln – „Süd“"], ["C", "Ö"]]


@pytest.mark.parametrize(("first", "used"), [(0, False), (1, False), (2, True)])
def test_a_column_that_numbers_the_rows_as_pandas_and_r_do_is_left_out(
    tmp_path: Path, first: int, used: bool, caplog: pytest.LogCaptureFixture
) -> None:
    lines = [f"{place + first},{'ab'[place % 2]},{place % 3}" for place in range(40)]
    (tmp_path / "table.csv").write_text("\n".join([",letter,grade", *lines]))
    with caplog.at_level("INFO", "gnsm_monai.workflow"):
        table = training_table(str(tmp_path / "table.csv"))
    assert table.columns == (("", "letter", "grade") if used else ("letter", "grade"))
    assert ("column 1 ('') numbers the rows: left out" in caplog.text) is not used


def peak_of_reading(path: Path, rows: int) -> int:
    """Bytes, of a file of eight columns and six categories."""
    values = np.random.default_rng(0).integers(0, 6, (rows, 8)).tolist()
    lines = (",".join(f"a value of {value}" for value in row) for row in values)
    path.write_text("\n".join(["a,b,c,d,e,f,g,h", *lines]))
    tracemalloc.start()
    try:
        training_table(str(path))
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_grows_by_a_few_bytes_per_value_from_the_file_to_the_codes(tmp_path: Path) -> None:
    """A text of each value would take some 60: there is a pointer to it, its place and its code, 8 + 4 + 1."""
    few, many = (peak_of_reading(tmp_path / f"{rows}.csv", rows) for rows in (2_000, 10_000))
    assert 8 < (many - few) / (8_000 * 8) < 24
