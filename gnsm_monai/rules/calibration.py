"""From anomaly to decision: conformal p-values, and a predicted Dice with its interval."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from scipy.special import stdtr

from gnsm_monai.rules.failures import PartPredictors
from gnsm_monai.rules.predictors import DicePredictor

__all__ = [
    "Calibration",
    "flag_threshold",
    "normal_p_value",
    "p_values",
    "q_values",
    "smallest_p_value",
    "unlike_references",
]

DRAWS = 1999
"""Draws of a folder's statistic under exchangeability: its p-value is 0.0005 at least."""


def p_values(scores: np.ndarray, calibration: np.ndarray) -> np.ndarray:
    """Conformal p-values ``(N,)`` of anomaly scores ``(N,)`` against those of ``n`` unseen references, ``(n,)``.

    ``p = (1 + #{i : a_i >= a}) / (n + 1)`` (Vovk et al. 2005). For a mask that is exchangeable with the references,
    flagging at ``p <= alpha`` raises a false alarm with probability ``alpha`` at most, whatever the score. NaN if the
    score is NaN, or if there is no reference to compare it with. NaN among the references (a structure that one lacks)
    is left out.
    """
    scores, references = np.asarray(scores, dtype=np.float64), np.sort(calibration[np.isfinite(calibration)])
    if not len(references):
        return np.full(scores.shape, np.nan)
    at_least = len(references) - np.searchsorted(references, scores, side="left")
    return np.where(np.isnan(scores), np.nan, (1 + at_least) / (len(references) + 1))


def normal_p_value(score: float, references: np.ndarray) -> float:
    """p-value of a score among a few references ``(n,)`` if all were drawn from one normal distribution, in [0, 1].

    ``(score - mean) / (deviation sqrt(1 + 1/n))`` has Student's distribution of ``n - 1`` degrees of freedom then.
    A quarter of correct masks exceeds all of three references, which conformal p-values cannot tell from failures; this
    one tells how far. Where scores are not normal it is no promise: 8 to 11 % of exponential ones are below .05. Fewer
    than two references have no deviation: ``1 / (n + 1)``.
    """
    n = len(references)
    if n < 2:
        return 1 / (n + 1)
    centre, deviation = references.mean(), references.std(ddof=1) * math.sqrt(1 + 1 / n)
    if deviation == 0:
        return float(score <= centre)
    # Not scipy.stats, which takes longer to import than two masks to score.
    return float(stdtr(n - 1, (centre - score) / deviation))


def q_values(p: np.ndarray) -> np.ndarray:
    """q-values ``(N,)`` of the p-values ``(N,)`` of one folder: the least false-discovery rate that flags each mask.

    Benjamini and Hochberg (1995): ``q_(i) = min_{j >= i} m p_(j) / j``, at most 1. Conformal p-values that share
    their held-out references depend on each other positively, so that the rate still holds (Bates et al., Annals of
    Statistics 51, 2023, arXiv 2104.08279). NaN stays NaN, and does not count.
    """
    p = np.asarray(p, dtype=np.float64)
    finite = np.flatnonzero(np.isfinite(p))
    order = finite[np.argsort(p[finite], kind="stable")]
    scaled = len(order) * p[order] / np.arange(1, len(order) + 1)
    q = np.full(p.shape, np.nan)
    q[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1)
    return q


def unlike_references(p: np.ndarray, references: int, seed: int = 0) -> float:
    """p-value of a folder as a whole: that all its masks are exchangeable with the references, in (0, 1].

    Fisher's statistic ``-sum(log p)``, large where many masks, or a few by far, score higher than references do. The
    masks' conformal p-values depend on each other by the references that they share, so that the chi-squared
    distribution does not hold (Bates et al. 2023, as above). The exact one does not
    depend on the score: of exchangeable masks, the numbers that fall between neighbouring references are a Polya urn,
    multinomial with probabilities that are uniform on the simplex. It is drawn from here. Masks that tie with
    references have larger p-values, and make the test err on the safe side.

    Args:
        p: conformal p-values of the masks, ``(m,)``; NaN are left out.
        references: number ``n`` of the held-out references.
        seed: of the draws.

    Returns:
        ``(1 + #{draws at least as large}) / (draws + 1)``; NaN without masks or references.
    """
    p = np.asarray(p, dtype=np.float64)
    p = p[np.isfinite(p)]
    if not len(p) or not references:
        return float("nan")
    costs = -np.log(np.arange(1, references + 2) / (references + 1))
    rng = np.random.default_rng(seed)
    shares = rng.standard_exponential((DRAWS, references + 1))
    counts = rng.multinomial(len(p), shares / shares.sum(1, keepdims=True))
    observed = -np.log(p).sum() * (1 - 1e-12)  # the same sum in another order of adding
    return float((1 + np.count_nonzero(counts @ costs >= observed)) / (DRAWS + 1))


