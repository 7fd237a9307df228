"""One page that holds all of a ranking: text, pictures, table and script, with no other file and no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gnsm_monai.report import figures
from gnsm_monai.report.cards import case_card
from gnsm_monai.report.colours import class_hex, given_colours, num_tones
from gnsm_monai.report.content import Cell, Column, header, metric_tables, score_text, table, verdict_block
from gnsm_monai.report.marks import Mark
from gnsm_monai.report.page import write_page
from gnsm_monai.report.pictures import heat_legend, heat_range, stripes_meaning
from gnsm_monai.report.storage import former_store_key, store_key
from gnsm_monai.report.wording import ScoreFormat, budget_entries, budget_lines, number
from gnsm_monai.scoring.result import CaseResult, FailedCase, Result, scored

__all__ = ["MAX_CARDS", "build_report"]

MAX_CARDS = 24
"""Worst cases that are shown with pictures."""

BUDGET_LINES = 8
COLUMN_WIDTHS = {"case": (14, 25, 1), "message": (24, 48, 3)}
"""Least and greatest width, in digits, and share of what room is left; longer texts wrap."""
BESIDE = {"flag": 1.5, "worst_structure": 2}
"""What a frame or a swatch adds to the text, in digits."""

FIGURES = ("histogram", "budget_curve", "scatter", "risk_coverage")

_Floats = npt.NDArray[np.float64]


def build_report(
    path: str | Path,
    results: Sequence[Result],
    summary: Mapping[str, Any],
    reference_scores: npt.ArrayLike,
    *,
    max_cards: int = MAX_CARDS,
    marks: Mapping[str, Mark] | None = None,
) -> None:
    """Writes a ranking as one self-contained HTML page, whole or not at all.

    Names, messages and reasons are shown as the text they are, whatever they hold: the page runs no script but its
    own, which its content security policy names by hash, and may load nothing.

    Args:
        path: of the page.
        results: one per case, in the order of :func:`gnsm_monai.evaluation.ranking.ranked`. Values that are None or NaN
            are left out of the page.
        summary: content of summary.json. ``review_budget``, where it is there, holds ``failure_dice``, ``source``
            ("measured" or "predicted") and ``budget``: entries ``reviewed`` (masks), ``share_found`` and
            ``residual_risk`` (both in [0, 1]).
        reference_scores: anomaly scores of the held-out references, ``(n,)``, higher = worse; may be empty.
        max_cards: worst cases that are shown with pictures.
        marks: of an earlier report, by case. Marks of masks that have the same score stand where new ones are set.
    """
    references = np.asarray(reference_scores, dtype=np.float64).ravel()
    references = references[np.isfinite(references)]
    cases = scored(results)
    overview = _overview(results, cases, summary, references, marks or {})
    drawn = figures.ranking_figures(cases, summary, references)
    rules = _column_rules(overview["columns"], [line["cells"] for line in overview["cases"]])
    write_page(
        path,
        "report.html.j2",
        _tone_rules(given_colours(summary)) + rules,
        "report.js",
        store=store_key(summary, path),
        former_store=former_store_key(summary),
        **overview,
        **_worst(cases, max_cards, summary),
        **dict(zip(("metric_sets", "metrics"), metric_tables(summary), strict=True)),
        **{name: figures.svg(drawn[name]) if name in drawn else None for name in FIGURES},
    )


def _overview(
    results: Sequence[Result],
    cases: Sequence[CaseResult],
    summary: Mapping[str, Any],
    references: _Floats,
    marks: Mapping[str, Mark],
) -> dict[str, Any]:
    """Header, review budget and the table of all cases."""
    columns, cells = table(results, ScoreFormat(figures.anomaly_scores(cases).tolist()), marks)
    budget = summary.get("review_budget") or {}
    entries = budget_entries(summary)
    folders = list(dict.fromkeys(result.folder for result in results))
    return {
        "head": header(results, summary, references),
        "verdict": verdict_block(summary),
        "columns": columns,
        "cases": [
            _line(*each, folders, marks.get(each[1].case))
            for each in zip(range(1, len(results) + 1), results, cells, strict=True)
        ],
        "earlier_marks": bool(marks),
        "folders": folders,
        "budget": {**budget, "lines": budget_lines(entries, BUDGET_LINES)} if entries else None,
        "correct_empty": summary.get("correct_empty", 0),
    }


def _line(
    rank: int, result: Result, cells: Mapping[str, Cell], folders: Sequence[str], mark: Mark | None
) -> dict[str, Any]:
    """A case in the table of all cases."""
    return {
        "rank": rank,
        "case": result.case,
        "folder": folders.index(result.folder),
        "status": result.status,
        "flagged": isinstance(result, CaseResult) and result.decision.flagged,
        "message": result.message if isinstance(result, FailedCase) else "",
        "cells": cells,
        "earlier": mark.mark if mark else "",
        "given": mark if mark and mark.holds_for(score_text(result)) else None,
    }


def _worst(cases: Sequence[CaseResult], max_cards: int, summary: Mapping[str, Any]) -> dict[str, Any]:
    """Cards of the worst cases, and the legend of their pictures."""
    shown = cases[:max_cards]
    names = [str(name) for name in summary.get("settings", {}).get("structures") or []]
    colours = given_colours(summary)
    tones = {name: index % num_tones(colours) for index, name in enumerate(names)}
    pictures = [result.picture for result in shown if result.picture]
    heat = heat_range(pictures)
    format_score = ScoreFormat(figures.anomaly_scores(cases).tolist())
    parts = [number(entry.anomaly) for result in cases for entry in result.structures]
    format_part = ScoreFormat([value for value in parts if value is not None])
    cards = [case_card(*each, format_score, format_part, tones, heat, colours) for each in enumerate(shown, start=1)]
    return {
        "cards": cards,
        "carded": {card["rank"] for card in cards},
        "tones": tones,
        "heat": {"low": f"{heat[0]:.2g}", "high": f"{heat[1]:.2g}", "legend": heat_legend()} if pictures else None,
        "volumes": any(len(picture) > 1 for picture in pictures),
        "unseen": stripes_meaning(pictures),
    }


def _tone_rules(given: Sequence[str]) -> str:
    """A class per colour of a structure: the policy forbids style attributes."""
    tones = class_hex(num_tones(given) + 1, given)[1:]
    return "".join(f".tone-{i}{{color:{colour}}}\n" for i, colour in enumerate(tones))


def _column_rules(columns: Sequence[Column], cells: Sequence[Mapping[str, Cell]]) -> str:
    """Widths of the table's columns, from their longest texts: rows are laid out one at a time (see report.css)."""
    tracks, widths = [], []
    for column in columns:
        low, high, share = COLUMN_WIDTHS.get(column.name, (0, 24, 0))
        title = 2 + 1.2 * max(len(word) for word in column.title.split())  # in bold, with the arrow of sorting
        longest = max((_width(row[column.name].text) for row in cells), default=0)
        longest += BESIDE.get(column.name, 0)
        width = f"calc({max(title, min(max(longest, low), high)):.1f}ch + .8rem)"
        widths.append(width)
        tracks.append(f"minmax({width},{share}fr)" if share else width)
        if column.name == "case":
            tracks.append("var(--marking)")
            widths.append("var(--marking-width)")
    sizes = f"#table{{min-width:calc({' + '.join(widths)})}}\n#table tr{{grid-template-columns:{' '.join(tracks)}}}\n"
    return f"@media screen{{\n{sizes}}}\n"


def _width(text: str) -> float:
    """About how many digits wide a text is."""
    return len(text) - 0.4 * sum(text.count(sign) for sign in " .,()|'ijlt")
