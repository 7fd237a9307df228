from __future__ import annotations

import logging
from pathlib import Path

import pytest

from gnsm_monai.errors import InputError
from gnsm_monai.report.content import table
from gnsm_monai.report.marks import Mark, marks_of_cases, read_marks
from gnsm_monai.report.wording import ScoreFormat
from tests.results import case_result

EXPORTED = """\
case,rank,anomaly_score,mark,note
fold_0/a,1,0.61,bad,"cut off, ""so"" twice"
'=evil,2,0.5,ok,'+1
b,3,0.25,,
c,4,,unsure,
d,5,0.125,,only a note
"""


def test_marks_are_read_as_they_were_set(tmp_path: Path) -> None:
    path = tmp_path / "marks.csv"
    path.write_text(EXPORTED, encoding="utf-8")
    assert read_marks(path) == {
        "fold_0/a": Mark("bad", 'cut off, "so" twice', "0.61"),
        "=evil": Mark("ok", "+1", "0.5"),
        "c": Mark("unsure"),
        "d": Mark("", "only a note", "0.125"),
    }


def test_a_table_that_a_spreadsheet_wrote_is_read(tmp_path: Path) -> None:
    path = tmp_path / "marks.csv"
    path.write_bytes("\ufeffCase;Mark;Anomaly_score;Note\r\na;BAD ;0,5;x\r\n".encode())
    assert read_marks(path) == {"a": Mark("bad", "x", "0.5")}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "holds no marks"),
        (b"case,score\na,1\n", "holds no marks: a table with the columns case and mark is needed"),
        (b"case,mark\na,good\n", "case 'a' has the mark 'good', which is not one of ok, bad, unsure"),
        (b"case,mark\na,ok\na,bad\n", "case 'a' has two marks"),
        (b"case,mark\n\xff\xfe,ok\n", "cannot be read as marks"),
        (b'case,mark\na\x00,ok\n"', "cannot be read as marks"),
    ],
)
def test_what_holds_no_marks_is_refused_in_one_line(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "marks.csv"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_marks(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="no-such"):
        read_marks(tmp_path / "no-such")


def test_marks_of_other_cases_are_one_line(caplog: pytest.LogCaptureFixture) -> None:
    marks = {name: Mark("ok") for name in ("a", "x1", "x2", "x3", "x4", "\\udcff")}
    with caplog.at_level(logging.WARNING, "gnsm_monai"):
        assert marks_of_cases(marks, ["a", "b", "\udcff"]) == {"a": Mark("ok"), "\udcff": Mark("ok")}
    assert caplog.messages == ["4 of 6 marks are of cases that are not in this ranking: x1, x2, x3, ..."]


def test_earlier_marks_are_columns_only_where_there_are_any() -> None:
    results = [case_result("a", anomaly=0.61), case_result("b", anomaly=0.5), case_result("c")]
    names = [column.name for column in table(results, ScoreFormat([0.5]))[0]]
    assert "earlier_mark" not in names and "earlier_note" not in names
    marks = {"a": Mark("bad", "n", "0.61"), "b": Mark("ok", "", "0.4")}
    columns, cells = table(results, ScoreFormat([0.5]), marks)
    assert {"earlier_mark", "earlier_note"} <= {column.name for column in columns}
    assert [line["earlier_mark"].text for line in cells] == ["bad", "ok (another mask or model)", ""]
    assert [line["earlier_note"].text for line in cells] == ["n", "", ""]
