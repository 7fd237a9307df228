from __future__ import annotations

import pytest
import torch

from gnsm_monai.noise import FeatureBlocks, mixing_schedule

CARDINALITIES = [3, 2, 5, 3, 2]
BLOCKS = FeatureBlocks(CARDINALITIES)


def codes(rows: int = 4) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.stack([torch.randint(k, (rows,), generator=generator) for k in CARDINALITIES], 1)


def test_features_of_equal_cardinality_share_a_block() -> None:
    assert BLOCKS.blocks == [(2, [1, 4]), (3, [0, 3]), (5, [2])]
    assert [tuple(block.shape) for block in BLOCKS.split(BLOCKS.one_hot(codes()))] == [(4, 2, 2), (4, 3, 2), (4, 5, 1)]


def test_one_hot_holds_the_codes_of_each_column() -> None:
    blocks = BLOCKS.split(BLOCKS.one_hot(codes()))
    assert torch.equal(BLOCKS.features([block.argmax(1) for block in blocks]), codes())
    assert all(torch.equal(block.sum(1), torch.ones(4, block.shape[2])) for block in blocks)


def test_join_undoes_split_and_features_undoes_columns() -> None:
    flat = torch.rand(4, BLOCKS.size)
    assert torch.equal(BLOCKS.join(BLOCKS.split(flat)), flat)
    assert torch.equal(BLOCKS.features(BLOCKS.columns(codes())), codes())


def test_own_entries_are_those_of_the_rows_categories() -> None:
    flat = torch.rand(4, BLOCKS.size)
    own = BLOCKS.at_codes(flat, codes())
    last = BLOCKS.split(flat)[2]  # the only feature of five categories is column 2
    assert own[:, 2].tolist() == [last[row, codes()[row, 2], 0].item() for row in range(4)]
    assert torch.equal(BLOCKS.at_codes(BLOCKS.one_hot(codes()), codes()), torch.ones(4, 5))


def test_noise_of_a_block_is_the_noise_of_each_of_its_features_alone() -> None:
    schedule, level = mixing_schedule(3), torch.tensor([0, 1, 2, 1])
    together = BLOCKS.apply(lambda block: schedule.log_alpha(block, level), BLOCKS.one_hot(codes()))
    for column, k in enumerate(CARDINALITIES):
        alone = schedule.log_alpha(torch.nn.functional.one_hot(codes()[:, column], k).float(), level)
        own = BLOCKS.at_codes(together, codes())[:, column]
        assert torch.equal(own, alone.gather(1, codes()[:, column : column + 1])[:, 0])


@pytest.mark.parametrize("bad", [[], [3, 1]])
def test_features_without_a_choice_are_refused(bad: list[int]) -> None:
    with pytest.raises(ValueError, match="at least two categories"):
        FeatureBlocks(bad)
