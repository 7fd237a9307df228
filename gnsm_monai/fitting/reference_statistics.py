"""What the references of one use, and failures made from them, score: what is fitted to, and what a model keeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from gnsm_monai.data.patients import numbered
from gnsm_monai.fitting.failure import Failure
from gnsm_monai.rules.anomaly import AnomalyModel
from gnsm_monai.rules.choice import rank_correlation
from gnsm_monai.rules.failures import FailureTable
from gnsm_monai.rules.fit_data import FitData
from gnsm_monai.rules.levels import CaseStatistics, LevelStatistics, stack_levels, to_array
from gnsm_monai.rules.statistics import STATISTICS

__all__ = ["ReferenceStatistics", "ScoredFailure"]


@dataclass(frozen=True)
class ScoredFailure:
    """A failure without its maps, what the network says of it, and the number of the reference it was made from.

    ``empty`` is true for an empty mask where some references are empty.
    """

    failure: Failure
    statistics: CaseStatistics
    group: int
    empty: bool = False


@dataclass(frozen=True)
class ReferenceStatistics:
    """The references of one use, and failures made from them.

    Args:
        cases: ids of the references.
        references: what the network says of them, without maps.
        scored_failures: the failures.
        empty: which references are empty, ``(N,)`` bool; None where every reference of the model has a structure.
        others: maps of other references in place of a case's own. They help to choose a rule, and no Dice is predicted
            from them: nobody would take them for a segmenter's masks.
        patients: of each reference; each has its own by default.
    """

    cases: list[str]
    references: Sequence[CaseStatistics]
    scored_failures: Sequence[ScoredFailure]
    empty: np.ndarray | None = None
    others: Sequence[ScoredFailure] = ()
    patients: Sequence[str] = ()

    @cached_property
    def levels(self) -> LevelStatistics:
        """Of the references, ``(N, L)`` each."""
        return stack_levels([statistics.levels for statistics in self.references])

    @cached_property
    def structures(self) -> np.ndarray:
        """Of the references, ``(N, structures, L)``."""
        return np.stack([statistics.structures for statistics in self.references])

    @cached_property
    def failure_levels(self) -> LevelStatistics:
        """Of the failures, ``(M, L)`` each."""
        return stack_levels([each.statistics.levels for each in self.scored_failures])

    @cached_property
    def dice(self) -> np.ndarray:
        """Of the failures, ``(M,)``."""
        return np.array([each.failure.dice for each in self.scored_failures])

    @property
    def kinds(self) -> np.ndarray:
        """Of the failures, ``(M,)`` text."""
        return np.array([each.failure.kind for each in self.scored_failures])

    @property
    def of_networks(self) -> np.ndarray:
        """Which failures are masks of networks, ``(M,)`` bool."""
        return np.array([each.failure.of_network for each in self.scored_failures], dtype=bool)

    @property
    def groups(self) -> np.ndarray:
        """Number of the reference that each failure was made from, ``(M,)``."""
        return np.array([each.group for each in self.scored_failures])

    @property
    def empty_failures(self) -> np.ndarray:
        """Which failures are empty masks, ``(M,)`` bool; none where no reference is empty."""
        return np.array([each.empty for each in self.scored_failures], dtype=bool)

    def fit(self, rule: str, seed: int, level_weights: np.ndarray | None, context: bool = True) -> AnomalyModel:
        """The score that follows Dice on these failures; see :meth:`gnsm_monai.rules.anomaly.AnomalyModel.fit`.

        Where some references are empty, the rule is fitted to all other masks.
        """
        empty = np.zeros(len(self.cases), dtype=bool) if self.empty is None else self.empty
        every = replace(self, scored_failures=[*self.scored_failures, *self.others], others=())
        filled, failed = ~empty, ~every.empty_failures
        order = np.argsort(empty, kind="stable")  # those that are not empty, then the others
        numbers = np.argsort(order)
        patients = numbered(np.array(self.patients or self.cases)[order].tolist())
        data = FitData(
            {name: values[filled] for name, values in self.levels.items()},
            {name: values[failed] for name, values in every.failure_levels.items()},
            every.dice[failed],
            numbers[every.groups[failed]],
            every.of_networks[failed],
            level_weights,
            seed,
            None if self.empty is None else int(self.empty.sum()),
            np.array([each.failure.maker for each in every.scored_failures])[failed],
            context,
            patients,
        )
        model = AnomalyModel.fit(data, rule)
        fair_scores = model.score(every.failure_levels, every.empty_failures)
        fair_scores[failed] = model.fair_scores
        reference_scores = model.score(self.levels, empty)
        reference_scores[filled] = model.reference_scores
        return replace(model, fair_scores=fair_scores[: len(self.scored_failures)], reference_scores=reference_scores)

    def level_figures(self) -> dict[str, np.ndarray]:
        """Spearman correlation with Dice of every statistic at every level, ``(L,)``, on references and failures."""
        everything = {name: np.concatenate([values, self.failure_levels[name]]) for name, values in self.levels.items()}
        quality = np.concatenate([np.ones(len(self.cases)), self.dice])
        return {
            name: np.array([rank_correlation(level, quality) for level in values.T])
            for name, values in everything.items()
            if np.isfinite(values).all()
        }

    def failures(self, model: AnomalyModel, scores: np.ndarray) -> FailureTable:
        """The failures as plain numbers, with these anomaly scores of them, ``(M,)``."""
        failures = self.scored_failures
        return FailureTable(
            scores,
            self.dice,
            self.kinds,
            np.stack([model.structure_scores(each.statistics.structures) for each in failures]),
            np.stack([each.failure.structure_dice for each in failures]),
            np.stack([each.failure.distances for each in failures]),
        )

    def selection_arrays(self) -> dict[str, np.ndarray]:
        """Plain arrays for an npz file, of the references that the rule is selected on."""
        return {
            "statistic": np.array(STATISTICS),
            "fit": to_array(self.levels),
            "failures": to_array(self.failure_levels),
            "failure_of_networks": self.of_networks,
            "failure_groups": self.groups,
            **({} if self.empty is None else {"fit_empty": self.empty, "failure_empty": self.empty_failures}),
        }

    def calibration_arrays(self) -> dict[str, np.ndarray]:
        """Plain arrays for an npz file, of the references kept for calibration."""
        return {
            "calibration": to_array(self.levels),
            "calibration_failures": to_array(self.failure_levels),
            **({} if self.empty is None else {"calibration_failure_empty": self.empty_failures}),
        }
