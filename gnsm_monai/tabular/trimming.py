"""Anomalies among the rows that a table is fitted to: what a first fit finds worst is left out of the next one."""

from __future__ import annotations

import logging
import math
import tempfile
from dataclasses import replace

import numpy as np

from gnsm_monai.noise import NoiseSchedule
from gnsm_monai.tabular.batches import TrainingTable
from gnsm_monai.tabular.model import TrainedTable
from gnsm_monai.tabular.row_rules import MAX_REFERENCES, RowRule
from gnsm_monai.tabular.training import TrainingPlan, train_network

__all__ = ["ROUNDS", "trimmed"]

ROUNDS = 2
"""First fits: each is to what the one before left over, so that the second one judges by cleaner rows."""

FIRST_STEPS = 300
"""Most steps of a first fit. A short one learns what most rows have in common, and not yet the rare ones."""

logger = logging.getLogger("gnsm_monai.workflow")


def trimmed(
    table: TrainingTable, schedule: NoiseSchedule, plan: TrainingPlan, rule: RowRule, share: float | None
) -> TrainingTable:
    """The table without the ``share`` of rows of each use that a first fit finds worst; itself for no share.

    That is least trimmed likelihood (Neykov and Neytchev 1990; Rousseeuw's least trimmed squares for densities): a fit,
    the rows that it explains worst are left out, and so on for :data:`ROUNDS`. All rows are judged anew in each round.

    Args:
        table: its uses (training, validation, calibration) are trimmed each for itself.
        schedule, plan, rule: of the fit that follows; a first one has at most :data:`FIRST_STEPS`.
        share: of anomalies that are to be expected, in (0, 0.5], or None.
    """
    if not share:
        return table
    first, rest = replace(plan, max_steps=min(FIRST_STEPS, plan.max_steps or FIRST_STEPS)), table
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as folder:
            network = train_network(rest, schedule, first, folder)[0].cpu()
        references = rest.codes["train"][:MAX_REFERENCES]
        model = TrainedTable.fit(rest, network, references, rule, seed=plan.seed)
        rest = replace(table, codes={use: _best(model, codes, share) for use, codes in table.codes.items()})
    left_out = sum(len(table.codes[use]) - len(rest.codes[use]) for use in table.codes)
    logger.info("%d rows that a first fit found worst are left out", left_out)
    return rest


def _best(model: TrainedTable, codes: np.ndarray, share: float) -> np.ndarray:
    """The rows ``(N - floor(share N), F)`` of lowest scores, in their order; equal scores by their order."""
    order = np.argsort(model.scores(codes), kind="stable")
    remaining: np.ndarray = codes[np.sort(order[: len(codes) - math.floor(share * len(codes))])]
    return remaining
