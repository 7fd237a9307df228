"""A misspelt override of a bundle is refused and the nearest name is told; one that names something is accepted."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
from monai.bundle import ConfigParser

from gnsm_monai.cli_commands import _prepare
from gnsm_monai.errors import InputError
from gnsm_monai.overrides import check_overrides, check_overrides_or_exit, literal

CONFIG = """
epochs: 10
batch_size: 2
amp: false
noise: mixing
never: "$1 / 0"
network_def:
  _target_: UNet
  spatial_dims: 3
  in_channels: 4
train:
  handlers:
    - _target_: StatsHandler
      name: loss
  trainer:
    _target_: SupervisedTrainer
    max_epochs: "@epochs"
  options:
    interval: 1
run: "$print('ran')"
"""

Check = Callable[..., None]


@pytest.fixture
def check(tmp_path: Path) -> Check:
    """Check ``python -m monai.bundle run training --config_file CONFIG`` with more options."""
    (tmp_path / "train.yaml").write_text(CONFIG)

    def run(*options: str) -> None:
        check_overrides(["run", "training", "--config_file", str(tmp_path / "train.yaml"), *options])

    return run


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--epochs", "3"],
        ["--epochs=3"],
        ["--batch-size", "4"],
        ["--amp"],
        ["--noamp"],
        ["--epochs", "-1", "--amp", "--batch_size", "4"],
        ["--+train", "{'seed': 1}"],
        ["--train::trainer::max_epochs", "3"],
        ["--train#trainer#max_epochs", "3"],
        ["--train::handlers::0::name", "dsm"],
        ["--init_id", "start", "--final_id", "end", "--logging_file", "a.conf", "--meta_file", "m.json"],
        ["--workflow_type", "infer"],
        ["--_meta_::version", "2"],
        ["--tracking", "mlflow", "--experiment_name", "mine"],
        ["--epochs", "3", "--", "--trace"],
        ["start", "--epochs", "3"],
    ],
    ids=" ".join,
)
def test_known_override_is_accepted(check: Check, options: list[str]) -> None:
    check(*options)


def test_misspelt_override_names_the_nearest_key(check: Check) -> None:
    with pytest.raises(InputError, match=r"^unknown option --epocs: did you mean --epochs\?$"):
        check("--epocs", "3")


@pytest.mark.parametrize("option", ["--epocs=3", "--+epocs", "--epocs"])
def test_every_way_to_write_an_override_is_seen(check: Check, option: str) -> None:
    with pytest.raises(InputError, match=r"^unknown option --epocs: did you mean --epochs\?$"):
        check(option)


def test_hyphens_are_read_as_underscores(check: Check) -> None:
    with pytest.raises(InputError, match=r"unknown option --batch_sise: did you mean --batch_size\?"):
        check("--batch-sise", "4")


def test_misspelt_argument_of_monai_names_the_nearest(check: Check) -> None:
    with pytest.raises(InputError, match=r"unknown option --loging_file: did you mean --logging_file\?"):
        check("--loging_file", "a.conf")


def test_override_unlike_any_lists_the_known_ones(check: Check) -> None:
    with pytest.raises(InputError, match=r"^unknown option --zzz: known are epochs, batch_size, amp, noise, .*, run$"):
        check("--zzz", "1")


def test_long_list_of_known_ones_is_shortened(tmp_path: Path) -> None:
    config = tmp_path / "many.yaml"
    config.write_text("\n".join(f"key{i:02d}: {i}" for i in range(30)))
    with pytest.raises(InputError, match=r"known are key00, .*, key11, \.\.\.$"):
        check_overrides(["run", "--config_file", str(config), "--zzz", "1"])


def test_flag_that_fire_reads_as_its_negation_needs_a_value(check: Check) -> None:
    with pytest.raises(InputError, match=r"^option --noise needs a value$"):
        check("--noise")


@pytest.mark.parametrize("separator", ["::", "#"])
def test_misspelt_nested_key_names_the_nearest_at_its_depth(check: Check, separator: str) -> None:
    option = separator.join(["--train", "options", "intervall"])
    with pytest.raises(InputError, match=r"did you mean --train::options::interval\?"):
        check(option, "2")


def test_misspelt_parent_is_corrected_in_place(check: Check) -> None:
    with pytest.raises(InputError, match=r"did you mean --train::trainer::max_epochs\?"):
        check("--train::trainr::max_epochs", "3")


def test_missing_list_item_is_refused(check: Check) -> None:
    with pytest.raises(InputError, match="unknown option --train::handlers::7::name: known are "):
        check("--train::handlers::7::name", "dsm")


def test_key_below_a_plain_value_is_refused(check: Check) -> None:
    with pytest.raises(InputError, match=r"^unknown option --epochs::first: epochs has nothing below it$"):
        check("--epochs::first", "1")


def test_new_argument_of_a_component_is_accepted(check: Check) -> None:
    check("--network_def::dropout", "0.1")


def test_new_argument_that_resembles_one_of_the_component_is_refused(check: Check) -> None:
    with pytest.raises(InputError, match=r"did you mean --network_def::in_channels\?"):
        check("--network_def::in_chanels", "4")


def test_new_key_of_a_plain_mapping_is_refused(check: Check) -> None:
    with pytest.raises(InputError, match="unknown option --train::zzz: known are handlers, trainer, options"):
        check("--train::zzz", "1")


def test_override_may_reach_into_an_earlier_override(check: Check) -> None:
    check("--network_def", "{'_target_': 'Other', 'width': 4}", "--network_def::width", "8")
    with pytest.raises(InputError, match=r"did you mean --network_def::width\?"):
        check("--network_def", "{'_target_': 'Other', 'width': 4}", "--network_def::widht", "8")


def test_several_config_files_are_merged(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("epochs: 1")
    (tmp_path / "b.yaml").write_text("output_dir: out")
    files = str([str(tmp_path / "a.yaml"), str(tmp_path / "b.yaml")])
    check_overrides(["run", "training", "--config_file", files, "--epochs", "2", "--output_dir", "there"])
    with pytest.raises(InputError, match=r"did you mean --output_dir\?"):
        check_overrides(["run", "training", "--config_file", files, "--outputdir", "there"])


def test_options_in_args_file_are_checked(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("epochs: 1")
    args = tmp_path / "args.json"
    args.write_text(f'{{"config_file": "{tmp_path / "a.yaml"}", "epocs": 3}}')
    with pytest.raises(InputError, match=r"unknown option --epocs: did you mean --epochs\?"):
        check_overrides(["run", "--args_file", str(args)])


def test_run_workflow_is_checked_too(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("epochs: 1")
    with pytest.raises(InputError, match=r"did you mean --epochs\?"):
        check_overrides(["run_workflow", "--run_id", "go", "--config_file", str(tmp_path / "a.yaml"), "--epocs", "2"])


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["run"],
        ["run", "training", "--epocs", "3"],
        ["-q", "tests", "--config-file", "setup.cfg"],
        ["rank", "--config_file", "no/such.yaml", "--zzz", "1"],
    ],
    ids=lambda argv: " ".join(argv) or "nothing",
)
def test_other_command_lines_are_left_alone(argv: list[str]) -> None:
    check_overrides(argv)


@pytest.mark.parametrize(("program", "checked"), [("lib/monai/bundle/__main__.py", True), ("bin/other", False)])
def test_command_line_of_the_process_is_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, checked: bool
) -> None:
    (tmp_path / "a.yaml").write_text("epochs: 1")
    monkeypatch.setattr("sys.argv", [program, "run", "--config_file", str(tmp_path / "a.yaml"), "--epocs", "2"])
    with pytest.raises(InputError, match="--epochs") if checked else nullcontext():
        check_overrides()


def test_exit_variant_prints_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.yaml").write_text("epochs: 1")
    with pytest.raises(SystemExit) as exit_info:
        check_overrides_or_exit(["run", "--config_file", str(tmp_path / "a.yaml"), "--epocs", "2"])
    assert exit_info.value.code == 2
    assert capsys.readouterr().err == "error: unknown option --epocs: did you mean --epochs?\n"


@pytest.mark.parametrize(
    "value",
    [
        "$1 + 1",
        "@epochs",
        "%epochs",
        "a#b",
        "50%",
        "it's $5 @ 'x' \\ \u00e9 \udcff",
        "plain",
        ["$price", ("@id", 3)],
        7,
        Path("$x"),
    ],
)
def test_a_literal_value_is_read_as_it_is(value: object) -> None:
    """MONAI takes such text for code, an id or a macro."""
    parser = ConfigParser({"epochs": 3, "value": literal(value)})
    expected = ["$price", ["@id", 3]] if isinstance(value, list) else value
    assert parser.get_parsed_content("value") == expected


def test_text_that_begins_like_code_is_no_code_for_gnsm(tmp_path: Path) -> None:
    """Columns whose names begin like code, an id or a macro can be named on the command line."""
    rows = "".join(f"{'ab'[i % 2]},{'xyz'[i % 3]},{i}\n" for i in range(40))
    (tmp_path / "table.csv").write_text("$kind,%form,@number\n" + rows)
    workflow = _prepare(
        "train.yaml", "tabular_anomaly", dataset_dir=tmp_path / "table.csv", model_dir=tmp_path / "model",
        ignore_columns=["@number", "%form"],
    )  # fmt: skip
    assert workflow.parser.get_parsed_content("ignore_columns") == ["@number", "%form"]
    assert workflow.parser.get_parsed_content("table").columns == ("$kind",)
