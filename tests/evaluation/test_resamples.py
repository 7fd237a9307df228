"""All resamples at once give what each gives by itself."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnsm_monai.evaluation import resamples
from gnsm_monai.evaluation.resamples import resampled_metrics
from gnsm_monai.evaluation.summary import _metrics
from gnsm_monai.rules.resampling import draw_cases

LIMITS = (0.5, 0.7)


def one_by_one(score: np.ndarray, dice: np.ndarray, counts: np.ndarray) -> dict[str, list[float]]:
    """The metrics of each resample, whose masks are written out as often as they were drawn."""
    rows = [np.repeat(np.arange(len(score)), drawn) for drawn in counts]
    return {
        name: [metric(score[drawn], dice[drawn]) for drawn in rows] for name, (metric, _) in _metrics(LIMITS).items()
    }


@pytest.mark.parametrize("digits", [1, 12])
@pytest.mark.parametrize("masks", [3, 17, 60])
def test_every_metric_is_that_of_the_masks_written_out(masks: int, digits: int) -> None:
    """Rounded to one digit, many masks are tied, in their score, their Dice or both."""
    rng = np.random.default_rng(masks)
    dice = rng.uniform(0, 1, masks).round(digits)
    score = (rng.normal(0, 0.3, masks) - dice).round(digits)
    counts = draw_cases(np.arange(masks) // 2, 40, seed=1)
    at_once = resampled_metrics(score, dice, counts, LIMITS)
    expected = one_by_one(score, dice, counts)
    assert list(at_once) == list(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(at_once[name], values, rtol=1e-9, atol=1e-12, err_msg=name)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(0, 3)), min_size=2, max_size=7))
def test_what_a_resample_leaves_undefined_is_undefined(masks: list[tuple[int, int, int]]) -> None:
    score, dice, drawn = (np.array(column, dtype=float) for column in zip(*masks, strict=True))
    drawn[0] += 1  # no resample is empty
    counts = drawn[None].astype(np.int64)
    at_once, expected = resampled_metrics(score, dice / 4, counts, LIMITS), one_by_one(score, dice / 4, counts)
    for name, values in expected.items():
        np.testing.assert_allclose(at_once[name], values, rtol=1e-9, atol=1e-12, err_msg=name)


def test_how_many_are_looked_at_together_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    dice = rng.uniform(0, 1, 25)
    score, counts = rng.normal(size=25) - dice, draw_cases(np.arange(25), 30, seed=0)
    whole = resampled_metrics(score, dice, counts, LIMITS)
    monkeypatch.setattr(resamples, "MAX_VALUES", 60)
    for name, values in resampled_metrics(score, dice, counts, LIMITS).items():
        np.testing.assert_allclose(values, whole[name], rtol=1e-12, err_msg=name)


def test_cases_are_drawn_whole() -> None:
    case = np.array([2, 0, 1, 0, 2, 2])
    counts = draw_cases(case, 50, seed=3)
    assert counts.shape == (50, 6)
    assert (counts[:, 0] == counts[:, 4]).all() and (counts[:, 1] == counts[:, 3]).all()
    assert (counts[:, [1, 2, 0]].sum(1) == 3).all()