def smallest_p_value(calibration: np.ndarray) -> float:
    """The p-value of a mask that is worse than all references, the lowest that there is; NaN without references."""
    return float(p_values(np.array([np.inf]), calibration)[0])


def flag_threshold(references: np.ndarray, alpha: float | None) -> float | None:
    """Score above which p = (1 + #{references >= score}) / (n + 1) is at most alpha; None if this holds for no score,
    or for all.

    With k = alpha (n + 1) - 1 references allowed at or above a score, that is the (k + 1)-th largest reference.
    """
    if alpha is None:
        return None
    allowed = math.floor(alpha * (len(references) + 1) - 1 + 1e-9)
    return float(np.sort(references)[::-1][allowed]) if 0 <= allowed < len(references) else None


@dataclass(frozen=True)
class Calibration:
    """What a model knows of the references that its network has not learnt from, those of selection last.

    Args:
        scores: their anomaly scores, ``(n,)``.
        structures: their anomaly per structure, ``(n, structures)``; NaN where a structure is absent.
        dice: predicts Dice.
        parts: predicts distances, and the Dice of structures; None for a model of version 0.2.
        empty: which of them are empty, ``(n,)`` bool; of no element where none is.
        flag_scores: what they would be flagged by, ``(n,)``, where that is not their score; else of no element.
    """

    scores: np.ndarray
    structures: np.ndarray
    dice: DicePredictor
    parts: PartPredictors | None = None
    empty: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=bool))
    flag_scores: np.ndarray = field(default_factory=lambda: np.empty(0))

    def p_value(self, score: float, empty: bool, alpha: float) -> float:
        """p-value of what a mask is flagged by, its score if there are no ``flag_scores``, in (0, 1].

        See :func:`p_values`.

        Among references that are empty as the mask is, or like it are not, where there are enough of either to flag a
        mask at ``alpha``: the promise then holds for empty masks and for others (Mondrian conformal prediction, Vovk
        2005, section 4.5). Among all of them else; it then holds for both together. A mask that is not empty must then
        also be unusual among the few references that are like it (:func:`normal_p_value`), as empty ones, which may
        be most of all, say little of it. The larger p-value counts, so that the promise for both together holds.
        """
        references = self.flag_scores if len(self.flag_scores) else self.scores
        together = float(p_values(np.array(score), references))
        if not len(self.empty):
            return together
        groups = [references[self.empty], references[~self.empty]]
        if all(smallest_p_value(group) <= alpha for group in groups):
            return float(p_values(np.array(score), groups[0] if empty else groups[1]))
        # The score of an empty mask is a quantile of the others' already.
        return together if empty else max(together, normal_p_value(score, groups[1]))

    def structure_p_values(self, scores: np.ndarray) -> np.ndarray:
        """p-value ``(structures,)`` of each structure's anomaly in one mask."""
        return np.array([p_values(score, others) for score, others in zip(scores, self.structures.T, strict=True)])

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Plain arrays for an npz file; :meth:`from_arrays` reads them back."""
        return {
            "calibration_scores": self.scores,
            "calibration_structures": self.structures,
            **self.dice.to_arrays("predicted_dice"),
            **({} if self.parts is None else self.parts.to_arrays()),
            **({"calibration_empty": self.empty} if len(self.empty) else {}),
            **({"calibration_flag_scores": self.flag_scores} if len(self.flag_scores) else {}),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Calibration:
        dice = DicePredictor.from_arrays(arrays, "predicted_dice")
        parts = PartPredictors.from_arrays(arrays)
        empty = arrays.get("calibration_empty", np.empty(0, dtype=bool))
        flagged = arrays.get("calibration_flag_scores", np.empty(0))
        return cls(arrays["calibration_scores"], arrays["calibration_structures"], dice, parts, empty, flagged)
