"""A model's folder is a MONAI bundle that can be moved and shared."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import monai
import pytest
import torch
from monai.bundle import ConfigWorkflow

from gnsm_monai.data.phantoms import LABELS
from gnsm_monai.files import load_json
from gnsm_monai.model.trained import TrainedModel
from gnsm_monai.paths import bundle_root
from tests.bundles.conftest import CONFIGS, run_config


def test_metadata_tells_classes_grid_cases_and_versions(model: Path) -> None:
    metadata = load_json(model / "configs" / "metadata.json")
    inputs, outputs = (
        metadata["network_data_format"]["inputs"]["image"],
        metadata["network_data_format"]["outputs"]["pred"],
    )
    assert inputs["channel_def"] == {str(value): name for name, value in LABELS.items()} == outputs["channel_def"]
    assert inputs["num_channels"] == outputs["num_channels"] == 4
    assert inputs["spatial_shape"] == load_json(model / "settings.json")["spatial_size"]
    assert "Dataset902_Phantom2D: 10 to train, 2 to fit the score, 4 to calibrate" in metadata["data_source"]
    assert (metadata["monai_version"], metadata["pytorch_version"]) == (monai.__version__, torch.__version__)
    assert metadata["version"] in metadata["changelog"]


def test_the_card_tells_data_rule_levels_and_limits(model: Path) -> None:
    card = (model / "docs" / "README.md").read_text()
    settings = load_json(model / "settings.json")
    grid = " x ".join(map(str, settings["spatial_size"]))
    for part in ("Dataset902_Phantom2D", "10 to train", "right_ventricle", settings["weights_sha256"], grid):
        assert part in card, part
    assert f"is **{settings['anomaly_score']}**" in card
    assert "| misfit_knn | " in card and "| misfit | " in card  # the comparison
    table = card[card.index("| level |") :].splitlines()
    assert "| weight |" in table[0] and [line.split(" | ")[0] for line in table[2:5]] == ["| 0", "| 1", "| 2"]
    assert "Limits" in card and f"torch {torch.__version__}" in card
    assert (model / "LICENSE").read_bytes() == (bundle_root() / "LICENSE").read_bytes()


def test_a_moved_model_runs_from_anywhere_by_its_own_config(model: Path, dataset: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(model, moved)
    workflow = run_config(
        str(moved / "configs" / "inference.yaml"),
        "infer",
        predictions_dir=str(dataset / "labelsTs"),
        output_dir=str(tmp_path / "out"),
        device="cpu",
    )
    assert workflow.parser.get_parsed_content("bundle_root") == str(moved.resolve())
    assert load_json(tmp_path / "out" / "summary.json")["settings"]["model_dir"] == str(moved.resolve())
    with open(tmp_path / "out" / "ranking.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == 4


def test_monais_own_command_runs_it(model: Path, dataset: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "monai.bundle", "run", "inference", "--device", "cpu"]
    command += ["--config_file", str(model / "configs" / "inference.yaml")]
    command += ["--predictions_dir", str(dataset / "labelsTs"), "--output_dir", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert Path(summary["settings"]["model_dir"]) == model.resolve()


def monai_bundle(folder: Path, *words: str) -> str:
    """What MONAI's command prints, run in ``folder``."""
    command = [sys.executable, "-m", "monai.bundle", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout + done.stderr


@pytest.mark.parametrize("which", ["model", "image_model"])
def test_monais_plain_commands_work_in_a_models_folder_as_in_those_of_the_zoo(
    which: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    model, moved = request.getfixturevalue(which), tmp_path / "moved"
    shutil.copytree(model, moved)
    described = ["--meta_file", "configs/metadata.json", "--config_file", "configs/inference.yaml"]
    said = monai_bundle(moved, "verify_net_in_out", "--net_id", "network_def", *described, "--device", "cpu")
    assert "data shape of network is verified with no error" in said
    exported = ["--filepath", "model.ts", "--ckpt_file", "model.pt", "--key_in_ckpt", "model"]
    monai_bundle(moved, "ckpt_export", "network_def", *exported, *described)
    network, size = TrainedModel.load(model).network, load_json(model / "settings.json")["spatial_size"]
    x, level = torch.log_softmax(torch.randn(1, 4, *size), 1), torch.zeros(1).long()
    image = torch.randn(1, 1, *size) if which == "image_model" else None
    given = x if image is None else torch.cat([x, image], 1)
    program = torch.export.export(network.eval(), (given, level))
    torch.export.save(program, tmp_path / "model.pt2")
    with torch.no_grad():
        expected = network(x, level, image)
        torch.testing.assert_close(torch.jit.load(str(moved / "model.ts"))(given), expected)
        torch.testing.assert_close(torch.export.load(tmp_path / "model.pt2").module()(given, level), expected)


def test_the_pair_of_configs_of_earlier_versions_evaluates(model: Path, dataset: Path, tmp_path: Path) -> None:
    """train.yaml, evaluate.yaml, as the contract has it, and inference.yaml, evaluate.yaml: the same files."""
    for name in ("train", "inference"):
        files = f"['{CONFIGS / f'{name}.yaml'}','{CONFIGS / 'evaluate.yaml'}']"
        given = {
            "model_dir": model,
            "predictions_dir": dataset / "predictions" / "holes",
            "output_dir": tmp_path / name,
        }
        given |= {"config_file": files, "references_dir": dataset / "labelsTs", "device": "cpu"}
        monai_bundle(tmp_path, "run", "evaluating", *(f"--{option}={value}" for option, value in given.items()))
    for name in ("ranking.csv", "levels.csv"):
        assert (tmp_path / "train" / name).read_bytes() == (tmp_path / "inference" / name).read_bytes()


OPENED = """
import sys
opened = []
names = ("settings.json", "reference_statistics.npz", "model.pt")
sys.addaudithook(lambda event, args: event == "open" and opened.append(str(args[0]).rpartition("/")[-1]))
from gnsm_monai.cli import run
code = run()
print("opened", *(opened.count(name) for name in names))
sys.exit(code)
"""
"""``gnsm``, which tells how often it has opened each file of a model."""


def test_rank_opens_each_file_of_the_model_once(model: Path, dataset: Path, tmp_path: Path) -> None:
    words = ["rank", "--model", str(model), "--predictions", str(dataset / "labelsTs"), "--output", str(tmp_path / "o")]
    command = [sys.executable, "-c", OPENED, *words, "--device", "cpu"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "opened 1 1 1"


def test_training_from_a_models_own_config_does_not_overwrite_the_model(model: Path) -> None:
    workflow = ConfigWorkflow(str(model / "configs" / "train.yaml"), logging_file=False, init_id="model_dir")
    assert workflow.initialize() == [str(model.resolve() / "models")]
