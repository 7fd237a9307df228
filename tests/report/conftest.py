"""Rows as the scoring engine gives them, from phantoms with failures; the anomaly is what differs from the truth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from gnsm_monai.data.degradations import KINDS, degrade
from gnsm_monai.data.overlap import foreground_dice
from gnsm_monai.data.phantoms import LABELS, SPACINGS, make_phantom
from gnsm_monai.evaluation.summary import correlation_summary
from gnsm_monai.scoring.planes import CasePicture, Plane

NAMES = list(LABELS)[1:]
REFERENCES = np.random.default_rng(5).gamma(9, 0.012, 39)
"""Anomaly scores of the calibration references."""

Row = dict[str, Any]


def planes(label: np.ndarray, anomaly: np.ndarray, image: np.ndarray | None, spacing: tuple[float, ...]) -> CasePicture:
    """Three slices through the worst voxel, first axis of each slice downwards; the one slice of a 2D mask."""
    if label.ndim == 2:
        return (Plane(0, 0, label.astype(np.int16), anomaly, image, (spacing[0], spacing[1])),)
    worst = np.unravel_index(int(anomaly.argmax()), anomaly.shape)

    def cut(axis: int) -> Plane:
        steps = [step for i, step in enumerate(spacing) if i != axis]
        index = int(worst[axis])
        label_2d, anomaly_2d = (np.take(m, index, axis).T[::-1] for m in (label.astype(np.int16), anomaly))
        image_2d = None if image is None else np.take(image, index, axis).T[::-1]
        return Plane(axis, index, label_2d, anomaly_2d, image_2d, (steps[1], steps[0]))

    return tuple(cut(axis) for axis in range(3))


def phantom_row(index: int, spatial_dims: int = 3, folder: str = "", with_image: bool = True) -> Row:
    """One scored case; every third is sound, the others carry one failure of growing severity."""
    rng = np.random.default_rng([index, spatial_dims])
    truth, image = make_phantom(rng, spatial_dims)
    spacing = SPACINGS[spatial_dims]
    kind, severity = KINDS[index % len(KINDS)], 0.0 if index % 3 == 0 else 0.1 + 0.8 * rng.random()
    mask = degrade(truth, kind, severity, rng, len(LABELS), spacing)
    wrong = ndimage.gaussian_filter((mask != truth).astype(np.float32), 0.8)
    rim = ndimage.gaussian_gradient_magnitude(mask.astype(np.float32), 0.8)
    anomaly = (4 * wrong + 0.3 * rim / rim.max()).astype(np.float32)
    dice = foreground_dice(truth, mask, len(LABELS))
    score = float(0.1 + 0.9 * (1 - np.nanmean(dice)) * rng.uniform(0.6, 1.3) + 0.02 * rng.standard_normal())
    parts = [float(anomaly[mask == c].mean()) if (mask == c).any() else float("nan") for c in range(1, len(LABELS))]
    p_value = (1 + int(np.count_nonzero(score <= REFERENCES))) / (REFERENCES.size + 1)
    predicted = float(np.clip(1.05 - score, 0, 1))
    picture = planes(mask, anomaly, image if with_image else None, spacing)
    worst = NAMES[int(np.nanargmax(parts))]
    return {
        "case": f"{folder}/phantom_{index:03d}" if folder else f"phantom_{index:03d}", "folder": folder, "status": "ok",
        "anomaly_score": score, "p_value": p_value, "flag": int(p_value <= 0.05),
        "predicted_dice": predicted, "predicted_dice_low": max(predicted - 0.15, 0),
        "predicted_dice_high": min(predicted + 0.12, 1), "worst_structure": worst,
        "worst_slice_axis": spatial_dims - 1, "worst_slice": picture[-1].index,
        "worst_slices": [plane.index for plane in picture], "dice": float(np.nanmean(dice)), "soft": False,
        "reason": f"{worst} differs from what its surroundings ask for ({kind.replace('_', ' ')})",
        "structures": [
            {"structure": name, "anomaly_score": part, "p_value": p_value, "volume_ml": 12.5, "dice": float(overlap)}
            for name, part, overlap in zip(NAMES, parts, dice, strict=True)
        ],
        "levels": {"misfit": np.zeros(4)}, "picture": picture,
    }  # fmt: skip


def failed_row(case: str, folder: str = "") -> Row:
    return {"case": case, "folder": folder, "status": "failed", "message": f"{case}.nii.gz: cannot be read: file ends"}


def ranked(rows: list[Row]) -> list[Row]:
    """Worst first, failed last, with ranks."""
    rows = sorted(rows, key=lambda row: (row["status"] == "failed", -row.get("anomaly_score", 0)))
    return [{**row, "rank": rank} for rank, row in enumerate(rows, start=1)]


def summary_of(rows: list[Row]) -> dict[str, Any]:
    measured = [row for row in rows if row.get("dice") is not None]

    def metrics(members: list[Row]) -> dict[str, Any]:
        scores, dice = [row["anomaly_score"] for row in members], [row["dice"] for row in members]
        return correlation_summary(scores, dice, (0.5, 0.7), n_bootstrap=10)

    folders = dict.fromkeys(row["folder"] for row in measured)
    summary: dict[str, Any] = {
        "cases": len(rows),
        "settings": {
            "model_dir": "/models/heart", "weights_sha256": "0123456789abcdef" * 4, "noise": "mixing",
            "predictions_dir": ["/data/heart/fold_0", "/data/heart/fold_1"], "references_dir": "/data/heart/labelsTs",
            "structures": NAMES, "alpha": 0.05, "failure_dice": 0.7, "anomaly_score": "mean misfit",
        },
        "versions": {"gnsm_monai": "0.1.0"},
    }  # fmt: skip
    if measured:
        summary["metrics"] = metrics(measured)
        summary["metrics_per_folder"] = {f: metrics([row for row in measured if row["folder"] == f]) for f in folders}
        failures = np.array([row["dice"] < 0.7 for row in measured])
        summary["review_budget"] = {"failure_dice": 0.7, "source": "measured", "budget": [
            {"reviewed": k, "share_found": float(failures[:k].sum() / max(failures.sum(), 1)),
             "residual_risk": float(failures[k:].mean()) if k < failures.size else 0.0}
            for k in range(1, len(measured) + 1)
        ]}  # fmt: skip
    return summary


@pytest.fixture(scope="session")
def make_row() -> Callable[..., Row]:
    return phantom_row


@pytest.fixture(scope="session")
def make_failed() -> Callable[..., Row]:
    return failed_row


@pytest.fixture(scope="session")
def rank() -> Callable[[list[Row]], list[Row]]:
    return ranked


@pytest.fixture(scope="session")
def summarise() -> Callable[[list[Row]], dict[str, Any]]:
    return summary_of


@pytest.fixture(scope="session")
def references() -> np.ndarray:
    return REFERENCES
