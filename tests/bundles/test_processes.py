"""Rankings that several processes share out, as torchrun starts them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import pytest
import torch
import yaml

from gnsm_monai import cli
from gnsm_monai import cli_commands as commands
from gnsm_monai.errors import InputError
from gnsm_monai.handlers import RankingCollector
from gnsm_monai.report import ResultsWriter
from gnsm_monai.workflow import join_processes
from tests.bundles.conftest import CONFIGS


def test_two_processes_write_the_ranking_that_one_writes(model: Path, dataset: Path, tmp_path: Path) -> None:
    """Five masks, so that one is scored twice; one of them cannot be read."""
    masks = tmp_path / "masks"
    shutil.copytree(dataset / "predictions" / "holes", masks)
    (masks / "broken.nii.gz").write_bytes(b"no mask")
    options = ["rank", "--model", model, "--predictions", masks, "--references", dataset / "labelsTs", "--maps"]
    options = [str(option) for option in [*options, "--device", "cpu", "--output"]]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "gnsm_monai"]
    two = [*command, *options, str(tmp_path / "two")]
    done = subprocess.run(two, capture_output=True, text=True, check=False)
    assert "exitcode  : 3" in done.stderr, done.stderr[-3000:]  # of the processes; torchrun's own is then 1
    assert done.stdout.count("the worst of 4 masks") == 1
    one = subprocess.run([sys.executable, "-m", "gnsm_monai", *options, str(tmp_path / "one")], check=False)
    assert one.returncode == 3
    for name in ("ranking.csv", "structures.csv", "levels.csv", "level_statistics.npz"):
        assert (tmp_path / "two" / name).read_bytes() == (tmp_path / "one" / name).read_bytes(), name
    maps = [sorted(path.name for path in (tmp_path / name / "maps").iterdir()) for name in ("one", "two")]
    assert maps[0] == maps[1] and len(maps[0]) == 4
    assert not (tmp_path / "two" / ".progress").exists()


@pytest.mark.parametrize(("name", "shared"), [("inference", "$@cases"), ("train", "$set_determinism(@seed)")])
def test_processes_join_in_the_base_config_after_all_that_one_can_refuse_alone(name: str, shared: str) -> None:
    base, overlay = (yaml.safe_load((CONFIGS / f"{kind}{name}.yaml").read_text()) for kind in ("", "multi_gpu_"))
    steps = base["initialize"]
    assert steps.index("$workflow.join_processes(@device)") == steps.index(shared) - 1
    assert "initialize" not in overlay
    assert {key.split("::")[0] for key in overlay} - set(base) == {"finalize"}


def test_one_process_joins_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WORLD_SIZE", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    join_processes("cpu")
    assert not torch.distributed.is_initialized()


@pytest.mark.parametrize("given", [{}, {"device": "cuda"}, {"device": "cpu"}])
def test_each_process_takes_the_overlay_and_a_gpu_of_its_own(
    given: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: dict[str, Any] = {}

    class StopError(Exception):
        pass

    def workflow(config_file: list[str], **overrides: Any) -> None:
        taken.update(overrides, config_file=[Path(name).name for name in config_file])
        raise StopError

    monkeypatch.setattr(commands, "ConfigWorkflow", workflow)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(StopError):
        commands.train(Path("m"), **given)
    assert taken["config_file"] == ["train.yaml", "multi_gpu_train.yaml"]
    assert taken.get("device") == (None if given.get("device") == "cuda" else given.get("device"))


def test_other_commands_are_not_shared_out(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SystemExit) as stop:
        cli.main(["table", "fit", "--data", "d.csv", "--output", "o"])
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: gnsm table fit: runs in one process; torchrun is for train and rank\n"


def test_a_process_that_ended_early_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(rows: Any) -> None:
        raise RuntimeError("[pair.cc:553] Connection closed by peer [127.0.0.1]:47802\nmore")

    monkeypatch.setattr(idist, "get_world_size", lambda: 2)
    monkeypatch.setattr(idist, "all_gather", closed)
    with pytest.raises(InputError, match="another process of this ranking ended early"):
        RankingCollector(ResultsWriter(tmp_path)).hand_over(1.0)
