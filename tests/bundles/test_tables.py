"""The bundle of tables and its commands, run as users run them."""

from __future__ import annotations

import csv
import inspect
import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow

from gnsm_monai.cli import main
from gnsm_monai.noise import build_schedule
from gnsm_monai.paths import bundle_root
from gnsm_monai.tabular import GNSMDetector, TableEncoder
from gnsm_monai.tabular.detector import DEFAULT_NOISE
from gnsm_monai.tabular.files import write_demo_table
from gnsm_monai.tabular.model import TrainedTable
from gnsm_monai.tabular.options import OPTIONS
from gnsm_monai.tabular.steps_scoring import read_rows
from gnsm_monai.tabular.steps_training import training_table
from gnsm_monai.tabular.training import TrainingPlan, train_network

CONFIGS = bundle_root("tabular_anomaly") / "configs"
QUICK = {"epochs": 3, "steps_per_epoch": 60, "width": 32, "depth": 1}
ODD = ["DE,Correos,light,pallet,5.10", "IT,BRT,heavy,pallet,9999", "FR,,light,zeppelin,5.00"]


def workflow(config: str, **overrides: object) -> ConfigWorkflow:
    kind = "train" if config == "train.yaml" else "infer"
    return ConfigWorkflow(str(CONFIGS / config), workflow_type=kind, logging_file=False, **overrides)


def run(config: str, **overrides: object) -> None:
    prepared = workflow(config, **overrides)
    prepared.initialize()
    prepared.run()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tables")
    run("train.yaml", data_dir=str(folder / "data"), model_dir=str(folder / "model"), **QUICK)
    return folder / "model"


@pytest.fixture(scope="module")
def new_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = write_demo_table(tmp_path_factory.mktemp("new") / "new.csv", rows=200, seed=1)
    path.write_text(path.read_text() + "\n".join(ODD) + "\n")
    return path


