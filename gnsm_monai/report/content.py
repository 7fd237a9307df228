"""What the page says: rows and summary of a ranking, put into the words and cells that the template lays out."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePath
from typing import Any

import numpy as np
import numpy.typing as npt

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

__all__ = ["Cell", "Column", "flag_threshold", "header", "interval", "metric_tables", "store_key", "table"]

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Column:
    """A column of the table of all cases.

    Attributes:
        name: as in ranking.csv.
        title: for the reader.
        help: what it means.
        numeric: whether its cells are numbers.
        falling: whether a reader wants the large values first.
    """

    name: str
    title: str
    help: str = ""
    numeric: bool = False
    falling: bool = False


@dataclass(frozen=True)
class Cell:
    """Text of a cell, and the number it is sorted by, where it is one."""

    text: str
    value: str = ""


COLUMNS = (
    Column("rank", "Rank", "1 = worst", numeric=True),
    Column("case", "Case"),
    Column("anomaly_score", "Anomaly score", "higher = worse", numeric=True, falling=True),
    Column("p_value", "p\u2011value", "share of references that score as high or higher", numeric=True),
    Column("flag", "Flag", "", falling=True),
    Column("predicted_dice", "Predicted Dice", "estimated from the score; not measured", numeric=True),
    Column("dice", "Measured Dice", "against the reference", numeric=True),
    Column("worst_structure", "Worst structure"),
    Column("worst_slice", "Worst slice", "counted from 0 along an array axis of the file"),
    Column("folder", "Folder"),
    Column("status", "Status", "failed: could not be scored"),
    Column("soft", "Scored from"),
    Column("message", "Message"),
)


def header(rows: Sequence[Row], summary: Mapping[str, Any], references: npt.NDArray[np.float64]) -> dict[str, Any]:
    """What was scored, by which model, and what a flag means."""
    settings = summary.get("settings", {})
    alpha, flagged = number(settings.get("alpha")), sum(row.get("flag") == 1 for row in rows)
    scored = sum(row["status"] == "ok" for row in rows)
    smallest = smallest_p_value(references)
    return {
        "folders": folder_names(settings.get("predictions_dir")),
        "references_dir": folder_names(settings.get("references_dir")),
        "model": PurePath(str(settings.get("model_dir", ""))).name or "unnamed",
        "sha": str(settings.get("weights_sha256") or "")[:12],
        "noise": noise_text(settings.get("noise")),
        "statistic": settings.get("anomaly_score"),
        "references": len(references),
        "date": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
        "version": summary.get("versions", {}).get("gnsm_monai", ""),
        "cases": len(rows),
        "scored": scored,
        "failed": len(rows) - scored,
        "with_reference": sum(number(row.get("dice")) is not None for row in rows),
        "soft": sum(bool(row.get("soft")) for row in rows),
        "alpha": alpha,
        "flagged": flagged if any(row.get("flag") is not None for row in rows) else None,
        "by_chance": None if alpha is None else alpha * scored,
        "smallest_p": smallest,
        "flags_possible": alpha is None or smallest <= alpha,
    }


def flag_threshold(references: npt.NDArray[np.float64], alpha: float | None) -> float | None:
    """Score above which p = (1 + #{references >= score}) / (n + 1) is at most alpha; None where no score is, or all.

    With k = alpha (n + 1) - 1 references allowed at or above a score, that is the (k + 1)-th largest reference.
    """
    if alpha is None:
        return None
    allowed = math.floor(alpha * (len(references) + 1) - 1 + 1e-9)
    return float(np.sort(references)[::-1][allowed]) if 0 <= allowed < len(references) else None


def table(rows: Sequence[Row], scores: ScoreFormat) -> tuple[list[Column], list[dict[str, Cell]]]:
    """The columns that apply to any of the rows, and a cell for each of them per row."""
    several_folders = len({row.get("folder", "") for row in rows}) > 1
    columns = []
    for column in COLUMNS:
        if column.name == "folder":
            applies = several_folders
        elif column.name == "status":
            applies = any(row["status"] != "ok" for row in rows)
        elif column.name == "soft":
            applies = any(row.get("soft") for row in rows)
        else:
            applies = any(_known(row.get(column.name)) for row in rows)
        if applies:
            columns.append(column)
    return columns, [{column.name: _cell(column, row, scores) for column in columns} for row in rows]


def interval(row: Row, form: str = "{} to {}") -> str:
    """Interval of the predicted Dice; empty where there is none."""
    low, high = number(row.get("predicted_dice_low")), number(row.get("predicted_dice_high"))
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


def store_key(summary: Mapping[str, Any]) -> str:
    """Under which a browser keeps the marks: the same model and the same predictions have the same marks."""
    settings = summary.get("settings", {})
    identity = [settings.get(key) for key in ("weights_sha256", "model_dir", "predictions_dir")]
    text = "\n".join(map(str, identity)).encode(errors="backslashreplace")
    return f"gnsm_monai marks {hashlib.sha256(text).hexdigest()[:16]}"


def _metric(entry: Mapping[str, Any] | None) -> dict[str, str]:
    value = number(entry.get("value")) if entry else None
    if entry is None or value is None:
        return {"value": MISSING, "detail": str(entry.get("reason", "")) if entry else ""}
    bounds = entry.get("ci95")
    detail = f"{bounds[0]:.3f} to {bounds[1]:.3f}".replace("-", "−") if bounds else "no interval"
    return {"value": f"{value:.3f}".replace("-", "−"), "detail": detail}


def _known(value: Any) -> bool:
    return value is not None and value != "" and not (isinstance(value, float) and math.isnan(value))


def _cell(column: Column, row: Row, scores: ScoreFormat) -> Cell:
    name, raw = column.name, row.get(column.name)
    value = number(raw)
    sort = "" if value is None else f"{value:.9g}"
    if name == "anomaly_score":
        return Cell(scores(value), sort)
    if name == "p_value":
        return Cell(p_text(value), sort)
    if name == "flag":
        return Cell("flagged" if raw == 1 else "", sort)
    if name == "predicted_dice":
        return Cell(MISSING if value is None else f"≈ {share(value)} {interval(row, '({}–{})')}".rstrip(), sort)
    if name == "dice":
        return Cell(share(value), sort)
    if name == "worst_slice":
        axis = number(row.get("worst_slice_axis"))
        return Cell(MISSING if value is None or axis is None else f"axis {axis:.0f}, slice {value:.0f}")
    if name == "soft":
        return Cell("" if row["status"] != "ok" else "probabilities" if raw else "labels")
    return Cell(str(raw) if _known(raw) else "", sort)
