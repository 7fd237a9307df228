from __future__ import annotations

import torch

from gnsm_monai.noise import FeatureBlocks, mixing_schedule
from gnsm_monai.tabular.batches import NoisyRowPrepareBatch, RowBatches

SCHEDULE, CARDINALITIES = mixing_schedule(num_levels=4), [3, 2, 3]
CODES = torch.tensor([[0, 1, 2], [2, 0, 1], [1, 1, 0]])


def test_training_draws_a_level_per_row_and_fresh_noise() -> None:
    prepare = NoisyRowPrepareBatch(SCHEDULE, CARDINALITIES)
    torch.manual_seed(0)
    first, target, (level,), extra = prepare({"codes": CODES}, "cpu")
    second, *_ = prepare({"codes": CODES}, "cpu")
    assert first.shape == (3, 8) and level.shape == (3,) and extra == {}
    assert not torch.equal(first, second) and torch.equal(target["x"], first)
    assert torch.equal(target["probabilities"], FeatureBlocks(CARDINALITIES).one_hot(CODES))
    levels = torch.cat([prepare({"codes": CODES}, "cpu")[2][0] for _ in range(60)])
    assert set(levels.tolist()) == {0, 1, 2, 3}


def test_validation_sees_every_level_under_the_same_noise() -> None:
    prepare = NoisyRowPrepareBatch(SCHEDULE, CARDINALITIES, fixed_seed=7)
    (x, target, (level,), _), (again, *_) = prepare({"codes": CODES}, "cpu"), prepare({"codes": CODES}, "cpu")
    assert torch.equal(x, again) and len(target["probabilities"]) == 12
    assert level.tolist() == [0, 1, 2, 3] * 3


def test_batches_are_all_rows_in_order_or_a_number_of_random_ones() -> None:
    assert torch.equal(torch.cat([batch["codes"] for batch in RowBatches(CODES, 2)]), CODES)
    assert len(RowBatches(CODES, 2)) == 2 and len(RowBatches(CODES, 5, 7)) == 7
    drawn = [batch["codes"] for batch in RowBatches(CODES, 5, 7)]
    assert len(drawn) == 7 and all(len(rows) == 5 for rows in drawn)
    assert {tuple(row) for rows in drawn for row in rows.tolist()} == {tuple(row) for row in CODES.tolist()}
