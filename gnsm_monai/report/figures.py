"""The figures of the report and of TensorBoard.

For the report they are small SVG pictures, as data URIs, that stay sharp on paper. As pictures, not as parts of the
page: their styles and ids cannot meet those of the page. :func:`pixels` makes the same figure a picture for
TensorBoard.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from gnsm_monai.evaluation.metrics import auroc, risk_coverage_curve
from gnsm_monai.report.colours import class_hex
from gnsm_monai.report.pictures import data_uri
from gnsm_monai.report.wording import budget_entries, number
from gnsm_monai.rules.calibration import flag_threshold
from gnsm_monai.scoring.result import CaseResult

__all__ = [
    "MIN_MEASURED",
    "anomaly_scores",
    "failure_limits",
    "pixels",
    "ranking_figures",
    "roc_curves",
    "score_histogram",
    "svg",
]

MIN_MEASURED = 3
"""Masks with a Dice from which on figures and tables of the agreement with Dice say anything."""

SIZE = (4.3, 3.0)
"""Inches: at this width the letters can still be read on a telephone."""
MANY = 1500
"""Points from which on a scatter is drawn as pixels: a path per point would make the page heavy."""
GREY, BLUE, RED, GREEN = "#767676", "#0072B2", "#D55E00", "#009E73"
LIMIT_STYLES = (":", "-.", "--")
"""Of the lines at the Dice below which a mask is a failure, in turn."""
_STYLE: Any = {
    "font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": "#e4e4e4",
    "axes.axisbelow": True, "legend.frameon": False, "legend.fontsize": 8, "svg.fonttype": "path",
    "svg.hashsalt": "gnsm_monai", "axes.unicode_minus": True, "figure.constrained_layout.use": True,
}  # fmt: skip

_Floats = npt.NDArray[np.float64]


def svg(figure: Figure) -> str:
    """A figure as the data URI of an SVG picture."""
    buffer = io.BytesIO()
    with matplotlib.rc_context(_STYLE):
        figure.savefig(buffer, format="svg", dpi=150, metadata={"Date": None, "Creator": None})
    return data_uri(buffer.getvalue(), "svg+xml")


def pixels(figure: Figure) -> npt.NDArray[np.uint8]:
    """A figure as pixels, ``(height, width, 3)``."""
    figure.set_dpi(130)
    canvas = FigureCanvasAgg(figure)
    with matplotlib.rc_context(_STYLE):
        canvas.draw()  # type: ignore[no-untyped-call]
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()  # type: ignore[no-any-return, no-untyped-call]


def anomaly_scores(cases: Sequence[CaseResult]) -> _Floats:
    """Scores of the masks, ``(n,)``."""
    return np.array([result.decision.anomaly for result in cases], dtype=np.float64)


def failure_limits(summary: Mapping[str, Any]) -> list[float]:
    """The limits of Dice of summary.json below which a mask is a failure, rising."""
    limits = summary.get("settings", {}).get("failure_dice")
    return [] if limits is None else sorted({float(limit) for limit in np.ravel(limits)})


def ranking_figures(cases: Sequence[CaseResult], summary: Mapping[str, Any], references: _Floats) -> dict[str, Figure]:
    """The figures that a ranking has data for: ``histogram``, ``budget_curve``, ``scatter`` and ``risk_coverage``.

    Args:
        cases: that were scored.
        summary: content of summary.json.
        references: anomaly scores of the held-out references, finite, ``(n,)``; may be empty.
    """
    drawn = {}
    if cases:
        settings = summary.get("settings", {})
        threshold = flag_threshold(references, number(settings.get("alpha")))
        # Flags may be of more than the score: of a false-discovery rate, of empty masks apart, of one place.
        if threshold is not None and any(one.decision.flagged != (one.decision.anomaly > threshold) for one in cases):
            threshold = None
        drawn["histogram"] = score_histogram(anomaly_scores(cases), references, threshold)
    if len(budget := budget_entries(summary)) > 1:
        drawn["budget_curve"] = budget_curve(budget, len(cases))
    measured = [result for result in cases if result.has_dice]
    if len(measured) >= MIN_MEASURED:
        scores = anomaly_scores(measured)
        dice = np.clip(np.array([result.dice for result in measured], dtype=np.float64), 0, 1)
        flagged = np.array([result.decision.flagged for result in measured])
        drawn["scatter"] = dice_scatter(scores, dice, flagged, failure_limits(summary))
        drawn["risk_coverage"] = risk_coverage(scores, dice)
    return drawn


def score_histogram(
    scores: _Floats,
    references: _Floats,
    threshold: float | None,
    things: str = "masks",
    normal: str = "references",
) -> Figure:
    """Anomaly scores of the masks against those of the held-out references, each as shares of its own number.

    Args:
        scores: of the masks, ``(n,)``.
        references: of the references, ``(m,)``; may be empty.
        threshold: scores above it are flagged.
        things, normal: what both are called.
    """
    all_scores = np.concatenate([scores, references])
    low, high = float(all_scores.min()), _sensible_end(all_scores, references)
    bins = np.linspace(low, high if high > low else low + 1, 31)
    with matplotlib.rc_context(_STYLE):
        figure, axes = _axes("anomaly score (higher = worse)", f"share of {things}")
        for values, name, options in (
            (references, normal, {"color": "#c8c8c8", "histtype": "stepfilled"}),
            (scores, f"scored {things}", {"color": BLUE, "histtype": "step", "linewidth": 1.8}),
        ):
            if values.size:
                options |= {"weights": np.full(values.size, 1 / values.size), "label": f"{name} ({values.size})"}
                axes.hist(np.minimum(values, bins[-1]), bins=bins, **options)  # type: ignore[arg-type]
        if threshold is not None:
            axes.axvline(threshold, color=RED, linestyle="--", linewidth=1.5, label="flagged to the right of this")
        beyond = int((scores > bins[-1]).sum())
        if beyond:
            axes.set_xlabel(f"anomaly score (higher = worse; last bar: {beyond} beyond)")
        axes.yaxis.set_major_locator(MaxNLocator(steps=(1, 2, 5, 10)))  # 2.5 % would be labelled 2 %
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.legend()
        return figure


def dice_scatter(scores: _Floats, dice: _Floats, flagged: npt.NDArray[np.bool_], limits: Sequence[float]) -> Figure:
    """Anomaly score against measured Dice; ``limits`` are the Dice below which a mask counts as failed."""
    with matplotlib.rc_context(_STYLE):
        figure, axes = _axes("anomaly score (higher = worse)", "measured Dice")
        kinds = (("not flagged", ~flagged, "o", BLUE), ("flagged", flagged, "^", RED))
        for label, group, marker, colour in kinds:
            if group.any():
                axes.scatter(
                    scores[group], dice[group], s=18, marker=marker, color=colour, alpha=0.7, linewidths=0,
                    label=f"{label} ({int(group.sum())})", rasterized=scores.size > MANY,
                )  # fmt: skip
        for limit, style in zip(limits, itertools.cycle(LIMIT_STYLES), strict=False):
            axes.axhline(limit, color=GREY, linestyle=style, linewidth=1.2, label=f"failure: Dice < {limit:g}")
        axes.set_ylim(-0.03, 1.03)
        axes.legend()
        return figure


def risk_coverage(scores: _Floats, dice: _Floats) -> Figure:
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
        return figure


def budget_curve(budget: Sequence[Mapping[str, Any]], cases: int) -> Figure:
    """Share of the failures that a review of the k worst masks finds; higher is better."""
    reviewed = [0.0, *(float(entry["reviewed"]) for entry in budget)]
    shares = [0.0, *(float(entry["share_found"]) for entry in budget)]
    with matplotlib.rc_context(_STYLE):
        figure, axes = _axes("masks reviewed, worst first", "share of failures found")
        axes.plot([0, cases], [0, 1], color=GREY, linestyle=":", label="in random order")
        axes.plot(reviewed, shares, color=BLUE, linewidth=1.8, label="by this ranking")
        axes.set_xlim(left=0)
        axes.set_ylim(0, 1.03)
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.legend(loc="lower right")
        return figure


def roc_curves(curves: Mapping[str, tuple[_Floats, _Floats]]) -> Figure:
    """Share of failures found against share of sound masks flagged, one curve per name.

    Args:
        curves: scores of sound masks ``(n,)`` and of failures ``(m,)`` per kind of failure, higher = worse.
    """
    with matplotlib.rc_context(_STYLE):
        figure, axes = _axes("share of held-out references flagged", "share of failures found")
        figure.set_size_inches(4.6, 5.2)
        axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="chance")
        for place, (name, (sound, failed)) in enumerate(curves.items()):
            limits = np.unique(np.concatenate([sound, failed]))[::-1]
            flagged, detected = (
                np.concatenate([[0.0], (values[None] >= limits[:, None]).mean(1)]) for values in (sound, failed)
            )
            area = auroc(np.concatenate([sound, failed]), np.arange(sound.size + failed.size) >= sound.size)
            style = ("-", "--", "-.")[place // 7 % 3]
            colour = class_hex(8)[1 + place % 7]
            axes.plot(flagged, detected, color=colour, linestyle=style, linewidth=1.6, label=f"{name} ({area:.2f})")
        axes.set_xlim(-0.01, 1.01)
        axes.set_ylim(-0.01, 1.02)
        figure.legend(*axes.get_legend_handles_labels(), title="AUROC", loc="outside lower center", ncols=2)
        return figure


def _sensible_end(values: _Floats, references: _Floats) -> float:
    """Where the axis ends: a single wild score must not squeeze all others into one bar."""
    spread = float(np.ptp(references)) if references.size else 0.0
    end = float(values.max())
    return min(end, float(references.max()) + 10 * spread) if spread > 0 else end


def _axes(x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=SIZE)
    axes = figure.subplots()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    return figure, axes
