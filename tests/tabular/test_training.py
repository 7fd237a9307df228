from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from gnsm_monai.noise import FeatureBlocks, mixing_schedule
from gnsm_monai.tabular import TableEncoder, batches, training
from gnsm_monai.tabular.batches import TrainingTable


def rows(number: int = 400) -> np.ndarray:
    first = np.random.default_rng(0).integers(0, 3, number)
    return np.stack([first, first, np.zeros(number, dtype=np.int64)], 1)


def test_a_network_learns_what_goes_together_and_the_same_from_the_same_seed(tmp_path: Path) -> None:
    schedule = mixing_schedule(3, 0.5, 0.9)
    plan = training.TrainingPlan(width=32, depth=1, max_steps=240, batch_size=64)
    table = TrainingTable(TableEncoder().fit(rows()), {"train": rows()[:300], "validation": rows()[300:]})
    assert table.cardinalities == [4, 4, 2]
    found = [training.train_network(table, schedule, plan, tmp_path / name) for name in ("a", "b")]
    assert np.array_equal(found[0][1], found[1][1])
    network = found[0][0]
    blocks = FeatureBlocks([4, 4, 2])
    level = torch.zeros(1, dtype=torch.long)
    x = blocks.apply(lambda block: schedule.noise_free(block, level), blocks.one_hot(torch.tensor([[1, 1, 0]])))
    with torch.no_grad():
        learned, independent = (
            blocks.at_codes(blocks.apply(lambda b: b.log_softmax(1), logits), torch.tensor([[1, 1, 0]]))[0]
            for logits in (network(x, level), network.independent_logits(x, level))
        )
    assert (learned[:2] > independent[:2] / 2).all()  # each of the pair is surer for knowing the other


def test_no_category_has_frequency_zero_and_each_feature_sums_to_one() -> None:
    frequencies = training.category_frequencies(rows(), [4, 4, 2])
    blocks = FeatureBlocks([4, 4, 2]).split(frequencies[None])
    assert all(torch.allclose(block.sum(1), torch.ones(())) for block in blocks)
    counts = np.bincount(rows()[:, 0], minlength=4) + 0.5
    assert torch.allclose(blocks[1][0, :, 0], torch.from_numpy(counts / counts.sum()).float())


def table_of(**codes: np.ndarray) -> TrainingTable:
    return TrainingTable(TableEncoder().fit(rows()), codes)


def test_repeated_rows_ask_for_no_more_steps() -> None:
    many = np.stack(np.meshgrid(*[np.arange(20)] * 3), -1).reshape(-1, 3)
    large, twice, small = (table_of(train=codes) for codes in (many, np.concatenate([many, many]), rows()))
    assert large.default_steps(256) == twice.default_steps(256) == 60 * 8000 // 256
    assert small.default_steps(256) == batches.MIN_STEPS


def test_many_rows_of_few_categories_get_a_wide_network() -> None:
    many = np.stack(np.meshgrid(*[np.arange(20)] * 3), -1).reshape(-1, 3)
    few, several = (TrainingTable(TableEncoder().fit(many[:100]), {"train": codes}) for codes in (many[:100], many))
    coarse = TrainingTable(TableEncoder().fit(np.tile(many, 4)), {"train": many})
    assert few.default_width() == coarse.default_width() < several.default_width()


@pytest.mark.parametrize("categories", [40, 4_000, 40_000])
def test_very_many_categories_make_small_batches(categories: int) -> None:
    encoder = TableEncoder()
    encoder.categories = [{str(code): code for code in range(categories // 4 - 1)}] * 4
    held_out = np.zeros((3000, 4), dtype=np.int64)
    table = TrainingTable(encoder, {"train": held_out, "validation": held_out})
    assert sum(table.cardinalities) == categories
    step = table.train_batches(512, 1).batch_size
    assert 16 <= step <= 512
    assert step * categories <= max(batches.MAX_VALUES_PER_STEP, 16 * categories)
    checked = table.validation_batches(7, 0)
    assert checked.batch_size * 7 * categories <= max(batches.VALUES_AT_ONCE, 7 * categories)
    assert len(checked.codes) == min(2000, max(16, batches.VALIDATION_VALUES // (7 * categories)))


def test_few_held_out_rows_are_seen_several_times() -> None:
    assert len(table_of(validation=np.zeros((10, 3), dtype=np.int64)).validation_batches(7, 0).codes) == 500
