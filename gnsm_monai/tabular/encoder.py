"""From the columns of a table to category codes: what the noise, the network and the score see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gnsm_monai.errors import InputError

__all__ = ["MISSING", "UNKNOWN", "TableEncoder", "columns_of"]

MISSING, UNKNOWN = "(missing)", "(unknown)"
"""How a missing value and a category that training did not have are named in explanations."""

MAX_CATEGORIES = 10_000
TAILS = (0.01, 0.99)
"""Quantiles that are edges besides the even ones: what lies in a tail should be rare, and so surprising."""


def columns_of(table: Any) -> list[np.ndarray]:
    """Columns ``(N,)`` of a data frame or of an array ``(N, F)``; a frame's columns keep their own types.

    Raises:
        InputError: complex numbers, or not two axes.
    """
    if hasattr(table, "iloc"):  # a pandas DataFrame, without needing pandas
        columns = [np.asarray(table.iloc[:, i]) for i in range(table.shape[1])]
    else:
        array = np.asarray(table)
        if array.ndim != 2:
            raise InputError(f"a table of rows and columns is needed, got an array of shape {array.shape}")
        columns = list(array.T)
    for place, column in enumerate(columns):
        if column.ndim != 1:
            raise InputError(f"column {place} of the table holds {column.ndim} values per row")
        if column.dtype.kind == "c":
            raise InputError("Complex data not supported: a column of the table holds complex numbers")
    return columns


class TableEncoder:
    """Codes ``(N, F)`` of the values of each column, learned from training rows.

    - Categories (strings, objects, booleans, whole numbers, categories of pandas) are compared as text, so that 3,
      3.0 and "3" are the same one.
    - A column of floating-point numbers with more distinct values than bins is binned at its quantiles.
    - A missing value (None, NaN, NaT, pandas.NA) is a category of its own where training has any.
    - Every feature has one category more than training showed, the last one: what training did not have. No training
      row has it, so that it is surprising. It also makes a feature with one category legal.

    Args:
        numerical_features: positions of the columns to be binned; ``None`` finds them as above.
        bins: of numerical columns, about equally full, before the two tails are cut off.
    """

    def __init__(self, numerical_features: Sequence[int] | None = None, bins: int = 20) -> None:
        self.numerical_features, self.bins = numerical_features, bins
        self.edges: list[np.ndarray | None] = []
        self.categories: list[dict[str, int]] = []

    @property
    def cardinalities(self) -> list[int]:
        """Categories per feature, the one for unknown values included."""
        return [len(known) + 1 for known in self.categories]

    def fit(self, table: Any) -> TableEncoder:
        """Learns bins and categories.

        Raises:
            InputError: a numerical column without numbers, or more categories than the network can have.
        """
        columns = columns_of(table)
        wanted = self.numerical_features
        if wanted is not None and (bad := [f for f in wanted if not 0 <= f < len(columns)]):
            raise InputError(f"numerical_features: the table has no column {bad[0]}")
        self.edges, self.categories = [], []
        for place, column in enumerate(columns):
            numerical = _is_continuous(column, self.bins) if wanted is None else place in wanted
            self.edges.append(_edges(_numbers(column, place), self.bins) if numerical else None)
            texts, _ = _distinct(column, self.edges[-1], place)
            if len(texts) > MAX_CATEGORIES:
                raise InputError(
                    f"column {place} has {len(texts)} categories, more than {MAX_CATEGORIES}: leave identifiers out"
                )
            self.categories.append({text: code for code, text in enumerate(sorted(texts))})
        return self

    def transform(self, table: Any) -> np.ndarray:
        """Codes ``(N, F)`` int64, ``0 <= codes[:, f] < cardinalities[f]``."""
        columns = columns_of(table)
        if len(columns) != len(self.categories):
            raise InputError(f"the table has {len(columns)} columns, training had {len(self.categories)}")
        codes = np.empty((len(columns[0]), len(columns)), dtype=np.int64)
        for place, (column, edges, known) in enumerate(zip(columns, self.edges, self.categories, strict=True)):
            texts, index = _distinct(column, edges, place)
            codes[:, place] = np.array([known.get(text, len(known)) for text in texts], dtype=np.int64)[index]
        return codes

    def to_dict(self) -> dict[str, Any]:
        """Plain values that :meth:`from_dict` turns back into an equal encoder."""
        return {
            "edges": [None if edges is None else edges.tolist() for edges in self.edges],
            "categories": [list(known) for known in self.categories],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TableEncoder:
        encoder = cls()
        encoder.edges = [None if edges is None else np.array(edges, dtype=np.float64) for edges in values["edges"]]
        encoder.categories = [{text: code for code, text in enumerate(texts)} for texts in values["categories"]]
        return encoder


def _is_continuous(column: np.ndarray, bins: int) -> bool:
    if column.dtype.kind != "f":
        return False
    values = np.unique(column[np.isfinite(column)])
    return len(values) > bins


def _numbers(column: np.ndarray, place: int) -> np.ndarray:
    """The column as float64, NaN where a value is missing."""
    try:
        if column.dtype.kind == "O":
            column = np.array([np.nan if _is_missing(v) or v == "" else v for v in column.tolist()], dtype=object)
        return column.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"column {place} is to be numerical: {error}") from error


def _edges(numbers: np.ndarray, bins: int) -> np.ndarray:
    """Inner and outer edges of bins; rising. What lies outside the outer ones was never met in training."""
    finite = numbers[np.isfinite(numbers)]
    if not len(finite):
        return np.empty(0)
    inner = np.quantile(finite, np.sort([*np.linspace(0, 1, bins + 1), *TAILS]), method="inverted_cdf")
    edges: np.ndarray = np.unique(inner)
    return edges


def _distinct(column: np.ndarray, edges: np.ndarray | None, place: int) -> tuple[list[str], np.ndarray]:
    """Distinct values as text, and for each row ``(N,)`` the place of its own among them."""
    if edges is not None:
        numbers = _numbers(column, place)
        # An edge is the highest value of its bin; the highest edge is the highest value of all.
        bins = np.searchsorted(edges, numbers, side="left")
        below = (numbers < edges[0]) if len(edges) else np.zeros(len(numbers), dtype=bool)
        names = [*(f"bin {i}" for i in range(len(edges))), "above", "below", MISSING]
        index = np.where(np.isnan(numbers), len(edges) + 2, np.where(below, len(edges) + 1, bins))
        present, index = np.unique(index, return_inverse=True)
        return [names[i] for i in present], index
    if column.dtype.kind in "iub":
        values, index = np.unique(column, return_inverse=True)
        return [_text(value) for value in values.tolist()], index
    places: dict[str, int] = {}
    index = np.fromiter(
        (places.setdefault(text, len(places)) for text in map(_text, column.tolist())),
        dtype=np.int64,
        count=len(column),
    )
    return list(places), index


def _is_missing(value: Any) -> bool:
    if value is None or type(value).__name__ in ("NAType", "NaTType"):  # those of pandas, whose comparison is no bool
        return True
    return isinstance(value, float) and value != value


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if _is_missing(value):
        return MISSING
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
