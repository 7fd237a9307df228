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


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds


def square(low: int = 5, size: int = 6, label: int = 1, shape: tuple[int, ...] = (16, 16)) -> np.ndarray:
    """A map of one label whose square (or cube) lies from ``low`` on along every axis."""
    mask = np.zeros(shape, dtype=np.int16)
    mask[tuple(slice(low, low + size) for _ in shape)] = label
    return mask


def squares_near_the_centre() -> list[np.ndarray]:
    """Six references that differ a little in place and size."""
    return [square(low, size) for low in (4, 5, 6) for size in (5, 6)]


CHAIN = tuple([f"vertebra_T{i}" for i in (9, 10, 11, 12)] + [f"vertebra_L{i}" for i in (1, 2, 3, 4)])
"""Structures of `chain`, classes 1 to 8; class 9 is the flank."""


def chain(rng: np.random.Generator, flank: bool = True) -> np.ndarray:
    """Eight blocks along axis 1, of which 5 to 8 are in view, each broader than the one before, and one beside them."""
    label = np.zeros((32, 88), dtype=np.int16)
    low, middle, bend = 4 + rng.integers(-2, 3), 13 + rng.integers(-2, 3), rng.normal(0, 2)
    for i in range(1, len(CHAIN) + 1):
        height, width = 6 + rng.integers(0, 2), 4 + i + rng.integers(0, 2)
        left = middle + round(bend * np.sin(i / 8 * np.pi)) - width // 2
        label[left : left + width, low : low + height] = i
        low += height + 2
    first, last = rng.integers(1, 4), rng.integers(6, 9)
    label[(label < first) | (label > last)] = 0
    if flank:
        label[24:31, 30 + rng.integers(-2, 3) : 50] = 9
    return label


def boxes(rng: np.random.Generator) -> np.ndarray:
    """Nine boxes of varying sizes that fill a square, three by three: each touches two to four others."""
    label = np.zeros((40, 40), dtype=np.int16)
    across, along = (np.cumsum([4, *rng.integers(8, 11, 3)]) for _ in range(2))
    for i in range(3):
        for j in range(3):
            label[across[i] : across[i + 1], along[j] : along[j + 1]] = 1 + 3 * i + j
    return label
