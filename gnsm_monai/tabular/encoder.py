"""From the columns of a table to category codes: what the noise, the network and the score see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import narwhals as nw
import numpy as np

from gnsm_monai.errors import InputError
from gnsm_monai.tabular.values import canonical, days, is_missing, number_of, widened

__all__ = ["MISSING", "TableEncoder", "columns_of", "distinct", "is_frame"]

MISSING = "(missing)"
"""How a missing value is named as a category."""

MAX_CATEGORIES = 10_000
TAILS = (0.01, 0.99)
"""Quantiles that are edges besides the even ones: what lies in a tail should be rare, and so surprising."""


def columns_of(table: Any) -> list[np.ndarray]:
    """Columns ``(N,)`` of a data frame (pandas, polars, pyarrow) or of an array ``(N, F)``; frames keep their types.

    Raises:
        InputError: complex numbers, a sparse matrix, or not two axes.
    """
    if hasattr(table, "tocsr"):
        raise InputError("a sparse matrix holds no categories: give the columns as they were before, or X.toarray()")
    if hasattr(table, "iloc"):  # by place, as pandas may have a name twice
        columns = [_of_pandas(table.iloc[:, place]) for place in range(table.shape[1])]
    elif is_frame(table):
        columns = [_of_narwhals(column) for column in nw.from_native(table, eager_only=True).iter_columns()]
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
    return [widened(column) for column in columns]


def is_frame(table: Any) -> bool:
    """Whether this is a data frame of a library that narwhals knows."""
    return (hasattr(table, "iloc") and hasattr(table, "columns")) or nw.dependencies.is_into_dataframe(table)


def _of_pandas(series: Any) -> np.ndarray:
    if series.dtype.kind == "f" and hasattr(series.dtype, "numpy_dtype"):  # nullable: an array of objects otherwise
        column: np.ndarray = series.to_numpy(dtype=series.dtype.numpy_dtype, na_value=np.nan)
        return column
    if getattr(series.dtype, "tz", None) is not None:  # objects otherwise
        series = series.dt.tz_convert("UTC").dt.tz_localize(None)
    return np.asarray(series)


def _of_narwhals(series: nw.Series[Any]) -> np.ndarray:
    if series.dtype.is_integer() and series.null_count():  # floating-point numbers otherwise
        return np.array(series.to_list(), dtype=object)
    return np.asarray(series.to_numpy())


class TableEncoder:
    """Codes ``(N, F)`` of the values of each column, learned from training rows.

    - Categories (strings, objects, booleans, whole numbers, categories of pandas) are compared as text in one spelling,
      :func:`gnsm_monai.tabular.values.canonical`: 3, 3.0, "3" and "3.00" are the same one, as are True and "TRUE".
    - A column of floating-point numbers or dates with more distinct values than bins is binned at its quantiles.
    - A missing value (None, NaN, NaT, pandas.NA) is a category of its own where training has any.
    - Every feature has one more category, the last one, for values that training did not have. No training row has it,
      so it is surprising. It also allows a feature with a single category.

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
        return [len(categories) + 1 for categories in self.categories]

    def fit(self, table: Any, names: Sequence[str] | None = None) -> TableEncoder:
        """Learns bins and categories.

        Args:
            table: a data frame, or an array ``(N, F)``.
            names: what messages call the columns, ``(F,)``; their places, from 0, by default.

        Raises:
            InputError: a numerical column without numbers, or more categories than the network can have.
        """
        columns = columns_of(table)
        wanted = self.numerical_features
        if wanted is not None and (bad := [f for f in wanted if f not in range(len(columns))]):
            raise InputError(f"numerical_features: the table has no column {bad[0]!r}; columns are counted from 0")
        self.edges, self.categories = [], []
        for place, column in enumerate(columns):
            name = names[place] if names else place
            numerical = _is_continuous(column, self.bins) if wanted is None else place in wanted
            try:
                self.edges.append(_edges(_numbers(column), self.bins) if numerical else None)
            except (TypeError, ValueError) as error:
                raise InputError(f"column {name} is to be numerical: {error}") from error
            texts = {canonical(text) for text in distinct(column, self.edges[-1])[0]}
            if len(texts) > MAX_CATEGORIES:
                raise InputError(
                    f"column {name} has {len(texts)} categories, more than {MAX_CATEGORIES}: leave identifiers out"
                )
            self.categories.append({text: code for code, text in enumerate(sorted(texts))})
        return self

    def transform(self, table: Any) -> np.ndarray:
        """Codes ``(N, F)``, ``0 <= codes[:, f] < cardinalities[f]``; the last is that of unknown values.

        They are uint8 where they fit into it, and int16 otherwise: tables of many rows stay small.
        """
        columns = columns_of(table)
        if len(columns) != len(self.categories):
            raise InputError(f"the table has {len(columns)} columns, training had {len(self.categories)}")
        small = np.uint8 if max(self.cardinalities) <= 256 else np.int16
        codes = np.empty((len(columns[0]), len(columns)), dtype=small)
        for place, (column, edges, categories) in enumerate(zip(columns, self.edges, self.categories, strict=True)):
            texts, index = distinct(column, edges)
            # Encoders of version 0.2 have other spellings: what stood in their tables is found as it stood there.
            spellings = {canonical(text): code for text, code in reversed(categories.items())} | categories
            codes_of = [spellings.get(text, spellings.get(canonical(text), len(categories))) for text in texts]
            codes[:, place] = np.array(codes_of, dtype=small)[index]
        return codes

    def to_dict(self) -> dict[str, Any]:
        """Plain values that :meth:`from_dict` turns back into an equal encoder."""
        return {
            "edges": [None if edges is None else edges.tolist() for edges in self.edges],
            "categories": [list(categories) for categories in self.categories],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TableEncoder:
        encoder = cls()
        encoder.edges = [None if edges is None else np.array(edges, dtype=np.float64) for edges in values["edges"]]
        encoder.categories = [{text: code for code, text in enumerate(texts)} for texts in values["categories"]]
        return encoder


def _is_continuous(column: np.ndarray, bins: int) -> bool:
    return column.dtype.kind in "fM" and len(np.unique(column[np.isfinite(column)])) > bins


def _numbers(column: np.ndarray, strict: bool = True) -> np.ndarray:
    """The column as float64, NaN where a value is missing; what is no number raises ValueError, or is infinite."""
    if column.dtype.kind in "fiub":
        return column.astype(np.float64)
    if column.dtype.kind == "M":
        return np.asarray((column - np.datetime64("1970-01-01")) / np.timedelta64(1, "D"))
    values = [np.nan if is_missing(value) or value == "" else value for value in column.tolist()]
    try:
        return np.array([number_of(value) for value in values], dtype=np.float64)
    except (TypeError, ValueError):
        numbers = np.array([np.nan if is_missing(value) else _number(value) for value in values])
        if strict and np.isposinf(numbers).any():
            raise
        return numbers


def _number(value: Any) -> float:
    """A number, or a date in days; infinite where it is neither."""
    try:
        return number_of(value)
    except (TypeError, ValueError):
        date = days(str(value))
        return np.inf if date is None else date


def _edges(numbers: np.ndarray, bins: int) -> np.ndarray:
    """Inner and outer edges of bins; rising. What lies outside the outer ones was never met in training."""
    finite = numbers[np.isfinite(numbers)]
    if not len(finite):
        return np.empty(0)
    inner = np.quantile(finite, np.sort([*np.linspace(0, 1, bins + 1), *TAILS]), method="inverted_cdf")
    edges: np.ndarray = np.unique(inner)
    return edges


def distinct(column: np.ndarray, edges: np.ndarray | None = None) -> tuple[list[str], np.ndarray]:
    """Distinct values as text, and for each row ``(N,)`` the place of its own among them."""
    if edges is not None:
        numbers = _numbers(column, strict=False)
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
    if column.dtype.kind == "M":  # their tolist() has numbers where they are of nanoseconds
        values, index = np.unique(column, return_inverse=True)
        return [MISSING if is_missing(value) else canonical(str(value)) for value in values], index
    values = column.tolist()
    texts = values if set(map(type, values)) == {str} else [_text(value) for value in values]
    places = {text: place for place, text in enumerate(dict.fromkeys(texts))}
    return list(places), np.fromiter(map(places.__getitem__, texts), np.int64, len(texts))


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if is_missing(value):
        return MISSING
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    return str(value)
