"""Markdown of the benchmarks' pages: head, tables, figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["MISSING", "cell", "page", "table"]

MISSING = "–"
"""In place of a figure that there is not."""


def page(title: str, command: str, lines: Sequence[str]) -> str:
    """A page that names the command that writes it."""
    return "\n".join([f"# {title}", "", f"`python scripts/benchmarks/{command}`", "", *lines]) + "\n"


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    """Lines of a table."""
    return [f"| {' | '.join(map(str, row))} |" for row in (head, ["---"] * len(head), *rows)]


def cell(metric: Mapping[str, Any]) -> str:
    """A figure of `gnsm_monai.evaluation.summary` with its interval: ``-0.900 [-0.930, -0.861]``."""
    if metric["value"] is None:
        return MISSING
    low, high = metric["ci95"]
    return f"{metric['value']:.3f} [{low:.3f}, {high:.3f}]"
