"""How references are dealt into folds, and how scores of different models become comparable."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gnsm_monai.audit import _comparable, _reason, common_spread, keep_plan, plan_folds, standardise
from gnsm_monai.errors import InputError
from gnsm_monai.rules.anomaly import AnomalyModel
from gnsm_monai.rules.rule import rule_named
from gnsm_monai.rules.rules import RULES, UNUSUAL_IN
from gnsm_monai.scoring.wording import NO_REASON


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


def model(rule: str, scale: float) -> AnomalyModel:
    arrays = {"mean": np.full(9, scale), "scale": np.array([scale, *[1.0] * 8])}
    return AnomalyModel(replace(rule_named(rule, RULES), weights=np.array([0.5, 0.5]), arrays=arrays), 1.0, {})


def constant(*shape: int, value: float, **others: float) -> dict[str, np.ndarray]:
    """Statistics of a shape, all of one value but for some."""
    return {name: np.full(shape, others.get(name, value)) for name in UNUSUAL_IN}


def test_folds_share_the_median_of_their_spreads_about_their_own_centres() -> None:
    found = common_spread([model("deviation", scale) for scale in (1.0, 3.0, 50.0)])
    rules = [m.fitted for m in found if m is not None]
    assert [rule.arrays["scale"][0] for rule in rules] == [3.0] * 3
    for more, deviations in ((0, 0.0), (6, 2.0)):
        centres = [rule.arrays["mean"][0] for rule in rules]
        levels = [constant(1, 2, value=centre, score_norm=centre + more) for centre in centres]
        assert [float(r.anomaly(own)[0]) for r, own in zip(rules, levels, strict=True)] == [deviations] * 3
    assert common_spread([model("deviation", 1.0), model("shape", 3.0)]) == [None, None]  # all are standardised


def test_a_row_gets_the_p_value_of_its_comparable_score() -> None:
    row = {
        "status": "ok",
        "levels": constant(2, value=5.0),
        "structures": [],
        "anomaly_score": 99.0,
        "p_value": 0,
        "flag": 0,
        "reason": "anterior is shifted 3 mm",
    }
    arrays = {"calibration_structures": np.zeros((3, 0)), "calibration_scores": np.array([0.0, 1.0, 2.0])}
    known = np.array([1.0, 3.0, 9.0])
    found = _comparable(row, arrays, model("deviation", 1.0), known, 0.5)
    assert (found["anomaly_score"], found["p_value"], found["flag"]) == (4.0, 0.5, 1)
    assert (
        found["reason"]
        == "anterior is shifted 3 mm; stands out by its norm of the score (4.0 deviations from the usual)"
    )
    assert _comparable(row, arrays, model("deviation", 1.0), known, 0.4)["reason"] == row["reason"]  # not flagged
    other = _comparable({**row, "anomaly_score": 3.0}, arrays, None, known, 0.5)
    empty = _comparable({**row, "empty": True}, arrays, model("deviation", 1.0), known, 0.5)
    assert (empty["anomaly_score"], empty["p_value"], empty["flag"]) == (pytest.approx(9), 0.25, 1)
    assert other["anomaly_score"] == pytest.approx(2 / 1.4826) and other["p_value"] == 0
    assert _comparable({"status": "failed"}, arrays, None, known, 0.5) == {"status": "failed"}


def test_standardising_survives_alike_references_and_outliers_and_absent_ones() -> None:
    assert standardise(np.array(2.0), np.array([1.0, 1, 1, 1, 2])) == pytest.approx(1 / np.std([1, 1, 1, 1, 2]))
    assert standardise(np.array(2.5), np.ones(4)) == 1.5
    assert standardise(np.array(2.0), np.array([0, 1, 2, np.nan, 1e9])) == pytest.approx(0.5 / 1.4826)
    assert np.isnan(standardise(np.array(2.0), np.array([np.nan])))


def test_a_flagged_map_says_in_what_it_is_unusual() -> None:
    levels = constant(2, value=1, size=8)
    for known in ("", NO_REASON):
        said = _reason(known, levels, model("deviation", 1.0))
        assert said == "stands out by its size (7.0 deviations from the usual)"
    with pytest.raises(ValueError, match="'shape' is not of one statistic"):
        model("shape", 1.0).fitted.most_unusual(levels)
