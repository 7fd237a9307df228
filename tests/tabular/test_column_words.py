from __future__ import annotations

import logging
import re
from pathlib import Path

import numpy as np
import pytest

from gnsm_monai.tabular import TableEncoder
from gnsm_monai.tabular.column_words import doubtful_columns, say_left_out, say_unknown, understood, why_unknown
from gnsm_monai.tabular.files import read_table


def test_a_line_per_column_says_what_it_was_taken_for(tmp_path: Path) -> None:
    rows = [
        f"{number},{'ab'[number % 2]},{'NA' if number % 4 == 0 else number / 2},{number},1.{1 + number % 9}.2024"
        for number in range(100)
    ]
    rows[7] = "7,a,3.5,about 7,31.12.2024"
    (tmp_path / "rows.csv").write_text("\n".join([",letter,half,whole,day", *rows]))
    table = read_table(tmp_path / "rows.csv")
    columns = ["letter", "half", "whole", "day"]
    encoder = TableEncoder([1, 3]).fit(table.select(columns, ""))
    lines = [re.split("  +", line.strip()) for line in understood(table, columns, encoder).splitlines()[1:]]
    assert lines[0] == ["2", "'letter'", "2 categories", "none", "a (51x), b (49x)"]
    assert lines[1][:2] == ["3", "'half'"] and lines[1][2].endswith(" bins of numbers")
    assert lines[1][3:] == ["25.0 %", "0.5 to 49.5"]
    assert lines[2][:4] == ["4", "'whole'", "100 categories", "none"]
    assert lines[3][2].endswith(" bins of dates") and lines[3][4] == "2024-01-01 to 2024-12-31"
    doubts = doubtful_columns(table, columns, encoder)
    assert doubts == [
        "column 4 ('whole'): 99 of 100 distinct values are numbers, 'about 7' is not: taken as categories. "
        "If it is missing, name it by --missing"
    ]
    assert doubtful_columns(table, [""], TableEncoder([0]).fit(table.select([""], "")))[0].startswith(
        "column 1 ('') has"
    )


def test_signs_that_cannot_be_printed_do_not_break_the_list(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text('a,"b\nc"\n' + '"x\ny",1\n' * 30)
    table = read_table(tmp_path / "rows.csv")
    encoder = TableEncoder([]).fit(table.values)
    lines = [re.split("  +", line.strip()) for line in understood(table, table.names, encoder).splitlines()]
    assert lines[1:] == [
        ["1", "'a'", "1 category", "none", r"x\ny (30x)"],
        ["2", r"'b\nc'", "1 category", "none", "1 (30x)"],
    ]


def test_columns_that_hardly_repeat_are_doubtful(tmp_path: Path) -> None:
    lines = [f'P{row};"{row},5";{row % 60}%' for row in range(121)]
    (tmp_path / "rows.csv").write_text("\n".join(["id;length;share", *lines]))
    table = read_table(tmp_path / "rows.csv", decimal=".")
    assert doubtful_columns(table, table.names, TableEncoder([]).fit(table.values)) == [
        "column 1 ('id'): 121 categories in 121 rows, such as 'P0'. Leave identifiers out by --ignore",
        "column 2 ('length'): 121 categories in 121 rows, such as '0,5'. A decimal comma is read by --decimal ,",
    ]


def test_why_a_value_is_unknown() -> None:
    edges = np.array([1.5, 2.0, 7.25])
    assert why_unknown("8", edges) == "outside 1.5 to 7.25"
    assert why_unknown("01.02.1971", np.array([0.0, 31.0])) == "outside 1970-01-01 to 1970-02-01"
    assert {why_unknown("tall", edges), why_unknown(None, edges), why_unknown("8", None)} == {"unknown"}
    assert why_unknown("8", np.empty(0)) == "unknown"


def test_a_shift_of_numbers_is_told_with_the_range_of_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    encoder = TableEncoder([0]).fit(np.array([[f"{row / 2}", "ab"[row % 2]] for row in range(100)], object))
    (tmp_path / "rows.csv").write_text("size,letter\n" + "60,NA\n" * 3 + "7,NA\n")
    table = read_table(tmp_path / "rows.csv")
    say_unknown(table, ["size", "letter"], encoder.transform(table.values), encoder)
    assert caplog.messages == [
        "column 1 ('size'): 3 of 4 values are outside 0 to 49.5, such as '60': was it written otherwise?",
        "column 2 ('letter'): 4 of 4 values are unknown to the model, such as (missing): was it written otherwise?",
    ]


def test_columns_that_the_model_does_not_have_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "rows.csv").write_text("id,letter,drug,\n1,a,x,1\n2,b,y,2\n")
    table = read_table(tmp_path / "rows.csv")
    with caplog.at_level(logging.INFO, "gnsm_monai.workflow"):
        say_left_out(table, ["letter", "drug", "id"])
        assert not caplog.messages
        say_left_out(table, ["letter"])
    assert caplog.messages == ["left out, as the model has no such column: 1 ('id'), 3 ('drug')"]
