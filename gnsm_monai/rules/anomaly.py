"""From level statistics to one number: the anomaly score."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from gnsm_monai.errors import InputError
from gnsm_monai.rules.auto import rule_taken
from gnsm_monai.rules.choice import weakest_within
from gnsm_monai.rules.fit_data import FitData
from gnsm_monai.rules.flag_scale import FlagScale
from gnsm_monai.rules.levels import LevelStatistics
from gnsm_monai.rules.reading import Reading
from gnsm_monai.rules.rule import Rule, stored_rule
from gnsm_monai.rules.rules import RULES

__all__ = ["AnomalyModel", "uncertainty_weights"]

logger = logging.getLogger(__name__)

STEPS = 101
"""How finely the scores of empty masks are kept."""


@dataclass(frozen=True)
class AnomalyModel:
    """One rule, fitted to held-out references.

    Args:
        fitted: the rule.
        worst: highest score that references and the failures (an empty mask among them) reached.
        comparison: Spearman correlation with Dice of every rule that was considered, on the failures that rules were
            compared on; where some references are empty, the weaker of two (:class:`Compared`).
        fair_scores: of each failure that it was fitted with, ``(M,)``; see :meth:`Rule.fair_scores`.
        reference_scores: of each reference that it was fitted with, ``(N,)``; see :meth:`Rule.reference_scores`.
        empty_scores: of an empty mask where some references are empty, ``(STEPS,)``, rising with the share of the
            levels at which the image shows a structure, from none to all; of no element where no reference is empty.
        flag_scale: what masks are flagged by beside their score; None where the score alone decides.
    """

    fitted: Rule
    worst: float
    comparison: Mapping[str, float]
    fair_scores: np.ndarray = field(default_factory=lambda: np.empty(0))
    reference_scores: np.ndarray = field(default_factory=lambda: np.empty(0))
    empty_scores: np.ndarray = field(default_factory=lambda: np.empty(0))
    flag_scale: FlagScale | None = None

    @property
    def rule(self) -> str:
        """Name of the rule."""
        return self.fitted.name

    @property
    def level_weights(self) -> np.ndarray:
        """What each level counts in means over levels, ``(L,)``, summing to 1."""
        return self.fitted.level_weights

    @classmethod
    def fit(cls, data: FitData, rule: str = "auto") -> AnomalyModel:
        """Fits every rule and keeps the one of that name, or for ``auto`` the one that its failures favour.

        That is the one of :func:`gnsm_monai.rules.auto.rule_taken`. A rule that is asked for and needs more references
        than there are gives way, with a warning.

        Raises:
            InputError: unknown rule, or one whose statistics the parametrisation does not give.
        """
        measured = [one for one in RULES if one.measured(data.everything)]
        asked = rule if data.num_references > 1 else ""
        usable = [one for one in measured if one.name == asked or data.suffices(one.min_references)]
        # A direct network's statistic is for densities alone: of too few references rather than none.
        fitted = {one.name: one.fit(data) for one in usable or measured}
        if not fitted:
            raise InputError("anomaly_score: some statistics of the held-out references are no finite numbers")
        masks = data.compared
        scores = {name: one.held_out(data) for name, one in fitted.items()}
        comparison = {name: weakest_within(values, masks.dice, masks.parts) for name, values in scores.items()}
        name = rule
        if rule in {one.name for one in measured} - set(fitted):
            text = "anomaly_score: %s needs more references than the %d that hold structures: another rule is taken"
            logger.warning(text, rule, data.num_references)
            name = "auto"
        if name == "auto":
            name = rule_taken(fitted, scores, data)
        if name not in fitted:
            raise InputError(f"anomaly_score: '{rule}' is not one of auto, {', '.join(fitted)}")
        best, worst = fitted[name], float(fitted[name].anomaly(data.everything).max())
        model = cls(best, worst, comparison, best.fair_scores(data), best.reference_scores(data))
        # A rule of the mask alone is there to leave the network out, unless false structures must be told.
        if (best.asks_network and data.context) or data.num_empty is not None:
            scale = FlagScale.fit(best.anomaly(data.references), model.fair_scores, data, best.level_weights)
            model = replace(model, flag_scale=scale)
        return model if data.num_empty is None else model._with_empty_masks(data, data.num_empty)

    def _with_empty_masks(self, data: FitData, num_empty: int) -> AnomalyModel:
        """The same for references of which some are empty: the rule judges the masks that are not, and no others.

        An outcome that a share of the references has is as unusual as a score that this share of them exceeds. So an
        empty mask scores that quantile of the other references, if no image shows a structure. The more levels at
        which one does, the higher it stands among the failures; at the worst of them, if all do.
        """
        share = (1 + num_empty) / (1 + num_empty + data.num_references)
        usual = np.quantile(self.fitted.anomaly(data.references), 1 - share)
        scores = self.fitted.anomaly(data.everything)
        worse = np.append(usual, scores[scores > usual])
        return replace(self, empty_scores=np.quantile(worse, np.linspace(0, 1, STEPS)))

    def score(self, levels: LevelStatistics, empty: np.ndarray | bool = False) -> np.ndarray:
        """Anomaly scores ``(N,)`` float64 of the statistics of ``N`` masks; higher = worse.

        Args:
            levels: ``(N, L)`` each.
            empty: which masks are empty, ``(N,)`` bool; they are scored apart where some references are empty.
        """
        scores = self.fitted.anomaly(levels)
        if not len(self.empty_scores):
            return scores
        # A network that sees no image gives the same answer to every empty mask: it tells nothing of any.
        sees = np.isfinite(levels["doubt"]).all(1)
        shown = np.where(sees, levels["disagreement"].mean(1), 0.0)
        return np.where(empty, np.interp(shown, np.linspace(0, 1, STEPS), self.empty_scores), scores)

    def flag_scores(
        self, scores: np.ndarray, levels: LevelStatistics, empty: np.ndarray | bool = False
    ) -> np.ndarray | None:
        """What masks of these scores are flagged by, ``(N,)``, higher = worse; None where the score alone decides."""
        return None if self.flag_scale is None else self.flag_scale.flag_scores(scores, levels, empty)

    @property
    def reading(self) -> Reading:
        """What must be measured of a mask to rank and to flag it."""
        reading = self.fitted.reading
        if self.flag_scale is None:
            return reading
        levels = {*reading.levels, *np.flatnonzero(self.flag_scale.weights).tolist()}
        return Reading(reading.statistics | {self.flag_scale.statistic}, tuple(sorted(levels)))

    def structure_scores(self, structures: np.ndarray) -> np.ndarray:
        """Anomaly per structure, ``(S,)``: weighted mean over levels of ``(S, L)`` disagreements, higher = worse.

        A structure that is neither in the mask nor in its denoised version at a level is NaN there, and that level
        does not count; NaN where none does.
        """
        weights = np.isfinite(structures) * self.level_weights
        total = weights.sum(1)
        return np.asarray(np.nansum(structures * weights, axis=1) / np.where(total > 0, total, np.nan))

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Plain arrays for an npz file; :meth:`from_arrays` reads them back."""
        table = {"compared": np.array(list(self.comparison)), "spearman": np.array(list(self.comparison.values()))}
        empty = {"empty_scores": self.empty_scores} if len(self.empty_scores) else {}
        flagged = {} if self.flag_scale is None else self.flag_scale.to_arrays()
        return {**self.fitted.to_arrays(), "worst": np.array(self.worst), **table, **empty, **flagged}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> AnomalyModel:
        """Raises InputError for a rule that this version does not know."""
        comparison = dict(zip(arrays["compared"].tolist(), arrays["spearman"].tolist(), strict=True))
        empty = {"empty_scores": arrays["empty_scores"]} if "empty_scores" in arrays else {}
        rule = stored_rule(arrays, RULES)
        scale = FlagScale.from_arrays(arrays, rule.level_weights)
        return cls(rule, float(arrays["worst"]), comparison, **empty, flag_scale=scale)


def uncertainty_weights(loss: np.ndarray) -> np.ndarray:
    """Weight per level, ``(L,)``, summing to 1: the stretch of uncertainty that the level stands for.

    The weighted mean over levels is then the trapezoid rule for the mean of a statistic over the held-out
    cross-entropy, from that of the weakest noise to that of the strongest. A stretch of noise counts by how much of a
    label it hides from a network that knows the shapes. The number of levels in the stretch does not matter. Levels at
    the prior limit, where nothing more can be hidden, add nothing. Equal weights where all levels are equally
    uncertain.

    Args:
        loss: cross-entropy of the network on held-out references, in nats per voxel, weakest noise first, ``(L,)``.
    """
    rising = np.maximum.accumulate(np.asarray(loss, dtype=np.float64))
    edges = np.concatenate([rising[:1], (rising[1:] + rising[:-1]) / 2, rising[-1:]])
    width = np.diff(edges)
    if not width.sum() > 0:
        return np.full(len(width), 1 / len(width))
    return np.asarray(width / width.sum())
