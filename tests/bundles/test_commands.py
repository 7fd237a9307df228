"""The commands of ``gnsm``, on tiny phantoms: what they write and refuse, and that nothing is lost on the way."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch
from monai.bundle import ConfigParser

from gnsm_monai import cli
from gnsm_monai import cli_commands as commands
from gnsm_monai.data.degradations import KINDS
from gnsm_monai.data.loading import LoadMapsd
from gnsm_monai.data.phantoms import write_phantom_dataset
from gnsm_monai.errors import InputError
from gnsm_monai.files import load_json
from gnsm_monai.model.quick import replace_model
from gnsm_monai.rules import RULES
from tests.bundles.conftest import TINY

RESULTS = ("ranking.csv", "structures.csv", "level_statistics.npz", "levels.csv")
"""What must not depend on how often a run was killed; summary.json has times in it."""

KILLED = """
import os, signal, sys
from gnsm_monai import cli
from gnsm_monai.report import write_results
from gnsm_monai.scoring import journal
moment, number = sys.argv.pop(1), int(sys.argv.pop(1))
module, name = {"journal": (journal, "save_record"), "results": (write_results, "save_table")}[moment]
calls, write = [], getattr(module, name)
def until(*arguments):
    calls.append(write(*arguments))
    if len(calls) == number:
        os.kill(os.getpid(), signal.SIGKILL)
