"""Which case an annotator gets next."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from .records import NO_PREDICTION, Record

__all__ = ["features", "most_worth_correcting", "worst_first"]


def worst_first(waiting: Mapping[str, Record | None]) -> list[str]:
    """Cases in order of their rank. Those without one come last: first masks that failed, then images without a mask.

    Args:
        waiting: the record of each case that has no final label; None where nothing was scored yet.
    """
    return sorted(waiting, key=lambda case: (_group(waiting[case]), _rank(waiting[case]), case))


def most_worth_correcting(
    waiting: Mapping[str, Record | None], corrected: Iterable[str], seen: Mapping[str, Mapping[str, float]]
) -> list[str]:
    """Cases in order of ``(1 - predicted Dice) * novelty``, highest first; those without a rank as in `worst_first`.

    Novelty is the distance to the nearest corrected case, by the features of their masks, over the median of these
    distances, 1 at most; it is 1 for all before the first correction. A model that predicts no Dice gives the share of
    masks that are less anomalous in place of ``1 - predicted Dice``. A heuristic: no gain of it has been measured.

    Args:
        waiting: as in :func:`worst_first`.
        corrected: cases that have a final label.
        seen: :func:`features` of each scored case.
    """
    scored = [case for case, record in waiting.items() if _group(record) == 0]
    novelty = dict(zip(scored, _novelty(scored, list(corrected), seen), strict=True))
    last = max((_rank(waiting[case]) for case in scored), default=0)

    def value(case: str) -> float:
        record = waiting[case]
        assert record is not None
        dice = record["predicted_dice"]
        return novelty[case] * (1 - (_rank(record) - 1) / last if dice is None else 1 - dice)

    first = sorted(scored, key=lambda case: (-value(case), _rank(waiting[case])))
    return first + [case for case in worst_first(waiting) if case not in novelty]


def features(results: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """What is odd about each scored mask: of every structure the predicted Dice, or its anomaly, and the log volume."""
    seen = {}
    for case in results["cases"]:
        if case["status"] == "ok":
            seen[case["case"]] = dict(_features(case["structures"]))
    return seen


def _features(structures: Iterable[Mapping[str, Any]]) -> Iterable[tuple[str, float]]:
    for row in structures:
        name = row["structure"]
        odd = next((key for key in ("predicted_dice", "anomaly_score") if row.get(key) is not None), None)
        if odd is not None:
            yield f"{name} {odd}", row[odd]
        if row.get("volume_ml") is not None:
            yield f"{name} volume", math.log1p(row["volume_ml"])


def _novelty(scored: list[str], corrected: list[str], seen: Mapping[str, Mapping[str, float]]) -> list[float]:
    anchors = [case for case in corrected if case in seen]
    if not anchors or not scored:
        return [1.0] * len(scored)
    places = _standardised(seen)
    corrected_places = np.stack([places[case] for case in anchors])
    away = [float(np.sqrt(((corrected_places - places[case]) ** 2).mean(axis=1)).min()) for case in scored]
    usual = float(np.median(away))
    return [min(1.0, distance / usual) if usual > 0 else float(distance > 0) for distance in away]


def _standardised(seen: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """Each feature in standard deviations from its mean; one that a case lacks lies at the mean."""
    names = sorted({name for values in seen.values() for name in values})
    table = np.array([[values.get(name, math.nan) for name in names] for values in seen.values()], dtype=float)
    with np.errstate(invalid="ignore", divide="ignore"):
        table = (table - np.nanmean(table, axis=0)) / np.nanstd(table, axis=0)
    return dict(zip(seen, np.nan_to_num(table, nan=0.0, posinf=0.0, neginf=0.0), strict=True))


def _group(record: Record | None) -> int:
    if not record or record["status"] == NO_PREDICTION:
        return 2
    return 0 if record["status"] == "ok" else 1


def _rank(record: Record | None) -> int:
    return int(record["rank"]) if record and _group(record) == 0 else 0
