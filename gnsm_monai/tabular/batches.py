"""Rows of a table as batches, and as noisy network inputs and targets of score matching for MONAI's engines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.engines.utils import PrepareBatch
from torch import Tensor

from gnsm_monai.noise import FeatureBlocks, NoiseSchedule
from gnsm_monai.tabular.encoder import TableEncoder
from gnsm_monai.tabular.rows import distinct_rows

__all__ = ["CODES", "NoisyRowPrepareBatch", "RowBatches", "TrainingTable"]

CODES = "codes"
MIN_STEPS, MAX_STEPS, PASSES = 600, 3000, 60
NARROW, WIDE, MANY_ROWS, FEW_VALUES = 128, 256, 5000, 200
VALIDATION_ROWS = 2000
VALUES_AT_ONCE, MAX_VALUES_PER_STEP, VALIDATION_VALUES = 1_000_000, 2_000_000, 30_000_000
"""Bounds of memory and time for tables with thousands of categories: numbers in a validation batch, in a training
batch, and in a whole validation."""
VALUES_PER_STEP, MIN_ROWS_PER_STEP = 150_000, 128
"""Numbers in a training batch up to which a step costs about the same; fewer rows than the latter teach too little."""


class RowBatches:
    """Batches ``{"codes": (B, F)}`` of a table's rows, without the cost of a loader that collates row by row.

    Args:
        codes: ``(N, F)`` integer.
        batch_size: rows per batch.
        steps: batches per pass, each of rows drawn anew with replacement from torch's generator; ``None`` for all
            rows once, in their order.
    """

    def __init__(self, codes: Tensor, batch_size: int, steps: int | None = None) -> None:
        self.codes, self.batch_size, self.steps = codes, batch_size, steps

    def __len__(self) -> int:
        return self.steps or -(-len(self.codes) // self.batch_size)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        if self.steps is None:
            for piece in self.codes.split(self.batch_size):
                yield {CODES: piece}
            return
        for _ in range(self.steps):
            yield {CODES: self.codes[torch.randint(len(self.codes), (self.batch_size,))]}


class NoisyRowPrepareBatch(PrepareBatch):
    """``prepare_batch`` of MONAI's ``SupervisedTrainer`` and ``SupervisedEvaluator`` for tables.

    A batch ``{"codes": (B, F)}`` becomes ``(inputs, target, args, kwargs)``: noisy relaxed rows ``(B, D)``, flat as
    :class:`gnsm_monai.noise.FeatureBlocks` has it, the target of :class:`gnsm_monai.losses.TableScoreMatchingLoss`,
    and the noise level. ``fixed_seed`` is that of :class:`gnsm_monai.engines.NoisyLabelPrepareBatch`.
    """

    def __init__(self, schedule: NoiseSchedule, cardinalities: Sequence[int], fixed_seed: int | None = None) -> None:
        self.schedule, self.blocks, self.fixed_seed = schedule, FeatureBlocks(cardinalities), fixed_seed

    def __call__(
        self,
        batchdata: dict[str, Tensor],
        device: str | torch.device | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[Tensor, dict[str, Tensor], tuple[Tensor], dict[str, Tensor]]:
        codes, levels, generator = batchdata[CODES], self.schedule.num_levels, None
        if self.fixed_seed is None:
            level = torch.randint(levels, (len(codes),))
        else:
            generator = torch.Generator().manual_seed(self.fixed_seed)
            level, codes = torch.arange(levels).repeat(len(codes)), codes.repeat_interleave(levels, 0)
        # Rows are small: drawn where the generator lives, the CPU, so that every device sees the same noise.
        probabilities = self.blocks.one_hot(codes)
        x = self.blocks.apply(lambda block: self.schedule.sample(block, level, generator), probabilities)
        x, probabilities, level = (t.to(device, non_blocking=non_blocking) for t in (x, probabilities, level))
        return x, {"x": x, "probabilities": probabilities, "level": level}, (level,), {}


@dataclass(frozen=True)
class TrainingTable:
    """A table that is trained on.

    Args:
        encoder: values of the columns to category codes.
        codes: of the rows of each use, ``train``, ``validation`` and others, ``(N, F)`` integer.
        columns: names of the columns, ``(F,)``; empty where they have none.
        source: name of the file; empty where there is none.
        missing: texts that stand for a missing value in files; None where there are none.
    """

    encoder: TableEncoder
    codes: Mapping[str, np.ndarray]
    columns: tuple[str, ...] = ()
    source: str = ""
    missing: tuple[str, ...] | None = None

    @property
    def cardinalities(self) -> list[int]:
        """Categories per feature."""
        return self.encoder.cardinalities

    def default_width(self) -> int:
        """Units per layer: few distinct rows need fewer, and rows of many categories cost too much by more."""
        return WIDE if self._distinct_rows() > MANY_ROWS and sum(self.cardinalities) <= FEW_VALUES else NARROW

    def default_steps(self, batch_size: int) -> int:
        """The most steps: they show every distinct row some sixty times; repeated rows teach nothing."""
        return int(np.clip(PASSES * self._distinct_rows() / batch_size, MIN_STEPS, MAX_STEPS))

    def train_batches(self, batch_size: int, steps: int) -> RowBatches:
        """Random rows; fewer per step than ``batch_size`` where each has very many categories."""
        values = sum(self.cardinalities)
        usual = max(MIN_ROWS_PER_STEP, VALUES_PER_STEP // values)
        rows = max(16, min(batch_size, usual, MAX_VALUES_PER_STEP // values))
        return RowBatches(torch.from_numpy(self.codes["train"]), rows, steps)

    def validation_batches(self, num_levels: int, seed: int) -> RowBatches:
        """The rows that every validation sees, each at all levels: many are sampled, few repeated under other noise."""
        held_out, values_per_row = self.codes["validation"], num_levels * sum(self.cardinalities)
        most = max(16, min(VALIDATION_ROWS, VALIDATION_VALUES // values_per_row))
        drawn = np.random.default_rng(seed).permutation(len(held_out))[:most]
        rows = torch.from_numpy(held_out[np.sort(drawn)])
        return RowBatches(rows.repeat(max(1, min(500, most) // len(rows)), 1), max(1, VALUES_AT_ONCE // values_per_row))

    def _distinct_rows(self) -> int:
        return len(distinct_rows(self.codes["train"])[0])
