"""The report's figures: small SVG pictures, as data URIs, that stay sharp on paper.

As pictures, not as parts of the page: their styles and ids cannot meet those of the page.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from gnsm_monai.evaluation.metrics import risk_coverage_curve
from gnsm_monai.report.pictures import data_uri

__all__ = ["budget_curve", "dice_scatter", "risk_coverage", "score_histogram"]

SIZE = (4.3, 3.0)
"""Inches: at this width the letters can still be read on a telephone."""
MANY = 1500
"""Points from which on a scatter is drawn as pixels: a path per point would make the page heavy."""
GREY, BLUE, RED, GREEN = "#767676", "#0072B2", "#D55E00", "#009E73"
_STYLE: Any = {
    "font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": "#e4e4e4",
    "axes.axisbelow": True, "legend.frameon": False, "legend.fontsize": 8, "svg.fonttype": "path",
    "svg.hashsalt": "gnsm_monai", "axes.unicode_minus": True, "figure.constrained_layout.use": True,
}  # fmt: skip

_Floats = npt.NDArray[np.float64]


def score_histogram(scores: _Floats, references: _Floats, threshold: float | None) -> str:
    """Anomaly scores of the masks against those of the calibration references, each as shares of its own number.

    Args:
        scores: of the masks, ``(n,)``.
        references: of the references, ``(m,)``; may be empty.
        threshold: scores above it are flagged.
    """
    known = np.concatenate([scores, references])
    low, high = float(known.min()), _sensible_end(known, references)
    bins = np.linspace(low, high if high > low else low + 1, 31)
    with matplotlib.rc_context(_STYLE):
        figure, axes = _axes("anomaly score (higher = worse)", "share of masks")
        for values, options in (
            (references, {"color": "#c8c8c8", "histtype": "stepfilled", "label": f"references ({references.size})"}),
            (scores, {"color": BLUE, "histtype": "step", "linewidth": 1.8, "label": f"scored masks ({scores.size})"}),
        ):
            if values.size:
                weights = np.full(values.size, 1 / values.size)
                axes.hist(np.minimum(values, bins[-1]), bins=bins, weights=weights, **options)  # type: ignore[arg-type]
        if threshold is not None:
            axes.axvline(threshold, color=RED, linestyle="--", linewidth=1.5, label="flagged to the right of this")
        beyond = int((scores > bins[-1]).sum())
        if beyond:
            axes.set_xlabel(f"anomaly score (higher = worse; last bar: {beyond} beyond)")
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.legend()
        return _svg(figure)


def dice_scatter(scores: _Floats, dice: _Floats, flagged: npt.NDArray[np.bool_], limits: Sequence[float]) -> str:
    """Anomaly score against measured Dice; ``limits`` are the Dice below which a mask counts as failed."""
    with matplotlib.rc_context(_STYLE):
        figure, axes = _axes("anomaly score (higher = worse)", "measured Dice")
        kinds = (("not flagged", ~flagged, "o", BLUE), ("flagged", flagged, "^", RED))
        for label, chosen, marker, colour in kinds:
            if chosen.any():
                axes.scatter(
                    scores[chosen], dice[chosen], s=18, marker=marker, color=colour, alpha=0.7, linewidths=0,
                    label=f"{label} ({int(chosen.sum())})", rasterized=scores.size > MANY,
                )  # fmt: skip
        for limit in limits:
            axes.axhline(limit, color=GREY, linestyle=":", linewidth=1.2, label=f"failure: Dice < {limit:g}")
        axes.set_ylim(-0.03, 1.03)
        axes.legend()
        return _svg(figure)


def risk_coverage(scores: _Floats, dice: _Floats) -> str:
    """Mean risk (1 - Dice) of the masks that are kept, the least anomalous first; lower is better."""
    coverage, risk = risk_coverage_curve(scores, 1 - dice)
    _, optimum = risk_coverage_curve(-dice, 1 - dice)
    with matplotlib.rc_context(_STYLE):
        figure, axes = _axes("masks kept, least anomalous first", "mean of 1 – Dice of those kept")
        axes.axhline(float((1 - dice).mean()), color=GREY, linestyle=":", label="in random order")
        axes.plot(coverage, risk, color=BLUE, linewidth=1.8, label="by this score")
        axes.plot(coverage, optimum, color=GREEN, linestyle="--", label="by true Dice (best possible)")
        axes.set_xlim(0, 1)
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.legend()
        return _svg(figure)


def budget_curve(budget: Sequence[Mapping[str, Any]], cases: int) -> str:
    """Share of the failures that a review of the k worst masks finds; higher is better."""
    reviewed = [0.0, *(float(entry["reviewed"]) for entry in budget)]
    found = [0.0, *(float(entry["share_found"]) for entry in budget)]
    with matplotlib.rc_context(_STYLE):
        figure, axes = _axes("masks reviewed, worst first", "share of failures found")
        axes.plot([0, cases], [0, 1], color=GREY, linestyle=":", label="in random order")
        axes.plot(reviewed, found, color=BLUE, linewidth=1.8, label="by this ranking")
        axes.set_xlim(left=0)
        axes.set_ylim(0, 1.03)
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.legend(loc="lower right")
        return _svg(figure)


def _sensible_end(known: _Floats, references: _Floats) -> float:
    """Where the axis ends: a single wild score must not squeeze all others into one bar."""
    spread = float(np.ptp(references)) if references.size else 0.0
    end = float(known.max())
    return min(end, float(references.max()) + 10 * spread) if spread > 0 else end


def _axes(x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=SIZE)
    axes = figure.subplots()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    return figure, axes


def _svg(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", dpi=150, metadata={"Date": None, "Creator": None})
    return data_uri(buffer.getvalue(), "svg+xml")
