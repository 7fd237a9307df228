"""What the page says: rows and summary of a ranking, put into the words and cells that the template lays out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePath
from typing import Any

import numpy as np
import numpy.typing as npt

from gnsm_monai.report.marks import Mark
from gnsm_monai.report.verdict_words import folder_lines
from gnsm_monai.report.wording import (
    METRICS,
    MISSING,
    ScoreFormat,
    folder_names,
    metric_parts,
    metric_title,
    noise_text,
    number,
    p_text,
    share,
)
from gnsm_monai.rules.calibration import smallest_p_value
from gnsm_monai.scoring.decision import Decision
from gnsm_monai.scoring.result import FailedCase, Place, Result, scored

__all__ = [
    "Cell", "Column", "header", "interval", "metric_tables", "score_text", "table", "verdict_block",
]  # fmt: skip


@dataclass(frozen=True)
class Column:
    """A column of the table of all cases.

    Attributes:
        name: as in ranking.csv.
        title: for the reader.
        help: what it means.
        numeric: whether its cells are numbers.
        falling: whether a reader wants the large values first.
        absent: text of a cell that has no value.
    """

    name: str
    title: str
    help: str = ""
    numeric: bool = False
    falling: bool = False
    absent: str = ""


@dataclass(frozen=True)
class Cell:
    """Text of a cell, and the number it is sorted by, where it is one."""

    text: str
    value: str = ""


COLUMNS = (
    Column("rank", "Rank", "1 = worst", numeric=True),
    Column("case", "Case"),
    Column("anomaly_score", "Anomaly score", "higher = worse", numeric=True, falling=True, absent=MISSING),
    Column("p_value", "p\u2011value", "share of references that score as high or higher", numeric=True, absent=MISSING),
    Column("flag", "Flag", "", falling=True),
    Column("predicted_dice", "Predicted Dice", "estimated from the score; not measured", numeric=True, absent=MISSING),
    Column("dice", "Measured Dice", "against the reference", numeric=True, absent=MISSING),
    Column("worst_structure", "Worst structure", absent=MISSING),
    Column("worst_slice", "Worst slice", "counted from 0 along an array axis of the file", absent=MISSING),
    Column("folder", "Folder"),
    Column("status", "Status", "failed: could not be scored"),
    Column("soft", "Scored from"),
    Column("earlier_mark", "Earlier mark", "from the marks that were read"),
    Column("earlier_note", "Earlier note"),
    Column("message", "Message"),
)


def header(
    results: Sequence[Result], summary: Mapping[str, Any], references: npt.NDArray[np.float64]
) -> dict[str, Any]:
    """What was scored, by which model, and what a flag means."""
    settings = summary.get("settings", {})
    alpha, fdr, smallest = number(settings.get("alpha")), number(settings.get("fdr")), smallest_p_value(references)
    limit = alpha if fdr is None else fdr
    cases = scored(results)
    judged = any(number(result.decision.p_value) is not None for result in cases)
    return {
        "folders": folder_names(settings.get("predictions_dir")),
        "references_dir": folder_names(settings.get("references_dir")),
        "itself": settings.get("folder_itself"),
        "model": PurePath(str(settings.get("model_dir", ""))).name or "unnamed",
        "sha": str(settings.get("weights_sha256") or "")[:12],
        "noise": noise_text(settings.get("noise")),
        "statistic": settings.get("anomaly_score"),
        "references": len(references),
        "date": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
        "version": summary.get("versions", {}).get("gnsm_monai", ""),
        "cases": len(results),
        "scored": len(cases),
        "failed": len(results) - len(cases),
        "with_reference": sum(result.has_dice for result in cases),
        "soft": sum(result.soft for result in cases),
        "alpha": alpha,
        "flagged": sum(result.decision.flagged for result in cases) if judged else None,
        "by_chance": None if alpha is None else alpha * len(cases),
        "smallest_p": smallest,
        "fdr": fdr,
        "flags_possible": limit is None or smallest <= limit,
    }


def verdict_block(summary: Mapping[str, Any]) -> dict[str, Any] | None:
    """The verdicts at the top of the page; None where the ranking has none."""
    if not summary.get("folders"):
        return None
    score = summary["score_on_failures"]
    return {
        "text": summary["verdict"],
        "score": score["text"],
        "strength": score["strength"],
        "folders": folder_lines(summary["folders"]),
        "failure_dice": summary["folders"][0]["failure_dice"],
        "limits": summary["limits"],
    }


def table(
    results: Sequence[Result], scores: ScoreFormat, marks: Mapping[str, Mark] | None = None
) -> tuple[list[Column], list[dict[str, Cell]]]:
    """The columns that apply to any of the cases, and a cell for each of them per case, in rank order."""
    earlier = marks or {}
    lines = [
        _cells(rank, result, scores) | _mark_cells(earlier.get(result.case), score_text(result))
        for rank, result in enumerate(results, start=1)
    ]
    columns = [column for column in COLUMNS if _applies(column, [line[column.name] for line in lines])]
    return columns, [{column.name: line[column.name] for column in columns} for line in lines]


def interval(decision: Decision, form: str = "{} to {}") -> str:
    """Interval of the predicted Dice; empty where there is none."""
    low, high = number(decision.predicted_dice_low), number(decision.predicted_dice_high)
    return "" if low is None or high is None else form.format(share(low), share(high))


def metric_tables(summary: Mapping[str, Any]) -> tuple[list[str], list[dict[str, Any]]]:
    """Names of the sets of masks (pooled, then folders where there are several), and a line per metric."""
    pooled, folders = summary.get("metrics") or {}, summary.get("metrics_per_folder") or {}
    sets = [("pooled", pooled), *(folders.items() if len(folders) > 1 else ())] if pooled else []
    order = {name: place for place, name in enumerate(METRICS)}
    lines = []
    for name in sorted(pooled, key=lambda name: order.get(metric_parts(name)[0], len(order))):
        title, meaning = metric_title(name)
        values = [_metric(metrics.get(name)) for _, metrics in sets]
        lines.append({"title": title, "meaning": meaning, "values": values})
    return [name for name, _ in sets], lines


def _metric(entry: Mapping[str, Any] | None) -> dict[str, str]:
    value = number(entry.get("value")) if entry else None
    if entry is None or value is None:
        return {"value": MISSING, "detail": str(entry.get("reason", "")) if entry else ""}
    bounds = entry.get("ci95")
    detail = f"{bounds[0]:.3f} to {bounds[1]:.3f}".replace("-", "−") if bounds else "no interval"
    return {"value": f"{value:.3f}".replace("-", "−"), "detail": detail}


def _applies(column: Column, cells: Sequence[Cell]) -> bool:
    """Whether a column tells one case from another, or says anything at all."""
    texts = {cell.text for cell in cells}
    if column.name == "folder":
        return len(texts) > 1
    usual = {"status": "ok", "soft": "labels"}.get(column.name, column.absent)
    return any(cell.value for cell in cells) or not texts <= {usual, column.absent}


def _cells(rank: int, result: Result, scores: ScoreFormat) -> dict[str, Cell]:
    """A cell for every column."""
    cells = {column.name: Cell(column.absent) for column in COLUMNS}
    cells |= {"rank": Cell(str(rank), str(rank)), "case": Cell(result.case), "folder": Cell(result.folder)}
    cells["status"] = Cell(result.status)
    if isinstance(result, FailedCase):
        return {**cells, "message": Cell(result.message)}
    decision = result.decision
    predicted = number(decision.predicted_dice)
    text = MISSING if predicted is None else f"≈ {share(predicted)} {interval(decision, '({}–{})')}".rstrip()
    return {
        **cells,
        "anomaly_score": _number_cell(decision.anomaly, scores),
        "p_value": _number_cell(decision.p_value, p_text),
        "flag": Cell("flagged" if decision.flagged else "", _sort_value(decision.flagged)),
        "predicted_dice": Cell(text, _sort_value(predicted)),
        "dice": _number_cell(result.dice, share),
        "worst_structure": Cell(result.place.structure or MISSING),
        "worst_slice": Cell(_slice_text(result.place)),
        "soft": Cell("probabilities" if result.soft else "labels"),
        "message": Cell(result.note),
    }


def score_text(result: Result) -> str:
    """The score of a case as the page and its marks hold it; empty where it has none."""
    return "" if isinstance(result, FailedCase) else _sort_value(number(result.decision.anomaly))


def _mark_cells(mark: Mark | None, score: str) -> dict[str, Cell]:
    """What an earlier report's reader said of a case, and whether the mask has changed since."""
    if mark is None:
        return {"earlier_mark": Cell(""), "earlier_note": Cell("")}
    changed = "" if mark.holds_for(score) or not mark.mark else " (another mask or model)"
    return {"earlier_mark": Cell(mark.mark + changed), "earlier_note": Cell(mark.note)}


def _number_cell(raw: float | None, form: Callable[[float | None], str]) -> Cell:
    value = number(raw)
    return Cell(form(value), _sort_value(value))


def _sort_value(value: float | None) -> str:
    return "" if value is None else f"{value:.9g}"


def _slice_text(place: Place) -> str:
    return MISSING if place.slice_axis is None else f"axis {place.slice_axis}, slice {place.slice_index}"
