from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gnsm_monai.report.content import interval, metric_tables, table
from gnsm_monai.report.storage import former_store_key, store_key
from gnsm_monai.report.wording import ScoreFormat, budget_lines, folder_names, metric_title, noise_text, number, p_text
from gnsm_monai.rules.calibration import flag_threshold
from gnsm_monai.scoring.result import FailedCase, Place
from tests.results import case_result


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.1, 0.3, 1.0])
@pytest.mark.parametrize("n", [0, 1, 19, 39, 40])
def test_scores_above_the_threshold_are_those_with_a_small_p_value(alpha: float, n: int) -> None:
    references = np.random.default_rng(n).normal(size=n).round(1)  # with ties
    threshold = flag_threshold(references, alpha)
    scores = np.concatenate([np.linspace(-4, 4, 161), references])
    p = (1 + (references[None] >= scores[:, None]).sum(axis=1)) / (n + 1)
    flagged = p <= alpha + 1e-12
    if threshold is None:
        assert flagged.all() or not flagged.any()
    else:
        assert np.array_equal(flagged, scores > threshold)


def test_without_alpha_there_is_no_threshold() -> None:
    assert flag_threshold(np.arange(5.0), None) is None


def test_only_columns_that_apply_are_shown() -> None:
    nothing = dict.fromkeys(("p_value", "predicted_dice", "predicted_dice_low", "predicted_dice_high"), math.nan)
    columns, (cells,) = table([case_result(anomaly=1.5, **nothing)], ScoreFormat([1.5]))
    assert [column.name for column in columns] == ["rank", "case", "anomaly_score", "flag"]
    assert (cells["anomaly_score"].text, cells["anomaly_score"].value) == ("1.50", "1.5")


def test_a_failed_case_has_a_message_and_empty_numbers() -> None:
    scored = case_result(
        "x/a", folder="x", anomaly=1.5, predicted_dice=0.75, predicted_dice_low=0.6, predicted_dice_high=0.9,
        place=Place("aorta", 2, 0), soft=True,
    )  # fmt: skip
    results = [scored, FailedCase("y/b", "y", "y/b.nii.gz: is empty")]
    columns, (good, bad) = table(results, ScoreFormat([1.5]))
    names = {column.name for column in columns}
    assert names >= {"folder", "status", "message", "soft", "predicted_dice", "worst_slice"}
    assert good["predicted_dice"].text == "≈ 0.75 (0.60–0.90)"
    assert good["worst_slice"].text == "axis 2, slice 0"
    assert (bad["message"].text, bad["anomaly_score"].value, bad["flag"].text) == ("y/b.nii.gz: is empty", "", "")


def test_metrics_are_explained_and_per_folder_where_there_are_several() -> None:
    entry = {"value": -0.5, "ci95": [-0.7, -0.25], "n": 9}
    undefined = {"value": None, "reason": "no mask has Dice < 0.5"}
    pooled = {"auroc_0.5": undefined, "spearman": entry, "new_one": entry}
    sets, lines = metric_tables({"metrics": pooled, "metrics_per_folder": {"a": pooled, "b": {}}})
    assert sets == ["pooled", "a", "b"]
    assert [line["title"] for line in lines] == ["Spearman", "AUROC, Dice < 0.5", "new_one"]
    assert lines[0]["values"][0] == {"value": "−0.500", "detail": "−0.700 to −0.250"}
    assert lines[1]["values"][1]["detail"] == "no mask has Dice < 0.5"
    assert lines[0]["values"][2]["value"] == "–"
    assert metric_tables({"metrics": pooled, "metrics_per_folder": {"a": pooled}})[0] == ["pooled"]
    assert metric_tables({}) == ([], [])


def test_every_metric_of_a_summary_is_explained_with_its_direction() -> None:
    for name in ("pearson", "spearman", "kendall", "auroc_0.7", "average_precision_0.7", "aurc", "e_aurc", "norm_aurc",
                 "augrc"):  # fmt: skip
        assert "best" in metric_title(name)[1]


def test_marks_are_kept_per_model_and_place_of_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def key(path: str = "out/report.html", **settings: object) -> str:
        return store_key({"settings": {"weights_sha256": "1", "predictions_dir": ["a"], **settings}}, path)

    monkeypatch.chdir(tmp_path)
    here = key()
    assert (
        here == key(alpha=0.1) == key(predictions_dir=[str(tmp_path / "a")]) == key(str(tmp_path / "out/report.html"))
    )
    others = {key(weights_sha256="2"), key("other/report.html"), store_key({}, "out/report.html")}
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert len({here, key(), *others}) == 5


def test_the_key_of_earlier_versions_is_known() -> None:
    settings = {"weights_sha256": "1" * 64, "model_dir": "model", "predictions_dir": ["predictions"]}
    assert former_store_key({"settings": settings}) == "gnsm_monai marks b199681f015ff4c6"


@pytest.mark.parametrize(
    ("scores", "shown"), [([0.1, 0.9], "0.123"), ([100.0, 900.0], "0"), ([5.0], "0.12"), ([], "0.12"), ([0.0], "0.12")]
)
def test_scores_have_the_decimals_that_tell_them_apart(scores: list[float], shown: str) -> None:
    assert ScoreFormat(scores)(0.1234) == shown


def test_words_for_numbers() -> None:
    assert [number(v) for v in (None, float("nan"), "1", True, np.float32(0.5), 3)] == [None, None, None, None, 0.5, 3]
    assert [p_text(v) for v in (None, 0.0256, 0.0002)] == ["–", "0.026", "0.0002"]
    assert interval(case_result(predicted_dice_low=0.2).decision) == "0.20 to 0.90"
    assert interval(case_result(predicted_dice_high=math.nan).decision) == ""
    assert folder_names("/a/b/c") == ["b/c"]
    assert folder_names(["/a/b", "c"]) == ["a/b", "c"]
    assert folder_names(None) == []


def test_a_budget_is_shown_up_to_the_review_that_finds_all() -> None:
    entries = [{"reviewed": k, "share_found": min(k / 40, 1)} for k in range(1, 101)]
    shown = [entry["reviewed"] for entry in budget_lines(entries, 8)]
    assert (shown[0], shown[-1], len(shown)) == (1, 40, 8)
    assert [entry["reviewed"] for entry in budget_lines(entries[:3], 8)] == [1, 2, 3]


@pytest.mark.parametrize(
    ("noise", "expected"),
    [
        ({"betas": [0.7, 0.9, 0.997], "temperatures": [1.0] * 3}, "3 levels, label smoothing 0.7 to 0.997"),
        ({"betas": [0.0, 0.0], "temperatures": [2.0, 20.0]}, "2 levels, temperature 2 to 20"),
        ("mixing", "mixing"),
        (None, ""),
    ],
)
def test_noise_is_said_in_a_few_words(noise: Any, expected: str) -> None:
    assert noise_text(noise) == expected