setattr(module, name, until)
sys.exit(cli.run())
"""
"""``gnsm``, killed after so many files of the journal or of the results."""


def read(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def gnsm(*arguments: Any, program: tuple[str, ...] = ("-m", "gnsm_monai")) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *program, *map(str, arguments)]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


@pytest.fixture
def masks(dataset: Path, tmp_path: Path) -> Path:
    """Twelve masks in one folder, of a name that MONAI would take apart."""
    folder = tmp_path / "$masks @1 #2 %3"
    folder.mkdir()
    for kind in ("missing_part", "islands", "leakage"):
        for path in (dataset / "predictions" / kind).iterdir():
            shutil.copy(path, folder / f"{path.stem}_{kind}.png")
    return folder


@pytest.fixture
def references(dataset: Path, masks: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "references"
    folder.mkdir()
    for path in masks.iterdir():
        shutil.copy(dataset / "labelsTs" / f"{path.stem[:11]}.png", folder / path.name)
    return folder


def test_rank_says_what_is_worst_and_where_it_stands(model: Path, masks: Path, references: Path) -> None:
    output = masks.parent / "a" / "out"
    options = ["--references", references, "--alpha", "0.1", "--failure-dice", "0.8"]
    done = gnsm("rank", "--model", model, "--predictions", masks, "--output", output, *options)
    assert (done.returncode, done.stderr) == (0, "")
    rows = read(output / "ranking.csv")
    assert len(rows) == 12 and all(row["dice"] for row in rows)
    lines = done.stdout.splitlines()
    start = next(i for i, line in enumerate(lines) if "the worst of 12 masks" in line)
    assert [line.split()[1] for line in lines[start + 2 : start + 7]] == [row["case"] for row in rows[:5]]
    assert str(output / "summary.json") in done.stdout
    results = json.loads((output / "results.json").read_text())
    for name, text in (("folder", results["verdict"]), ("score", results["score_on_failures"]["text"])):
        assert lines.count(f"{name:<12} {text}") == 1
    assert results["alpha"] == 0.1 and len(results["cases"]) == 12
    assert all(case["q_value"] >= case["p_value"] and case["reason"] for case in results["cases"])
    assert "monai" not in done.stdout and "INFO" not in done.stdout
    assert "auroc_0.8" in json.loads((output / "summary.json").read_text())["metrics"]
    assert not (output / ".progress").exists()


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"--model": "nowhere"}, "no trained model here"),
        ({"--predictions": "nowhere"}, "no such folder"),
        ({"--references": "nowhere"}, "no such folder"),
        ({"--output": "file/out"}, "is a file"),
    ],
)
def test_what_rank_cannot_work_with_is_one_line(
    model: Path,
    masks: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: dict[str, str],
    part: str,
) -> None:
    (tmp_path / "file").write_text("")
    given = {"--model": model, "--predictions": masks, "--output": tmp_path / "out"}
    given |= {name: tmp_path / value for name, value in options.items()}
    with pytest.raises(SystemExit) as stop:
        cli.main(["rank", *(str(part) for option in given.items() for part in option)])
    assert stop.value.code == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert part in line
    assert not (tmp_path / "out").exists()


def test_a_device_that_is_not_there_is_one_line(dataset: Path, tmp_path: Path) -> None:
    done = gnsm("train", "--dataset", dataset, "--output", tmp_path / "out", "--device", "cuda:9")
    assert done.returncode == 2
    assert done.stderr.startswith("error: device: 'cuda:9'") and len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_rank_that_was_killed_twice_ends_with_the_same_files(
    model: Path, masks: Path, references: Path, tmp_path: Path
) -> None:
    """While it scored, and between two files of the results."""
    what = ["--model", model, "--predictions", masks, "--references", references]
    # In a program of its own as well: the last bits depend on what else a process has computed, on how many threads.
    whole = gnsm("rank", *what, "--output", tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    options = [*what, "--output", tmp_path / "parts"]
    for moment, number, finished in (("journal", 5, 5), ("results", 1, 12)):
        killed = gnsm(moment, number, "rank", *options, program=("-c", KILLED))
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert len(list((tmp_path / "parts" / ".progress").glob("*.npz"))) == finished
    assert "5 of 12 masks were scored before, 7 are left" in killed.stdout
    assert not (tmp_path / "parts" / "summary.json").exists()
    done = gnsm("rank", *options)
    assert done.returncode == 0, done.stderr
    assert "11 of 12 masks were scored before" in done.stdout
    for name in RESULTS:
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes(), name
    whole, parts = (load_json(tmp_path / folder / "summary.json") for folder in ("whole", "parts"))
    assert {**whole, "seconds_per_case": 0} == {**parts, "seconds_per_case": 0}
    assert not (tmp_path / "parts" / ".progress").exists()


def test_finished_masks_are_not_even_read(
    model: Path, masks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments: dict[str, Any] = {"model": model, "predictions": [masks], "output": tmp_path / "out", "device": "cpu"}
    bad = masks / "phantom_017_bad.png"
    bad.write_bytes(b"no picture")
    with pytest.raises(SystemExit):
        commands.rank(strict=True, **arguments)
    finished = len(list((tmp_path / "out" / ".progress").iterdir()))
    assert 0 < finished < 12
    bad.unlink()
    read_files, load = [], LoadMapsd.load

    def noting(self: LoadMapsd, paths: Any, is_image: bool = False) -> Any:
        read_files.append(paths)
        return load(self, paths, is_image)

    monkeypatch.setattr(LoadMapsd, "load", noting)
    commands.rank(**arguments)
    assert len(set(read_files)) == 12 - finished  # a suspect mask is read once more, to try other labels
    assert len(read(tmp_path / "out" / "ranking.csv")) == 12


def test_a_bad_mask_costs_a_line_and_code_3_or_the_run_if_strict(
    model: Path, masks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments: dict[str, Any] = {"model": model, "predictions": [masks], "output": tmp_path / "out", "device": "cpu"}
    (masks / "bad.png").write_bytes(b"no picture")
    with pytest.raises(SystemExit) as stop:
        commands.rank(strict=True, **arguments)
    assert stop.value.code == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: bad: ") and "bad.png" in line
    assert not (tmp_path / "out" / "ranking.csv").exists()
    assert commands.rank(**arguments) == 3
    rows = read(tmp_path / "out" / "ranking.csv")
    assert [row["status"] for row in rows] == ["ok"] * 12 + ["failed"]
    assert "the worst of 12 masks" in capsys.readouterr().out


def test_rank_never_evaluates_what_lies_in_a_model_directory(model: Path, masks: Path, tmp_path: Path) -> None:
    """Neither a config nor the settings: an expression that would leave a file behind leaves none."""
    trap, planted = tmp_path / "executed", tmp_path / "model"
    shutil.copytree(model, planted)
    code = f"$open('{trap}', 'w').write('')"
    ConfigParser({"a": code}).get_parsed_content("a")  # what MONAI would make of it
    assert trap.exists()
    trap.unlink()
    for path in (planted / "configs").iterdir():
        text = f"[loggers]\nkeys=root\n[handlers]\nkeys=\n[formatters]\nkeys=\n[logger_root]\nhandlers=\nlevel={code}\n"
        path.write_text(text if path.suffix == ".conf" else json.dumps({"initialize": [code], "run": code, "a": code}))
    (planted / "scripts").mkdir()
    (planted / "scripts" / "__init__.py").write_text(code[1:])
    settings = load_json(planted / "settings.json")
    settings["labels"]["names"][0] = code
    settings["anomaly_score"], settings["dataset"] = code, code
    (planted / "settings.json").write_text(json.dumps(settings))
    done = gnsm("rank", "--model", planted, "--predictions", masks, "--output", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert len(read(tmp_path / "out" / "ranking.csv")) == 12
    assert not trap.exists()


def test_train_finds_out_that_a_bare_folder_holds_pictures(dataset: Path, tmp_path: Path) -> None:
    commands.train(tmp_path / "#model", labels_dir=dataset / "labelsTr", **TINY)
    settings = load_json(tmp_path / "#model" / "settings.json")
    assert settings["spatial_dims"] == 2
    assert settings["labels"]["names"] == ["label_1", "label_2", "label_3"]
    assert settings["dataset"] == "labelsTr"
    assert (tmp_path / "#model" / "tensorboard").is_dir()


def test_images_of_a_bare_folder_are_asked_for_in_one_line(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        commands.train(tmp_path / "model", labels_dir=dataset / "labelsTr", condition_on_image=True, **TINY)
    assert stop.value.code == 2
    assert "give dataset_dir" in capsys.readouterr().err


@pytest.mark.usefixtures("short_segmenter")
def test_training_in_limited_time_is_complete_and_goes_on_later(
    dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without any time each part does the least, says so in a line, and the model ranks."""
    settings: dict[str, Any] = {**TINY, "failures": "auto", "epochs": 8, "steps_per_epoch": 3, "dataset_dir": dataset}
    with caplog.at_level("INFO", logger="gnsm_monai"):
        commands.train(tmp_path / "model", max_minutes=1e-6, **settings)
    lines = [record.getMessage() for record in caplog.records]
    for said in (
        "epoch 1, step 1 of 3: training ends here, to be done in 1e-06 minutes",
        "validation per noise level: on 1 of 2 references, as time allowed",
        "the small segmentation network got too little time: failures are degraded copies alone",
        "shapes: too little time for the network, the linear model alone is fitted",
        "selection: 2 of 2 references were scored, and 4 failures made from them: time allowed no more",
    ):
        assert lines.count(said) == 1, said
    ranked = {"model": tmp_path / "model", "predictions": [dataset / "labelsTs"], "device": "cpu"}
    assert commands.rank(tmp_path / "results", **ranked) == 0
    assert not (tmp_path / "model" / "checkpoint.pt").exists()  # no epoch is whole
    caplog.clear()
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False, raising=False)
    for module in ("held_out_scorer", "segmenter", "shapes"):
        monkeypatch.setattr(f"gnsm_monai.fitting.{module}.LOG_SECONDS", 0.0)
    with caplog.at_level("INFO", logger="gnsm_monai"):
        commands.train(tmp_path / "model", resume=True, **settings)
    assert torch.load(tmp_path / "model" / "checkpoint.pt", weights_only=True)["trainer"]["iteration"] == 24
    held_out = [f"scoring held-out references ({use})" for use in ("selection", "calibration")]
    for part in ("training the small segmentation network", "learning shapes", *held_out):
        assert re.search(
            rf"^{re.escape(part)}: 1 of \d+, .* s each, \d+ s left$", "\n".join(caplog.messages), re.MULTILINE
        ), part


