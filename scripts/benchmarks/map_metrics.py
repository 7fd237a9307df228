"""How well a map of anomaly per voxel points at the voxels that are wrong.

An error is a voxel whose label differs from the reference's. Everything is asked within a band around the structures of
mask or reference, since far from both every map is right; ignored voxels are no part of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from sklearn.metrics import average_precision_score

__all__ = ["BAND_VOXELS", "POINTING_DICE", "band_around", "folder_metrics", "of_case"]

BAND_VOXELS = 2
"""Half-width of the band, along every axis."""

POINTING_DICE = 0.7
"""Masks of at least this Dice are asked whether the worst place is an error: in worse ones almost any place is."""

_Labels = npt.NDArray[np.integer[Any]]


def band_around(mask: _Labels, reference: _Labels, voxels: int = BAND_VOXELS) -> npt.NDArray[np.bool_]:
    """Voxels within ``voxels`` (along every axis) of a structure of mask or reference, (*spatial), ignored ones not."""
    box = np.ones((2 * voxels + 1,) * mask.ndim, dtype=bool)
    near: npt.NDArray[np.bool_] = ndimage.binary_dilation((mask > 0) | (reference > 0), box)
    return near & (mask >= 0) & (reference >= 0)


def of_case(anomaly: npt.NDArray[np.floating[Any]], mask: _Labels, reference: _Labels) -> dict[str, Any]:
    """One mask's map against its errors.

    Args:
        anomaly: per voxel, (*spatial), higher = worse.
        mask: class indices, (*spatial).
        reference: class indices, (*spatial).

    Returns:
        ``values`` and ``errors`` of the voxels in the band (N,), ``auprc`` (scikit-learn's average precision in [0, 1],
        1 is best; None without an error or without a sound voxel) and ``hit``: whether the voxel of the highest anomaly
        is an error (the first one of several; None without an error).

    Raises:
        ValueError: shapes differ, or the map has no number at a voxel of the band.
    """
    if not anomaly.shape == mask.shape == reference.shape:
        raise ValueError(f"shapes differ: map {anomaly.shape}, mask {mask.shape}, reference {reference.shape}.")
    band = band_around(mask, reference)
    values, errors = anomaly[band].astype(np.float64), (mask != reference)[band]
    if not np.isfinite(values).all():
        raise ValueError("the map holds NaN or infinite values.")
    both = errors.any() and not errors.all()
    return {
        "values": values,
        "errors": errors,
        "auprc": float(average_precision_score(errors, values)) if both else None,
        "hit": bool(errors[values.argmax()]) if errors.any() else None,
    }


def folder_metrics(masks: Iterable[Any], map_of: Callable[[Any], npt.NDArray[Any]]) -> dict[str, dict[str, Any]]:
    """Metrics of the maps of each folder, and of all: plain data.

    Args:
        masks: with ``folder``, ``label``, ``reference`` and ``dice``, as `qc_data.Mask`.
        map_of: the map of a mask, (*spatial).

    Returns:
        Per folder, and for ``all``: ``auprc`` over the voxels of all its masks together, ``auprc_per_mask`` (mean of
        the masks' own), ``error_share`` (of the voxels in the band; what a map without knowledge gets as AUPRC),
        ``pointing_rate`` (share of masks with Dice >= `POINTING_DICE`, and with an error, whose worst place is an
        error), ``pointing_chance`` (the same of a place drawn at random) and ``pointed`` (those masks' number).
    """
    rows: dict[str, list[dict[str, Any]]] = {}
    for mask in masks:
        row = {**of_case(map_of(mask), mask.label, mask.reference), "good": mask.dice >= POINTING_DICE}
        rows.setdefault(mask.folder, []).append(row)
    everything = [row for members in rows.values() for row in members]
    return {name: _summary(members) for name, members in {**rows, "all": everything}.items()}


def _summary(rows: list[Mapping[str, Any]]) -> dict[str, Any]:
    values, errors = (np.concatenate([row[key] for row in rows]) for key in ("values", "errors"))
    own = [row["auprc"] for row in rows if row["auprc"] is not None]
    asked = [row for row in rows if row["good"] and row["hit"] is not None]
    return {
        "auprc": float(average_precision_score(errors, values)) if errors.any() else None,
        "auprc_per_mask": float(np.mean(own)) if own else None,
        "error_share": float(errors.mean()),
        "pointing_rate": float(np.mean([row["hit"] for row in asked])) if asked else None,
        "pointing_chance": float(np.mean([row["errors"].mean() for row in asked])) if asked else None,
        "pointed": len(asked),
    }
