"""Tables in files (CSV, Parquet, Feather): every value is text, or missing."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import re
import zlib
from array import array
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np

from gnsm_monai.errors import InputError, exit_on_input_error
from gnsm_monai.tabular.encoder import MISSING, columns_of, distinct
from gnsm_monai.tabular.values import MISSING_TEXTS, canonical, days, number_of, number_spelling

__all__ = ["Table", "numerical_columns", "read_table", "write_demo_table"]

COLUMNAR = (".parquet", ".pq", ".feather", ".arrow")
ROWS_AT_ONCE = 50_000
UTF_8 = "utf-8-sig"
SEPARATOR = re.compile(r"sep=([,;|\t])")
INDEX = "__index_level_"
"""How names of columns begin that pandas would read as an index."""

MANY_NUMBERS = 50
"""Distinct numbers, or dates, above which a column that holds nothing else is binned."""


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
        if list(names) == self.names:  # many rows need not be there twice
            return self.values
        picked: np.ndarray = self.values[:, [self.names.index(name) for name in names]]
        return picked

    def places(self, names: Sequence[str]) -> list[str]:
        """What messages call columns: their number in the file, from 1, and their name."""
        return [f"{self.names.index(name) + 1} ('{name}')" for name in names]


def read_table(path: str | Path, missing: Collection[str] = MISSING_TEXTS, decimal: str | None = "auto") -> Table:
    """Reads a CSV file, gzip-compressed where it ends in ``.gz``, or Parquet or Feather.

    The first line of CSV has the names. It is UTF-8, UTF-16, or else Windows-1252.

    Values of CSV are separated by commas, or by semicolons or tabs where those give the first line more names, or by
    what a line like ``sep=;`` before it names. Columns at the end without a name or a value are not read. Rows are
    read a few at a time, and each distinct text is held once: memory grows by eight bytes per value.

    Args:
        path: of the file; ``.parquet``, ``.pq``, ``.feather`` and ``.arrow`` are read by pyarrow.
        missing: what stands for a missing value, beside nothing at all.
        decimal: as :func:`gnsm_monai.tabular.values.number_spelling` has it; None for numbers as they are written.

    Raises:
        InputError: no such file, no text, no rows, rows of unequal length, or a name that occurs twice.
    """
    path = Path(path)
    columnar = path.suffix.lower() in COLUMNAR
    names, codes, places, delimiter, encoding = _columnar(path) if columnar else _csv(path)
    if not len(codes):
        raise InputError(f"{path}: a line of column names and at least one row are needed")
    end = len(names)
    while end > 1 and not names[end - 1] and (codes[:, end - 1] == places.get("", -1)).all():
        end -= 1
    remarks = [f"nothing from column {end + 1} on, where no name and no value is"] if end < len(names) else []
    names, codes = names[:end], codes[:, :end]
    if twice := [name for place, name in enumerate(names) if name in names[:place]]:
        raise InputError(f"{path}: the column name '{twice[0]}' occurs twice")
    counts = dict(zip(places, np.bincount(codes.ravel(), minlength=len(places)).tolist(), strict=True))
    absent = _absent(places, missing)
    remarks += [] if encoding in ("", UTF_8) else [f"its bytes as {encoding}, as they are no UTF-8"]
    remarks += [f"'{value}' ({counts[value]}x) as missing" for value in sorted(absent - {""}) if counts.get(value)]
    meant: dict[str, str] = {}
    if decimal is not None and not columnar:
        meant, said = number_spelling(counts, decimal, delimiter == ";")
        remarks += said
    texts = np.array([None if text in absent else meant.get(text, text) for text in places], dtype=object)
    return Table(names, texts[codes], "; ".join(remarks))


def _absent(texts: Collection[str], missing: Collection[str]) -> set[str]:
    """Those texts that stand for a missing value, numbers in any spelling: where 99 does, 99.0 does."""
    numbers = {canonical(value) for value in missing if any(map(str.isdecimal, value))}
    return {"", *missing, *(text for text in texts if numbers and canonical(text) in numbers)}


Read = tuple[list[str], np.ndarray, dict[str, int], str, str]
"""Names of columns ``(F,)``; for each value ``(N, F)`` the place of its text; these places; delimiter; encoding."""


def _csv(path: Path) -> Read:
    places: defaultdict[str, int] = defaultdict(count().__next__)
    codes = array("i")
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            binary = file if file.seekable() else io.BytesIO(file.read())  # such as a pipe
            encoding = _encoding(binary)
            text = io.TextIOWrapper(binary, encoding, newline="")
            delimiter = _delimiter(text)
            rows = (row for row in csv.reader(text, delimiter=delimiter, strict=True) if row)
            names = next(rows, [])
            for number, row in enumerate(rows, start=1):
                if len(row) != len(names):
                    raise InputError(f"{path}: row {number} has {len(row)} values, there are {len(names)} column names")
                codes.extend(map(places.__getitem__, row))
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: cannot be read as CSV: it is no text in UTF-8, UTF-16 or Windows-1252") from error
    except (OSError, EOFError, zlib.error, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as CSV: {error}") from error
    return names, np.asarray(codes, dtype=np.int32).reshape(-1, max(1, len(names))), places, delimiter, encoding


def _delimiter(text: io.TextIOWrapper) -> str:
    """What a first line like ``sep=;`` names, as Excel reads it, or what gives the line of names more of them.

    The text is left at the line of names.
    """
    if named := SEPARATOR.fullmatch(text.readline().rstrip("\r\n")):
        return named[1]
    widths = {}
    for mark in ",;\t":
        text.seek(0)
        widths[mark] = len(next(csv.reader(text, delimiter=mark), []))
    text.seek(0)
    return max(widths, key=widths.__getitem__)


def _encoding(file: io.BufferedIOBase) -> str:
    """That of a file, which is left at its beginning: what is no UTF-8 is that of spreadsheets in western Europe."""
    if file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        file.seek(0)
        return "UTF-16"
    file.seek(0)
    decoder, encoding, piece = codecs.getincrementaldecoder("utf-8")(), UTF_8, b" "
    while piece:
        piece = file.read(1 << 20)
        if b"\0" in piece:
            raise UnicodeDecodeError(encoding, piece[:1], 0, 1, "a byte of zeros, which no text has")
        try:
            decoder.decode(piece, final=not piece)
        except UnicodeDecodeError:
            encoding = "Windows-1252"
            decoder.reset()
    file.seek(0)
    return encoding


def _columnar(path: Path) -> Read:
    """The same of a file that has columns of types; nothing is the text of a missing value."""
    try:
        import pyarrow as pa
        from pyarrow import ipc, parquet
    except ImportError as error:
        raise InputError(f"{path}: pyarrow is needed to read it (pip install pyarrow), or the table as CSV") from error
    places: defaultdict[str, int] = defaultdict(count().__next__)
    pieces = []
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            source = parquet.ParquetFile(path)
            names, batches = source.schema_arrow.names, source.iter_batches(ROWS_AT_ONCE)
        else:
            source = ipc.open_file(pa.memory_map(str(path)))
            names, batches = source.schema.names, map(source.get_batch, range(source.num_record_batches))
        used = [place for place, name in enumerate(names) if not name.startswith(INDEX)]
        numbers = [str(place) for place in used]  # narwhals refuses names that occur twice
        for batch in batches:
            columns = map(distinct, columns_of(pa.Table.from_batches([batch]).select(used).rename_columns(numbers)))
            codes_of = [
                ([places["" if text == MISSING else text] for text in texts], index) for texts, index in columns
            ]
            pieces.append(np.stack([np.array(codes, np.int32)[index] for codes, index in codes_of], axis=1))
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: cannot be read as {path.suffix[1:]}: {error}") from error
    names = [names[place] for place in used]
    return names, np.concatenate([np.empty((0, len(names)), np.int32), *pieces]), places, "", ""


def numerical_columns(table: Table, named: Sequence[str] | None, where: str) -> list[int]:
    """Positions of numerical columns: those that are named, or those with many values, all numbers or dates."""
    if named is not None:
        if unknown := [name for name in named if name not in table.names]:
            raise InputError(f"numerical_features: {where} has no column '{unknown[0]}'")
        return [table.names.index(name) for name in named]
    distinct = [{value for value in column.tolist() if value is not None} for column in table.values.T]
    return [place for place, texts in enumerate(distinct) if len(texts) > MANY_NUMBERS and not not_numbers(texts)]


def not_numbers(values: Collection[str]) -> list[str]:
    """Those texts that are no finite numbers, in their order; none where all are dates."""
    odd = []
    for value in values:
        try:
            number = number_of(value)
        except ValueError:
            number = np.inf
        if not np.isfinite(number):
            odd.append(value)
    return [] if len(odd) == len(values) and all(days(value) is not None for value in odd) else odd


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
