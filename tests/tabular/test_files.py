from __future__ import annotations

from pathlib import Path

import pytest

from gnsm_monai.tabular.files import read_table


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
