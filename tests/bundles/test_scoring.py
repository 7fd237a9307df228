from __future__ import annotations

import csv
import gzip
import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import yaml
from monai.data import DataLoader

from gnsm_monai import workflow as steps
from gnsm_monai.explain.sentences import NOT_UNUSUAL
from gnsm_monai.files import load_arrays
from gnsm_monai.handlers import ranking as ranking_handler
from gnsm_monai.model.trained import TrainedModel
from gnsm_monai.report.rows import RANKING_COLUMNS, STRUCTURE_COLUMNS
from gnsm_monai.rules import STATISTICS
from gnsm_monai.rules.levels import stored_levels
from gnsm_monai.workflow import scoring as scoring_steps
from tests.bundles.conftest import CONFIGS, EVALUATE, INFERENCE, TRAIN, run_config


def read(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def results(model: Path, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folders = [str(dataset / "predictions" / kind) for kind in ("missing_part", "islands")]
    output = tmp_path_factory.mktemp("results")
    run_config(
        EVALUATE,
        "infer",
        model_dir=str(model),
        predictions_dir=folders,
        references_dir=str(dataset / "labelsTs"),
        output_dir=str(output),
        device="cpu",
    )
    return output


def test_ranking_has_the_columns_of_the_contract_worst_first(results: Path) -> None:
    rows = read(results / "ranking.csv")
    assert tuple(rows[0]) == RANKING_COLUMNS
    assert [row["rank"] for row in rows] == [str(n) for n in range(1, 9)]
    scores = [float(row["anomaly_score"]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    assert {row["case"].split("/")[0] for row in rows} == {"missing_part", "islands"}
    assert all(row["status"] == "ok" and not row["message"] for row in rows)


@pytest.mark.parametrize("fdr", [None, 0.2])
def test_masks_that_are_not_shown_rank_as_they_do_where_all_is_measured(
    model: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fdr: float | None
) -> None:
    monkeypatch.setattr(scoring_steps, "MOST_MEASURED", 2)
    monkeypatch.setattr(ranking_handler, "MAX_CARDS", 2)
    folders = [str(dataset / "labelsTs"), str(dataset / "predictions" / "missing_part")]
    options: dict[str, Any] = {"model_dir": str(model), "predictions_dir": folders, "device": "cpu", "fdr": fdr}
    worse_than_all = 1 / (len(TrainedModel.load(model).calibration.scores) + 1)
    whole, brief = tmp_path / "whole", tmp_path / "brief"
    run_config(INFERENCE, "infer", output_dir=str(whole), all_statistics=True, **options)
    run_config(INFERENCE, "infer", output_dir=str(brief), **options)
    of_maps = {"reason": NOT_UNUSUAL, "worst_slice": "", "worst_slice_axis": ""}
    pairs = list(zip(read(whole / "ranking.csv"), read(brief / "ranking.csv"), strict=True))
    for place, (all_of_it, row) in enumerate(pairs):
        shown = place < 2 or row["flag"] == "1" or float(row["p_value"]) <= worse_than_all + 1e-9
        assert row == (all_of_it if shown else {**all_of_it, **of_maps})
    assert any(all_of_it != row for all_of_it, row in pairs)
    assert read(whole / "structures.csv") == read(brief / "structures.csv")  # the rule asks the network
    values, all_values = (load_arrays(folder / "level_statistics.npz")["levels"] for folder in (brief, whole))
    assert np.isnan(values).any() and np.isfinite(values[:2]).sum() == np.isfinite(all_values[:2]).sum()
    np.testing.assert_array_equal(values, np.where(np.isnan(values), np.nan, all_values))


def test_decisions_follow_from_the_scores_of_unseen_references(results: Path, model: Path) -> None:
    known = TrainedModel.load(model).calibration.scores
    rows = read(results / "ranking.csv")
    for row in rows:
        at_least = sum(score >= float(row["anomaly_score"]) for score in known)
        assert float(row["p_value"]) == pytest.approx((1 + at_least) / (len(known) + 1))
        assert row["flag"] == str(int(float(row["p_value"]) <= 0.05))
        assert 0 <= float(row["predicted_dice"]) <= 1
        assert row["predicted_dice_low"] == row["predicted_dice_high"] == ""  # fewer than 19 failures calibrate it
    predicted = [float(row["predicted_dice"]) for row in rows]
    assert predicted == sorted(predicted)
    assert all(row["worst_slice"] == row["worst_slice_axis"] == "" for row in rows)  # pictures are no volumes
    structures = read(results / "structures.csv")
    assert all((row["p_value"] == "") == (row["anomaly_score"] == "") for row in structures)


def test_dice_is_that_of_an_independent_implementation(results: Path, dataset: Path) -> None:
    for row in read(results / "ranking.csv"):
        kind, case = row["case"].split("/")
        mask, reference = (
            sitk.GetArrayFromImage(sitk.ReadImage(str(folder / f"{case}.png")))
            for folder in (dataset / "predictions" / kind, dataset / "labelsTs")
        )
        dice = [
            2 * np.sum((mask == c) & (reference == c)) / (np.sum(mask == c) + np.sum(reference == c))
            for c in np.union1d(mask, reference)[1:]
        ]
        assert float(row["dice"]) == pytest.approx(np.mean(dice), abs=1e-6)


def test_structures_have_volume_and_dice(results: Path) -> None:
    rows = read(results / "structures.csv")
    assert tuple(rows[0]) == STRUCTURE_COLUMNS
    assert len(rows) == 8 * 3
    assert all(0 <= float(row["anomaly_score"] or 1) <= 1 and float(row["volume_ml"]) >= 0 for row in rows)


def test_summary_has_pooled_and_per_folder_metrics_and_the_models_identity(results: Path, model: Path) -> None:
    summary = json.loads((results / "summary.json").read_text())
    assert (summary["cases"], summary["failed"], summary["with_reference"]) == (8, 0, 8)
    assert summary["settings"]["weights_sha256"] == json.loads((model / "settings.json").read_text())["weights_sha256"]
    assert set(summary["metrics_per_folder"]) == {"missing_part", "islands"}
    for metrics in (summary["metrics"], *summary["metrics_per_folder"].values()):
        assert {"pearson", "spearman", "kendall", "aurc", "e_aurc", "norm_aurc", "augrc", "auroc_0.7"} <= set(metrics)
        assert -1 <= metrics["spearman"]["value"] <= 1
    assert summary["metrics"]["spearman"]["n"] == 8


def test_levels_table_has_every_statistic_at_every_level(results: Path) -> None:
    rows = [row for row in read(results / "levels.csv") if row["masks"] == "pooled"]
    assert {row["statistic"] for row in rows} == set(STATISTICS) - {"doubt"}  # it sees no images
    assert {row["level"] for row in rows} == {"0", "1", "2", "mean"}


def test_level_statistics_are_kept_and_explain_the_scores(results: Path, model: Path) -> None:
    kept, scores = load_arrays(results / "level_statistics.npz"), read(results / "ranking.csv")
    assert kept["case"].tolist() == [row["case"] for row in scores]
    assert tuple(kept["statistic"]) == STATISTICS
    explained = TrainedModel.load(model).anomaly.score(stored_levels(kept, "levels"))
    np.testing.assert_allclose(explained, [float(row["anomaly_score"]) for row in scores], rtol=1e-6)


def test_the_same_mask_gets_the_same_score_in_any_order_and_company(
    results: Path, model: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without references, alone in its folder, shuffled: bit-equal scores."""
    expected = {row["case"]: row["anomaly_score"] for row in read(results / "ranking.csv")}
    found = scoring_steps.find_predictions

    def shuffled(*arguments: Any) -> list[dict[str, Any]]:
        cases = found(*arguments)
        random.Random(3).shuffle(cases)
        return cases

    monkeypatch.setattr(scoring_steps, "find_predictions", shuffled)
    folder = str(dataset / "predictions" / "islands")
    shared = {"model_dir": str(model), "device": "cpu"}
    run_config(INFERENCE, "infer", predictions_dir=folder, output_dir=str(tmp_path), num_workers=1, **shared)
    rows = read(tmp_path / "ranking.csv")
    assert {f"islands/{row['case']}": row["anomaly_score"] for row in rows}.items() <= expected.items()
    assert len(rows) == 4
    assert all(row["dice"] == "" for row in rows)
    assert not (tmp_path / "levels.csv").exists()


def test_bad_masks_fail_one_by_one_and_the_others_are_ranked(model: Path, dataset: Path, tmp_path: Path) -> None:
    folder = tmp_path / "masks"
    folder.mkdir()
    good = sorted((dataset / "predictions" / "islands").glob("*.png"))
    for path in good:
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "broken.png").write_bytes(good[0].read_bytes()[:40])
    (folder / "truncated.nii.gz").write_bytes(gzip.compress(b"no header"))
    stray = sitk.ReadImage(str(good[0]))
    stray[0, 0] = 77
    sitk.WriteImage(stray, str(folder / "stray.png"))
    sitk.WriteImage(sitk.Image(64, 64, sitk.sitkUInt8), str(folder / "empty.png"))
    settings = {"model_dir": str(model), "predictions_dir": str(folder), "output_dir": str(tmp_path / "out")}
    with pytest.raises(SystemExit) as stop:
        run_config(INFERENCE, "infer", device="cpu", **settings)
    assert stop.value.code == steps.SCORING_FAILED
    rows = read(tmp_path / "out" / "ranking.csv")
    failed = {row["case"]: row["message"] for row in rows if row["status"] == "failed"}
    assert set(failed) == {"broken", "truncated", "stray"}
    assert "77" in failed["stray"] and "stray.png" in failed["stray"]
    assert all(f"{case}." in message and "\n" not in message for case, message in failed.items())
    assert [row["status"] for row in rows] == ["ok"] * 5 + ["failed"] * 3
    assert rows[0]["case"] == "empty"  # an empty mask is the worst possible one


def test_files_beside_a_mask_that_do_not_fit_cost_their_own_use_alone(
    model: Path, dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    masks, references = tmp_path / "masks", tmp_path / "references"
    masks.mkdir()
    references.mkdir()
    cases = sorted((dataset / "labelsTs").glob("*.png"))
    for path in cases:
        image = sitk.ReadImage(str(path))
        sitk.WriteImage(image, str(masks / path.name))
        sitk.WriteImage(image, str(references / path.name))
    torn, twice, cut, coarse = (path.stem for path in cases)
    (references / f"{torn}.png").write_bytes(b"")
    sitk.WriteImage(sitk.ReadImage(str(cases[1])), str(references / f"{twice}.tif"))
    whole = sitk.ReadImage(str(cases[2]))
    sitk.WriteImage(whole[:, :-9], str(masks / cases[2].name))
    (masks / cases[3].name).unlink()
    stretched = sitk.ReadImage(str(cases[3]))
    stretched.SetSpacing((1.3, 1.3))
    sitk.WriteImage(stretched, str(masks / f"{coarse}.mha"))
    options = {"model_dir": str(model), "device": "cpu", "predictions_dir": str(masks)}
    plain = run_config(INFERENCE, "infer", output_dir=str(tmp_path / "plain"), **options)
    with caplog.at_level("WARNING", "gnsm_monai"):
        compared = run_config(
            INFERENCE, "infer", output_dir=str(tmp_path / "out"), references_dir=str(references), **options
        )
    both = [{r.case: r for r in run.parser.get_parsed_content("ranking").ranking.results} for run in (plain, compared)]
    for case, result in both[1].items():
        assert repr(result.decision) == repr(both[0][case].decision)  # a reference never changes a score
    notes = {case: result.note for case, result in both[1].items()}
    assert notes[torn].startswith(f"no Dice: {references / torn}.png: cannot be read") and both[1][torn].dice is None
    assert notes[twice].startswith(f"no Dice: {references}: 2 files for case '{twice}'")
    assert notes[cut] == "9 rows of pixels missing at its lower end beside its reference"
    assert both[1][cut].reason.startswith(notes[cut])
    pixels = sitk.GetArrayFromImage(whole)
    filled = pixels.copy()
    filled[-9:] = 0
    dice = [2 * ((filled == c) & (pixels == c)).sum() / ((filled == c).sum() + (pixels == c).sum()) for c in (1, 2, 3)]
    assert both[1][cut].dice == pytest.approx(np.mean(dice))
    assert both[1][coarse].dice == 1 and "taken voxel by voxel" in notes[coarse]
    assert both[0][coarse].reason.startswith("voxels of 1.3 mm, references have 1 mm")
    assert "2 references could not be compared, 2 ranked masks have a remark: see `message` in " in caplog.text


def test_a_model_that_knows_no_spacings_names_one_that_makes_everything_larger(
    model: Path, dataset: Path, tmp_path: Path
) -> None:
    older = tmp_path / "older"
    shutil.copytree(model, older)
    settings = json.loads((older / "settings.json").read_text())
    del settings["fields_of_view"]["spacings"]  # models of version 0.2 have none
    (older / "settings.json").write_text(json.dumps(settings))
    masks = tmp_path / "masks"
    masks.mkdir()
    first, second = sorted((dataset / "labelsTs").glob("*.png"))[:2]
    image = sitk.ReadImage(str(first))
    image.SetSpacing((2, 2))
    sitk.WriteImage(image, str(masks / "scaled.mha"))
    shutil.copy(second, masks / "usual.png")
    run_config(
        INFERENCE, "infer", model_dir=str(older), predictions_dir=str(masks), output_dir=str(tmp_path / "out"),
        device="cpu",
    )  # fmt: skip
    reasons = {row["case"]: row["reason"] for row in read(tmp_path / "out" / "ranking.csv")}
    here = f"{2 * image.GetWidth()} mm"
    assert reasons["scaled"].startswith(f"voxels of 2 mm and a field of view of {here}, references have one of ")
    assert "voxels of" not in reasons["usual"]


def test_evaluate_is_a_small_overlay_that_does_what_inference_does() -> None:
    evaluate, inference = (yaml.safe_load((CONFIGS / name).read_text()) for name in ("evaluate.yaml", "inference.yaml"))
    assert evaluate.pop("evaluating") == inference["inference"]
    assert evaluate.pop("run") == "%evaluating"
    assert list(evaluate) == ["found_dataset"]  # an id of train.yaml, which it is no overlay on any more
    lines = (CONFIGS / "evaluate.yaml").read_text().splitlines()
    assert sum(not line.startswith("#") for line in lines) <= 15


def test_evaluate_over_train_is_refused_where_no_command_line_can_be_mended(
    dataset: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        run_config([TRAIN, EVALUATE[1]], "infer", model_dir=str(tmp_path / "new"), predictions_dir=str(dataset))
    assert stop.value.code == 2
    assert "evaluate.yaml is an overlay on inference.yaml" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("bundle", sorted(CONFIGS.parents[1].glob("*/configs")), ids=lambda path: path.parent.name)
def test_no_six_lines_of_a_config_stand_in_another_one_of_its_bundle(bundle: Path) -> None:
    """What two configs share belongs in the package, or in one of them that the other one is an overlay on."""
    seen: dict[tuple[str, ...], str] = {}
    for path in sorted(bundle.glob("*.yaml")):
        lines = [text for line in path.read_text().splitlines() if (text := line.split("#")[0].strip())]
        blocks = {tuple(lines[start : start + 6]) for start in range(len(lines) - 5)}
        assert not [(seen[block], block) for block in blocks if block in seen], path.name
        seen |= dict.fromkeys(blocks, path.name)


def test_a_dataloader_hands_over_single_cases() -> None:
    batches = list(DataLoader([{"case": "a"}, {"case": "b"}], batch_size=1, collate_fn=steps.single_case))
    assert batches == [{"case": "a"}, {"case": "b"}]


def test_an_image_in_which_nothing_can_be_read_is_named_as_a_reason(
    image_model: Path, dataset: Path, tmp_path: Path
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    sound, *damaged = sorted((dataset / "imagesTs").iterdir())[:3]
    (images / sound.name).write_bytes(sound.read_bytes())
    for path in damaged:
        image = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
        noise = np.random.default_rng(0).integers(0, 256, image.shape, dtype=np.uint8)
        sitk.WriteImage(sitk.GetImageFromArray(noise), str(images / path.name))
    cases = [path.name.split("_0000")[0] for path in (sound, *damaged)]
    run_config(
        INFERENCE, "infer", model_dir=str(image_model), predictions_dir=str(dataset / "labelsTs"),
        images_dir=str(images), output_dir=str(tmp_path / "out"), device="cpu", only_cases=cases,
    )  # fmt: skip
    report = (tmp_path / "out" / "report.html").read_text()
    assert {case for case in cases if case in report} == set(cases)
    assert report.count("the image is far rougher") == len(damaged)
