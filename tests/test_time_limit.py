"""A limited time and its parts, by a clock that the tests move."""

from __future__ import annotations

import math

import pytest

from gnsm_monai.time_limit import NO_LIMIT, PARTS, TimeLimit
from tests.builders import Clock


def test_a_limit_counts_from_when_it_was_made() -> None:
    clock = Clock()
    limit = TimeLimit(2, clock=clock)
    clock.wait(90)
    assert limit.limited and limit.left == 30 and not limit.over
    clock.wait(31)
    assert limit.left == 0 and limit.over


def test_without_minutes_nothing_is_ever_over() -> None:
    assert NO_LIMIT.left == NO_LIMIT.share(0.1).left == NO_LIMIT.part("shapes").left == math.inf
    assert not NO_LIMIT.limited and not NO_LIMIT.part("training").over


def test_parts_that_use_their_time_up_fill_the_limit() -> None:
    clock = Clock()
    limit = TimeLimit(10, 60, {"first": 3, "second": 2, "third": 1}, clock)
    clock.wait(180)  # of reading, before the first part
    spent = []
    for name in limit.parts:
        part = limit.part(name)
        spent.append(part.left)
        clock.wait(part.left)
    assert spent == pytest.approx([180, 120, 60])
    assert limit.over


def test_what_a_part_leaves_or_takes_too_much_goes_to_those_after_it() -> None:
    clock = Clock()
    limit = TimeLimit(1, 0, {"first": 1, "second": 1, "third": 1}, clock)
    clock.wait(6)  # the first needs no more of its 20 s
    assert limit.part("second").left == pytest.approx(27)
    clock.wait(50)
    assert limit.part("third").left == pytest.approx(4)


def test_every_part_of_a_training_has_a_share_and_no_other_is_known() -> None:
    assert list(PARTS) == ["training", "validation", "segmenter", "shapes", "images", "selection", "calibration"]
    with pytest.raises(KeyError):
        TimeLimit(1).part("reading")
