"""The worst cases, one card each: where it is worst, how bad, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gnsm_monai.report.content import interval
from gnsm_monai.report.pictures import draw_plane
from gnsm_monai.report.wording import MISSING, ScoreFormat, number, p_text, share
from gnsm_monai.scoring.decision import PredictedValue
from gnsm_monai.scoring.result import CaseResult, StructureResult

__all__ = ["case_card"]

SHOWN = 8
"""Most structures that a card lists without being asked."""


def case_card(
    rank: int,
    result: CaseResult,
    scores: ScoreFormat,
    structure_scores: ScoreFormat,
    tones: Mapping[str, int],
    heat: tuple[float, float],
    colours: Sequence[str] = (),
) -> dict[str, Any]:
    """What the template shows of one scored case.

    Args:
        rank: from 1, the worst.
        result: of the case.
        scores: how scores of cases are written.
        structure_scores: how scores of structures are written; they need not be of the same size.
        tones: number of the colour of each structure.
        heat: anomalies that get no and the full colour.
        colours: given ones of the structures, see :func:`gnsm_monai.report.colours.class_colours`.
    """
    decision, predicted = result.decision, number(result.decision.predicted_dice)
    return {
        "rank": rank,
        "case": result.case,
        "score": scores(number(decision.anomaly)),
        "p_value": p_text(number(decision.p_value)),
        "flagged": decision.flagged,
        "empty": decision.empty,
        "soft": result.soft,
        "predicted": None if predicted is None else share(predicted),
        "interval": interval(decision),
        "distance": _millimetres(decision.distance.value),
        "distance_interval": _range(decision.distance),
        "dice": share(result.dice) if result.has_dice else None,
        "worst_structure": result.place.structure,
        "reason": result.reason,
        "note": result.note,
        "planes": _planes(result, heat, colours),
        "structure_tables": [
            [_structure(entry, structure_scores, tones) for entry in part] for part in _worst_first(result.structures)
        ],
        "structures_have": {
            key: any(number(getattr(entry, key)) is not None for entry in result.structures)
            for key in ("p_value", "volume_ml", "dice", "contacts")
        }
        | {"predicted": any(number(entry.predicted_dice.value) is not None for entry in result.structures)},
    }


def _millimetres(value: float) -> str:
    """Two digits at least; empty where it is not known."""
    return "" if number(value) is None else f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def _range(predicted: PredictedValue) -> str:
    low, high = _millimetres(predicted.low), _millimetres(predicted.high)
    return f"{low} to {high}" if low and high else ""


def _planes(result: CaseResult, heat: tuple[float, float], colours: Sequence[str]) -> list[dict[str, Any]]:
    picture, place = result.picture, result.place
    # The axis of the worst slice comes first: where there is no room for three in a row it is the large one.
    ordered = sorted(picture, key=lambda plane: (plane.axis != place.slice_axis, plane.axis))
    return [
        {
            "place": "2D mask" if len(picture) == 1 else f"axis {plane.axis}, slice {plane.index}",
            # Pictures go through the worst place, which may lie in another slice than the one that is worst on average.
            "worst": len(picture) > 1 and (plane.axis, plane.index) == (place.slice_axis, place.slice_index),
            "layers": draw_plane(plane, heat, colours),
        }
        for plane in ordered
    ]


def _worst_first(structures: Sequence[StructureResult]) -> list[Sequence[StructureResult]]:
    """Few structures in their own order; of many the :data:`SHOWN` worst, and then the others, worst first."""
    if len(structures) <= SHOWN:
        return [structures]
    ordered = sorted(structures, key=lambda entry: -np.nan_to_num(entry.severity, nan=-np.inf))
    return [ordered[:SHOWN], ordered[SHOWN:]]


def _structure(entry: StructureResult, scores: ScoreFormat, tones: Mapping[str, int]) -> dict[str, Any]:
    volume = number(entry.volume_ml)
    return {
        "name": entry.name,
        "tone": tones.get(entry.name),
        "score": scores(number(entry.anomaly)),
        "p_value": p_text(number(entry.p_value)),
        "contacts": MISSING if number(entry.contacts) is None else f"{entry.contacts:.1f}",
        "volume_ml": MISSING if volume is None else f"{volume:.3g}",
        "dice": share(number(entry.dice)),
        "predicted": share(number(entry.predicted_dice.value)),
    }
