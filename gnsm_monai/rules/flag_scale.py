"""What a mask is flagged by where its anomaly score is blind to something: its misfit as well."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gnsm_monai.rules.choice import FALSE
from gnsm_monai.rules.density import robust_scale
from gnsm_monai.rules.fit_data import FitData
from gnsm_monai.rules.levels import LevelStatistics
from gnsm_monai.rules.resampling import draw_cases

__all__ = ["FlagScale"]

IN_ONE_PLACE, OVERALL = "peak", "misfit"
"""The statistic that is looked at beside the anomaly score, and the one where some references are empty and no image
tells a false structure from a true one: it looks like one in its place, and only how much there is tells of it."""

MIN_REFERENCES = 4
"""Fewest references that a scale is taken from."""

BOOTSTRAPS = 200


@dataclass(frozen=True)
class FlagScale:
    """A mask's anomaly score or its misfit, whichever is more unusual, in robust deviations.

    A score that follows Dice is as high for a reference whose one small lesion the network does not see as for a mask
    full of false ones: neither overlaps with what is expected. No mask exceeds such references by that score, and none
    is flagged. In one place the false lesion fits much worse. Masks are still ranked by the anomaly score alone.

    Args:
        centre, scale: median and robust deviation of both among held-out references that are not empty, ``(2,)``.
        weights: what each level counts in the mean of the misfit, ``(L,)``, summing to 1.
        statistic: the misfit, :data:`IN_ONE_PLACE` or :data:`OVERALL`.
    """

    centre: np.ndarray
    scale: np.ndarray
    weights: np.ndarray
    statistic: str = IN_ONE_PLACE

    def flag_scores(self, scores: np.ndarray, levels: LevelStatistics, empty: np.ndarray | bool = False) -> np.ndarray:
        """What masks are flagged by, ``(N,)``; higher = worse.

        Args:
            scores: their anomaly scores, ``(N,)``.
            levels: their statistics, ``(N, L)`` each.
            empty: which of them are empty, ``(N,)`` bool; they are flagged by the score alone.
        """
        both = self._deviations(scores, levels)
        return np.asarray(np.where(empty, both[0], both.max(0)))

    def _deviations(self, scores: np.ndarray, levels: LevelStatistics) -> np.ndarray:
        """Of the score and of the misfit, ``(2, N)``."""
        values = np.stack([scores, _mean_over_levels(levels, self.statistic, self.weights)])
        return np.asarray((values - self.centre[:, None]) / self.scale[:, None])

    @classmethod
    def fit(
        cls, scores: np.ndarray, failure_scores: np.ndarray, data: FitData, weights: np.ndarray
    ) -> FlagScale | None:
        """The scale, where it flags more failures than the anomaly score alone, by more than one standard error.

        A failure counts as flagged if it is beyond all references. The error is that of drawing patients, each with
        all failures. So a score that misses nothing is left as it is. Where structures come in any number, a false one
        is what must be found, and one small structure that the network does not see hides it: there the scale is taken
        unless it flags fewer failures by more than one standard error.

        Args:
            scores: of the references, ``(N,)``.
            failure_scores: of the failures, each by a rule that was not fitted to its Dice, ``(M,)``.
            data: what the rule was fitted to.
            weights: see the class.

        Returns:
            None where the score alone decides.
        """
        seen = "doubt" in data.references and bool(np.isfinite(data.references["doubt"]).all())
        some_empty = data.num_empty is not None
        statistic = OVERALL if some_empty and not seen else IN_ONE_PLACE
        misfit = _mean_over_levels(data.everything, statistic, weights)
        if len(scores) < MIN_REFERENCES or not np.isfinite(misfit).all():
            return None
        columns = (robust_scale(values) for values in (scores, misfit[: len(scores)]))
        centre, scale = (np.array(values) for values in zip(*columns, strict=True))
        fitted = cls(centre, scale, weights, statistic)
        references = fitted._deviations(scores, data.references)
        failures = fitted._deviations(failure_scores, data.failures)
        total = max(len(scores) + (data.num_empty or 0), int(data.sources.max(initial=-1)) + 1)
        draws = draw_cases(data.patients_of(np.arange(total)), BOOTSTRAPS, data.seed)
        counts = np.concatenate([np.ones((1, total), dtype=draws.dtype), draws])
        gains = [
            _share_beyond(references.max(0), failures.max(0), data.sources, count)
            - _share_beyond(references[0], failures[0], data.sources, count)
            for count in counts
        ]
        error = float(np.std(gains[1:], ddof=1))
        in_any_number = (seen or some_empty) and data.makers is not None and FALSE in data.makers
        taken = gains[0] >= -error if in_any_number else gains[0] > error
        return fitted if taken else None

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Plain arrays for an npz file; :meth:`from_arrays` reads them back."""
        return {
            "flag_centre": self.centre,
            "flag_scale": self.scale,
            "flag_statistic": np.array(self.statistic),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], weights: np.ndarray) -> FlagScale | None:
        """None of a model that flags by its score alone, as those of earlier versions do."""
        if "flag_scale" not in arrays:
            return None
        statistic = str(arrays.get("flag_statistic", IN_ONE_PLACE))  # the first models with a scale do not name it
        return cls(arrays["flag_centre"], arrays["flag_scale"], weights, statistic)


def _mean_over_levels(levels: LevelStatistics, statistic: str, weights: np.ndarray) -> np.ndarray:
    """A statistic, ``(N,)``, as a weighted mean over levels; levels that do not count need not be measured."""
    return np.asarray(np.where(weights > 0, levels[statistic], 0.0) @ weights)


def _share_beyond(references: np.ndarray, failures: np.ndarray, sources: np.ndarray, counts: np.ndarray) -> float:
    """Share of the failures that are beyond all references, where each reference was drawn so many times.

    Args:
        references: ``(N,)``.
        failures: ``(M,)``.
        sources: number of the reference that each failure was made from, ``(M,)``.
        counts: how often each reference was drawn; those that have no value come after the ``N`` that have one.
    """
    drawn = counts[: len(references)] > 0
    times = counts[sources]
    beyond = failures > references[drawn].max(initial=-np.inf)
    return float((times * beyond).sum() / max(times.sum(), 1))
