"""Which results of a killed run still hold."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gnsm_monai.files import file_identity
from gnsm_monai.records import load_record, save_record
from gnsm_monai.scoring.journal import Journal
from tests.results import case_result

OPTIONS = {"alpha": 0.05, "device": "cpu"}
LEVELS = {"misfit": np.arange(2.0), "shape": np.ones(2)}


@pytest.fixture
def model() -> list[str]:
    """Checksums of a model's files."""
    return ["settings", "statistics"]


@pytest.fixture
def cases(tmp_path: Path) -> list[dict[str, Any]]:
    found = []
    for name in ("a", "b", "c"):
        paths = [tmp_path / f"{name}{part}.png" for part in ("", "_reference", "_0000")]
        for path in paths:
            path.write_text("content")
        found.append({"case": f"f/{name}", "label": paths[0], "reference": paths[1], "image": [paths[2]]})
    return found


@pytest.fixture
def journal(tmp_path: Path, model: list[str], cases: list[dict[str, Any]]) -> Path:
    """Folder of a run that was killed after two of three cases."""
    run = Journal(tmp_path / "out" / ".progress", model, OPTIONS)
    assert run.unfinished(cases) == cases
    for case in cases[:2]:
        run.add(case_result(case["case"], levels=LEVELS))
    return run.folder


def left(folder: Path, model: list[str], cases: list[dict[str, Any]], **options: Any) -> list[str]:
    run = Journal(folder, model, {**OPTIONS, **options})
    names = [case["case"] for case in run.unfinished(cases)]
    assert {result.case for result in run.results} == {case["case"] for case in cases} - set(names)
    return names


def test_the_next_run_scores_what_is_left(journal: Path, model: list[str], cases: list[dict[str, Any]]) -> None:
    run = Journal(journal, model, OPTIONS)
    assert run.unfinished(cases) == cases[2:]
    assert [result.case for result in run.results] == ["f/a", "f/b"]
    assert repr(run.results[0].decision) == repr(case_result().decision)  # NaN equals nothing
    assert np.array_equal(run.results[0].levels["misfit"], LEVELS["misfit"])


@pytest.mark.parametrize("part", ["label", "reference", "image"])
def test_a_changed_file_is_scored_again(
    journal: Path, model: list[str], cases: list[dict[str, Any]], part: str
) -> None:
    path = cases[1][part][0] if part == "image" else cases[1][part]
    os.utime(path, ns=(1, 1))
    assert left(journal, model, cases) == ["f/b", "f/c"]


def test_a_reference_that_came_later_is_compared_with(
    journal: Path, model: list[str], cases: list[dict[str, Any]]
) -> None:
    without = [{key: value for key, value in case.items() if key != "reference"} for case in cases]
    assert left(journal, model, without) == ["f/a", "f/b", "f/c"]


def test_nothing_holds_for_other_options_or_another_model(
    journal: Path, model: list[str], cases: list[dict[str, Any]]
) -> None:
    everything = ["f/a", "f/b", "f/c"]
    assert left(journal, model, cases, alpha=0.1) == everything
    assert left(journal, model, cases, write_maps=True) == everything
    assert left(journal, [model[0], "fitted again"], cases) == everything


def test_a_damaged_file_of_the_journal_is_scored_again(
    journal: Path, model: list[str], cases: list[dict[str, Any]]
) -> None:
    path = sorted(journal.iterdir())[0]
    path.write_bytes(path.read_bytes()[:-30])
    assert len(left(journal, model, cases)) == 2


@pytest.mark.parametrize("field", ["a field of the future", "thumbnail"])
def test_a_result_of_other_fields_is_scored_again(
    journal: Path, model: list[str], cases: list[dict[str, Any]], field: str
) -> None:
    path = sorted(journal.iterdir())[0]
    with np.load(path) as file:
        arrays = dict(file)
    text = json.loads(arrays["record"].tobytes())
    text["result"]["fields"][field] = text["result"]["fields"].pop("levels")
    np.savez(path, **{**arrays, "record": np.frombuffer(json.dumps(text).encode(), np.uint8)})
    assert len(left(journal, model, cases)) == 2


