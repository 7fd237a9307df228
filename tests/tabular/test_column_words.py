from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest

from gnsm_monai.tabular import TableEncoder
from gnsm_monai.tabular.column_words import doubtful_columns, say_left_out, understood
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


def test_columns_that_the_model_does_not_have_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "rows.csv").write_text("id,letter,drug,\n1,a,x,1\n2,b,y,2\n")
    table = read_table(tmp_path / "rows.csv")
    with caplog.at_level(logging.INFO, "gnsm_monai.workflow"):
        say_left_out(table, ["letter", "drug", "id"])
        assert not caplog.messages
        say_left_out(table, ["letter"])
    assert caplog.messages == ["left out, as the model has no such column: 1 ('id'), 3 ('drug')"]
