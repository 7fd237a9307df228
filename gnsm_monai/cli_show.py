"""What a command prints at its end: the worst cases, what is said of them, and where everything was written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gnsm_monai.evaluation.ranking import Ranking
from gnsm_monai.report.rows import case_row
from gnsm_monai.scoring.result import scored

__all__ = ["RESULTS", "say", "say_model", "show", "show_worst"]

WORST_SHOWN = 5
RESULTS = (
    "ranking.csv", "structures.csv", "slices.csv", "results.json", "summary.json", "report.html", "maps", "flagged",
    "proposed", "lists", "tensorboard",
)  # fmt: skip


def show(output: Path, ranking: Ranking) -> None:
    """The worst cases, and where everything was written."""
    rows = [case_row(rank, result) for rank, result in enumerate(scored(ranking.results), start=1)]
    if rows:
        names = ("anomaly_score", "p_value", "worst_structure", "dice")
        columns = [name for name in names if any(_short(row[name]) for row in rows)]
        show_worst(rows, "masks", ["rank", "case", *columns])
    print()
    if itself := ranking.summary["settings"].get("folder_itself"):
        for name, text in (("note", itself["limits"]), ("apart", itself["standing_apart"])):
            say(name, text)
        if images := itself.get("images"):
            say("images", images["text"])
        for warning in itself["warnings"]:
            say("warning", warning)
        print()
    if "verdict" in ranking.summary:
        say("folders" if len(ranking.summary["folders"]) > 1 else "folder", ranking.summary["verdict"])
        say("score", ranking.summary["score_on_failures"]["text"])
        print()
    for name in RESULTS:
        if (output / name).exists():
            say(name.split(".")[0], output / name)


def show_worst(rows: Sequence[Mapping[str, Any]], what: str, columns: Sequence[str]) -> None:
    print(f"\nthe worst of {len(rows)} {what} (a higher score is worse):")
    table = [columns, *([_short(row[name]) for name in columns] for row in rows[:WORST_SHOWN])]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        print("  " + "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())


def _short(value: Any) -> str:
    """Three decimals of a number, text as it can be printed, and nothing for what is not known."""
    if value is None or value != value:
        return ""
    if isinstance(value, float):
        return f"{value:.3f}"
    return str(value).encode(errors="backslashreplace").decode()  # names of files need not be valid text


def say_model(model: Path) -> None:
    say("model", model)
    say("TensorBoard", f"tensorboard --logdir {model / 'tensorboard'}")


def say(name: str, where: Path | str) -> None:
    print(f"{name:<12} {where}")
