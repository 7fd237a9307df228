"""Folders ranked by themselves, as the command does it: what is written, and what is said where little can be told."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gnsm_monai.cli import main
from gnsm_monai.folder.learnt import load_learnt
from gnsm_monai.folder.ranking import LIMITS
from gnsm_monai.folder.reading import read_masks
from tests.folder.masks import write


def ball(centre: Any, radius: float, shape: tuple[int, int, int] = (20, 22, 18)) -> np.ndarray:
    grid = np.stack(np.indices(shape), -1)
    distance = np.linalg.norm(grid - np.asarray(centre), axis=-1)
    return np.where(distance < radius / 2, 2, np.where(distance < radius, 1, 0)).astype(np.uint8)


def usual(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return ball(rng.normal((10, 11, 9), 0.5), rng.normal(6, 0.4))


def rows(output: Path, name: str = "ranking.csv") -> list[dict[str, str]]:
    with open(output / name, newline="") as table:
        return list(csv.DictReader(table))


def rank(output: Path, *words: Any) -> int:
    return main(["rank", "--output", str(output), "--predictions", *map(str, words)])


@pytest.fixture(scope="module")
def ranked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve usual masks and two odd ones, with references, of which one odd mask differs most."""
    folder = tmp_path_factory.mktemp("folder")
    truth = {f"c{i:02d}": usual(i) for i in range(14)}
    masks = {**truth, "c03": ball((5, 5, 5), 3), "c08": np.where(np.arange(18) > 8, truth["c08"], 0).astype(np.uint8)}
    write(folder / "masks", masks)
    write(folder / "references", truth)
    noise = np.random.default_rng(0).normal(size=(20, 22, 18)).astype(np.float32)
    write(folder / "images", {f"{name}_0000": noise for name in truth})
    given = ["--references", folder / "references", "--images", folder / "images"]
    assert rank(folder / "out", folder / "masks", *given) == 0
    return folder / "out"


def test_the_odd_masks_come_first_and_nothing_is_flagged(ranked: Path) -> None:
    table = rows(ranked)
    assert [row["case"] for row in table[:2]] == ["c03", "c08"]
    assert all(row["p_value"] == row["predicted_dice"] == row["q_value"] == "" and row["flag"] == "0" for row in table)
    scores = [float(row["anomaly_score"]) for row in table]
    assert scores == sorted(scores, reverse=True) and 0 < scores[-1] < scores[0] <= 1
    assert all(float(row["dice"]) == 1 for row in table[2:])


def test_a_reason_names_what_is_missing(ranked: Path) -> None:
    reason = next(row["reason"] for row in rows(ranked) if row["case"] == "c08")
    assert "missing" in reason or "end" in reason


def test_all_files_of_a_ranking_are_there(ranked: Path) -> None:
    for name in ("structures.csv", "slices.csv", "results.json", "report.html", "levels.csv", "level_statistics.npz"):
        assert (ranked / name).is_file(), name
    assert {row["structure"] for row in rows(ranked, "structures.csv")} == {"label_1", "label_2"}
    (volume,) = (
        float(row["volume_ml"])
        for row in rows(ranked, "structures.csv")
        if (row["case"], row["structure"]) == ("c00", "label_2")
    )
    assert volume == pytest.approx((usual(0) == 2).sum() / 1000)


def test_what_it_cannot_tell_stands_at_the_top_of_everything(ranked: Path) -> None:
    summary = json.loads((ranked / "summary.json").read_text())
    itself = summary["settings"]["folder_itself"]
    assert itself["limits"] == LIMITS and "review_budget" in summary  # it is measured, by the references
    assert itself["expected_apart"] >= 0 and "apart" in itself["standing_apart"]
    page = (ranked / "report.html").read_text()
    assert LIMITS in page and itself["standing_apart"] in page and "Held-out references" not in page
    assert page.index(LIMITS) < page.index('id="cases"')
    board = EventAccumulator(str(ranked / "tensorboard"))
    board.Reload()
    text = board.Tensors("learnt_from_the_folder_itself/text_summary")[0].tensor_proto.string_val[0].decode()
    assert LIMITS in text


