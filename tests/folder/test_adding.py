"""Masks that come later: judged by what the earlier ones taught, beside them, and marked."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from gnsm_monai.files import load_arrays
from gnsm_monai.folder.adding import NOTE
from gnsm_monai.folder.learnt import load_learnt
from gnsm_monai.folder.reading import read_masks
from gnsm_monai.report.earlier import LEARNT
from tests.folder.masks import write
from tests.folder.test_ranking import ball, rank, rows, usual

SAME = ("anomaly_score", "p_value", "dice", "reason", "message", "worst_structure", "disagreement")


def kept(output: Path) -> dict[str, list[str]]:
    return {row["case"]: [row[name] for name in SAME] for row in rows(output)}


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ranking of twelve masks, one of them odd, and a folder of three more, of which one is odd in the same way."""
    folder = tmp_path_factory.mktemp("adding")
    write(folder / "masks", {**{f"c{i:02d}": usual(i) for i in range(12)}, "c03": ball((5, 5, 5), 3)})
    write(folder / "new", {"n1": usual(31), "n2": ball((6, 5, 5), 3), "n3": usual(33)})
    return folder


def test_new_masks_join_the_ranking_and_the_earlier_ones_keep_their_scores(first: Path) -> None:
    output = first / "joined"
    assert rank(output, first / "masks") == 0
    before = kept(output)
    assert rank(output, first / "new", "--add") == 0
    after = kept(output)
    assert {case: after[case] for case in before} == before and set(after) - set(before) == {"n1", "n2", "n3"}
    table = rows(output)
    scores = [float(row["anomaly_score"]) for row in table]
    assert scores == sorted(scores, reverse=True) and {row["case"] for row in table[:2]} == {"c03", "n2"}
    assert all((NOTE in row["message"]) == row["case"].startswith("n") for row in table)
    results = json.loads((output / "results.json").read_text())
    assert results["folder_itself"]["added"] == 3 and len(results["cases"]) == 15
    said = results["folder_itself"]["limits"]
    assert "3 of the masks were added later" in said and "what the first 12 let expect" in said
    assert said in (output / "report.html").read_text()


def test_what_a_mask_scores_does_not_depend_on_what_is_added_with_it_or_before(first: Path, tmp_path: Path) -> None:
    assert rank(tmp_path / "once", first / "masks") == 0
    assert rank(tmp_path / "twice", first / "masks") == 0
    assert rank(tmp_path / "once", first / "new", "--add") == 0
    for name in ("n3", "n1", "n2"):
        path = first / "new" / f"{name}.nii.gz"
        (tmp_path / name).mkdir()
        (tmp_path / name / path.name).write_bytes(path.read_bytes())
        assert rank(tmp_path / "twice", tmp_path / name, "--add") == 0
    for name in ("ranking.csv", "structures.csv"):
        assert (tmp_path / "once" / name).read_bytes() == (tmp_path / "twice" / name).read_bytes()


def test_a_later_mask_is_judged_as_an_earlier_one_of_the_same_case_would_be(first: Path) -> None:
    """A later mask of the patient c05 has the score that c05 has: none of the models of its fold has seen c05."""
    output = first / "same"
    assert rank(output, first / "masks") == 0
    write(first / "other" / "deep", {"c05": usual(5)})
    write(first / "other" / "wide", {"c06": usual(5)})  # equal voxel by voxel, of another name
    assert rank(output, first / "other" / "deep", first / "other" / "wide", "--add") == 0
    scores = {row["case"]: row["anomaly_score"] for row in rows(output)}
    assert scores["deep/c05"] == scores["c05"]


def test_a_later_mask_of_a_patient_is_judged_by_models_that_have_not_seen_the_patient(tmp_path: Path) -> None:
    write(tmp_path / "masks", {f"p{i:02d}_{phase}": usual(i) for i in range(10) for phase in (1, 2)})
    assert rank(tmp_path / "out", tmp_path / "masks") == 0
    learnt = load_learnt(tmp_path / "out")
    later = learnt.folds([f"p{i:02d}_3" for i in range(10)], [""] * 10)
    assert later.tolist() == learnt.consensus.folds[::2].tolist()


