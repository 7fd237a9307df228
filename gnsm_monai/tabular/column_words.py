"""What is said of the columns of a file: what they were taken for, and where new rows differ from those of training."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence

import numpy as np

from gnsm_monai.handlers.training_log import level_table
from gnsm_monai.tabular.encoder import MISSING, TableEncoder
from gnsm_monai.tabular.files import MANY_NUMBERS, Table, not_numbers
from gnsm_monai.tabular.values import days, has_decimal_comma

__all__ = [
    "doubtful_columns",
    "numbers_rows",
    "often_unknown",
    "say_left_out",
    "say_unknown",
    "understood",
    "unknown_shares",
    "why_unknown",
]

UNKNOWN = "unknown"
"""What is said of a category that training did not have."""
SHOWN = 60
"""Columns that are listed; a table of thousands would bury all else."""
EXAMPLES, LONGEST = 3, 14
ODD = 0.2
"""Share of values that are no numbers up to which a column was perhaps meant to be numerical."""
DIFFERENT = 0.5
"""Share of the rows above which a column with as many categories perhaps names the rows, or holds numbers."""
MOSTLY, OFTEN = 0.5, 0.05
"""Shares of unknown values in a column above which it was perhaps written otherwise, or differs as a whole."""
FEW = 4
"""Unknown values up to which they are taken for those of odd rows, unless they are most."""

logger = logging.getLogger("gnsm_monai.workflow")


def understood(table: Table, columns: Sequence[str], encoder: TableEncoder) -> str:
    """A line per column that is used: its number in the file, name, kind, values and share of missing ones."""
    lines: dict[str, list[str]] = {name: [] for name in ("column", "name", "kind", "missing", "values")}
    for name, edges, categories in list(zip(columns, encoder.edges, encoder.categories, strict=True))[:SHOWN]:
        place = table.names.index(name)
        values = [value for value in table.values[:, place].tolist() if value is not None]
        missing = 1 - len(values) / len(table.values)
        lines["column"].append(str(place + 1))
        lines["name"].append(f"'{_short(name)}'")
        dates = bool(values) and days(values[0]) is not None
        one, many = ("category", "categories") if edges is None else ("bin", "bins")
        of = "" if edges is None else " of dates" if dates else " of numbers"
        lines["kind"].append(f"{len(categories)} {one if len(categories) == 1 else many}{of}")
        lines["missing"].append(f"{100 * missing:.1f} %" if missing else "none")
        text = value_range(edges, dates) if edges is not None and len(edges) else _most_frequent(values)
        lines["values"].append(text)
    more = f"\n... and {len(columns) - SHOWN} more" if len(columns) > SHOWN else ""
    return level_table(lines) + more


def value_range(edges: np.ndarray, dates: bool) -> str:
    """The least and the greatest value of training in words, from the edges of bins."""
    if dates:
        first, last = np.datetime64("1970-01-01") + np.floor(edges[[0, -1]]).astype(int)
        return f"{first} to {last}"
    return f"{edges[0]:.6g} to {edges[-1]:.6g}"


def why_unknown(value: str | None, edges: np.ndarray | None) -> str:
    """Why a value is unknown: out of the range of training, if ``edges`` of bins are given; or a new category."""
    if value is None or edges is None or not len(edges) or not_numbers([value]):
        return UNKNOWN
    return f"outside {value_range(edges, days(value) is not None)}"


def _most_frequent(values: list[str]) -> str:
    texts, counts = np.unique(np.array(values, dtype=object), return_counts=True)
    first = [f"{_short(texts[place])} ({counts[place]}x)" for place in np.argsort(-counts, kind="stable")[:EXAMPLES]]
    return ", ".join(first) + (", ..." if len(texts) > EXAMPLES else "")


def _short(text: str) -> str:
    text = "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)  # a line stays one
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def doubtful_columns(table: Table, columns: Sequence[str], encoder: TableEncoder) -> list[str]:
    """What may be a mistake: columns that are nearly all numbers, and those without a name."""
    doubts = []
    for name, place, edges in zip(columns, table.places(columns), encoder.edges, strict=True):
        present = [value for value in table.values[:, table.names.index(name)].tolist() if value is not None]
        values = set(present)
        odd = sorted(not_numbers(values))
        if edges is None and odd and len(values) - len(odd) > MANY_NUMBERS and len(odd) < ODD * len(values):
            text = f"{len(values) - len(odd)} of {len(values)} distinct values are numbers, '{odd[0]}' is not"
            doubts.append(f"column {place}: {text}: taken as categories. If it is missing, name it by --missing")
        elif edges is None and len(values) > max(MANY_NUMBERS, DIFFERENT * len(present)):
            comma = sum(map(has_decimal_comma, values)) > DIFFERENT * len(values)
            advice = "A decimal comma is read by --decimal ," if comma else "Leave identifiers out by --ignore"
            text = f"{len(values)} categories in {len(present)} rows, such as '{_short(present[0])}'"
            doubts.append(f"column {place}: {text}. {advice}")
        if not name:
            doubts.append(f"column {place} has no name: if it numbers the rows, leave it out by --ignore ''")
    return doubts


def numbers_rows(values: np.ndarray) -> bool:
    """Whether values ``(N,)``, text or None, are 0, 1, 2, ... or 1, 2, 3, ..., as pandas and R write row names."""
    return values.tolist() in ([str(place + first) for place in range(len(values))] for first in (0, 1))


def unknown_shares(codes: np.ndarray, encoder: TableEncoder) -> np.ndarray:
    """Share of the rows ``(N, F)`` whose value the model does not know, ``(F,)``, in [0, 1]."""
    shares: np.ndarray = (codes == np.array(encoder.cardinalities) - 1).mean(0)
    return shares


def often_unknown(codes: np.ndarray, encoder: TableEncoder) -> np.ndarray:
    """The columns ``(F,)`` whose values so many of the rows ``(N, F)`` share that it makes none of them odd."""
    shares = unknown_shares(codes, encoder)
    often: np.ndarray = (shares > MOSTLY) | ((shares > OFTEN) & (shares * len(codes) > FEW))
    return often


def say_left_out(table: Table, columns: Sequence[str]) -> None:
    """Logs the named columns of new rows that are none of the model's ``columns``, and so have no part in a score."""
    if others := [name for name in table.names if name and name not in columns]:
        more = f" and {len(others) - SHOWN} more" if len(others) > SHOWN else ""
        named = ", ".join(table.places(others[:SHOWN]))
        logger.info("left out, as the model has no such column: %s%s", named, more)


def say_unknown(table: Table, columns: Sequence[str], codes: np.ndarray, encoder: TableEncoder) -> None:
    """Warns once of each of those columns; ``codes`` are ``(N, F)``, in the order of ``columns``."""
    for place in np.flatnonzero(often_unknown(codes, encoder)).tolist():
        unknown, name = codes[:, place] == encoder.cardinalities[place] - 1, columns[place]
        (example, _), *_ = Counter(table.select([name], "")[unknown, 0].tolist()).most_common(1)
        what = why_unknown(example, encoder.edges[place])
        what = "unknown to the model" if what == UNKNOWN else what
        why = "new rows differ here as a whole, not one by one"
        if unknown.mean() > MOSTLY:
            why = "was it written otherwise?"
        text = "column %s: %d of %d values are %s, such as %s: %s"
        example = MISSING if example is None else f"'{_short(example)}'"
        logger.warning(text, table.places([name])[0], unknown.sum(), len(codes), what, example, why)
