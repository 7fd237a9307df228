"""The worst cases, one card each: where it is worst, how bad, and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gnsm_monai.report.content import interval
from gnsm_monai.report.pictures import draw_plane
from gnsm_monai.report.wording import MISSING, ScoreFormat, number, p_text, share
from gnsm_monai.scoring.planes import CasePicture

__all__ = ["case_card"]

Row = Mapping[str, Any]


def case_card(
    row: Row, scores: ScoreFormat, structure_scores: ScoreFormat, tones: Mapping[str, int], heat: tuple[float, float]
) -> dict[str, Any]:
    """What the template shows of one scored case.

    Args:
        row: of the case.
        scores: how scores of cases are written.
        structure_scores: how scores of structures are written; they need not be of the same size.
        tones: number of the colour of each structure.
        heat: anomalies that get no and the full colour.
    """
    predicted = number(row.get("predicted_dice"))
    return {
        "rank": row["rank"],
        "case": row["case"],
        "score": scores(number(row.get("anomaly_score"))),
        "p_value": p_text(number(row.get("p_value"))),
        "flagged": row.get("flag") == 1,
        "empty": bool(row.get("empty")),
        "soft": bool(row.get("soft")),
        "predicted": None if predicted is None else share(predicted),
        "interval": interval(row),
        "dice": None if number(row.get("dice")) is None else share(number(row["dice"])),
        "worst_structure": row.get("worst_structure") or "",
        "reason": row.get("reason") or "",
        "planes": _planes(row, heat),
        "structures": [_structure(s, structure_scores, tones) for s in row.get("structures") or []],
        "structures_have": {
            key: any(number(s.get(key)) is not None for s in row.get("structures") or [])
            for key in ("p_value", "volume_ml", "dice")
        },
    }


def _planes(row: Row, heat: tuple[float, float]) -> list[dict[str, Any]]:
    picture: CasePicture = row.get("picture") or ()
    worst_axis = row.get("worst_slice_axis")
    # The worst slice comes first: where there is no room for three in a row it is the large one.
    ordered = sorted(picture, key=lambda plane: (plane.axis != worst_axis, plane.axis))
    return [
        {
            "place": "2D mask" if len(picture) == 1 else f"axis {plane.axis}, slice {plane.index}",
            "worst": len(picture) > 1 and plane.axis == worst_axis,
            "layers": draw_plane(plane, heat),
        }
        for plane in ordered
    ]


def _structure(entry: Mapping[str, Any], scores: ScoreFormat, tones: Mapping[str, int]) -> dict[str, Any]:
    volume = number(entry.get("volume_ml"))
    return {
        "name": str(entry["structure"]),
        "tone": tones.get(entry["structure"]),
        "score": scores(number(entry.get("anomaly_score"))),
        "p_value": p_text(number(entry.get("p_value"))),
        "volume_ml": MISSING if volume is None else f"{volume:.3g}",
        "dice": share(number(entry.get("dice"))),
    }
