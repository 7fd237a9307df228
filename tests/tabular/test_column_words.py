from __future__ import annotations

import re
from pathlib import Path

from gnsm_monai.tabular import TableEncoder
from gnsm_monai.tabular.column_words import doubtful_columns, understood
from gnsm_monai.tabular.files import read_table


def test_a_line_per_column_says_what_it_was_taken_for(tmp_path: Path) -> None:
    rows = [f"{number},{'ab'[number % 2]},{'NA' if number % 4 == 0 else number / 2},{number}" for number in range(100)]
    rows[7] = "7,a,3.5,about 7"
    (tmp_path / "rows.csv").write_text("\n".join([",letter,half,whole", *rows]))
    table = read_table(tmp_path / "rows.csv")
    columns = ["letter", "half", "whole"]
    encoder = TableEncoder([1]).fit(table.select(columns, ""))
    lines = [re.split("  +", line.strip()) for line in understood(table, columns, encoder).splitlines()[1:]]
    assert lines[0] == ["2", "'letter'", "2 categories", "none", "a (51x), b (49x)"]
    assert lines[1][:2] == ["3", "'half'"] and lines[1][2].endswith(" bins of numbers")
    assert lines[1][3:] == ["25.0 %", "0.5 to 49.5"]
    assert lines[2][:4] == ["4", "'whole'", "100 categories", "none"]
    doubts = doubtful_columns(table, columns, encoder)
    assert doubts == [
        "column 4 ('whole'): 99 of 100 distinct values are numbers, 'about 7' is not: taken as categories"
    ]
    assert doubtful_columns(table, [""], TableEncoder([0]).fit(table.select([""], "")))[0].startswith(
        "column 1 ('') has"
    )
