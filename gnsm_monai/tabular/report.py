"""The page of a ranking of rows: the worst rows with their odd fields marked, and how many rows to review."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from gnsm_monai.report.figures import score_histogram, svg
from gnsm_monai.report.page import write_page
from gnsm_monai.report.wording import ScoreFormat, p_text
from gnsm_monai.rules.calibration import flag_threshold, smallest_p_value

__all__ = ["MAX_ROWS", "review_budget", "write_report"]

MAX_ROWS = 50
"""Worst rows that are shown."""
MAX_COLUMNS = 24
"""Columns up to which all are shown; of more, those with an odd field."""
ODD_FIELDS, ODD_SHARE = 3, 0.1
"""A field is marked where it is one of that many, and adds at least that share of what adds to the row's score."""
REVIEWED = (10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)


def review_budget(p_values: np.ndarray) -> list[dict[str, float]]:
    """How many of the ``reviewed`` worst rows are ``odd``, at least about, beyond what normal rows would have there.

    Of ``N`` normal rows, ``N p`` have a p-value of at most ``p`` by chance: these are taken off, which leaves too few
    where many of the rows are odd (Storey, J. R. Stat. Soc. B 2002). ``by_chance`` has them.

    Args:
        p_values: of all rows, ``(N,)``, in any order.
    """
    ordered = np.sort(p_values)
    budget = []
    for reviewed in (number for number in REVIEWED if number <= len(ordered)):
        # Rows of equal p-value cannot be told apart: the odd ones are as frequent in all of them.
        limit = ordered[reviewed - 1]
        within = int(np.searchsorted(ordered, limit, side="right"))
        share = max(0.0, 1 - limit * len(ordered) / within)
        budget.append({"reviewed": reviewed, "odd": reviewed * share, "by_chance": reviewed * (1 - share)})
    return budget


def write_report(
    path: str | Path,
    columns: Sequence[str],
    worst: Sequence[Mapping[str, Any]],
    scores: np.ndarray,
    p_values: np.ndarray,
    calibration: np.ndarray,
    unknown: Mapping[str, float],
    settings: Mapping[str, Any],
) -> None:
    """Writes the page.

    Args:
        path: of it.
        columns: names, ``(F,)``.
        worst: rows to show, worst first: lines of ranking.csv, and ``texts`` and ``contributions``, ``(F,)`` each.
        scores, p_values: of all rows, ``(N,)``.
        calibration: scores of held-out rows of training, ``(n,)``.
        unknown: share of unknown values in those columns where they are many.
        settings: those of summary.json.
    """
    odd = [_odd_fields(line["contributions"]) for line in worst]
    used = sorted({feature for fields in odd for feature in fields})
    shown = list(range(len(columns))) if len(columns) <= MAX_COLUMNS else used
    alpha, smallest = settings["alpha"], smallest_p_value(calibration)
    score_text = ScoreFormat(scores.tolist())
    rows = [
        {
            **{name: line[name] for name in ("rank", "row", "flag")},
            "score": score_text(line["anomaly_score"]),
            "p_value": p_text(float(line["p_value"])),
            "fields": [{"text": line["texts"][f], "adds": _adds(line["contributions"][f], f in fields)} for f in shown],
        }
        for line, fields in zip(worst, odd, strict=True)
    ]
    threshold = flag_threshold(calibration, alpha)
    write_page(
        path,
        "table.html.j2",
        file=PurePath(settings["dataset_dir"]).name,
        model=PurePath(settings["model_dir"]).name,
        sha=settings["weights_sha256"][:12],
        rule=settings["anomaly_score"],
        date=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
        held_out=len(calibration),
        total=len(scores),
        flagged=int((p_values <= alpha).sum()),
        alpha=alpha,
        smallest=smallest,
        unknown=[(name, f"{100 * share:.0f}") for name, share in unknown.items()],
        names=[columns[feature] for feature in shown],
        left_out=len(columns) - len(shown),
        rows=rows,
        budget=review_budget(p_values),
        histogram=svg(score_histogram(scores, calibration, threshold, "rows", "held-out rows of training")),
    )


def _odd_fields(contributions: np.ndarray) -> set[int]:
    """Places of the fields of a row that are marked, by what each field ``(F,)`` adds to the score."""
    first = np.argsort(-contributions, kind="stable")[:ODD_FIELDS]
    least = ODD_SHARE * np.clip(contributions, 0, None).sum()
    return {int(feature) for feature in first if contributions[feature] > 0 and contributions[feature] >= least}


def _adds(contribution: float, odd: bool) -> str:
    return f"+{contribution:.1f}" if odd else ""
