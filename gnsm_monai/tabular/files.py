"""Tables in CSV files: every value is text, or missing."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from gnsm_monai.errors import InputError, exit_on_input_error
from gnsm_monai.tabular.values import COMMA, MISSING_TEXTS, POINT, comma_to_point

__all__ = ["Table", "numerical_columns", "read_table", "write_demo_table"]

MANY_NUMBERS = 50
"""Distinct numbers above which a column that holds nothing else is binned."""


@dataclass(frozen=True)
class Table:
    """Column names ``(F,)``, values ``(N, F)``, text or None, and what was read as something else, in words."""

    names: list[str]
    values: np.ndarray
    read_as: str = ""

    def select(self, names: Sequence[str], where: str) -> np.ndarray:
        """Columns by name, in the order of ``names``. Raises InputError where one is missing."""
        if missing := [name for name in names if name not in self.names]:
            raise InputError(f"{where}: lacks the column '{missing[0]}' that the model was trained with")
        picked: np.ndarray = self.values[:, [self.names.index(name) for name in names]]
        return picked

    def places(self, names: Sequence[str]) -> list[str]:
        """What messages call columns: their number in the file, from 1, and their name."""
        return [f"{self.names.index(name) + 1} ('{name}')" for name in names]


def read_table(path: str | Path, missing: Collection[str] = MISSING_TEXTS, decimal: str = "auto") -> Table:
    """Reads a CSV file (UTF-8, first line = names), gzip-compressed where it ends in ``.gz``.

    Values are separated by commas, or by semicolons or tabs where those give the first line more names.

    Args:
        path: of the file.
        missing: what stands for a missing value, beside nothing at all.
        decimal: ``.`` or ``,``; ``auto`` is a comma where semicolons separate values and more numbers have it.

    Raises:
        InputError: no such file, no text, no rows, rows of unequal length, or a name that occurs twice.
    """
    path = Path(path)
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        text = content.decode("utf-8-sig")
        delimiter = max(",;\t", key=lambda mark: len(next(_rows(text, delimiter=mark), [])))
        rows = list(_rows(text, delimiter=delimiter, strict=True))
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as CSV: {error}") from error
    rows = [row for row in rows if row]
    if len(rows) < 2:
        raise InputError(f"{path}: a line of column names and at least one row are needed")
    names = rows.pop(0)
    if twice := [name for place, name in enumerate(names) if name in names[:place]]:
        raise InputError(f"{path}: the column name '{twice[0]}' occurs twice")
    for number, row in enumerate(rows, start=1):
        if len(row) != len(names):
            raise InputError(f"{path}: row {number} has {len(row)} values, there are {len(names)} column names")
    counts = Counter(chain.from_iterable(rows))
    absent = {"", *missing}
    remarks = [f"'{value}' ({counts[value]}x) as missing" for value in sorted(absent - {""}) if counts[value]]
    commas, points = (sum(n for value, n in counts.items() if pattern.fullmatch(value)) for pattern in (COMMA, POINT))
    convert: Callable[[str], str] = str
    if decimal == "," or (decimal == "auto" and delimiter == ";" and commas > points):
        convert, remarks = comma_to_point, [*remarks, "a comma in numbers as the decimal point"]
    meant = {value: None if value in absent else convert(value) for value in counts}
    values = np.array([list(map(meant.__getitem__, row)) for row in rows], dtype=object)
    return Table(names, values, "; ".join(remarks))


def _rows(text: str, **options: Any) -> Iterator[list[str]]:
    return csv.reader(io.StringIO(text, newline=""), **options)


def numerical_columns(table: Table, named: Sequence[str] | None, where: str) -> list[int]:
    """Positions of numerical columns: those that are named, or those with many distinct values that are all numbers."""
    if named is not None:
        if unknown := [name for name in named if name not in table.names]:
            raise InputError(f"numerical_features: {where} has no column '{unknown[0]}'")
        return [table.names.index(name) for name in named]
    distinct = [{value for value in column.tolist() if value is not None} for column in table.values.T]
    return [place for place, texts in enumerate(distinct) if len(texts) > MANY_NUMBERS and not not_numbers(texts)]


def not_numbers(values: Collection[str]) -> list[str]:
    """Those texts that are no finite numbers, in their order."""
    odd = []
    for value in values:
        try:
            number = float(value)
        except ValueError:
            number = np.inf
        if not np.isfinite(number):
            odd.append(value)
    return odd


@exit_on_input_error()
def write_demo_table(path: str | Path, rows: int = 2000, seed: int = 0) -> Path:
    """Writes a small table of parcels whose columns depend on each other, unless it is there."""
    path = Path(path)
    if path.is_file():
        return path
    draw = np.random.default_rng(seed)
    country = draw.choice(["DE", "FR", "IT", "ES"], rows, p=[0.4, 0.3, 0.2, 0.1])
    home = {"DE": "DHL", "FR": "Colissimo", "IT": "BRT", "ES": "Correos"}
    carrier = np.where(draw.random(rows) < 0.9, [home[c] for c in country], "UPS")
    weight = draw.choice(["light", "medium", "heavy"], rows, p=[0.6, 0.3, 0.1])
    kind = np.where(weight == "heavy", "pallet", np.where(draw.random(rows) < 0.7, "box", "envelope"))
    price = np.select([weight == "light", weight == "medium"], [5.0, 12.0], 60.0) * draw.lognormal(0, 0.1, rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["country", "carrier", "weight", "kind", "price"])
        writer.writerows(zip(country, carrier, weight, kind, (f"{p:.2f}" for p in price), strict=True))
    return path
