"""Correlations on all resamples of a bootstrap at once.

A resample is how often it draws each mask. Masks stay in one order then, and sums over it give every rank.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Floats", "Ordered", "correlation", "draw_cases", "rank_correlations"]

Floats = npt.NDArray[np.float64]


def draw_cases(
    case: npt.NDArray[np.integer[Any]], count: int, seed: int | np.random.Generator
) -> npt.NDArray[np.int64]:
    """How often each of ``count`` resamples draws each mask, ``(count, n)``: cases with replacement, whole.

    Args:
        case: number of the case, or of another group, of each mask, ``(n,)``, from 0.
        count: resamples.
        seed: of the drawing.
    """
    cases = int(case.max()) + 1
    draws = np.random.default_rng(seed).integers(cases, size=(count, cases))
    return np.stack([np.bincount(draw, minlength=cases) for draw in draws])[:, case]


class Ordered:
    """Masks in the rising order of one number, equal ones together, as each resample draws them.

    Args:
        values: of the masks, ``(n,)``.
        counts: how often each resample draws each mask, ``(B, n)``.
    """

    def __init__(self, values: Floats, counts: Floats) -> None:
        self.place = np.unique(values, return_inverse=True)[1]  # of each mask among the distinct values
        self.order = np.argsort(self.place, kind="stable")
        self.starts = np.flatnonzero(np.diff(self.place[self.order], prepend=-1))
        self.drawn = self.sums(counts)
        self.until = np.cumsum(self.drawn, axis=1)
        self.before = self.until - self.drawn

    def sums(self, weights: Floats) -> Floats:
        """Sum over the masks of each distinct value, ``(B, G)`` of ``(B, n)``."""
        return np.asarray(np.add.reduceat(weights[:, self.order], self.starts, axis=1))

    @cached_property
    def ranks(self) -> Floats:
        """Mid-ranks of the masks, ``(B, n)``."""
        return np.asarray((self.before + (self.drawn + 1) / 2)[:, self.place])

    @property
    def constant(self) -> npt.NDArray[np.bool_]:
        """Which resamples hold one value alone, or none, ``(B,)``."""
        return np.asarray((self.drawn > 0).sum(1) <= 1)

    @property
    def tied_pairs(self) -> Floats:
        return np.asarray((self.drawn * (self.drawn - 1)).sum(1) / 2)


def correlation(x: Floats, y: Floats, counts: Floats) -> Floats:
    """Pearson correlation of ``(n,)`` or ``(B, n)`` values in each resample, ``(B,)``; NaN where one is constant."""
    total = np.maximum(counts.sum(1, keepdims=True), 1)
    x, y = (values - (counts * values).sum(1, keepdims=True) / total for values in (x, y))
    spread = np.sqrt((counts * x * x).sum(1) * (counts * y * y).sum(1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.clip((counts * x * y).sum(1) / spread, -1, 1))


def rank_correlations(x: Floats, y: Floats, counts: Floats) -> Floats:
    """Spearman correlation of ``(n,)`` values in each resample, ``(B,)``; 0 where one is constant, or nothing is drawn.

    Args:
        x, y: of the masks, ``(n,)``.
        counts: how often each resample draws each mask, ``(B, n)``.
    """
    if not len(x):
        return np.zeros(len(counts))
    by_x, by_y = Ordered(x, counts), Ordered(y, counts)
    return np.where(by_x.constant | by_y.constant, 0.0, correlation(by_x.ranks, by_y.ranks, counts))
