"""The commands of README and docs do what they say; scripts/documented_commands.py runs them at full length."""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fire.parser import DefaultParseValue
from monai.bundle import run

from gnsm_monai import cli
from gnsm_monai import cli_commands as commands
from gnsm_monai.cli_options import build_parser
from tests.bundles.conftest import TINY

ROOT = Path(__file__).resolve().parents[1]


def load_script() -> Any:
    spec = importlib.util.spec_from_file_location("documented", ROOT / "scripts" / "documented_commands.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


script = load_script()
FOUND = [(page, command) for page in script.PAGES for command in script.documented((ROOT / page).read_text())]
OURS = [(page, command) for page, command in FOUND if command.startswith("gnsm") and script.is_complete(command)]
TABLE = {"epochs": 1, "steps_per_epoch": 2, "width": 8, "depth": 1}


def short_of(config: str, bundle: str) -> dict[str, Any]:
    """Overrides that make a training a matter of seconds."""
    if not config.endswith("train.yaml"):
        return {}
    return TABLE if bundle == "tabular_anomaly" else {**TINY, "epochs": 1}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("documented")
    script.prepare(folder, table_rows=400)
    return folder


def test_commands_are_found_on_every_page() -> None:
    assert {page for page, _ in FOUND} == set(script.PAGES)
    assert sum(command.startswith("gnsm rank") for _, command in FOUND) >= 3
    assert not [command for _, command in FOUND if "$" in command or "…" in command]


@pytest.mark.parametrize(("page", "command"), OURS)
def test_every_option_that_a_page_shows_is_known(page: str, command: str) -> None:
    build_parser().parse_args(shlex.split(command)[1:])


def test_options_shown_in_passing_exist() -> None:
    text = "".join((ROOT / page).read_text() for page in script.PAGES[:3])
    shown = set(re.findall(r"`(--[a-z-]+)", text))
    known = (ROOT / "gnsm_monai" / "cli_options.py").read_text()
    assert shown and all(f'"{option}"' in known for option in shown)


@pytest.mark.filterwarnings("ignore")
def test_documented_commands_run_in_their_order(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All but gnsm demo and torchrun, which have tests of their own, with trainings of one epoch."""
    monkeypatch.chdir(place)
    prepare: Callable[..., Any] = commands._prepare

    def short(config: str, bundle: str = "segmentation_qc", **overrides: Any) -> Any:
        return prepare(config, bundle, **{**overrides, **short_of(config, bundle)})

    monkeypatch.setattr(commands, "_prepare", short)
    ran = 0
    for page, command in script.commands_of_all_pages():
        words = shlex.split(command)
        if words[0] == "torchrun" or words[1] == "demo" or not script.is_complete(command):
            continue
        if words[0] == "gnsm":
            assert cli.main(words[1:]) == 0, (page, command)
        else:
            assert words[:4] == ["python", "-m", "monai.bundle", "run"], command
            options = {
                k.removeprefix("--"): DefaultParseValue(v) for k, v in zip(words[5::2], words[6::2], strict=True)
            }
            files = options.pop("config_file")
            bundle = str(files).split("bundles/")[1].split("/")[0]
            first = files if isinstance(files, str) else files[-1]
            run(words[4], config_file=files, **options, **short_of(first, bundle))
        ran += 1
    assert ran > 10
    for result in (
        "runs/results/report.html",
        "runs/audit/ranking.csv",
        "runs/rows/ranking.csv",
        "results/ranking.csv",
    ):
        assert (place / result).is_file(), result
    capsys.readouterr()
