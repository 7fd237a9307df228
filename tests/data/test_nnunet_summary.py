"""summary.json: nnU-Net's own Dice, for the structures of a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gnsm_monai.data.nnunet import LabelScheme, Region
from gnsm_monai.data.nnunet_summary import add_summary_dice, read_summary_dice
from gnsm_monai.errors import InputError

SCHEME = LabelScheme(("a", "b"), (0, 1, 5))
REGIONS = LabelScheme(("x", "y"), (0, 1, 2), None, (Region("whole", (1, 2), 1), Region("core", (2,), 2)))


def entry(file: str, **dice: Any) -> dict[str, Any]:
    metrics = {key: {"Dice": value, "IoU": 0.5, "TP": 3} for key, value in dice.items()}
    return {"prediction_file": file, "reference_file": "elsewhere.nii.gz", "metrics": metrics}


def save(folder: Path, *entries: Any) -> Path:
    content = {"foreground_mean": {}, "mean": {}, "metric_per_case": list(entries)}
    (folder / "summary.json").write_text(json.dumps(content))
    return folder


def test_dice_is_found_by_label_value_and_case(tmp_path: Path) -> None:
    folder = save(
        tmp_path,
        entry("/data/fold_0/validation/case.1.nii.gz", **{"5": 0.25, "1": 0.75}),
        entry("C:\\data\\validation\\case2.nii.gz", **{"1": float("nan"), "5": None, "7": 0.1}),
    )
    found = read_summary_dice(folder, SCHEME)
    assert list(found) == ["case.1", "case2"]
    assert found["case.1"].tolist() == [0.75, 0.25] and found["case.1"].dtype == np.float64
    assert np.isnan(found["case2"]).all()


def test_regions_are_found_by_their_values_in_any_order(tmp_path: Path) -> None:
    folder = save(tmp_path, entry("a.png", **{"(2, 1)": 0.9, "2": 0.5}), entry("b.png", **{"(1,2)": 0.8, "(2,)": 0.4}))
    found = read_summary_dice(folder, REGIONS)
    assert [found[case].tolist() for case in "ab"] == [[0.9, 0.5], [0.8, 0.4]]


def test_no_summary_and_those_of_other_programs_have_no_dice(tmp_path: Path) -> None:
    assert read_summary_dice(tmp_path, SCHEME) == {}
    (tmp_path / "summary.json").write_text('{"cases": 3, "metrics": {}}')
    assert read_summary_dice(tmp_path, SCHEME) == {}


def test_each_folder_has_its_own_summary_and_cases_may_lack_in_it(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in "pq"]
    for folder, dice in zip(folders, (0.5, 1), strict=True):
        folder.mkdir()
        save(folder, entry("a.png", **{"1": dice, "5": dice}))
    labels = [folders[0] / "a.png", folders[1] / "a.png", folders[1] / "b.png"]
    found = add_summary_dice([{"case": str(n), "label": label} for n, label in enumerate(labels)], SCHEME)
    assert [case["case"] for case in found] == ["0", "1", "2"]
    assert [case["dice"].tolist() for case in found[:2]] == [[0.5, 0.5], [1, 1]]
    assert "dice" not in found[2]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("text", "an entry of metric_per_case lacks its prediction_file or metrics"),
        ({"prediction_file": "a.png"}, "an entry of metric_per_case lacks its prediction_file or metrics"),
        (entry("a.png", **{"1": 0.5}), "no Dice of 'b': were the masks made for other labels"),
        (entry("a.png", **{"1": 0.5, "5": 1.5}), "1.5 is no Dice"),
        (entry("a.png", **{"1": 0.5, "5": "high"}), "'high' is no Dice"),
        (entry("a.png", **{"1": 0.5, "5": True}), "True is no Dice"),
        (entry("a.png", **{"1": 0.5, "whole": 1}), "'whole' is neither a label nor a region"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(tmp_path: Path, bad: Any, reason: str) -> None:
    with pytest.raises(InputError, match=rf"summary\.json: {reason}"):
        read_summary_dice(save(tmp_path, bad), SCHEME)


def test_a_broken_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text('{"metric_per_case": [')
    with pytest.raises(InputError, match=r"summary\.json: cannot be read"):
        read_summary_dice(tmp_path, SCHEME)
