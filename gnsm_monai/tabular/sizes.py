"""How large a training is: units, steps and rows per batch, by how many rows and categories a table has."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

__all__ = ["default_steps", "default_width", "step_rows", "validation_batch", "validation_rows"]

MIN_STEPS, MAX_STEPS, PASSES = 600, 3000, 60
NARROW, WIDE, MANY_ROWS = 128, 256, 5000
VALIDATION_ROWS = 2000
VALUES_AT_ONCE, VALUES_PER_STEP, VALIDATION_VALUES = 4_000_000, 2_000_000, 30_000_000
"""Bounds of memory and time for tables with thousands of categories: numbers in a validation batch, in a training
batch, and in a whole validation."""


def default_steps(codes: np.ndarray, batch_size: int) -> int:
    """Steps that show every distinct row ``(F,)`` of codes ``(N, F)`` some sixty times; repeated rows teach nothing."""
    return int(np.clip(PASSES * _distinct(codes) / batch_size, MIN_STEPS, MAX_STEPS))


def default_width(codes: np.ndarray) -> int:
    """Units per layer: few distinct rows need fewer."""
    return WIDE if _distinct(codes) > MANY_ROWS else NARROW


def step_rows(batch_size: int, cardinalities: Sequence[int]) -> int:
    """Rows per step: ``batch_size``, or fewer where each has very many categories."""
    return max(16, min(batch_size, VALUES_PER_STEP // sum(cardinalities)))


def validation_batch(cardinalities: Sequence[int], num_levels: int) -> int:
    """Rows that a validation takes at once, each at all levels."""
    return max(1, VALUES_AT_ONCE // (num_levels * sum(cardinalities)))


def validation_rows(held_out: np.ndarray, seed: int, values_per_row: int) -> torch.Tensor:
    """Rows ``(M, F)`` that every validation sees: many are sampled, few are repeated under other noise."""
    most = max(16, min(VALIDATION_ROWS, VALIDATION_VALUES // values_per_row))
    chosen = np.random.default_rng(seed).permutation(len(held_out))[:most]
    rows = torch.from_numpy(held_out[np.sort(chosen)])
    return rows.repeat(max(1, min(500, most) // len(rows)), 1)


def _distinct(codes: np.ndarray) -> int:
    return len(np.unique(codes, axis=0))