def test_agreement_with_dice_is_measured(ranked: Path) -> None:
    metrics = json.loads((ranked / "summary.json").read_text())["metrics"]
    assert metrics["pearson"]["value"] < -0.9 and metrics["spearman"]["n"] == 14


def test_the_same_command_gives_the_same_ranking(ranked: Path, tmp_path: Path) -> None:
    folder = ranked.parent
    assert rank(tmp_path / "again", folder / "masks", "--references", folder / "references") == 0
    assert (tmp_path / "again" / "ranking.csv").read_bytes() == (ranked / "ranking.csv").read_bytes()


def test_without_references_there_is_neither_dice_nor_a_budget(tmp_path: Path) -> None:
    write(tmp_path / "masks", {f"c{i}": usual(i) for i in range(4)})
    assert rank(tmp_path / "out", tmp_path / "masks") == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert "review_budget" not in summary and "metrics" not in summary
    assert all(row["dice"] == "" for row in rows(tmp_path / "out"))


@pytest.mark.parametrize("number", [1, 2])
def test_one_or_two_masks_are_refused_in_one_line(
    tmp_path: Path, number: int, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "masks", {f"c{i}": usual(i) for i in range(number)})
    with pytest.raises(SystemExit, match="2"):
        rank(tmp_path / "out", tmp_path / "masks")
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert f"masks of {number} case(s) can be read" in line and "takes 3 at least" in line
    assert not (tmp_path / "out").exists()


def test_five_equal_masks_are_ranked_alike(tmp_path: Path) -> None:
    write(tmp_path / "masks", {f"c{i}": usual(0) for i in range(5)})
    assert rank(tmp_path / "out", tmp_path / "masks") == 0
    assert {float(row["anomaly_score"]) for row in rows(tmp_path / "out")} == {0.0}


def test_masks_without_any_structure_are_refused_and_one_among_others_is_worst(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "empty", {f"c{i}": nothing((20, 22, 18)) for i in range(4)})
    with pytest.raises(SystemExit):
        rank(tmp_path / "out", tmp_path / "empty")
    assert "hold no structure, only background" in capsys.readouterr().err
    write(tmp_path / "masks", {**{f"c{i}": usual(i) for i in range(4)}, "c9": nothing((20, 22, 18))})
    assert rank(tmp_path / "out", tmp_path / "masks") == 0
    assert rows(tmp_path / "out")[0]["case"] == "c9"
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["cases"][0]["empty"] is True


def test_an_unreadable_mask_costs_one_line_and_strict_stops(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "masks", {f"c{i}": usual(i) for i in range(4)})
    (tmp_path / "masks" / "c7.nii.gz").write_bytes(b"no mask")
    assert rank(tmp_path / "out", tmp_path / "masks") == 3
    last = rows(tmp_path / "out")[-1]
    assert (last["case"], last["status"]) == ("c7", "failed") and "c7.nii.gz" in last["message"]
    with pytest.raises(SystemExit):
        rank(tmp_path / "other", tmp_path / "masks", "--strict")
    assert "c7.nii.gz" in capsys.readouterr().err and not (tmp_path / "other").exists()


def test_masks_of_one_case_in_two_folders_do_not_judge_each_other(tmp_path: Path) -> None:
    odd = ball((5, 5, 5), 3)
    for name in ("a", "b"):
        write(tmp_path / name, {**{f"c{i}": usual(i) for i in range(6)}, "c9": odd})
    assert rank(tmp_path / "out", tmp_path / "a", tmp_path / "b") == 0
    table = rows(tmp_path / "out")
    assert {row["case"] for row in table[:2]} == {"a/c9", "b/c9"}
    assert float(table[1]["anomaly_score"]) > 0.8  # each would be rebuilt by the other


def test_masks_of_other_voxel_size_are_compared_at_a_common_one(tmp_path: Path) -> None:
    write(tmp_path / "masks", {f"c{i}": usual(i) for i in range(6)})
    fine = usual(7).repeat(2, 0).repeat(2, 1).repeat(2, 2)
    write(tmp_path / "masks", {"c7": fine}, spacing=0.5)
    write(tmp_path / "masks", {"c8": ball((5, 5, 5), 3)})
    assert rank(tmp_path / "out", tmp_path / "masks") == 0
    scores = {row["case"]: float(row["anomaly_score"]) for row in rows(tmp_path / "out")}
    assert scores["c7"] < 0.3 < scores["c8"]


