from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from gnsm_monai.explain.relabelling import best_relabelling, chain_shifts, relabelling_findings
from gnsm_monai.explain.sentences import Words


@pytest.mark.parametrize("seed", range(5))
def test_the_best_relabelling_is_that_of_all_that_there_are(seed: int) -> None:
    profit = np.random.default_rng(seed).random((6, 6))
    present = [1, 3, 4, 5]
    best = max(
        permutations(range(1, 6), len(present)),
        key=lambda classes: sum(profit[i, j] for i, j in zip(present, classes, strict=True)),
    )
    expected = {i: j for i, j in zip(present, best, strict=True) if i != j}
    assert best_relabelling(profit, present) == expected


def test_what_is_as_good_as_before_stays_and_no_two_classes_become_one() -> None:
    assert best_relabelling(np.zeros((5, 5)), [1, 2, 4]) == {}
    assert best_relabelling(np.ones((5, 5)), [1, 2, 4]) == {}
    profit = np.zeros((4, 4))
    profit[1, 2], profit[2, 3] = 1.0, 0.4
    assert best_relabelling(profit, [1, 2], least=0.5) == {}  # 2 may not leave, so 1 may not come
    assert best_relabelling(profit, [1, 2], least=0.3) == {1: 2, 2: 3}
    assert best_relabelling(profit, []) == {}


def test_chains_shift_where_there_is_room_and_go_by_their_names() -> None:
    names = dict(enumerate(["liver", "rib_left_1", "rib_left_2", "rib_left_3", "rib_left_4", "T12", "L1", "L2"], 1))
    shifts = chain_shifts(names, [1, 2, 3, 4], 9)
    assert {2: 3, 3: 4, 4: 5} in shifts
    assert {1: 2, 2: 3, 3: 4, 4: 5} in shifts  # all structures together
    assert all(0 not in moves.values() and len(set(moves.values())) == len(moves) for moves in shifts)
    assert chain_shifts(names, [2, 3], 9) == []  # two make no chain
    assert {2: 1, 3: 2, 4: 3, 5: 4} not in chain_shifts(names, [1, 2, 3, 4, 5], 9)  # onto the liver


def test_names_of_vertebrae_and_of_numbers_are_subjects_only_where_they_say_something() -> None:
    def sentence(*labels: str) -> str:
        names = dict(enumerate(labels, start=1))
        moves = {c: c + 1 for c in range(1, len(labels))}
        return Words(3).sentence(relabelling_findings(moves, names)[0])

    assert sentence("T11", "T12", "L1") == "labels are one too low: T12 is labelled T11 and L1 is labelled T12"
    assert sentence("vertebrae_T12", "vertebrae_L1", "vertebrae_L2").startswith("vertebrae labels are one too low: ")
    assert sentence("label_1", "label_2", "label_3").startswith("labels are one too low: ")
    assert sentence("liver", "spleen", "aorta").startswith("labels are one too low: spleen is labelled liver")
