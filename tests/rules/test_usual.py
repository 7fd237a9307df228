"""The statistic by which a mask stands out most, beside references."""

from __future__ import annotations

import numpy as np
import pytest

from gnsm_monai.rules.levels import to_array
from gnsm_monai.rules.statistics import STATISTICS
from gnsm_monai.rules.usual import LEAST, UsualStatistics


def arrays(count: int, **values: np.ndarray) -> dict[str, np.ndarray]:
    """A model's, with references of two levels; what is not given is unknown."""
    nothing = np.full((count, 2), np.nan)
    return {"calibration": to_array({name: values.get(name, nothing) for name in STATISTICS})}


def levels(**values: float) -> dict[str, np.ndarray]:
    return {name: np.array([values.get(name, np.nan)] * 2) for name in STATISTICS}


@pytest.fixture(scope="module")
def usual() -> UsualStatistics:
    steps = np.arange(9.0)[:, None] + [0, 2]  # means over levels 1 to 9: median 5, absolute deviations' median 2
    return UsualStatistics.from_arrays(arrays(9, form=steps, place=10 * steps, uncertainty=steps))


def test_deviations_are_robust_and_of_means_over_levels(usual: UsualStatistics) -> None:
    mask = levels(form=20.0, place=100.0, uncertainty=900.0)
    assert usual.most_unusual(mask, ["form", "place"]) == ("form", pytest.approx(15 / (1.4826 * 2)))
    assert usual.most_unusual(mask, ["place"]) == ("place", pytest.approx(50 / (1.4826 * 20)))


def test_what_is_not_read_not_known_or_better_than_usual_does_not_stand_out(usual: UsualStatistics) -> None:
    mask = levels(form=4.0, place=50.0, uncertainty=900.0, extent=7.0)
    assert usual.most_unusual(mask, ["form", "place", "uncertainty", "extent"]) is None
    assert usual.most_unusual(levels(form=20.0), []) is None


def test_few_references_tell_nothing() -> None:
    few = UsualStatistics.from_arrays(arrays(LEAST - 1, form=np.ones((LEAST - 1, 2))))
    assert few.most_unusual(levels(form=20.0), ["form"]) is None
