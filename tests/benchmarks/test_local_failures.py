"""Which structures a local failure damages, and how far from it a map is highest."""

from __future__ import annotations

import local_failures
import numpy as np
import pytest

NAMES = {"background": 0, "left": 1, "right": 2, "other": 3}


def test_damaged_are_those_that_lose_the_most_dice() -> None:
    clean = np.repeat(np.arange(4), 8).reshape(4, 8)
    assert local_failures.damaged(np.where(clean == 1, 0, clean), clean, NAMES) == ["left"]
    swapped = np.select([clean == 1, clean == 2], [2, 1], clean)
    assert local_failures.damaged(swapped, clean, NAMES) == ["left", "right"]
    shifted = clean.copy()
    shifted[3, :6] = 0  # 'other' loses Dice .6, 'left' .14
    shifted[1, :2] = 0
    assert local_failures.damaged(shifted, clean, NAMES) == ["other"]


def test_the_distance_is_in_mm_and_0_within_the_damage() -> None:
    anomaly, changed = np.zeros((2, 6, 7))
    anomaly[5, 3] = 1
    changed[1:3, 3] = 1
    assert local_failures.distance(anomaly, changed > 0, (2.0, 0.5)) == pytest.approx(3 * 2.0)
    assert local_failures.distance(changed * 2 + anomaly, changed > 0, (2.0, 0.5)) == 0


def test_the_page_counts_heads() -> None:
    head = {"case": "a", "score": 0.4, "clean_score": 0.3, "worst_structure": "left", "damaged": ["left"]}
    heads = [{**head, "distance_mm": 2.0}, {**head, "score": 0.2, "worst_structure": "right", "distance_mm": 9.0}]
    content = {
        "minutes": 3.2,
        "one_mask": {"seconds": 9.6, "gib": 1.25},
        "rule": "shape",
        "failures": [{"kind": "hole", "heads": heads}],
    }
    page = "\n".join(local_failures.lines(content))
    assert "| `hole` | left | 1 | 1 | left, right | 1 | 2, 9 |" in page
    assert "| all |  | 1 of 2 | 1 of 2 |  | 1 of 2 |  |" in page and "Training took 3 minutes." in page
