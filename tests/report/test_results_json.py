"""results.json: plain, complete, and as its page says."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gnsm_monai.explain.planes import SliceScores
from gnsm_monai.report import ResultsWriter
from gnsm_monai.rules.calibration import Calibration
from gnsm_monai.rules.held_out import Basis, HeldOut
from gnsm_monai.rules.predictors import DicePredictor
from gnsm_monai.scoring.result import FailedCase, Place, PredictedValue, Result, StructureResult
from tests.results import case_result

NAN = float("nan")
PAGE = Path(__file__).parents[2] / "docs" / "results_json.md"
PARTS = (
    StructureResult("aorta", 0.25, 0.5, 12.5, 0.75, PredictedValue(0.7, 0.6, 0.8), PredictedValue(1.5)),
    StructureResult("atrium", NAN, NAN, 0.0),
)
RESULTS: list[Result] = [
    case_result("worst", flagged=True, structures=PARTS, place=Place("aorta", 2, 17), reason="aorta is missing",
                distance=PredictedValue(2.0, 1.0, 4.0), q_value=0.1, dice=0.25,
                slices=SliceScores(2, np.array([NAN, 0.5, 1.25], np.float32))),
    case_result("usual", p_value=NAN, dice=NAN),
    FailedCase("torn", "", "torn.nii.gz: cannot be read"),
]  # fmt: skip


def no_constant(name: str) -> Any:
    raise AssertionError(f"{name} is no JSON")


def basis(failures: int = 40, references: int = 39) -> Basis:
    residuals, kinds = np.linspace(-1, 1, failures), np.arange(failures) % 8
    predictor = DicePredictor(*np.array([[0.0, 1.0], [1.0, 0.0], [0.1, 0.1]]), residuals)
    calibration = Calibration(np.linspace(0, 0.4, references), np.empty((references, 0)), predictor)
    return Basis(calibration, HeldOut(-0.9, failures, residuals, kinds))


def written(folder: Path, given: Basis | None) -> dict[str, Any]:
    settings = {"alpha": 0.05, "fdr": None, "structures": ["aorta", "atrium"]}
    ResultsWriter(folder, settings, basis=given)(RESULTS, 1.0)
    content: dict[str, Any] = json.loads((folder / "results.json").read_text(), parse_constant=no_constant)
    return content


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return written(tmp_path_factory.mktemp("results"), basis())


def test_every_case_has_every_field_and_what_is_not_known_is_null(content: dict[str, Any]) -> None:
    worst, usual, torn = content["cases"]
    assert set(worst) == set(usual) == set(torn)
    expected = {"rank": 1, "status": "ok", "flag": True, "q_value": 0.1, "predicted_distance_mm_high": 4.0,
                "dice": 0.25, "reason": "aorta is missing", "worst_slice_axis": 2, "worst_slice": 17,
                "message": None}  # fmt: skip
    assert {name: worst[name] for name in expected} == expected
    aorta, atrium = worst["structures"]
    assert (aorta["predicted_dice"], aorta["predicted_dice_low"], aorta["predicted_distance_mm_low"]) == (
        0.7,
        0.6,
        None,
    )
    assert (atrium["anomaly_score"], atrium["predicted_dice"], atrium["volume_ml"]) == (None, None, 0.0)
    assert (usual["p_value"], usual["dice"], usual["flag"]) == (None, None, False)
    assert {name for name, value in torn.items() if value not in (None, [])} == {
        "rank", "case", "folder", "status", "message"
    }  # fmt: skip


def test_the_page_names_every_field_and_no_other(content: dict[str, Any]) -> None:
    named = set(re.findall(r"`(\w+)`", PAGE.read_text()))
    records = [content, content["cases"][0], content["cases"][0]["structures"][0], content["folders"][0],
               content["score_on_failures"], content["model"], content["folders"][0]["mean_dice"]]  # fmt: skip
    fields = {name for record in records for name in record}
    assert fields <= named
    columns = re.findall(r"^\| ((?:`\w+`(?:, )?)+)", PAGE.read_text(), flags=re.M)
    assert {name for cell in columns for name in re.findall(r"`(\w+)`", cell)} <= fields


def test_the_folder_and_the_score_are_judged(content: dict[str, Any]) -> None:
    (folder,) = content["folders"]
    assert content["verdict"] == folder["text"]
    assert folder["mean_dice"]["low"] < folder["mean_dice"]["value"] < folder["mean_dice"]["high"]
    assert (folder["cases"], folder["scored"], folder["flagged"]) == (3, 2, 1)
    assert content["score_on_failures"]["strength"] == "strong"
    assert content["limits"] == [
        "Surface distances and the Dice of structures are not predicted: the model is of an earlier version."
    ]


def test_a_model_that_can_say_little_says_so(tmp_path: Path) -> None:
    content = written(tmp_path, basis(failures=9, references=9))
    (folder,) = content["folders"]
    assert (folder["mean_dice"]["low"], folder["failure_share"]["high"]) == (None, None)
    assert "too few held-out failures for an interval" in content["verdict"]
    assert content["score_on_failures"]["strength"] == "unknown"
    limits = " ".join(content["limits"])
    assert "9 held-out references give no p-value below 0.100" in limits
    assert "90 % need 19 failures of calibration references, there are 9" in limits


def test_a_ranking_without_a_basis_has_no_verdict(tmp_path: Path) -> None:
    content = written(tmp_path, None)
    assert [content[name] for name in ("score_on_failures", "verdict", "limits", "folders")] == [None] * 4
    assert len(content["cases"]) == 3


def test_slices_that_hold_something_have_a_row(tmp_path: Path) -> None:
    written(tmp_path, None)
    with open(tmp_path / "slices.csv", newline="") as file:
        assert list(csv.reader(file)) == [
            ["case", "axis", "slice", "anomaly_score"], ["worst", "2", "1", "0.5"], ["worst", "2", "2", "1.25"]
        ]  # fmt: skip
