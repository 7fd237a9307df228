"""How references are dealt into folds, and how scores of different models become comparable."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gnsm_monai.audit import _case_scores, keep_plan, plan_folds, standardise
from gnsm_monai.errors import InputError


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    (tmp_path / "data" / "labelsTr").mkdir(parents=True)
    for number in range(11):
        (tmp_path / "data" / "labelsTr" / f"case{number:02d}.nii.gz").write_text("")
    return tmp_path / "data"


def test_every_case_is_in_one_fold_of_nearly_equal_size(dataset: Path, tmp_path: Path) -> None:
    plan = plan_folds(dataset, tmp_path / "out", 4)["folds"]
    assert sorted(case for fold in plan for case in fold) == [f"case{number:02d}" for number in range(11)]
    assert sorted(map(len, plan)) == [2, 3, 3, 3]
    assert plan[0] != [f"case{number:02d}" for number in range(3)]  # neighbours in name are often alike


def test_the_same_audit_goes_on_and_another_is_refused(dataset: Path, tmp_path: Path) -> None:
    plan = plan_folds(dataset, tmp_path / "out", 3)
    assert not (tmp_path / "out").exists()
    keep_plan(plan, tmp_path / "out")
    assert plan_folds(dataset, tmp_path / "out", 3) == plan
    with pytest.raises(InputError, match="in other folds"):
        plan_folds(dataset, tmp_path / "out", 4)
    (dataset / "labelsTr" / "case03.nii.gz").write_text("corrected")
    with pytest.raises(InputError, match="other label maps"):
        plan_folds(dataset, tmp_path / "out", 3)


def test_more_folds_than_cases_or_no_labels_are_refused(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="12 folds need as many label maps, found 11"):
        plan_folds(dataset, tmp_path / "out", 12)
    with pytest.raises(InputError, match="no such folder"):
        plan_folds(tmp_path / "nowhere", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_standardised_scores_do_not_depend_on_a_models_scale() -> None:
    rng = np.random.default_rng(0)
    calibration, scores = rng.normal(3, 2, 4001), np.array([3.0, 5.0, 9.0])
    found = standardise(scores, calibration)
    assert found == pytest.approx([0, 1, 3], abs=0.1)  # deviations of a normal distribution
    assert standardise(scores * 7 - 4, calibration * 7 - 4) == pytest.approx(found)


def test_deviations_are_left_as_they_are_and_other_rules_are_standardised() -> None:
    known = np.array([1.0, 2.0, 3.0])
    assert _case_scores(np.array(5.0), {"rule": np.array("deviation"), "calibration_scores": known}) == 5.0
    other = _case_scores(np.array(5.0), {"rule": np.array("shape"), "calibration_scores": known})
    assert other == pytest.approx(standardise(np.array(5.0), known))


def test_standardising_survives_alike_references_and_outliers_and_absent_ones() -> None:
    assert standardise(np.array(2.0), np.array([1.0, 1, 1, 1, 2])) == pytest.approx(1 / np.std([1, 1, 1, 1, 2]))
    assert standardise(np.array(2.5), np.ones(4)) == 1.5
    assert standardise(np.array(2.0), np.array([0, 1, 2, np.nan, 1e9])) == pytest.approx(0.5 / 1.4826)
    assert np.isnan(standardise(np.array(2.0), np.array([np.nan])))