def test_a_later_mask_may_be_empty(first: Path, tmp_path: Path) -> None:
    assert rank(tmp_path / "out", first / "masks") == 0
    write(tmp_path / "new", {"n0": np.zeros((20, 22, 18), dtype=np.uint8)})
    assert rank(tmp_path / "out", tmp_path / "new", "--add") == 0
    worst = rows(tmp_path / "out")[0]
    assert (worst["case"], float(worst["anomaly_score"])) == ("n0", 1)


def test_the_whole_folder_may_be_named_again_and_failed_masks_are_tried_again(first: Path, tmp_path: Path) -> None:
    masks = write(tmp_path / "masks", {f"c{i}": usual(i) for i in range(5)})
    (masks / "c7.nii.gz").write_bytes(b"no mask")
    assert rank(tmp_path / "out", masks) == 3
    write(masks, {"c7": usual(7), "c8": usual(8)})
    assert rank(tmp_path / "out", masks, "--add") == 0
    table = rows(tmp_path / "out")
    assert len(table) == 7 and all(row["status"] == "ok" for row in table)
    before = (tmp_path / "out" / "ranking.csv").read_bytes()
    assert rank(tmp_path / "out", masks, "--add") == 0  # nothing is new
    assert (tmp_path / "out" / "ranking.csv").read_bytes() == before


def test_few_references_judge_later_masks_too(first: Path, tmp_path: Path) -> None:
    few = write(tmp_path / "few", {f"r{i}": usual(50 + i) for i in range(9)})
    assert rank(tmp_path / "out", first / "masks", "--few-references", few) == 0
    assert rank(tmp_path / "out", first / "new", "--add") == 0
    p_values = {row["case"]: float(row["p_value"]) for row in rows(tmp_path / "out")}
    assert p_values["n2"] == pytest.approx(0.1) and p_values["n1"] > 0.1


def test_patients_of_few_references_are_told_by_their_names_and_stored(first: Path, tmp_path: Path) -> None:
    few = write(tmp_path / "few", {f"r{i // 2}_{i % 2}": usual(50 + i) for i in range(16)})
    assert rank(tmp_path / "out", first / "masks", "--few-references", few) == 0
    references = load_learnt(tmp_path / "out").few
    assert references is not None and list(references.patients) == [f"r{i // 2}" for i in range(16)]


def test_what_is_stored_is_plain_and_comes_back(first: Path, tmp_path: Path) -> None:
    assert rank(tmp_path / "out", first / "masks") == 0
    assert all(values.dtype.kind in "biufU" for values in load_arrays(tmp_path / "out" / LEARNT).values())
    learnt = load_learnt(tmp_path / "out")
    masks = read_masks([first / "masks"]).one_hot
    for grid, maps in zip(learnt.consensus.grids, learnt.consensus.maps, strict=True):
        for mask, coarse in zip(masks, maps, strict=True):
            np.testing.assert_array_equal(coarse.shares, grid.coarse(mask).shares)


@pytest.mark.parametrize("damage", [b"", b"no archive"])
def test_a_damaged_file_and_other_results_are_refused_in_one_line(
    first: Path, tmp_path: Path, damage: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        rank(tmp_path / "none", first / "new", "--add")
    assert "holds no ranking without a model" in capsys.readouterr().err and not (tmp_path / "none").exists()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / LEARNT).write_bytes(damage)
    with pytest.raises(SystemExit, match="2"):
        rank(tmp_path / "out", first / "new", "--add")
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert LEARNT in line
    with pytest.raises(SystemExit, match="2"):
        rank(tmp_path / "out", first / "new", "--add", "--model", first)
    assert "--add: goes with --predictions alone" in capsys.readouterr().err
