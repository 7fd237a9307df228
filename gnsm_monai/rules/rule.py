"""What a rule is, which makes one number of level statistics, and what it is fitted to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, TypeVar

import numpy as np

from gnsm_monai.errors import InputError
from gnsm_monai.rules.levels import LevelStatistics
from gnsm_monai.rules.statistics import statistic_named

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["OTHER", "FitData", "FittedRule", "Rule", "rule_named", "stored_rule"]


OTHER = "another_reference"
"""Maker of failures that are maps of other references."""


@dataclass(frozen=True)
class FitData:
    """What rules are fitted to and compared on.

    Args:
        references: statistics of ``N`` held-out references.
        failures: statistics of ``M`` failures made from them.
        dice: of the failures to their references, ``(M,)``.
        groups: number of the reference that each failure was made from, ``(M,)``; by default every failure has its
                own.
        from_networks: which failures are masks of networks, ``(M,)`` bool; none by default.
        level_weights: what each level counts in means, ``(L,)``, not negative, such as
            :func:`gnsm_monai.rules.anomaly.uncertainty_weights`; equal by default.
        seed: of densities and of the choice between rules.
        makers: what made each failure, ``(M,)`` text, such as a kind of network; all are of one maker by default.
        context: whether the network learnt anything from the voxels around a voxel; one that did not has no vote.
    """

    references: LevelStatistics
    failures: LevelStatistics
    dice: np.ndarray
    groups: np.ndarray | None = None
    from_networks: np.ndarray | None = None
    level_weights: np.ndarray | None = None
    seed: int = 0
    makers: np.ndarray | None = None
    context: bool = True

    @cached_property
    def everything(self) -> LevelStatistics:
        """References, then failures."""
        return {name: np.concatenate([values, self.failures[name]]) for name, values in self.references.items()}

    @cached_property
    def weights(self) -> np.ndarray:
        """The level weights, ``(L,)``, summing to 1."""
        num_levels = next(iter(self.references.values())).shape[1]
        weights = np.ones(num_levels) if self.level_weights is None else self.level_weights.astype(np.float64)
        return np.asarray(weights / weights.sum())

    @cached_property
    def sources(self) -> np.ndarray:
        """``groups``, or a number of its own for each failure."""
        return np.arange(len(self.dice)) if self.groups is None else self.groups

    @cached_property
    def judges(self) -> np.ndarray:
        """Failures that rules are compared on, ``(M,)`` bool: masks of networks alone where there are any.

        They are what will be met. Maps of other references judge only between combinations.
        """
        masks = np.zeros(len(self.dice), dtype=bool) if self.from_networks is None else self.from_networks
        whole = np.ones(len(self.dice), dtype=bool) if self.makers is None else self.makers != OTHER
        return masks if masks.any() else whole

    @property
    def judged_by_networks(self) -> bool:
        return self.from_networks is not None and bool(self.from_networks.any())


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

    @abstractmethod
    def fit(self, data: FitData) -> Self:
        """This rule, fitted."""

    @abstractmethod
    def anomaly(self, levels: LevelStatistics) -> np.ndarray:
        """Anomaly ``(N,)`` float64 of ``N`` masks; higher = worse."""

    def fair_scores(self, data: FitData) -> np.ndarray:
        """Anomaly of the failures ``(M,)``, each by a rule that was not fitted to the Dice of its reference's."""
        return self.anomaly(data.failures)

    def held_out(self, data: FitData) -> np.ndarray:
        """What the failures are ranked by ``(M,)`` when rules are compared: nothing that their own Dice chose."""
        return self.fair_scores(data)

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

    def statistics_of(self, levels: LevelStatistics) -> tuple[str, ...]:
        """Those that it reads of such masks."""
        return self.reads

    def select(self, levels: LevelStatistics) -> np.ndarray:
        """What it reads, ``(N, statistics, L)``."""
        columns = [np.asarray(levels[name], dtype=np.float64) for name in self.statistics_of(levels)]
        return np.asarray(np.stack(columns).transpose(1, 0, 2))

    def flat(self, levels: LevelStatistics) -> np.ndarray:
        """What it reads, ``(N, statistics * L)``."""
        features = self.select(levels)
        return features.reshape(len(features), -1)
