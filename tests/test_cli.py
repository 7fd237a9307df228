"""The command line: what it passes on, and one line for every mistake."""

from __future__ import annotations

import configparser
import dataclasses
import pkgutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gnsm_monai import cli
from gnsm_monai import cli_commands as commands
from gnsm_monai.__main__ import run
from gnsm_monai.cli_options import build_parser
from gnsm_monai.dicomweb.options import ServerOptions


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """Commands that were called, in place of what they do."""
    calls: list[tuple[str, dict[str, Any]]] = []

    def record(name: str, **arguments: Any) -> int:
        calls.append((name, arguments))
        return 0

    for name in commands.__all__:
        monkeypatch.setattr(commands, name, lambda name=name, **arguments: record(name, **arguments))
    return calls


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    return line


def test_options_that_are_not_given_are_left_to_the_configs(called: list[Any]) -> None:
    assert cli.main(["rank", "--model", "m", "--predictions", "p", "--output", "o"]) == 0
    assert called == [("rank", {"model": Path("m"), "predictions": [Path("p")], "output": Path("o")})]


def test_every_option_of_rank_is_an_override_of_the_config(called: list[Any]) -> None:
    text = "rank --model m --predictions p q --output o --images i --references r --alpha 0.1 --failure-dice 0.8"
    cli.main([*text.split(), "--soft", "off", "--maps", "--workers", "2", "--strict", "--device", "cuda:1"])
    ((_, given),) = called
    assert given == {
        "model": Path("m"), "predictions": [Path("p"), Path("q")], "output": Path("o"), "images_dir": Path("i"),
        "references_dir": Path("r"), "alpha": 0.1, "failure_dice": [0.5, 0.7, 0.8], "soft": "off", "write_maps": True,
        "num_workers": 2, "strict": True, "device": "cuda:1",
    }  # fmt: skip


def test_every_option_of_a_server_is_a_field_of_its_options(called: list[Any]) -> None:
    text = "rank --model m --output o --dicomweb http://h/ --study 1.2 1.3 --store --store-maps --watch"
    cli.main([*text.split(), "--watch-minutes", "5", "--watch-count", "3", "--watch-every", "0.5"])
    ((_, given),) = called
    expected = ServerOptions("http://h/", ("1.2", "1.3"), True, True, True, 5.0, 3, 0.5)
    assert ServerOptions.take(given) == expected
    assert given == {"model": Path("m"), "output": Path("o")}


def test_every_option_of_train_is_an_override_of_the_config(called: list[Any]) -> None:
    text = "train --dataset d --output o --condition-on-image --epochs 3 --device cpu --resume --seed 3"
    cli.main(text.split())
    text = "train --labels l --output o --max-minutes 1.5"
    cli.main(text.split())
    train, bare = [given for _, given in called]
    assert train == {
        "dataset_dir": Path("d"), "output": Path("o"), "condition_on_image": True, "epochs": 3, "device": "cpu",
        "resume": True, "seed": 3,
    }  # fmt: skip
    assert bare == {"labels_dir": Path("l"), "output": Path("o"), "max_minutes": 1.5}


def test_overrides_exist_in_the_configs() -> None:
    """MONAI would take an option that no config knows without a word."""
    from monai.bundle import ConfigParser

    configs = commands.bundle_root() / "configs"
    for command, config in (("train", "train.yaml"), ("rank", "inference.yaml"), ("audit", "train.yaml")):
        keys = set(ConfigParser.load_config_files(str(configs / config)))
        (subparsers,) = [a for a in build_parser()._actions if a.dest == "command"]
        options = {action.dest for action in subparsers.choices[command]._actions}  # type: ignore[index, union-attr, attr-defined]
        own = {"help", "output", "model", "predictions", "soft", "dataset", "folds", "few_references", "add"}
        assert options - keys <= own | {field.name for field in dataclasses.fields(ServerOptions)}


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "COMMAND"),
        ("tain --dataset d --output o", "'tain'"),
        ("train --output o", "--dataset --labels is required"),
        ("train --dataset d --labels l --output o", "not allowed with argument --dataset"),
        ("train --dataset d --output o --epochs 2 --max-minutes 3", "not allowed with argument --epochs"),
        ("train --dataset d --output o --epochs 0", "a positive number is needed, got '0'"),
        ("train --dataset d --output o --max-minutes nan", "a positive number is needed"),
        ("train --dataset d --output", "--output: expected one argument"),
        ("train --dataset d --output o --epoch 3", "unrecognized arguments: --epoch 3"),
        ("rank --model m --output o", "--predictions --dicomweb is required"),
        ("rank --model m --predictions p --dicomweb http://h/ --output o", "not allowed with argument --predictions"),
        ("rank --model m --dicomweb http://h/ --output o --watch-count 0", "a positive number is needed, got '0'"),
        ("rank --model m --predictions --output o", "--predictions: expected at least one argument"),
        ("rank --model m --predictions p --output o --alpha 5", "a number between 0 and 1 is needed, got '5'"),
        ("table fit --data d --output o --contamination .9", "a number above 0 and up to 0.5 is needed, got '.9'"),
        ("rank --model m --predictions p --output o --fdr 0", "a number between 0 and 1 is needed, got '0'"),
        ("rank --model m --predictions p --output o --fdr 0.1 --alpha 0.1", "not allowed with argument --fdr"),
        ("rank --model m --predictions p --output o --soft maybe", "'maybe'"),
        ("rank --model m --predictions p --output o --workers -1", "workers"),
        ("audit --dataset d --output o --folds 1", "at least 2"),
    ],
)
def test_wrong_usage_is_one_line(capsys: pytest.CaptureFixture[str], text: str, part: str) -> None:
    assert part in refused(capsys, *text.split())