def mirrored(path: Path) -> None:
    array = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    sitk.WriteImage(sitk.GetImageFromArray(np.ascontiguousarray(np.where(array == 1, 3, array)[:, ::-1])), str(path))


def test_audit_ranks_every_reference_by_a_model_that_has_not_seen_it(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(dataset / "labelsTr", tmp_path / "data" / "labelsTr")
    shutil.copy(dataset / "dataset.json", tmp_path / "data")
    mirrored(tmp_path / "data" / "labelsTr" / "phantom_003.png")
    output, prepare = tmp_path / "out", commands._prepare
    started: list[str] = []

    def stopping(config: str, **overrides: Any) -> Any:
        started.append(config)
        if len(started) == 3:  # the second fold's training
            raise KeyboardInterrupt
        return prepare(config, **overrides)

    monkeypatch.setattr(commands, "_prepare", stopping)
    with pytest.raises(KeyboardInterrupt):
        commands.audit(tmp_path / "data", output, folds=2, **TINY)
    first = (output / "models" / "fold_0" / "model.pt").stat().st_mtime_ns
    assert commands.audit(tmp_path / "data", output, folds=2, **TINY) == 0
    assert (output / "models" / "fold_0" / "model.pt").stat().st_mtime_ns == first
    rows = read(output / "ranking.csv")
    assert {row["case"] for row in rows} == {f"phantom_{i:03d}" for i in range(16)}
    assert "phantom_003" in [row["case"] for row in rows[:3]]
    scores = [float(row["anomaly_score"]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    assert len(read(output / "structures.csv")) == 16 * 3
    settings = load_json(output / "summary.json")["settings"]
    assert len(set(settings["weights_sha256"])) == 2 and settings["folds"] == 2
    assert not list(output.rglob(".progress"))
    for fold, cases in enumerate(load_json(output / "audit.json")["folds"]):
        used = np.load(output / "models" / f"fold_{fold}" / "reference_statistics.npz")
        assert not set(cases) & {*used["fit_cases"], *used["calibration_cases"]}
        assert load_json(output / "models" / f"fold_{fold}" / "settings.json")["cases"]["train"] == 4


@pytest.mark.slow
def test_demo_leaves_data_model_and_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "write_phantom_dataset", partial(write_phantom_dataset, num_train=12, num_test=2))
    assert commands.demo(tmp_path, **{**TINY, "max_voxels": 4096, "fit::shapes::steps": 9}) == 0
    assert len(read(tmp_path / "results" / "ranking.csv")) == 2 * len(KINDS)
    assert (tmp_path / "model" / "settings.json").is_file()


def test_a_quick_model_ranks_until_the_full_one_takes_its_place(
    dataset: Path, masks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "model"
    tiny = {key: value for key, value in TINY.items() if key not in ("epochs", "anomaly_score")}
    commands.train(output, dataset_dir=dataset, spatial_dims=2, quick=True, **tiny)
    quick = load_json(output / "settings.json")
    assert quick["quick"] is True
    assert quick["anomaly_score"] in {rule.name for rule in RULES if not rule.asks_network}
    full = {"dataset_dir": dataset, "spatial_dims": 2, "resume": True, **TINY, "seed": 1}
    with pytest.raises(InputError, match="holds a finished model"):
        commands.train(output, **{**full, "resume": False})

    def replace(model: Path) -> None:  # all of the training is over, and the quick model still stands
        assert load_json(model / "settings.json") == quick
        assert commands.rank(tmp_path / "results", model, [masks]) == 0
        replace_model(model)

    monkeypatch.setattr(commands, "replace_model", replace)
    commands.train(output, **full)
    settings = load_json(output / "settings.json")
    assert "quick" not in settings and settings["weights_sha256"] != quick["weights_sha256"]
    assert not (output / ".full").exists()
    assert commands.rank(tmp_path / "results", output, [masks]) == 0
    assert load_json(tmp_path / "results" / "summary.json")["settings"]["weights_sha256"] == settings["weights_sha256"]
