"""From level statistics to one number: the anomaly score."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from gnsm_monai.errors import InputError
from gnsm_monai.scoring.choice import level_held_out, rank_correlation, simplest_of_the_best
from gnsm_monai.scoring.density import LargestDeviation
from gnsm_monai.scoring.regression import DiceRegression
from gnsm_monai.scoring.rules import RULES, apply_rule, density_features, fit_rule, flat, measured

__all__ = ["AnomalyModel", "uncertainty_weights"]


@dataclass(frozen=True)
class AnomalyModel:
    """One rule, fitted to held-out references.

    Args:
        rule: name in :data:`gnsm_monai.scoring.rules.RULES`.
        arrays: what the rule needs, plain arrays.
        worst: highest score that references and the failures (an empty mask among them) reached.
        comparison: Spearman correlation with Dice of every rule that was considered, on the failures that rules were
            compared on.
        level_weights: ``(L,)``, summing to 1: what each level counts in means over levels.
        fair_scores: score of each failure it was fitted with ``(M,)``; of a regression, by one that has not seen the
            failure's reference.
    """

    rule: str
    arrays: Mapping[str, np.ndarray]
    worst: float
    comparison: Mapping[str, float]
    level_weights: np.ndarray
    fair_scores: np.ndarray = field(default_factory=lambda: np.empty(0))

    @classmethod
    def fit(
        cls,
        references: np.ndarray,
        failures: np.ndarray,
        dice: np.ndarray,
        rule: str = "auto",
        seed: int = 0,
        level_weights: np.ndarray | None = None,
        groups: np.ndarray | None = None,
        of_networks: np.ndarray | None = None,
    ) -> AnomalyModel:
        """Fits every rule and keeps one.

        Args:
            references: level statistics of held-out references, ``(N, L, S)``.
            failures: level statistics of failures made from them, ``(M, L, S)``.
            dice: Dice of the failures to their references, ``(M,)``.
            rule: name of a rule, or ``auto``, see :func:`simplest_of_the_best`.
            seed: of the densities.
            level_weights: ``(L,)``, not negative, such as :func:`uncertainty_weights`; equal by default.
            groups: number of the reference that each failure was made from, ``(M,)``; by default each is alone.
            of_networks: which failures are masks of networks, ``(M,)`` bool: where there are any, rules are compared on
                them alone, as they are what will be met.

        Raises:
            InputError: unknown rule, or one whose statistics the parametrisation does not give.
        """
        everything = np.concatenate([references, failures])
        weights = np.ones(references.shape[1]) if level_weights is None else np.asarray(level_weights, dtype=np.float64)
        weights = weights / weights.sum()
        groups = np.arange(len(dice)) if groups is None else groups
        of_networks = np.zeros(len(dice), dtype=bool) if of_networks is None else of_networks
        real = bool(of_networks.any())
        judges = of_networks if real else ~of_networks
        fitted: dict[str, dict[str, np.ndarray]] = {}
        # Densities were fitted to the references themselves: only the failures are fair to compare on.
        scores: dict[str, np.ndarray] = {}
        for name in RULES:
            if measured(everything, name):
                fitted[name] = fit_rule(name, references, failures, dice, seed, weights, judges)
                # What was fitted to the failures is compared by what it says of those of unseen references.
                if RULES[name][1] == "ridge":
                    met = flat(everything, name)
                    scores[name] = DiceRegression.held_out(flat(failures, name), dice, groups, met)
                elif RULES[name][1] == "level":
                    scores[name] = level_held_out(flat(failures, name), dice, groups, judges)
                else:
                    scores[name] = apply_rule(name, fitted[name], failures, weights)
        comparison = {name: rank_correlation(values[judges], dice[judges]) for name, values in scores.items()}
        if not fitted:
            raise InputError("anomaly_score: some statistics of the held-out references are no finite numbers")
        # A regression only where there are masks of networks, of several references, to fit it to. What is fitted to
        # degraded copies, and not only compared on them, learns how copies are made: on masks of real networks it
        # ranks worse than the mean that it beats on copies (docs/benchmarks).
        ridges = real and len(np.unique(groups[judges])) > 1
        by_itself = {name: values[judges] for name, values in scores.items() if ridges or RULES[name][1] != "ridge"}
        # A network that sees images is there to read them: labels alone cannot tell whose mask this is. The shape, of
        # the mask alone, is what is left where no rule that asks the network is as good.
        if "disagreement_beyond_doubt" in fitted:  # only such a network has doubts
            by_itself = {name: by_itself[name] for name in sorted(by_itself, key=lambda name: name == "shape")}
        chosen = simplest_of_the_best(by_itself, dice[judges], seed, groups[judges]) if rule == "auto" else rule
        if chosen not in fitted:
            raise InputError(f"anomaly_score: '{rule}' is not one of auto, {', '.join(fitted)}")
        worst = float(apply_rule(chosen, fitted[chosen], everything, weights).max())
        if chosen == "disagreement_level":  # structures and maps are then asked at that level, too
            weights = np.eye(len(weights))[int(fitted[chosen]["level"])]
        elif RULES[chosen][1] in ("equal", "beyond"):
            weights = np.full(len(weights), 1 / len(weights))
        # Those of a level are places among failures, not scores.
        fair = scores[chosen] if RULES[chosen][1] != "level" else apply_rule(chosen, fitted[chosen], failures, weights)
        return cls(chosen, fitted[chosen], worst, comparison, weights, fair)

    def score(self, levels: np.ndarray) -> np.ndarray:
        """Anomaly scores ``(N,)`` float64 of level statistics ``(N, L, S)``; higher = worse."""
        return apply_rule(self.rule, self.arrays, levels, self.level_weights)

    def most_unusual(self, levels: np.ndarray) -> tuple[str, float]:
        """The statistic that the score of level statistics ``(L, S)`` is of, and that score, in robust deviations.

        Raises:
            ValueError: of a rule other than ``deviation``.
        """
        if self.rule != "deviation":
            raise ValueError(f"the rule '{self.rule}' is not of one statistic")
        deviations = LargestDeviation.each(density_features(levels[None], self.rule, self.level_weights), self.arrays)
        place = int(deviations[0].argmax())
        return RULES[self.rule][0][place], float(deviations[0, place])

    def structure_scores(self, structures: np.ndarray) -> np.ndarray:
        """Anomaly per structure, ``(S,)``: weighted mean over levels of ``(S, L)`` disagreements, higher = worse.

        A structure that is neither in the mask nor in its denoised version at a level is NaN there, and that level
        does not count; NaN where none does.
        """
        weights = np.isfinite(structures) * self.level_weights
        total = weights.sum(1)
        mean: np.ndarray = np.nansum(structures * weights, axis=1) / np.where(total > 0, total, np.nan)
        return mean

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Plain arrays for an npz file; :meth:`from_arrays` reads them back."""
        head = {"rule": np.array(self.rule), "worst": np.array(self.worst), "level_weights": self.level_weights}
        table = {"compared": np.array(list(self.comparison)), "spearman": np.array(list(self.comparison.values()))}
        return {**head, **table, **{f"rule_{name}": value for name, value in self.arrays.items()}}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> AnomalyModel:
        rule = str(arrays["rule"])
        if rule not in RULES:
            raise InputError(f"the model's anomaly score '{rule}' is not known to this version")
        own = {name.removeprefix("rule_"): value for name, value in arrays.items() if name.startswith("rule_")}
        comparison = dict(zip(arrays["compared"].tolist(), arrays["spearman"].tolist(), strict=True))
        return cls(rule, own, float(arrays["worst"]), comparison, arrays["level_weights"])


def uncertainty_weights(loss: np.ndarray) -> np.ndarray:
    """Weight per level, ``(L,)``, summing to 1: the stretch of uncertainty that the level stands for.

    The weighted mean over levels is then the trapezoid rule for the mean of a statistic over the held-out
    cross-entropy, from that of the weakest noise to that of the strongest. A stretch of noise counts by how much it
    hides of a label from one who knows the shapes, whether the schedule has one level there or five; levels at the
    prior limit, where nothing more can be hidden, add nothing. Equal weights where all levels are equally uncertain.

    Args:
        loss: cross-entropy of the network on held-out references, in nats per voxel, weakest noise first, ``(L,)``.
    """
    rising = np.maximum.accumulate(np.asarray(loss, dtype=np.float64))
    edges = np.concatenate([rising[:1], (rising[1:] + rising[:-1]) / 2, rising[-1:]])
    width = np.diff(edges)
    if not width.sum() > 0:
        return np.full(len(width), 1 / len(width))
    weights: np.ndarray = width / width.sum()
    return weights
