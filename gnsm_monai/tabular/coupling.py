"""Which company the values of a table keep: how often the categories of two features occur together."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

import numpy as np

__all__ = ["COUPLED", "coupled_frequencies"]

COUPLED = "coupled_frequencies"
"""Name of the term."""

PRIOR = 0.5
"""Rows added to observed and expected counts: what few rows say of a pair is drawn to independence."""


def coupled_frequencies(codes: np.ndarray, cardinalities: Sequence[int]) -> list[np.ndarray]:
    """How rare the values are that each category occurs with, ``(K_f,)`` per feature, in nats; higher = rarer company.

    With ``O`` rows that have both categories ``v`` and ``w``, and ``E = n_v n_w / N`` expected if features were
    independent, the lift of a pair is ``(O + 1/2) / (E + 1/2)``, shrunk by the number of rows (Norén, Hopstadius and
    Bate, Stat. Methods Med. Res. 2013). Its mean over the categories ``w`` of a feature that occur is the ratio
    ``P(v | w uniform) / P(v)``: above 1 where ``v`` would be more frequent if all categories of that feature were
    equally so. The term is the mean of its logarithm over the other features. It is 0 for independent features, for
    features whose categories are equally frequent, and for a category without a row.

    The idea that a value is odd which occurs with odd values is that of coupled biased random walks (Pang, Cao and
    Chen, IJCAI 2016). Neither pairs of categories nor a walk over them are held: the cost is that of ``F^2`` passes
    over the rows.

    Args:
        codes: category codes ``(N, F)`` integer.
        cardinalities: categories per feature ``K_f``, ``(F,)``.
    """
    counts = [np.bincount(column, minlength=k) for column, k in zip(codes.T, cardinalities, strict=True)]
    total = [np.zeros(k) for k in cardinalities]
    for here, there in permutations(range(len(counts)), 2):
        rows = counts[here][codes[:, here]] * (counts[there] / len(codes))[codes[:, there]]
        together = np.bincount(codes[:, here], 1 / (rows + PRIOR), minlength=cardinalities[here])
        # What the prior adds is the same for all pairs of equal counts, whether they occur or not.
        sizes, place = np.unique(counts[here], return_inverse=True)
        others, times = np.unique(counts[there][counts[there] > 0], return_counts=True)
        prior = (times * PRIOR / (np.outer(sizes, others) / len(codes) + PRIOR)).sum(1)[place]
        total[here] += np.log((prior + together) / times.sum())
    return [values / max(1, len(counts) - 1) for values in total]
