"""What is said of the columns of a file: what they were taken for, and where new rows differ from those of training."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence

import numpy as np

from gnsm_monai.handlers.training_log import level_table
from gnsm_monai.tabular.encoder import TableEncoder
from gnsm_monai.tabular.files import MANY_NUMBERS, Table, not_numbers
from gnsm_monai.tabular.values import days

__all__ = [
    "doubtful_columns",
    "numbers_rows",
    "often_unknown",
    "say_left_out",
    "say_unknown",
    "understood",
    "unknown_shares",
]

SHOWN = 60
"""Columns that are listed; a table of thousands would bury all else."""
EXAMPLES, LONGEST = 3, 14
ODD = 0.2
"""Share of values that are no numbers up to which a column was perhaps meant to be numerical."""
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
        kind = "categories" if edges is None else "bins of dates" if dates else "bins of numbers"
        lines["kind"].append(f"{len(categories)} {kind}")
        lines["missing"].append(f"{100 * missing:.1f} %" if missing else "none")
        text = _range(edges, dates) if edges is not None and len(edges) else _most_frequent(values)
        lines["values"].append(text)
    more = f"\n... and {len(columns) - SHOWN} more" if len(columns) > SHOWN else ""
    return level_table(lines) + more


def _range(edges: np.ndarray, dates: bool) -> str:
    if dates:
        first, last = np.datetime64("1970-01-01") + np.floor(edges[[0, -1]]).astype(int)
        return f"{first} to {last}"
    return f"{edges[0]:.6g} to {edges[-1]:.6g}"


def _most_frequent(values: list[str]) -> str:
    texts, counts = np.unique(np.array(values, dtype=object), return_counts=True)
    first = [f"{_short(texts[place])} ({counts[place]}x)" for place in np.argsort(-counts, kind="stable")[:EXAMPLES]]
    return ", ".join(first) + (", ..." if len(texts) > EXAMPLES else "")


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def doubtful_columns(table: Table, columns: Sequence[str], encoder: TableEncoder) -> list[str]:
    """What may be a mistake: columns that are nearly all numbers, and those without a name."""
    doubts = []
    for name, place, edges in zip(columns, table.places(columns), encoder.edges, strict=True):
        values = {value for value in table.values[:, table.names.index(name)].tolist() if value is not None}
        odd = sorted(not_numbers(values))
        if edges is None and odd and len(values) - len(odd) > MANY_NUMBERS and len(odd) < ODD * len(values):
            text = f"{len(values) - len(odd)} of {len(values)} distinct values are numbers, '{odd[0]}' is not"
            doubts.append(f"column {place}: {text}: taken as categories. If it is missing, name it by --missing")
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
        why = "new rows differ here as a whole, not one by one"
        if unknown.mean() > MOSTLY:
            why = "was it written otherwise?"
        text = "column %s: %d of %d values are unknown to the model, such as '%s': %s"
        logger.warning(text, table.places([name])[0], unknown.sum(), len(codes), example or "", why)
