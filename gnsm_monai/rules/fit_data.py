"""What rules are fitted to and compared on: statistics of held-out references, and of failures made from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from gnsm_monai.rules.choice import false_and_other
from gnsm_monai.rules.levels import LevelStatistics

__all__ = ["FOLDS", "OTHER", "Compared", "FitData"]

FOLDS = 5
"""Folds of the references: each is scored by rules that were fitted to the others."""


OTHER = "another_reference"
"""Maker of failures that are maps of other references."""


@dataclass(frozen=True)
class Compared:
    """Masks that rules are compared on: failures, and then the references that count as masks of Dice 1, if any.

    Args:
        levels: their statistics, ``(n, L)`` each.
        dice: ``(n,)``.
        patients: number of the patient of the reference that each is of or was made from, ``(n,)``.
        judges: those that are compared on, ``(n,)`` bool.
        failures: those of them that are failures, ``(n,)`` bool.
        parts: of the judges, within which rules are compared, ``(n,)`` bool each: one part, or those of
            :func:`gnsm_monai.rules.choice.false_and_other` where some references are empty.
        of_empty: those that were made from an empty reference, ``(n,)`` bool.
    """

    levels: LevelStatistics
    dice: np.ndarray
    patients: np.ndarray
    judges: np.ndarray
    failures: np.ndarray
    parts: list[np.ndarray]
    of_empty: np.ndarray


@dataclass(frozen=True)
class FitData:
    """What rules are fitted to and compared on.

    Args:
        references: statistics of ``N`` held-out references.
        failures: statistics of ``M`` failures made from them.
        dice: of the failures to their references, ``(M,)``.
        groups: number of the reference that each failure was made from, ``(M,)``, ``N`` and more for one that is not
            among ``references``; by default every failure has its own.
        from_networks: which failures are masks of networks, ``(M,)`` bool; none by default.
        level_weights: what each level counts in means, ``(L,)``, not negative, such as
            :func:`gnsm_monai.rules.anomaly.uncertainty_weights`; equal by default.
        seed: of densities and of the choice between rules.
        num_empty: how many held-out references are empty, and therefore not among ``references``; None where every
            reference of the model has a structure.
        makers: what made each failure, ``(M,)`` text, such as a kind of network; all are of one maker by default.
        context: whether the network learnt anything from the voxels around a voxel; one that did not has no vote.
        patients: number of the patient of each reference, ``(N,)`` or more, by the numbers of ``groups``. Several
            references of one patient are left out together, as they are alike. Each has its own by default.
    """

    references: LevelStatistics
    failures: LevelStatistics
    dice: np.ndarray
    groups: np.ndarray | None = None
    from_networks: np.ndarray | None = None
    level_weights: np.ndarray | None = None
    seed: int = 0
    num_empty: int | None = None
    makers: np.ndarray | None = None
    context: bool = True
    patients: np.ndarray | None = None

    @property
    def num_references(self) -> int:
        """``N``."""
        return len(next(iter(self.references.values())))

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
        """``groups``, or a number of its own for each failure, which is none of a reference."""
        return self.num_references + np.arange(len(self.dice)) if self.groups is None else self.groups

    @property
    def folds(self) -> np.ndarray:
        """Fold of each reference, ``(N,)``: all references of a patient are in one."""
        return self.patients_of(np.arange(self.num_references)) % FOLDS

    def patients_of(self, references: np.ndarray) -> np.ndarray:
        """Number of the patient of references of these numbers, ``(n,)``."""
        return references if self.patients is None else self.patients[references]

    @cached_property
    def source_patients(self) -> np.ndarray:
        """Number of the patient of the reference that each failure was made from, ``(M,)``."""
        return self.patients_of(self.sources)

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

    @cached_property
    def compared(self) -> Compared:
        """What rules are compared on: failures, and references as well where some others are empty.

        What has no number, place or size of its own differs so much between references that a rule may follow Dice on
        failures, and still blame some references more than any failure.
        """
        if self.num_empty is None:
            nowhere = np.zeros(len(self.dice), dtype=bool)
            return Compared(
                self.failures, self.dice, self.source_patients, self.judges, self.judges, [self.judges], nowhere
            )
        count = self.num_references
        right, failed = np.ones(count, dtype=bool), np.zeros(len(self.dice), dtype=bool)
        dice = np.concatenate([self.dice, np.ones(count)])
        judges, failures = (np.concatenate([self.judges, more]) for more in (right, ~right))
        makers = np.full(len(self.dice), "") if self.makers is None else self.makers
        parts = false_and_other(dice, np.append(makers, [""] * count), np.concatenate([failed, right]))
        return Compared(
            {name: np.concatenate([self.failures[name], values]) for name, values in self.references.items()},
            dice,
            self.patients_of(np.concatenate([self.sources, np.arange(count)])),
            judges,
            failures,
            [part & judges for part in parts if (part & failures).any()],
            np.concatenate([failed if self.groups is None else self.groups >= count, ~right]),
        )

    def suffices(self, least: Callable[[int], int]) -> bool:
        """Whether there are references enough for a rule that needs ``least`` of so many levels, any fold left out."""
        left = self.num_references - int(np.bincount(self.folds).max(initial=0))
        return max(left, 1) >= least(len(self.weights))

    def without(self, left_out: np.ndarray) -> FitData:
        """The rest where some references, ``(N,)`` bool, and all failures of their patients are left out."""
        rest = ~np.isin(self.source_patients, self.patients_of(np.flatnonzero(left_out)))
        before = np.append(np.cumsum(left_out), left_out.sum())  # how many lower numbers are gone
        sources = self.sources[rest]
        return replace(
            self,
            references={name: values[~left_out] for name, values in self.references.items()},
            failures={name: values[rest] for name, values in self.failures.items()},
            dice=self.dice[rest],
            groups=sources - before[np.minimum(sources, self.num_references)],
            patients=None if self.patients is None else np.delete(self.patients, np.flatnonzero(left_out)),
            from_networks=None if self.from_networks is None else self.from_networks[rest],
            makers=None if self.makers is None else self.makers[rest],
        )