def ranking(folder: Path) -> list[dict[str, str]]:
    with open(folder / "ranking.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_configs_have_every_property_that_monai_looks_for() -> None:
    train = workflow("train.yaml", **QUICK)
    train.initialize()
    assert train.check_properties() == []


def test_a_model_is_a_bundle_that_ranks_rows_by_its_own_configs(model: Path, new_rows: Path, tmp_path: Path) -> None:
    assert list((model / "tensorboard").glob("events*"))
    own = ConfigWorkflow(
        str(model / "configs" / "inference.yaml"),
        workflow_type="infer",
        logging_file=False,
        dataset_dir=str(new_rows),
        output_dir=str(tmp_path),
    )
    own.initialize()
    own.run()
    rows = ranking(tmp_path)
    assert [row["rank"] for row in rows] == [str(n) for n in range(1, 204)]
    scores = np.array([float(row["anomaly_score"]) for row in rows])
    assert (np.diff(scores) <= 0).all()
    assert {row["row"] for row in rows[:3]} == {"201", "202", "203"}
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["rows"] == 203 and summary["flagged"] == sum(int(row["flag"]) for row in rows)
    assert summary["flagged"] < 40  # 5% are expected of the normal rows


def test_the_odd_field_comes_first(model: Path, new_rows: Path, tmp_path: Path) -> None:
    run("inference.yaml", model_dir=str(model), dataset_dir=str(new_rows), output_dir=str(tmp_path))
    by_row = {row["row"]: row for row in ranking(tmp_path)}
    assert by_row["202"]["feature_1"] == "price"
    assert re.fullmatch(r"9999 \(outside 3\.\d+ to \d\d\.\d+\)", by_row["202"]["value_1"])
    named = {by_row["203"][f"feature_{n}"]: by_row["203"][f"value_{n}"] for n in (1, 2)}
    assert named == {"carrier": "(missing)", "kind": "zeppelin (unknown)"}


def test_a_resumed_training_ends_with_the_weights_of_an_uninterrupted_one(model: Path, tmp_path: Path) -> None:
    data = str(model.parent / "data")
    settings = {"data_dir": data, "model_dir": str(tmp_path), **QUICK}
    run("train.yaml", max_minutes=1e-9, **settings)  # ends with the first epoch
    run("train.yaml", resume=True, **settings)
    weights = [torch.load(folder / "model.pt", weights_only=True)["model"] for folder in (model, tmp_path)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_the_detector_trains_as_the_bundle_does(model: Path, tmp_path: Path) -> None:
    table = training_table(str(model.parent / "data" / "parcels.csv"), None, [], bins=20, seed=0)
    plan = TrainingPlan(width=32, depth=1, max_steps=12 * 5)
    with_bundle, alone = tmp_path / "bundle", tmp_path / "alone"
    settings = {**QUICK, "epochs": 12, "steps_per_epoch": 5, "device": "cpu", "data_dir": str(model.parent / "data")}
    run("train.yaml", model_dir=str(with_bundle), **settings)
    train_network(table, build_schedule(DEFAULT_NOISE), plan, alone)
    weights = [torch.load(folder / "model.pt", weights_only=True)["model"] for folder in (with_bundle, alone)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_the_detectors_defaults_are_those_of_the_bundle() -> None:
    config, plan = workflow("train.yaml").parser.get(), vars(TrainingPlan())
    defaults = {name: value.default for name, value in inspect.signature(GNSMDetector).parameters.items()}
    assert {name: config[name] for name in defaults if name in config and name not in ("device", "noise")} == {
        name: value for name, value in defaults.items() if name in config and name not in ("device", "noise")
    }
    assert {name: defaults[name] for name in plan if name != "seed"} | {"seed": config["seed"]} == plan
    assert set(config["options"]) - {"anomaly_score", "device"} <= set(OPTIONS)


def test_the_name_of_an_objective_is_no_loss_any_more(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        run("train.yaml", data_dir=str(tmp_path), model_dir=str(tmp_path / "model"), loss="posterior")
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.count("\n") == 1 and "--objective posterior" in error
    assert not (tmp_path / "model").exists()


OPENED: list[str] | None = None


def _note_opened(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open" and OPENED is not None:
        OPENED.append(str(arguments[0]))


sys.addaudithook(_note_opened)


class TestCommands:
    def test_scoring_reads_each_file_of_the_model_once_and_encodes_the_table_once(
        self, model: Path, new_rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        global OPENED
        encoded, transform = [], TableEncoder.transform
        monkeypatch.setattr(TableEncoder, "transform", lambda self, table: encoded.append(1) or transform(self, table))
        OPENED = []
        assert main(["table", "score", "--model", str(model), "--data", str(new_rows), "--output", str(tmp_path)]) == 0
        paths, OPENED = OPENED, None
        files = [model / name for name in ("settings.json", "model.pt", "reference_statistics.npz")]
        assert [paths.count(str(path)) for path in [*files, new_rows]] == [1, 1, 1, 1]
        assert paths.count(str(tmp_path / "ranking.csv")) == 0  # written beside its place, and not read again
        assert len(encoded) == 1

    def test_fit_and_score(self, new_rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        table = write_demo_table(tmp_path / "train.csv", rows=300)
        model, out = tmp_path / "model", tmp_path / "out"
        fit = ["table", "fit", "--data", str(table), "--output", str(model), "--ignore", "price"]
        assert main([*fit, "--max-minutes", "0.0001", "--device", "cpu"]) == 0
        assert main(["table", "score", "--model", str(model), "--data", str(new_rows), "--output", str(out)]) == 0
        assert "the worst of 203 rows" in capsys.readouterr().out
        rows = ranking(out)
        assert "203" in {row["row"] for row in rows[:3]}
        assert all(row[f"feature_{n}"] != "price" for row in rows for n in (1, 2, 3))

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("a,b\n1,2\n1\n", "row 2 has 1 values, there are 2 column names"),
            ("a,a\n1,2\n", "column name 'a' occurs twice"),
            ("a,b\n", "at least one row"),
            ("a\n" + "x\n" * 19, "20 rows are needed to train"),
            ("a\n\x00\xff", "cannot be read as CSV"),
        ],
    )
    def test_a_bad_table_ends_in_one_line(
        self, content: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = tmp_path / "bad.csv"
        path.write_bytes(content.encode("latin-1"))
        with pytest.raises(SystemExit) as stop:
            main(["table", "fit", "--data", str(path), "--output", str(tmp_path / "model")])
        error = capsys.readouterr().err
        assert stop.value.code == 2 and message in error and error.count("\n") == 1
        assert not (tmp_path / "model").exists()

    def test_other_columns_and_other_models_are_refused(
        self, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = tmp_path / "other.csv"
        path.write_text("country,carrier\nDE,DHL\n")
        for folder, message in ((model, "lacks the column 'weight'"), (tmp_path, "no trained model here")):
            with pytest.raises(SystemExit) as stop:
                main(["table", "score", "--model", str(folder), "--data", str(path), "--output", str(tmp_path / "o")])
            assert stop.value.code == 2 and message in capsys.readouterr().err
        assert not (tmp_path / "o").exists()

    def test_what_was_read_as_something_else_is_said_and_unknown_columns_too(
        self, model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("INFO", logger="gnsm_monai.workflow")
        path = write_demo_table(tmp_path / "new.csv", rows=40, seed=3)
        path.write_text(re.sub("^(DE|FR|IT|ES)", r"\1!", path.read_text(), flags=re.MULTILINE).replace("UPS", "NA"))
        read_rows(TrainedTable.load(model), str(path))
        assert re.search(r"read 'NA' \(\dx\) as missing", caplog.text)
        assert re.search(
            r"column 1 \('country'\): 40 of 40 values are unknown to the model, such as '..!'", caplog.text
        )
        assert caplog.text.count("unknown to the model") == 1

    def test_what_many_rows_share_is_told_apart_from_what_is_odd_in_one(
        self, model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        path = write_demo_table(tmp_path / "new.csv", rows=100, seed=3)
        names, *rows = path.read_text().splitlines()
        rows = [row if place % 5 else re.sub("^..", "AT", row) for place, row in enumerate(rows)]
        rows[0] = re.sub(",(box|envelope|pallet),", ",crate,", rows[0])
        path.write_text("\n".join([names, *rows]))
        main(["table", "score", "--model", str(model), "--data", str(path), "--output", str(tmp_path / "out")])
        warned = re.findall(r"column 1 \('country'\): 20 of 100 .*", caplog.text)
        assert len(warned) == 1 and warned[0].endswith("'AT': new rows differ here as a whole, not one by one")
        assert caplog.text.count("unknown to the model") == 1
        ranking = (tmp_path / "out" / "ranking.csv").read_text()
        assert "AT (unknown, as 20 % of rows)" in ranking and "crate (unknown)" in ranking
        summary = json.loads((tmp_path / "out" / "summary.json").read_text())
        page = (tmp_path / "out" / "report.html").read_text()
        assert re.search(r"<bdi>country</bdi> \(20 % of rows\)\.", page)
        assert re.search(r'<td class="odd"><bdi>crate \(unknown\)</bdi> <span class="adds">\+\d', page)
        assert "<td><bdi>AT (unknown, as 20 % of rows)</bdi></td>" in page
        assert '<td class="odd"><bdi>AT' not in page
        shares = summary["unknown_values"]
        assert (shares["country"], shares["carrier"], shares["kind"]) == (0.2, 0, 0.01)

    def test_a_model_of_version_0_2_takes_all_text_as_it_is(self, model: Path, tmp_path: Path) -> None:
        shutil.copytree(model, tmp_path / "old")
        settings = json.loads((model / "settings.json").read_text())
        del settings["missing"]
        (tmp_path / "old" / "settings.json").write_text(json.dumps(settings))
        path = tmp_path / "new.csv"
        path.write_text("country;carrier;weight;kind;price\nNA;DHL;light;box;5,10\n")
        values = [
            read_rows(TrainedTable.load(folder), str(path)).values[0].tolist() for folder in (model, tmp_path / "old")
        ]
        assert (values[0][0], values[0][4]) == (None, "5.10") and (values[1][0], values[1][4]) == ("NA", "5,10")
