"""What the score of a mask means: p-value, flag, and what it lets expect."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from gnsm_monai.rules.calibration import Calibration, p_values
from gnsm_monai.rules.predictors import Predictor

__all__ = ["UNTOLD", "Decision", "PredictedValue"]


@dataclass(frozen=True)
class PredictedValue:
    """A value that a score lets expect, and its 90 % interval; NaN for what cannot be told."""

    value: float = math.nan
    low: float = math.nan
    high: float = math.nan

    @classmethod
    def of(cls, predictor: Predictor | None, score: float) -> PredictedValue:
        """What ``predictor``, if there is one, says of this score."""
        return cls() if predictor is None else cls(*predictor.predict(np.array(score)).tolist())


UNTOLD = PredictedValue()
"""What is not predicted."""


@dataclass(frozen=True)
class Decision:
    """What the anomaly score of a mask means, judged by references that were used for nothing else.

    What an empty mask means is decided here and nowhere else. Where every reference has a structure no mask is worse
    than an empty one: it never scores below the worst that is known (:meth:`of`, :meth:`rescored`), it comes before
    all others in a ranking (:attr:`severity`), and it has the highest score there (:meth:`among`). Where some
    references are empty it is one mask among others: its score says how far the image shows a structure
    (:meth:`gnsm_monai.rules.anomaly.AnomalyModel.score`), and its p-value is taken among empty references if there are
    enough (:meth:`gnsm_monai.rules.calibration.Calibration.p_value`).

    Args:
        anomaly: score of the mask, higher = worse.
        p_value: share of references that score as high or higher, in (0, 1]; NaN without references.
        flagged: whether the p-value is at most alpha.
        predicted_dice: Dice that the score lets expect, in [0, 1].
        predicted_dice_low: lower end of its interval.
        predicted_dice_high: upper end of its interval.
        failure_probability: probability of a Dice below the limit of a failure.
        empty: nothing is segmented, and every reference has something.
        distance: mean surface distance in mm that the score lets expect, with its interval.
        q_value: least false-discovery rate at which it is flagged among the masks of its folder, in (0, 1]; NaN before
            the folder is ranked, and where the p-value is.
        empty_as_some: nothing is segmented, as in some references.
    """

    anomaly: float
    p_value: float
    flagged: bool
    predicted_dice: float
    predicted_dice_low: float
    predicted_dice_high: float
    failure_probability: float
    empty: bool
    distance: PredictedValue = UNTOLD
    q_value: float = math.nan
    empty_as_some: bool = False

    @classmethod
    def of(
        cls,
        anomaly: float,
        empty: bool,
        worst: float,
        calibration: Calibration,
        alpha: float,
        failure_dice: float,
        empty_as_some: bool = False,
        flag_score: float | None = None,
    ) -> Decision:
        """Decides on a mask of this score.

        Args:
            anomaly: score of the mask, higher = worse.
            empty: see the class.
            worst: highest score of the references and of the failures that the model was made with.
            calibration: turns scores into p-values and Dice.
            alpha: a mask is flagged where its p-value is at most this; in (0, 1).
            failure_dice: a mask below this Dice is a failure.
            empty_as_some: see the class.
            flag_score: what the p-value is of, if not of the score
                (:meth:`gnsm_monai.rules.anomaly.AnomalyModel.flag_scores`).
        """
        score = np.array(max(anomaly, worst) if empty else anomaly)
        judged = float(score) if flag_score is None else math.inf if empty else flag_score
        p_value = calibration.p_value(judged, empty_as_some, alpha)
        predicted, low, high = calibration.dice.predict(score).tolist()
        probability = float(calibration.dice.failure_probability(score, failure_dice))
        parts = calibration.parts
        distance = PredictedValue.of(None if parts is None or empty or empty_as_some else parts.distance, float(score))
        flagged = p_value <= alpha
        decision = cls(float(score), p_value, flagged, predicted, low, high, probability, empty, distance)
        return replace(decision, empty_as_some=empty_as_some)

    def rescored(self, anomaly: float, references: np.ndarray, alpha: float) -> Decision:
        """The same mask by another score, with the p-value among the scores of other references, ``(n,)``."""
        above_all = float(np.nextafter(references.max(), np.inf))
        score = max(anomaly, above_all) if self.empty else anomaly
        p_value = float(p_values(np.array(score), references))
        return replace(self, anomaly=score, p_value=p_value, flagged=p_value <= alpha)

    def among(self, highest: float) -> Decision:
        """As it stands in a ranking of this highest score."""
        return replace(self, anomaly=highest) if self.empty else self

    @property
    def severity(self) -> float:
        """What masks are ranked by, higher = worse: the score, or infinity for an empty mask."""
        return math.inf if self.empty else self.anomaly
