"""Markdown tables of the benchmarks' pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["MISSING", "cell", "table"]

MISSING = "–"
"""In place of a figure that there is not."""


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    """Lines of a table."""
    return [f"| {' | '.join(map(str, row))} |" for row in (head, ["---"] * len(head), *rows)]


def cell(metric: Mapping[str, Any]) -> str:
    """A figure of `gnsm_monai.evaluation.summary` with its interval: ``-0.900 [-0.930, -0.861]``."""
    if metric["value"] is None:
        return MISSING
    low, high = metric["ci95"]
    return f"{metric['value']:.3f} [{low:.3f}, {high:.3f}]"