@pytest.mark.parametrize("command", [[], ["demo"], ["train"], ["rank"], ["audit"]])
def test_help_is_printed_without_loading_torch(command: list[str]) -> None:
    code = (
        "import sys; from gnsm_monai.cli import run\n"
        "try: run()\nexcept SystemExit as stop: assert stop.code == 0\nassert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code, *command, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "usage: gnsm" in done.stdout


@pytest.mark.parametrize(("command", "part"), [("demo", "starts anew"), ("audit", "continues from here")])
def test_an_interrupted_command_says_how_it_continues(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str, part: str
) -> None:
    def interrupted(**arguments: Any) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, command, interrupted)
    assert cli.main([command, "--output", "o", *([] if command == "demo" else ["--dataset", "d"])]) == 130
    assert part in capsys.readouterr().err


INTERRUPTED = """
import os, signal, sys
module, number = sys.argv.pop(1), int(sys.argv.pop(1))
class Finder:
    def find_spec(self, name, *_):
        if name == module:
            os.kill(os.getpid(), number)
sys.meta_path.insert(0, Finder())
if sys.argv[1] == "-m":
    import runpy

    del sys.argv[1]
    runpy.run_module("gnsm_monai", run_name="__main__", alter_sys=True)
from gnsm_monai.__main__ import run
sys.exit(run())
"""
"""``gnsm``, as installed or with ``-m`` as a module, interrupted as it imports a module."""


@pytest.mark.parametrize(
    ("module", "number", "as_module"),
    [
        ("gnsm_monai.cli", signal.SIGINT, False),
        ("gnsm_monai.cli", signal.SIGINT, True),
        ("gnsm_monai.cli_options", signal.SIGTERM, True),
        ("torch", signal.SIGINT, False),
        ("monai.bundle", signal.SIGINT, True),
        ("gnsm_monai.cli_commands", signal.SIGINT, False),
        ("monai.bundle", signal.SIGTERM, False),
    ],
)
def test_an_interrupt_during_the_imports_is_one_line(module: str, number: int, as_module: bool) -> None:
    words = [sys.executable, "-c", INTERRUPTED, module, str(int(number)), *(["-m"] if as_module else [])]
    words += ["rank", "--model", "m", "--predictions", "p", "--output", "o"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 128 + number, done.stderr
    assert done.stderr.strip() == "stopped: the same command continues from here"
    assert done.stdout == ""


def test_the_installed_command_is_this_one() -> None:
    config = configparser.ConfigParser(interpolation=None)
    config.read(Path(__file__).resolve().parents[1] / "setup.cfg", encoding="utf-8")
    name, target = config["options.entry_points"]["console_scripts"].strip().split(" = ")
    assert name == "gnsm"
    assert target == "gnsm_monai.__main__:run"
    assert pkgutil.resolve_name(target) is run


@pytest.mark.parametrize(
    ("chosen", "limits"), [("0.3", [0.5, 0.7, 0.3]), ("0.5", [0.7, 0.5]), ("0.9", [0.5, 0.7, 0.9])]
)
def test_the_chosen_failure_limit_comes_last_where_the_review_budget_looks(
    monkeypatch: pytest.MonkeyPatch, chosen: str, limits: list[float]
) -> None:
    found: dict[str, Any] = {}
    monkeypatch.setattr(commands, "rank", lambda **arguments: found.update(arguments) or 0)
    assert cli.main(f"rank --model m --predictions p --output o --failure-dice {chosen}".split()) == 0
    assert found["failure_dice"] == limits


@pytest.mark.parametrize("command", [["train", "--dataset", "data"], ["table", "fit", "--data", "data.csv"]])
def test_a_finished_model_is_not_replaced_by_a_training(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "settings.json").write_text("{}")
    line = refused(capsys, *command, "--output", str(tmp_path))
    assert f"{tmp_path}: holds a finished model" in line
    assert [path.name for path in tmp_path.iterdir()] == ["settings.json"]
