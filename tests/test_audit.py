"""How references are dealt into folds, and how scores of different models become comparable."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gnsm_monai.audit import PLAN, _calibration, _comparable, _reason, common_spread, plan_folds, standardise
from gnsm_monai.errors import InputError
from gnsm_monai.explain.sentences import NO_REASON
from gnsm_monai.files import save_json
from gnsm_monai.rules.anomaly import AnomalyModel
from gnsm_monai.rules.rule import rule_named
from gnsm_monai.rules.rules import RULES, UNUSUAL_IN
from gnsm_monai.scoring.result import CaseResult, FailedCase, StructureResult
from tests.results import case_result


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


def test_all_maps_of_a_patient_are_in_one_fold(tmp_path: Path) -> None:
    (tmp_path / "labelsTr").mkdir()
    for number in range(20):
        (tmp_path / "labelsTr" / f"p{number // 2}_{number % 2}.nii.gz").write_text("")
    plan = plan_folds(tmp_path, tmp_path / "out", 5)["folds"]
    assert [{case[:2] for case in fold} for fold in plan] == [{fold[0][:2], fold[2][:2]} for fold in plan]
    assert sorted(case for fold in plan for case in fold) == [f"p{n}_{k}" for n in range(10) for k in range(2)]
    apart = plan_folds(tmp_path, tmp_path / "out", 20, patients="each")["folds"]
    assert [len(fold) for fold in apart] == [1] * 20


def test_the_same_audit_goes_on_and_another_is_refused(dataset: Path, tmp_path: Path) -> None:
    plan = plan_folds(dataset, tmp_path / "out", 3)
    assert not (tmp_path / "out").exists()
    save_json(tmp_path / "out" / PLAN, plan)
    assert plan_folds(dataset, tmp_path / "out", 3) == plan
    with pytest.raises(InputError, match="in other folds"):
        plan_folds(dataset, tmp_path / "out", 4)
    (dataset / "labelsTr" / "case03.nii.gz").write_text("corrected")
    with pytest.raises(InputError, match="other label maps"):
        plan_folds(dataset, tmp_path / "out", 3)


def test_more_folds_than_cases_or_no_labels_are_refused(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="12 folds need as many label maps, each of another patient, found 11"):
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


def comparable(result: CaseResult, arrays: dict[str, np.ndarray], rule: str, alpha: float = 0.5) -> CaseResult:
    """As :func:`_comparable` makes it, among calibration scores of 1, 3 and 9."""
    spread = model("deviation", 1.0) if rule == "deviation" else None
    found = _comparable(result, arrays, spread, np.array([1.0, 3.0, 9.0]), alpha)
    assert isinstance(found, CaseResult)
    return found


def test_a_result_gets_the_p_value_of_its_comparable_score() -> None:
    reason = "anterior is shifted 3 mm"
    result = case_result(levels=constant(2, value=5.0), anomaly=99.0, p_value=0.0, reason=reason)
    arrays = {"calibration_structures": np.zeros((3, 0)), "calibration_scores": np.array([0.0, 1.0, 2.0])}
    found = comparable(result, arrays, "deviation")
    decision = found.decision
    assert (decision.anomaly, decision.p_value, decision.flagged) == (4.0, 0.5, True)
    unusual = "stands out by its norm of the score (4.0 deviations from the usual)"
    assert found.reason == f"{reason}; {unusual}"
    assert comparable(result, arrays, "deviation", 0.4).reason == reason  # not flagged
    empty = replace(result, decision=replace(result.decision, empty=True))
    decision = comparable(empty, arrays, "deviation").decision
    assert (decision.anomaly, decision.p_value, decision.flagged) == (pytest.approx(9), 0.25, True)
    other = comparable(replace(result, decision=replace(result.decision, anomaly=3.0)), arrays, "other").decision
    assert other.anomaly == pytest.approx(2 / 1.4826) and other.p_value == 0
    failed = FailedCase("a", "", "unreadable")
    assert _comparable(failed, arrays, None, np.array([1.0]), 0.5) is failed


def test_structures_become_comparable_by_their_own_references() -> None:
    structures = tuple(StructureResult(name, anomaly, 0.5, 1.0) for name, anomaly in (("a", 3.0), ("b", 12.0)))
    arrays = {"calibration_structures": np.array([[0.0, 10], [1, 11], [2, 12]]), "calibration_scores": np.arange(3.0)}
    found = comparable(case_result(structures=structures), arrays, "other").structures
    assert [entry.anomaly for entry in found] == pytest.approx([2 / 1.4826, 1 / 1.4826])
    assert [(entry.name, entry.p_value) for entry in found] == [("a", 0.5), ("b", 0.5)]


def test_standardising_survives_alike_references_and_outliers_and_absent_ones() -> None:
    assert standardise(np.array(2.0), np.array([1.0, 1, 1, 1, 2])) == pytest.approx(1 / np.std([1, 1, 1, 1, 2]))
    assert standardise(np.array(2.5), np.ones(4)) == 1.5
    assert standardise(np.array(2.0), np.array([0, 1, 2, np.nan, 1e9])) == pytest.approx(0.5 / 1.4826)
    assert np.isnan(standardise(np.array(2.0), np.array([np.nan])))


def test_a_flagged_map_says_in_what_it_is_unusual() -> None:
    levels = constant(2, value=1, size=8)
    for known in ("", NO_REASON):
        said = _reason(case_result(reason=known, levels=levels), model("deviation", 1.0))
        assert said == "stands out by its size (7.0 deviations from the usual)"
    with pytest.raises(ValueError, match="'shape' is not of one statistic"):
        model("shape", 1.0).fitted.most_unusual(levels)


def test_references_of_selection_do_not_shift_which_of_calibration_are_empty() -> None:
    """A file lists which held-out references are empty, those of calibration first."""
    fitted = replace(model("deviation", 1.0), empty_scores=np.full(101, 7.0))
    values = np.stack(list({**constant(3, 2, value=5.0), **{"doubt": np.full((3, 2), np.nan)}}.values()), axis=-1)
    arrays = {
        "statistic": np.array([*UNUSUAL_IN, "doubt"]),
        "calibration": values,
        "calibration_empty": np.array([True, False, False, True, False]),
    }
    assert _calibration(arrays, fitted).tolist() == [7.0, 4.0, 4.0]
