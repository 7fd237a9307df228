"""How many masks stand apart from the rest of a folder, by their scores alone."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["standing_apart", "words_of"]

MIN_MIXTURE = 10
"""Masks from which on the distribution of scores is looked at."""

_Floats = npt.NDArray[np.float64]


def standing_apart(scores: npt.ArrayLike) -> _Floats:
    """Probability of each mask to stand apart from the others, ``(N,)``, by the distribution of their scores.

    Log-odds of the scores are described by one normal distribution or by two, whichever has the lower Bayesian
    information criterion (Schwarz 1978). With one, no mask stands apart; with two, the upper one does.

    Args:
        scores: ``(N,)`` in [0, 1], higher = worse.
    """
    from sklearn.mixture import GaussianMixture  # half a second, which most rankings need not wait for

    values = np.clip(np.asarray(scores, dtype=np.float64), 1e-3, 1 - 1e-3)
    odds = np.log(values / (1 - values))[:, None]
    if len(odds) < MIN_MIXTURE or np.ptp(odds) < 1e-6:
        return np.zeros(len(odds))
    # A component may not shrink to a few equal scores: a hundredth of the variance of all is the least.
    settings = {"reg_covar": float(0.01 * odds.var()), "random_state": 0}
    one, two = GaussianMixture(1, **settings).fit(odds), GaussianMixture(2, n_init=3, **settings).fit(odds)
    if one.bic(odds) <= two.bic(odds):
        return np.zeros(len(odds))
    upper = int(two.means_[:, 0].argmax())
    # A wide lower component would claim the highest scores: nothing above a mask that stands apart is usual.
    order = np.argsort(odds[:, 0], kind="stable")
    probability = two.predict_proba(odds)[:, upper]
    probability[order] = np.maximum.accumulate(
        np.where(odds[order, 0] >= two.means_[1 - upper, 0], probability[order], 0)
    )
    return np.asarray(probability)


def words_of(probability: npt.ArrayLike) -> str:
    """How many masks stand apart, in words, by the probability ``(N,)`` of each."""
    values = np.asarray(probability, dtype=np.float64)
    number, masks = round(float(values.sum())), len(values)
    if number == 0:
        return f"No group stands apart from the rest of the {masks} masks: the scores fall without a gap."
    if 2 * number > masks:
        return (
            f"About {number} of {masks} masks differ from the others, each in its own way: that is more than half, and "
            "what the others have in common may be no good measure."
        )
    return f"About {number} of {masks} masks stand apart from the rest, by the distribution of the scores."
