"""One meaning for a value however it is written: numbers, truth values and missing values as text."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import numpy as np

__all__ = ["MISSING_TEXTS", "canonical", "comma_to_point", "is_missing", "widened"]

MISSING_TEXTS = frozenset(
    {"", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA"}
    | {"NULL", "NaN", "None", "n/a", "nan", "null", "-"}
)
"""What is missing in a file: what pandas takes for it, and a lone dash."""

POINT = re.compile(r"-?(?:0|[1-9]\d*)?\.\d+|-?(?:0|[1-9]\d*)(?:\.\d+)?[eE][+-]\d+")
COMMA = re.compile(r"-?(?:\d+|\d{1,3}(?:\.\d{3})+),\d+")
TRUTH = {"true": "True", "false": "False"}


def canonical(text: str) -> str:
    """The one spelling of a category: 2.0 is 2, 2.50 and .25e+1 are 2.5, TRUE is True; all else stays as it is.

    Digits that begin with a zero or a plus are an identifier, and stay as well.
    """
    if POINT.fullmatch(text):
        number = Decimal(text)
        return format(number.normalize(), "f") if number else "0"
    return "0" if text == "-0" else TRUTH.get(text.lower(), text)


def comma_to_point(text: str) -> str:
    """A number with a decimal comma, and perhaps points between its thousands, with a decimal point."""
    return text.replace(".", "").replace(",", ".") if COMMA.fullmatch(text) else text


def is_missing(value: Any) -> bool:
    """Whether a Python value is None, NaN, NaT or pandas.NA."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):  # those of pandas, whose comparison is no bool
        return True
    return isinstance(value, (float, np.floating)) and bool(value != value)


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
