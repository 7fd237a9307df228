"""The files of a ranking."""

from __future__ import annotations

import csv
import logging
from pathlib import Path

import numpy as np
import pytest

from gnsm_monai.files import load_arrays, load_json
from gnsm_monai.report import ResultsWriter
from gnsm_monai.rules.statistics import STATISTICS
from gnsm_monai.scoring.result import CaseResult, FailedCase, Place, StructureResult
from tests.results import case_result


def measured(number: int, folder: str = "") -> CaseResult:
    structures = (
        StructureResult("aorta", 0.25, 0.5, 12.5, 0.75, contacts=2.5),
        StructureResult("left atrium", np.nan, np.nan, 0.0),
    )
    levels = {name: np.full(2, 1.0 + number) for name in STATISTICS}
    return case_result(
        f"{folder}/case_{number}" if folder else f"case_{number}", folder=folder, anomaly=9.0 - number,
        dice=(number * 3 % 7) / 10, levels=levels, structures=structures, place=Place("aorta", 2, 17),
        flagged=number == 0,
    )  # fmt: skip


UNTOLD_PARTS = {
    f"{name}{end}": "" for name in ("predicted_dice", "predicted_distance_mm") for end in ("", "_low", "_high")
}


def read(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_tables_hold_each_case_in_rank_order(tmp_path: Path) -> None:
    results = [
        measured(0),
        case_result("=b", p_value=float("nan"), levels=measured(1).levels),
        FailedCase("c", "", "c.png: torn"),
    ]
    ResultsWriter(tmp_path, {"alpha": 0.05})(results, 1.5)
    first, second, third = read(tmp_path / "ranking.csv")
    assert first == {
        "rank": "1", "case": "case_0", "status": "ok", "anomaly_score": "9", "p_value": "0.5", "flag": "1",
        "predicted_dice": "0.8", "predicted_dice_low": "0.7", "predicted_dice_high": "0.9", "worst_structure": "aorta",
        "worst_slice_axis": "2", "worst_slice": "17", "dice": "0", "message": "", "q_value": "",
        "predicted_distance_mm": "", "predicted_distance_mm_low": "", "predicted_distance_mm_high": "", "reason": "",
        "disagreement": "",
    }  # fmt: skip
    assert (second["rank"], second["case"], second["flag"], second["p_value"]) == ("2", "'=b", "0", "")
    assert {key: value for key, value in third.items() if value} == {
        "rank": "3", "case": "c", "status": "failed", "message": "c.png: torn",
    }  # fmt: skip
    assert read(tmp_path / "structures.csv") == [
        {"case": "case_0", "structure": "aorta", "anomaly_score": "0.25", "p_value": "0.5", "volume_ml": "12.5",
         "dice": "0.75", **UNTOLD_PARTS, "contacts": "2.5"},
        {"case": "case_0", "structure": "left atrium", "anomaly_score": "", "p_value": "", "volume_ml": "0",
         "dice": "", **UNTOLD_PARTS, "contacts": ""},
    ]  # fmt: skip
    summary = load_json(tmp_path / "summary.json")
    assert (summary["cases"], summary["failed"], summary["seconds_per_case"]) == (3, 1, 1.5)


def test_levels_are_compared_with_dice_where_three_masks_have_one(tmp_path: Path) -> None:
    summary = ResultsWriter(tmp_path)([measured(number) for number in range(3)], 1.0)
    assert summary == load_json(tmp_path / "summary.json")
    assert load_arrays(tmp_path / "level_statistics.npz")["levels"].shape == (3, 2, len(STATISTICS))
    assert {row["masks"] for row in read(tmp_path / "levels.csv")} == {"pooled"}
    ResultsWriter(tmp_path)([measured(number) for number in range(2)], 1.0)
    assert not (tmp_path / "levels.csv").exists()  # one of an earlier ranking would say something else


@pytest.mark.parametrize(
    ("folders", "sets"), [([""], ["4 masks"]), (["x", "y"], ["pooled (8 masks)", "x (4 masks)", "y (4 masks)"])]
)
def test_the_agreement_with_dice_is_said_once_per_set_of_masks(
    folders: list[str], sets: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    ResultsWriter(tmp_path)([measured(number, folder) for folder in folders for number in range(4)], 1.0)
    said = [message for message in caplog.messages if message.startswith("anomaly against Dice")]
    assert [message.split(", ")[1].partition(":")[0] for message in said] == sets


def test_too_few_references_to_flag_anything_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ResultsWriter(tmp_path, {"alpha": 0.05}, reference_scores=[0.1, np.nan, 0.3])([case_result()], 1.0)
    assert "nothing is flagged: 2 held-out references give no p-value below 0.333, and alpha is 0.05" in caplog.text


def test_notes_stand_beside_the_status_ok_and_are_counted_in_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    notes = ["no Dice: r.png: torn", "no Dice: s.png: torn", "probabilities turned", ""]
    results = [case_result(f"c{number}", note=note) for number, note in enumerate(notes)]
    ResultsWriter(tmp_path)(results, 1.0)
    rows = read(tmp_path / "ranking.csv")
    assert [(row["status"], row["message"]) for row in rows] == [("ok", note) for note in notes]
    said = [record.getMessage() for record in caplog.records if "see `message`" in record.getMessage()]
    line = "2 references could not be compared, 1 ranked mask has a remark: see `message` in "
    assert said == [f"{line}{tmp_path / 'ranking.csv'}"]
    page = (tmp_path / "report.html").read_text()
    assert page.count("no Dice: r.png: torn") == 2  # on its card, and in the table


def masks(folder: Path) -> list[str]:
    return sorted(
        path.relative_to(folder).as_posix() for part in ("maps", "flagged") for path in (folder / part).rglob("*")
    )


def test_maps_and_flagged_masks_of_an_earlier_ranking_go(tmp_path: Path) -> None:
    earlier = ["maps/f/case_0.nii.gz", "maps/f/gone.nii.gz", "maps/g/gone.nii.gz", "flagged/f/gone.nii.gz"]
    for name in [*earlier, "flagged/labels.ctbl", "flagged/labels.label.txt", "maps/notes.txt"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    ResultsWriter(tmp_path, with_maps=True)([measured(0, "f")], 1.0)
    kept = ["maps/f", "maps/f/case_0.nii.gz", "maps/notes.txt"]
    assert masks(tmp_path) == ["flagged/labels.ctbl", "flagged/labels.label.txt", *kept]
    ResultsWriter(tmp_path)([measured(0, "f")], 1.0)
    assert masks(tmp_path) == ["maps/notes.txt"]  # what this package did not write stays
    assert not (tmp_path / "flagged").exists()


def test_what_this_ranking_does_not_write_anew_is_not_left_by_an_earlier_one(tmp_path: Path) -> None:
    """As an audit does, which has neither copies nor lists, or a folder in which no mask can be read."""
    for name in ("proposed/f/a.png", "proposed/notes.txt", "lists/qc_fail.yml", "levels.csv", "level_statistics.npz"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "proposed" / "proposed.csv").write_text("case,file\nf/a,f/a.png\n")
    ResultsWriter(tmp_path)([FailedCase("f/a", "f", "torn")], 1.0)
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")}
    assert not left & {"proposed/f", "proposed/proposed.csv", "lists", "levels.csv", "level_statistics.npz"}
    assert (tmp_path / "proposed" / "notes.txt").is_file()  # what this package did not write stays
