"""What a rule is, which makes one number of level statistics."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, TypeVar

import numpy as np

from gnsm_monai.errors import InputError
from gnsm_monai.rules.choice import places
from gnsm_monai.rules.fit_data import FOLDS, FitData
from gnsm_monai.rules.levels import LevelStatistics
from gnsm_monai.rules.reading import Reading
from gnsm_monai.rules.statistics import statistic_named

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["FittedRule", "Rule", "rule_named", "stored_rule"]


@dataclass(frozen=True)
class FittedRule(ABC):
    """A rule, of masks or of rows of a table, with what was fitted; a file keeps it as plain arrays.

    Args:
        name: in options and files.
        reads: names of the statistics that it reads at all levels.
        weights: of the levels in means over them, ``(L,)``, summing to 1; empty until it is fitted.
        arrays: what else was fitted.
    """

    name: str
    reads: tuple[str, ...]
    weights: np.ndarray = field(default_factory=lambda: np.empty(0))
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def level_weights(self) -> np.ndarray:
        """What each level counts in the score and in all that is shown beside it, ``(L,)``, summing to 1."""
        return self.weights

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Plain arrays for an npz file; :func:`stored_rule` reads them back."""
        fitted = {f"rule_{name}": value for name, value in self.arrays.items()}
        return {"rule": np.array(self.name), "level_weights": self.level_weights, **fitted}

    def from_arrays(self, arrays: Mapping[str, np.ndarray]) -> Self:
        """This rule, fitted, from what :meth:`to_arrays` gave."""
        fitted = {name.removeprefix("rule_"): value for name, value in arrays.items() if name.startswith("rule_")}
        return replace(self, weights=arrays["level_weights"], arrays=fitted)


AnyRule = TypeVar("AnyRule", bound=FittedRule)


def rule_named(name: str, rules: Sequence[AnyRule]) -> AnyRule:
    """The rule of that name. Raises InputError where it is none of ``rules``."""
    for rule in rules:
        if rule.name == name:
            return rule
    raise InputError(f"anomaly_score: '{name}' is not one of {', '.join(rule.name for rule in rules)}")


def stored_rule(arrays: Mapping[str, np.ndarray], rules: Sequence[AnyRule]) -> AnyRule:
    """The fitted rule of a file's arrays. Raises InputError where it is none of ``rules``."""
    name = str(arrays["rule"])
    if name not in [rule.name for rule in rules]:
        raise InputError(f"the model's anomaly score '{name}' is not known to this version")
    return rule_named(name, rules).from_arrays(arrays)


class Rule(FittedRule):
    """A rule that makes one number of a mask's level statistics; higher = worse."""

    learns_dice: ClassVar[bool] = False
    """Whether Dice itself is what it is fitted to."""

    learns_references: ClassVar[bool] = False
    """Whether the references' own statistics are what it is fitted to."""

    @abstractmethod
    def fit(self, data: FitData) -> Self:
        """This rule, fitted."""

    def min_references(self, num_levels: int) -> int:
        """How many references it needs to be taken unasked, a fold left out: one has no spread to learn."""
        return 2 if self.learns_references else 1

    @abstractmethod
    def anomaly(self, levels: LevelStatistics) -> np.ndarray:
        """Anomaly ``(N,)`` float64 of ``N`` masks; higher = worse."""

    def fair_scores(self, data: FitData) -> np.ndarray:
        """Anomaly of the failures ``(M,)``, each by a rule that was not fitted to the Dice of its reference's."""
        return self.anomaly(data.failures)

    def reference_scores(self, data: FitData) -> np.ndarray:
        """Anomaly of the references ``(N,)``, each by a rule that was fitted to neither it nor Dice of its failures."""
        if not (self.learns_references or self.learns_dice):
            return self.anomaly(data.references)
        scores = np.empty(data.num_references)
        for fitted, unseen, _ in self._by_folds(data):
            scores[unseen] = fitted.anomaly(data.references)[unseen]
        return scores

    def held_out(self, data: FitData) -> np.ndarray:
        """What the masks of ``data.compared`` are ranked by ``(n,)`` when rules are compared.

        It is nothing that their own Dice chose, nor what was fitted to a reference of their patient: a density that
        knows the reference finds the failures that are like it usual, which are those of high Dice, whatever it
        measures. Rules of two folds differ in scale. So a rule that learns from references gives places: the share of
        all failures that have a lower score by the same rule.
        """
        if not self.learns_references:
            scores = self.fair_scores(data)
            return scores if data.num_empty is None else np.concatenate([scores, self.reference_scores(data)])
        references, failures = np.empty(data.num_references), np.empty(len(data.dice))
        for fitted, unseen, unseen_failures in self._by_folds(data):
            right, failed = fitted.anomaly(data.references), fitted.anomaly(data.failures)
            references[unseen] = places(right[unseen], failed)
            failures[unseen_failures] = places(failed[unseen_failures], failed)
        return failures if data.num_empty is None else np.concatenate([failures, references])

    def _by_folds(self, data: FitData) -> Iterator[tuple[Self, np.ndarray, np.ndarray]]:
        """For each fold of patients the rule fitted to all others, and which references and failures are theirs."""
        fold, failed = data.folds, data.source_patients % FOLDS
        for number in np.union1d(fold, failed):
            unseen = fold == number
            others = data.without(unseen)
            enough = others.num_references > 1 and len(others.dice) > 0
            # One other reference alone has no spread.
            yield self.fit(others) if enough else self, unseen, failed == number

    def most_unusual(self, levels: LevelStatistics) -> tuple[str, float]:
        """The statistic that the score of one mask, ``(1, L)`` each, is of, and that score.

        Raises:
            ValueError: of a rule that is not of one statistic.
        """
        raise ValueError(f"the rule '{self.name}' is not of one statistic")

    @property
    def needs_posterior(self) -> bool:
        return any(statistic_named(name).needs_posterior for name in self.reads)

    @property
    def needs_images(self) -> bool:
        return any(statistic_named(name).needs_images for name in self.reads)

    @property
    def asks_network(self) -> bool:
        """Whether it reads more than the mask alone tells."""
        return not all(statistic_named(name).of_mask for name in self.reads)

    def measured(self, levels: LevelStatistics) -> bool:
        """Whether statistics, maybe of an earlier version, hold all that the rule reads."""
        return all(name in levels for name in self.reads) and bool(np.isfinite(self.select(levels)).all())

    @property
    def levels_read(self) -> np.ndarray:
        """Levels whose statistics can change its score, ``(L,)`` bool; those of the level weights are among them."""
        return np.ones(len(self.weights), dtype=bool)

    @property
    def reading(self) -> Reading:
        """What must be measured of a mask for its score, once the rule is fitted."""
        return Reading(frozenset(self.reads), tuple(np.flatnonzero(self.levels_read).tolist()))

    def statistics_of(self, levels: LevelStatistics) -> tuple[str, ...]:
        """Those that it reads of such masks."""
        return self.reads

    def select(self, levels: LevelStatistics) -> np.ndarray:
        """What it reads, ``(N, statistics, L)``."""
        columns = [np.asarray(levels[name], dtype=np.float64) for name in self.statistics_of(levels)]
        return np.asarray(np.stack(columns).transpose(1, 0, 2))

    def selected(self, levels: LevelStatistics) -> np.ndarray:
        """The same, 0 at levels that it does not read: those need not be measured."""
        return np.where(self.levels_read, self.select(levels), 0.0)

    def flat(self, levels: LevelStatistics) -> np.ndarray:
        """What it reads, ``(N, statistics * L)``."""
        features = self.select(levels)
        return features.reshape(len(features), -1)
