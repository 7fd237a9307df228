"""One meaning for a value however it is written: numbers, truth values and missing values as text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

import numpy as np

__all__ = [
    "MISSING_TEXTS",
    "canonical",
    "days",
    "has_decimal_comma",
    "is_missing",
    "number_of",
    "number_spelling",
    "widened",
]

MISSING_TEXTS = frozenset(
    {"", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA"}
    | {"NULL", "NaN", "None", "n/a", "nan", "null", "-"}
)
"""What is missing in a file: what pandas takes for it, and a lone dash."""

POINT = re.compile(r"-?(?:0|[1-9]\d*)?\.\d+|-?(?:0|[1-9]\d*)(?:\.\d+)?[eE][+-]\d+")
COMMA = re.compile(r"-?(?:\d+|\d{1,3}(?:\.\d{3})+),\d+")
COMMA_GROUPS = re.compile(r"-?[1-9]\d{0,2}(?:,\d{3})+(?:\.\d+)?")
POINT_GROUPS = re.compile(r"-?[1-9]\d{0,2}(?:\.\d{3})+")
GAP_GROUPS = re.compile(r"-?[1-9]\d{0,2}(?:[ \u00a0\u202f'’]\d{3})+(?:[.,]\d+)?")
GAP = re.compile("[ \u00a0\u202f'’]")
ISO_DATE = re.compile(r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d(?::\d\d)?)(\.\d{1,9})?(Z|[+-]\d\d:\d\d)?)?")
POINT_DATE = re.compile(r"(\d{1,2})\.(\d{1,2})\.(\d{4})")
MOST_DIGITS = 28
"""Digits of a number that `Decimal` keeps."""

TRUTH = {"true": "True", "false": "False"}
EPOCH = datetime(1970, 1, 1)


def canonical(text: str) -> str:
    """The one spelling of a category: 2.0 is 2, 2.50 and .25e+1 are 2.5, TRUE is True; all else stays as it is.

    Digits that begin with a zero or a plus are an identifier, and stay as well. So does what no floating-point number
    holds: ``1E+20240131`` is the name of a lot, and more than :data:`MOST_DIGITS` digits are a code. A date is written
    as ISO 8601 has it, a time of day after a space, and midnight as the date alone; with an offset, it becomes
    universal time.
    """
    if POINT.fullmatch(text):
        digits = re.sub("[eE].*|[^0-9]", "", text)
        if not digits.strip("0"):
            return "0"
        held = float(text) not in (0, np.inf, -np.inf) and len(digits) <= MOST_DIGITS
        return format(Decimal(text).normalize(), "f") if held else text
    if (moment := _moment(text)) is not None:
        return moment.isoformat(" ").removesuffix(" 00:00:00")
    return "0" if text == "-0" else TRUTH.get(text.lower(), text)


def number_of(value: Any) -> float:
    """The number that a value or a text is. An underscore, to Python a sign between thousands, makes a text a name.

    Raises:
        TypeError, ValueError: it is none.
    """
    if isinstance(value, str) and "_" in value:
        raise ValueError(f"could not convert string to float: {value!r}")
    return float(value)


def days(text: str) -> float | None:
    """Days from 1970 to a date, or to a date and time of day; None for a text that is none."""
    moment = _moment(text)
    return None if moment is None else (moment - EPOCH).total_seconds() / 86400


def _moment(text: str) -> datetime | None:
    """A date as ISO 8601, R, pandas (2024-01-31) or a German spreadsheet (31.01.2024) writes it."""
    try:
        if written := POINT_DATE.fullmatch(text):
            day, month, year = map(int, written.groups())
            return datetime(year, month, day)
        if not (written := ISO_DATE.fullmatch(text)):
            return None
        date, time, fraction, offset = written.groups("")
        moment = datetime.fromisoformat(f"{date} {time or '00:00'}{offset.replace('Z', '+00:00')}")
    except (ValueError, OverflowError):  # such as the 30th of February
        return None
    moment = moment.replace(microsecond=int(f"{fraction[1:]:0<6}"[:6])) if fraction else moment
    return moment.astimezone(timezone.utc).replace(tzinfo=None) if moment.tzinfo else moment


def number_spelling(counts: Mapping[str, int], decimal: str, semicolons: bool) -> tuple[dict[str, str], list[str]]:
    """The numbers of a file that are written otherwise than with a decimal point alone, by their text, and in words.

    Args:
        counts: how often each text occurs.
        decimal: ``.`` or ``,``; ``auto`` is a comma where semicolons separate values and more numbers have it. Numbers
            whose signs may all stand between thousands are asked last.
        semicolons: whether these separate the values.
    """
    comma, point, grouped_comma, grouped_point, gaps = (
        {text: number for text, number in counts.items() if pattern.fullmatch(text)}
        for pattern in (COMMA, POINT, COMMA_GROUPS, POINT_GROUPS, GAP_GROUPS)
    )
    commas, points = (
        sum(counts[text] for text in sure)
        for sure in (comma.keys() - grouped_comma.keys(), point.keys() - grouped_point.keys())
    )
    more = commas > points if commas or points else sum(comma.values()) > sum(point.values())
    by_comma = decimal == "," or (decimal == "auto" and semicolons and more)
    if by_comma:
        meant = {text: text.replace(".", "").replace(",", ".") for text in (comma | ({} if points else grouped_point))}
    else:
        meant = {} if commas else {text: text.replace(",", "") for text in grouped_comma}
    remarks = ["a comma in numbers as the decimal point"] if by_comma and comma else []
    meant |= {text: GAP.sub("", text).replace(",", ".") for text in gaps}
    if decimal == "auto" and semicolons and not by_comma and not points and (unsure := [*grouped_point]):
        remarks.append(
            f"'{unsure[0]}' and the like as numbers with three decimals; if these are thousands: --decimal ,"
        )
    if grouped := [text for text in meant if GAP.search(text) or ("." if by_comma else ",") in text]:
        remarks.append(f"'{grouped[0]}' and the like as numbers with a sign between thousands")
    return meant, remarks


def has_decimal_comma(text: str) -> bool:
    """Whether it may be a number with a comma as the decimal sign."""
    return COMMA.fullmatch(text) is not None


def is_missing(value: Any) -> bool:
    """Whether a value is None, NaN, NaT or pandas.NA."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):  # those of pandas, whose comparison is no bool
        return True
    return isinstance(value, (float, np.floating, np.datetime64)) and bool(value != value)


def widened(column: np.ndarray) -> np.ndarray:
    """Floating-point numbers ``(N,)`` as float64 of the same shortest decimals: 0.1 of float32 is 0.1.

    So are objects that are all floating-point numbers or missing. Any other column is returned as it is.
    """
    if column.dtype.kind == "O" and all(isinstance(value, float) or is_missing(value) for value in column.tolist()):
        column = np.array([np.nan if is_missing(value) else value for value in column.tolist()], dtype=np.float64)
    if column.dtype.kind != "f" or column.dtype == np.float64:
        return column
    values, index = np.unique(column, return_inverse=True)
    doubles: np.ndarray = np.array([float(str(value)) for value in values], dtype=np.float64)[index]
    return doubles
