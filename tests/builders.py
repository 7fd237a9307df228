"""What several test files build: label maps, and settings that make a training short."""

from __future__ import annotations

from typing import Any

import numpy as np

TINY: dict[str, Any] = {
    "network_def::channels": [4, 8],
    "noise": {"name": "mixing", "num_levels": 3},
    "epochs": 2,
    "steps_per_epoch": 3,
    "batch_size": 2,
    "fit::failures::copies": 2,
    "failures": "copies",
    "anomaly_score": "misfit_knn",  # one that tells masks apart even after six steps
    "device": "cpu",
}
"""Overrides of train.yaml that make a training a matter of seconds."""


def square(low: int = 5, size: int = 6, label: int = 1, shape: tuple[int, ...] = (16, 16)) -> np.ndarray:
    """A map of one label whose square (or cube) lies from ``low`` on along every axis."""
    mask = np.zeros(shape, dtype=np.int16)
    mask[tuple(slice(low, low + size) for _ in shape)] = label
    return mask


def squares_near_the_centre() -> list[np.ndarray]:
    """Six references that differ a little in place and size."""
    return [square(low, size) for low in (4, 5, 6) for size in (5, 6)]
