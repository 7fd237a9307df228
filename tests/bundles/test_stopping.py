"""Runs that are stopped, and runs that meet another one in their folder."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock

from gnsm_monai import cli_commands as commands
from gnsm_monai.locks import LOCK
from gnsm_monai.model.trained import TrainedModel
from tests.bundles.conftest import TINY, TRAIN

BUSY = "another run is writing here: wait until it ends, or name another folder"
STOPPED = "stopped: the same command continues a ranking, and with --resume True a training"
LONG = 10**4


@pytest.mark.parametrize("kind", ["label maps", "table"])
def test_a_second_training_into_one_folder_is_refused_and_leaves_the_first_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], dataset: Path, kind: str
) -> None:
    model, table = tmp_path / "model", tmp_path / "table.csv"
    model.mkdir()
    (model / "checkpoint.pt").write_text("of the first")
    rows = np.random.default_rng(0).integers(3, size=(60, 3))
    table.write_text("\n".join(["a,b,c", *(",".join(f"v{value}" for value in row) for row in rows)]))
    with FileLock(model / LOCK, timeout=0), pytest.raises(SystemExit) as stop:
        if kind == "table":
            commands.table_fit(table, model, device="cpu")
        else:
            commands.train(model, dataset_dir=dataset, **TINY)
    assert stop.value.code == 2
    assert capsys.readouterr().err == f"error: {model}: {BUSY}\n"
    assert sorted(path.name for path in model.iterdir()) == [LOCK, "checkpoint.pt"]
    assert (model / "checkpoint.pt").read_text() == "of the first"


def options(**overrides: object) -> list[str]:
    return [word for name, value in overrides.items() for word in (f"--{name}", str(value))]


def test_a_bundle_that_is_stopped_ends_in_one_line_and_continues(tmp_path: Path, dataset: Path) -> None:
    """As its user types it; with so many epochs the run would go on for hours."""
    settings = {**TINY, "epochs": LONG, "patience": LONG, "val_interval": 1, "fit::shapes::steps": 0}
    settings |= {"dataset_dir": dataset, "spatial_dims": 2}
    command = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run", "training", "--config_file", TRAIN]
    run = subprocess.Popen(
        [*command, *options(model_dir=tmp_path, **settings)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (tmp_path / "checkpoint.pt").is_file() and run.poll() is None:
        time.sleep(0.02)
    run.send_signal(signal.SIGINT)
    errors = run.communicate()[1]
    assert run.returncode == 128 + signal.SIGINT, errors
    assert errors.strip().splitlines()[-1] == STOPPED and "Traceback" not in errors
    reached = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["trainer"]["iteration"]
    assert 0 < reached < LONG
    commands.train(tmp_path, resume=True, max_minutes=1e-6, **settings)
    assert TrainedModel.load(tmp_path).settings["weights_sha256"]
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["trainer"]["iteration"] >= reached
