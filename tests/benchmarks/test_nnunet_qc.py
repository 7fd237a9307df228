"""The tables of the QC page, on results whose figures are known."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import nnunet_qc
import numpy as np
import pytest
import rules_compared
from package_commands import scored_rows
from scipy.stats import spearmanr

from gnsm_monai.data.compare import mean_foreground_dice
from gnsm_monai.files import save_table
from gnsm_monai.rules.anomaly import AnomalyModel
from gnsm_monai.rules.fit_data import FitData
from gnsm_monai.rules.levels import stored_levels
from gnsm_monai.rules.statistics import STATISTICS


def write_ranking(folder: Path, **columns: list[object]) -> None:
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    folder.mkdir(parents=True, exist_ok=True)
    save_table(folder / "ranking.csv", ["status", *columns], [{"status": "ok", **row} for row in rows])


def test_dice_of_two_implementations_is_the_same() -> None:
    rng = np.random.default_rng(0)
    for structures in ([1, 2, 3], [1, 3]):
        mask, truth = rng.choice([0, *structures], (2, 9, 8, 7))
        assert nnunet_qc.sklearn_dice(mask, truth, 4) == pytest.approx(mean_foreground_dice(mask, truth, 4), abs=1e-12)


def test_worst_ten_by_score_and_by_dice_are_counted() -> None:
    dice = np.linspace(0, 1, 30)
    assert nnunet_qc.worst_in_common(-dice, dice) == 10
    assert nnunet_qc.worst_in_common(dice, dice) == 0
    assert nnunet_qc.worst_in_common(np.where(dice < dice[7], 1.0, np.where(dice > dice[26], 0.5, 0.0)), dice) == 7


def test_folders_table_has_ours_beside_the_prior(tmp_path: Path) -> None:
    labels = np.zeros((6, 6, 6), np.uint8)
    labels[2:4, 2:4, 2:4] = 1
    dataset, predictions = tmp_path / "dataset", tmp_path / "predictions"
    for folder in (dataset / "labelsTr", dataset / "labelsTs", predictions):
        folder.mkdir(parents=True)
    (dataset / "dataset.json").write_text('{"labels": {"background": 0, "organ": 1}}')
    dice = []
    for case in range(4):
        nib.save(nib.Nifti1Image(labels, np.eye(4)), dataset / "labelsTr" / f"r{case}.nii.gz")
        nib.save(nib.Nifti1Image(labels, np.eye(4)), dataset / "labelsTs" / f"c{case}.nii.gz")
        mask = np.roll(labels, case, axis=0)
        nib.save(nib.Nifti1Image(mask, np.eye(4)), predictions / f"c{case}.nii.gz")
        dice.append(mean_foreground_dice(mask, labels, 2))
    figures = {"predicted_dice": [d + 0.1 for d in dice], "predicted_dice_low": [-1.0, -1, -1, 0.9]}
    write_ranking(
        tmp_path / "results" / "predictions",
        case=[f"c{case}" for case in range(4)],
        anomaly_score=[1, 2, 3, 4],
        dice=dice,
        predicted_dice_high=[1.0] * 4,
        **figures,
    )
    (tmp_path / "results" / "predictions" / "summary.json").write_text("{}")  # ranked already
    (tmp_path / "results").rename(tmp_path / "hard")
    run = {"command": "c", **nnunet_qc.folders(tmp_path, [predictions], dataset, tmp_path)}
    lines = nnunet_qc.lines({"folders": [run]})
    assert lines[6].startswith("| predictions | 4 | 4 | 4 | -0.9")
    assert lines[6].endswith(" 0.0e+00 |")
    assert "absolute error 0.100" in lines[-2]
    assert "cover 75.0%" in lines[-2]


def test_calibration_table_tells_like_from_unlike(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    fit, degraded = rng.normal(size=(21, 1, len(STATISTICS))), rng.normal(size=(9, 1, len(STATISTICS)))
    data = FitData(*(stored_levels({"levels": values}, "levels") for values in (fit, degraded)), rng.random(9))
    model = AnomalyModel.fit(data, "disagreement").to_arrays()
    np.savez(tmp_path / "reference_statistics.npz", calibration_scores=rng.normal(size=39), fit=fit, **model)
    for name, shift in (("like", 0), ("unlike", 3)):
        scores = (rng.normal(size=50) + shift).tolist()
        write_ranking(tmp_path / name, anomaly_score=scores, flag=["1" if s > 1.9 else "0" for s in scores])
    rows = [
        nnunet_qc.calibration_row(name, tmp_path, scored_rows(tmp_path / name / "ranking.csv"))
        for name in ("like", "unlike")
    ]
    table = nnunet_qc.lines({"calibration": [{"command": "c", "rows": rows}]})
    like, unlike = table[6:8]
    assert float(like.split(" | ")[5]) > 0.01 > float(unlike.split(" | ")[5])
    assert int(like.split(" | ")[6]) <= 6 < int(unlike.split(" | ")[6])
    assert "flag 5.0% on average; in nine splits of ten 0 to 7 of 50" in table[-2]


def test_audit_table_lists_the_planted_errors_by_rank(tmp_path: Path) -> None:
    cases = [f"c{number}" for number in range(20)]
    empty = [""] * 20
    write_ranking(tmp_path, case=cases, rank=list(range(1, 21)), p_value=[0.02] * 20, worst_structure=empty)
    planted = {case: {"error": f"error {case}", "dice": 0.5} for case in ("c15", "c3")}
    planting = nnunet_qc.audit_ranks(7, scored_rows(tmp_path / "ranking.csv"), planted)
    lines = nnunet_qc.lines({"audit": [{"command": "c", "plantings": [planting]}]})
    assert lines[6].startswith("| 7 | 4 | error c3 |")
    assert lines[7].startswith("| 7 | 16 | error c15 |")
    assert lines[-2] == "Seed 7: 1 of 2 among the worst 12 of 20 references."


def test_rows_of_weights_score_as_the_model_does(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    size = len(STATISTICS)
    fit, degraded, dice = rng.random((8, 3, size)), rng.random((30, 3, size)), rng.random(30)
    arrays = {"fit": fit, "failures": degraded, "failure_dice": dice, "rule": "disagreement"}
    arrays |= {"calibration_failures": degraded, "calibration_failure_dice": dice}
    arrays |= {"failure_groups": np.arange(len(dice)), "failure_of_networks": np.zeros(len(dice), dtype=bool)}
    arrays |= {"val_loss": np.array([0.1, 0.3, 0.3]), "no_context_loss": np.array([0.2, 0.3, 0.3])}
    np.savez(tmp_path / "reference_statistics.npz", **arrays)
    cases = [f"c{number}" for number in range(30)]
    np.savez(tmp_path / "level_statistics.npz", levels=degraded, case=np.array(cases))
    write_ranking(tmp_path, case=cases, dice=dice.tolist())
    equal, saved, used = rules_compared.weights_rows(tmp_path, tmp_path)
    assert [np.round(row["per_level"], 2).tolist() for row in (equal, saved, used)] == [
        [0.33, 0.33, 0.33],
        [1, 0, 0],
        [0.5, 0.5, 0],
    ]
    references, failures = stored_levels(arrays, "fit"), stored_levels(arrays, "failures")
    score = AnomalyModel.fit(FitData(references, failures, dice), "disagreement").score(failures)
    assert equal["spearman"] == pytest.approx(spearmanr(score, dice).statistic)
