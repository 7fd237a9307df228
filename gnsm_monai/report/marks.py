"""The marks that a reader set in a report, read back from the marks.csv that it exported."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from gnsm_monai.errors import InputError
from gnsm_monai.files import FORMULA_SIGNS, one_line_of

__all__ = ["MARKS", "Mark", "marks_of_cases", "read_marks"]

MARKS = ("ok", "bad", "unsure")
MAX_NAMED = 3  # cases that a message names

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Mark:
    """What a reader said of a mask.

    Args:
        mark: one of :data:`MARKS`, or empty beside a note.
        note: free text.
        score: anomaly score of the mask that the mark was given to, as text; empty where none was written.
    """

    mark: str
    note: str = ""
    score: str = ""

    def holds_for(self, score: str) -> bool:
        """Whether a mask of this score is the one that was marked: a mask that was made anew has another score."""
        return self.score == score


def read_marks(path: str | Path) -> dict[str, Mark]:
    """Marks by case id, of a file with the columns case, mark and, where there are any, note and anomaly_score.

    A table that a spreadsheet has written is read, too: semicolons or tabs between columns, decimal commas.

    Raises:
        InputError: no such file, no such table, a mark that is none, or two marks for one case.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
        head = text.splitlines()[0] if text.strip() else ""
        separator = next((sign for sign in ",;\t" if "case" in head.lower().split(sign)), ",")
        rows = list(csv.DictReader(io.StringIO(text, newline=""), delimiter=separator, strict=True))
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as marks: {one_line_of(error)}") from error
    lines = [{(name or "").strip().lower(): value or "" for name, value in row.items() if name} for row in rows]
    if not lines or not {"case", "mark"} <= set(lines[0]):
        raise InputError(
            f"{path}: holds no marks: a table with the columns case and mark is needed, as a report exports"
        )
    marks: dict[str, Mark] = {}
    for line in lines:
        case, mark = _plain(line["case"]), line["mark"].strip().lower()
        if mark not in ("", *MARKS):
            raise InputError(
                f"{path}: case '{case}' has the mark '{line['mark']}', which is not one of {', '.join(MARKS)}"
            )
        entry = Mark(mark, _plain(line.get("note", "")), _score(line.get("anomaly_score", "")))
        if marks.setdefault(case, entry) != entry:
            raise InputError(f"{path}: case '{case}' has two marks")
    return {case: entry for case, entry in marks.items() if entry.mark or entry.note}


def marks_of_cases(marks: Mapping[str, Mark], cases: Collection[str]) -> dict[str, Mark]:
    """The marks of these cases; one line of the log says how many others there are."""
    shown = {case.encode(errors="backslashreplace").decode(): case for case in cases}  # as a report shows them
    foreign = [case for case in marks if case not in shown]
    if foreign:
        more = ", ..." if len(foreign) > MAX_NAMED else ""
        text = "%d of %d marks are of cases that are not in this ranking: %s%s"
        logger.warning(text, len(foreign), len(marks), ", ".join(foreign[:MAX_NAMED]), more)
    return {shown[case]: mark for case, mark in marks.items() if case in shown}


def _plain(text: str) -> str:
    """Text without the quote that keeps a spreadsheet from running it."""
    return text[1:] if text[:1] == "'" and text[1:].startswith(FORMULA_SIGNS) else text


def _score(text: str) -> str:
    """A score as the report writes it."""
    try:
        return f"{float(text.strip().replace(',', '.')):.9g}"
    except ValueError:
        return ""
