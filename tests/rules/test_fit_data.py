"""References and failures that are left out, as if they had never been there."""

from __future__ import annotations

import numpy as np

from gnsm_monai.rules.fit_data import FitData


def test_what_is_left_is_numbered_anew() -> None:
    """Six references of four patients, failures of each, and failures of two empty references of other patients."""
    patients = np.array([0, 1, 1, 2, 3, 3, 4, 5])
    groups = np.repeat(np.arange(8), 2)
    data = FitData(
        {"misfit": np.arange(6.0)[:, None]}, {"misfit": 10.0 + groups[:, None]}, np.full(16, 0.5), groups,
        num_empty=2, patients=patients,
    )  # fmt: skip
    rest = data.without(np.isin(patients[:6], [0, 1]))
    assert rest.references["misfit"][:, 0].tolist() == [3, 4, 5]
    assert rest.failures["misfit"][:, 0].tolist() == [13, 13, 14, 14, 15, 15, 16, 16, 17, 17]
    assert rest.sources.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert rest.source_patients.tolist() == [2, 2, 3, 3, 3, 3, 4, 4, 5, 5]
    assert rest.folds.tolist() == [2, 3, 3]
    assert rest.compared.of_empty.tolist() == [False] * 6 + [True] * 4 + [False] * 3


def test_failures_of_no_group_stay_of_none() -> None:
    data = FitData({"misfit": np.zeros((3, 1))}, {"misfit": np.ones((2, 1))}, np.array([0.1, 0.9]))
    rest = data.without(np.array([True, False, False]))
    assert rest.sources.tolist() == [2, 3] and rest.num_references == 2