def test_pictures_and_declared_labels(tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    for i in range(5):
        Image.fromarray(usual(i)[:, :, 9]).save(tmp_path / "masks" / f"c{i}.png")
    declared = {"labels": {"background": 0, "rim": 1, "core": 2}, "file_ending": ".png", "numTraining": 5}
    (tmp_path / "masks" / "dataset.json").write_text(json.dumps({**declared, "channel_names": {"0": "L"}}))
    assert read_masks([tmp_path / "masks"]).scheme.structure_names == ("rim", "core")
    assert rank(tmp_path / "out", tmp_path / "masks") == 0
    assert {row["structure"] for row in rows(tmp_path / "out", "structures.csv")} == {"rim", "core"}


def test_several_processes_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SystemExit):
        rank(tmp_path / "out", write(tmp_path / "masks", {f"c{i}": usual(i) for i in range(4)}))
    assert "without --model: runs in one process" in capsys.readouterr().err


@pytest.mark.parametrize("option", [["--alpha", "0.1"], ["--maps"], ["--propose"], ["--fdr", "0.1"]])
def test_what_only_a_model_can_tell_is_refused(
    tmp_path: Path, option: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "masks", {f"c{i}": usual(i) for i in range(4)})
    with pytest.raises(SystemExit):
        rank(tmp_path / "out", tmp_path / "masks", *option)
    assert f"{option[0]}: needs what only a model can tell" in capsys.readouterr().err


def nothing(shape: tuple[int, int, int]) -> np.ndarray:
    return np.zeros(shape, dtype=np.uint8)


@pytest.mark.parametrize("same", [True, False])
def test_empty_masks_are_usual_where_most_are_empty_whatever_their_size(tmp_path: Path, same: bool) -> None:
    empty = {f"e{i}": nothing((20, 22, 18) if same else (20, 22, 12 + i)) for i in range(6)}
    write(tmp_path / "masks", {**{f"c{i}": usual(i) for i in range(4)}, **empty})
    assert rank(tmp_path / "out", tmp_path / "masks") == 0
    assert {row["case"][0] for row in rows(tmp_path / "out")[:4]} == {"c"}


def test_references_say_whether_an_empty_mask_is_right(tmp_path: Path) -> None:
    """Most masks are empty, and no reference is: score and p-value say the same."""
    masks = {**{f"c{i}": usual(i) for i in range(3)}, **{f"e{i}": nothing((20, 22, 18)) for i in range(5)}}
    write(tmp_path / "masks", masks)
    write(tmp_path / "full", {f"r{i}": usual(20 + i) for i in range(9)})
    assert rank(tmp_path / "out", tmp_path / "masks", "--few-references", tmp_path / "full") == 0
    table = {row["case"]: (float(row["anomaly_score"]), float(row["p_value"])) for row in rows(tmp_path / "out")}
    assert all(table[f"e{i}"] == (1, pytest.approx(0.1)) for i in range(5))
    write(tmp_path / "mixed", {f"r{i}": usual(20 + i) if i < 3 else nothing((20, 22, 18)) for i in range(9)})
    assert rank(tmp_path / "mixed_out", tmp_path / "masks", "--few-references", tmp_path / "mixed") == 0
    table = {row["case"]: (float(row["anomaly_score"]), float(row["p_value"])) for row in rows(tmp_path / "mixed_out")}
    assert all(table[f"e{i}"] == (0, 1) for i in range(5))


def test_masks_of_one_patient_never_judge_each_other(tmp_path: Path) -> None:
    """With another map of the same patient among the others, a mask would be told from them by none."""
    masks = {f"p{i:02d}_{phase}": usual(i) for i in range(10) for phase in (1, 2)}
    odd = ball((5, 5, 5), 3)
    write(tmp_path / "masks", {**masks, "p03_1": odd, "p03_2": odd + (odd == 2)})
    assert rank(tmp_path / "out", tmp_path / "masks") == 0
    assert {row["case"] for row in rows(tmp_path / "out")[:2]} == {"p03_1", "p03_2"}
    folds = load_learnt(tmp_path / "out").consensus.folds
    assert (folds[::2] == folds[1::2]).all() and len(set(folds)) == 10
