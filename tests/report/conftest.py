"""Results as the scoring engine gives them, from phantoms with failures; the anomaly is what differs from the truth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from gnsm_monai.data.compare import foreground_dice
from gnsm_monai.data.degradations import KINDS, degrade
from gnsm_monai.data.phantoms import LABELS, SPACINGS, make_phantom
from gnsm_monai.evaluation.summary import correlation_summary
from gnsm_monai.explain.planes import CasePicture, Plane
from gnsm_monai.scoring.result import CaseResult, FailedCase, Place, Result, StructureResult, scored
from tests.results import anomalies, case_result

NAMES = list(LABELS)[1:]
REFERENCES = np.random.default_rng(5).gamma(9, 0.012, 39)
"""Anomaly scores of the held-out references."""


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


def phantom_result(index: int, spatial_dims: int = 3, folder: str = "", with_image: bool = True) -> CaseResult:
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
    return case_result(
        f"{folder}/phantom_{index:03d}" if folder else f"phantom_{index:03d}", folder=folder,
        anomaly=score, p_value=p_value, flagged=p_value <= 0.05,
        predicted_dice=predicted, predicted_dice_low=max(predicted - 0.15, 0),
        predicted_dice_high=min(predicted + 0.12, 1), dice=float(np.nanmean(dice)),
        place=Place(worst, spatial_dims - 1, picture[-1].index),
        reason=f"{worst} differs from what its surroundings ask for ({kind.replace('_', ' ')})",
        structures=tuple(
            StructureResult(name, part, p_value, 12.5, float(overlap))
            for name, part, overlap in zip(NAMES, parts, dice, strict=True)
        ),
        levels={"misfit": np.zeros(4)}, picture=picture,
    )  # fmt: skip


def failed_case(case: str, folder: str = "") -> FailedCase:
    return FailedCase(case, folder, f"{case}.nii.gz: cannot be read: file ends")


def worst_first(results: list[Result]) -> list[Result]:
    """Worst first, failed last."""
    return sorted(results, key=lambda r: -r.decision.anomaly if isinstance(r, CaseResult) else np.inf)


def summary_of(results: list[Result]) -> dict[str, Any]:
    measured = [result for result in scored(results) if result.dice is not None]

    def metrics(members: list[CaseResult]) -> dict[str, Any]:
        dice = np.array([result.dice for result in members], dtype=np.float64)
        return correlation_summary(anomalies(members), dice, (0.5, 0.7), n_bootstrap=10)

    folders = dict.fromkeys(result.folder for result in measured)
    summary: dict[str, Any] = {
        "cases": len(results),
        "settings": {
            "model_dir": "/models/heart", "weights_sha256": "0123456789abcdef" * 4, "noise": "mixing",
            "predictions_dir": ["/data/heart/fold_0", "/data/heart/fold_1"], "references_dir": "/data/heart/labelsTs",
            "structures": NAMES, "alpha": 0.05, "failure_dice": 0.7, "anomaly_score": "mean misfit",
        },
        "versions": {"gnsm_monai": "0.1.0"},
    }  # fmt: skip
    if measured:
        summary["metrics"] = metrics(measured)
        summary["metrics_per_folder"] = {f: metrics([r for r in measured if r.folder == f]) for f in folders}
        failures = np.array([result.dice is not None and result.dice < 0.7 for result in measured])
        summary["review_budget"] = {"failure_dice": 0.7, "source": "measured", "budget": [
            {"reviewed": k, "share_found": float(failures[:k].sum() / max(failures.sum(), 1)),
             "residual_risk": float(failures[k:].mean()) if k < failures.size else 0.0}
            for k in range(1, len(measured) + 1)
        ]}  # fmt: skip
    return summary


@pytest.fixture(scope="session")
def make_result() -> Callable[..., CaseResult]:
    return phantom_result


@pytest.fixture(scope="session")
def make_failed() -> Callable[..., FailedCase]:
    return failed_case


@pytest.fixture(scope="session")
def rank() -> Callable[[list[Result]], list[Result]]:
    return worst_first


@pytest.fixture(scope="session")
def summarise() -> Callable[[list[Result]], dict[str, Any]]:
    return summary_of


@pytest.fixture(scope="session")
def references() -> np.ndarray:
    return REFERENCES
