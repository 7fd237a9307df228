"""Removes what an earlier ranking left in the folder of this one, and would pass for its own."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from gnsm_monai.data.nifti import keep_only
from gnsm_monai.data.rewriting import files_of_copy
from gnsm_monai.report.colours import COLOUR_TABLES
from gnsm_monai.report.lists import remove_lists

__all__ = ["LEARNT", "PROPOSALS", "remove_earlier_results"]

PROPOSALS = "proposed.csv"
"""Table of the corrected copies beside it."""

LEARNT = "learnt.npz"
"""What a folder that was ranked without a model has taught; of no use beside other results."""


def remove_earlier_results(folder: Path, cases: Sequence[str], with_maps: bool) -> None:
    """Removes maps and flagged masks, corrected copies, lists, and tables that this ranking may not write anew.

    Args:
        folder: of the results.
        cases: those of this ranking.
        with_maps: whether it has maps and flagged masks; those of its cases then stay.
    """
    for part in ("maps", "flagged"):
        if not with_maps:
            for table in COLOUR_TABLES:
                (folder / part / table).unlink(missing_ok=True)
        keep_only(folder / part, cases if with_maps else ())
    for name in ("levels.csv", "level_statistics.npz"):
        (folder / name).unlink(missing_ok=True)
    remove_lists(folder / "lists")
    _remove_proposals(folder / "proposed")


def _remove_proposals(folder: Path) -> None:
    """Only what the table of an earlier ranking lists is of our making."""
    table = folder / PROPOSALS
    if not table.is_file():
        return
    with table.open(newline="", encoding="utf-8", errors="replace") as file:
        names = [row.get("file") or "" for row in csv.DictReader(file)]
    for path in [part for name in names if name for part in files_of_copy(folder / name)]:
        if path.is_file() and path.resolve().is_relative_to(folder.resolve()):
            path.unlink()
    table.unlink()
    for inner in sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True):
        if not any(inner.iterdir()):
            inner.rmdir()
    if not any(folder.iterdir()):
        folder.rmdir()
