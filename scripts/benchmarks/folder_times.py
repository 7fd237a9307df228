"""What it costs to rank folders by themselves: CPU seconds of `gnsm rank` without a model, with its start."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench import table
from package_commands import computed_seconds, gnsm, rows_of

__all__ = ["FOLDERS", "time_lines", "time_rows"]

FOLDERS: dict[str, tuple[str, ...]] = {"hippocampus": ("epoch20",), "blood_cell": ()}
"""Folders that are ranked in one call, all of a set where none is named."""

PART = "times"


def time_rows(name: str, dataset: Path, folders: Sequence[Path]) -> Iterator[dict[str, Any]]:
    """A row for the masks alone, and one with images.

    Args:
        name: of the data set.
        dataset: its folder, with the images.
        folders: of predictions, all of the set.
    """
    timed = [folder for folder in folders if folder.name in (FOLDERS[name] or [folder.name])]
    for with_images in (False, True):
        images = ["--images", dataset / "imagesTs"] if with_images else []
        with tempfile.TemporaryDirectory() as output:
            start = computed_seconds()
            gnsm("rank", "--predictions", *timed, *images, "--output", output)
            seconds, masks = computed_seconds() - start, len(rows_of(Path(output) / "ranking.csv"))
        yield {
            "set": name, "part": PART, "folder": timed[0].name if len(timed) == 1 else f"all {len(timed)} folders",
            "images": with_images, "masks": masks, "cpu_seconds": seconds,
        }  # fmt: skip


def time_lines(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The section of the page; nothing where no time was measured."""
    timed = [row for row in rows if row["part"] == PART]
    if not timed:
        return []
    cells = [
        [row["set"], row["folder"], row["masks"], "yes" if row["images"] else "no", f"{row['cpu_seconds']:.0f}"]
        for row in timed
    ]
    words = "One call of `gnsm rank` for all folders of a line: CPU seconds of the command (user and system), one run."
    return ["", "## Time", "", words, "", *table(["set", "folder", "masks", "images read", "CPU seconds"], cells)]