def test_the_rows_that_version_0_2_kept_are_scored_again(
    journal: Path, model: list[str], cases: list[dict[str, Any]]
) -> None:
    for path in journal.iterdir():
        record = load_record(path)
        row = {"case": record["result"].case, "status": "ok", "anomaly_score": 0.5, "levels": LEVELS}
        save_record(path, {"identity": record["identity"], "row": row})
    assert left(journal, model, cases) == ["f/a", "f/b", "f/c"]


def test_one_case_is_always_left(journal: Path, model: list[str], cases: list[dict[str, Any]]) -> None:
    assert left(journal, model, cases[:2]) == ["f/b"]


def test_the_folder_goes_when_the_ranking_is_complete(journal: Path, model: list[str]) -> None:
    Journal(journal, model, OPTIONS, keep=True).clear()
    assert journal.is_dir()
    Journal(journal, model, OPTIONS).clear()
    assert not journal.exists()
    Journal(journal, model, OPTIONS).clear()  # nothing was scored: no folder


def test_another_dice_of_summary_json_is_not_mixed_with_the_one_before(
    journal: Path, model: list[str], cases: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    folder = journal.parent / "measured"

    def measured(*dice: float) -> list[dict[str, Any]]:
        return [{**case, "dice": np.array([value, np.nan])} for case, value in zip(cases, dice, strict=True)]

    run = Journal(folder, model, OPTIONS)
    for case in run.unfinished(measured(0.5, 0.6, 0.7)):
        run.add(case_result(case["case"], levels=LEVELS))
    assert left(folder, model, measured(0.5, 0.6, 0.7)) == ["f/c"]  # all hold, and one is always left
    with caplog.at_level("INFO", logger="gnsm_monai"):
        assert left(folder, model, measured(0.5, 0.61, 0.7)) == ["f/b"]
    said = [r.getMessage() for r in caplog.records if "again" in r.getMessage()]
    text = "1 masks were scored before with another Dice of summary.json, and are scored again"
    assert said == [f"{journal.parent}: {text}"]


@pytest.mark.parametrize("name", ["b.json", "b.raw", "b.npz", "b_reference.json"])
def test_a_file_that_is_read_beside_another_counts_with_it(
    tmp_path: Path, journal: Path, model: list[str], cases: list[dict[str, Any]], name: str
) -> None:
    """Such as the spacing of a TIFF stack."""
    assert left(journal, model, cases) == ["f/c"]
    (tmp_path / name).write_text("{}")
    assert left(journal, model, cases) == ["f/b", "f/c"]


def test_a_table_of_names_counts_for_all_that_it_names(
    tmp_path: Path, journal: Path, model: list[str], cases: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "labels.tsv").write_text("index\tname\n1\tliver\n")
    with caplog.at_level("INFO", logger="gnsm_monai"):
        assert left(journal, model, cases) == ["f/a", "f/b", "f/c"]
    assert "2 masks were scored before with other names of labels, and are scored again" in caplog.text


def test_why_results_do_not_hold_is_said_in_one_line(
    journal: Path, model: list[str], cases: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    os.utime(cases[1]["label"], ns=(1, 1))
    with caplog.at_level("INFO", logger="gnsm_monai"):
        left(journal, ["another", "one"], cases, alpha=0.1)
    assert [record.getMessage() for record in caplog.records] == [
        f"{journal.parent}: 2 masks were scored before with another model, other files, other options, "
        "and are scored again"
    ]


def test_a_structure_that_was_exchanged_for_an_older_one_of_its_size_is_seen(tmp_path: Path) -> None:
    """A folder with a file per structure; time and size of the whole stay what they were."""
    for name in ("liver", "spleen"):
        (tmp_path / name).write_text("content")
        os.utime(tmp_path / name, ns=(10, 10 if name == "liver" else 5))
    before = file_identity(tmp_path)
    os.utime(tmp_path / "spleen", ns=(1, 1))
    assert file_identity(tmp_path) != before
