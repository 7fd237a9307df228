from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import DataLoader
from monai.engines import SupervisedEvaluator
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from gnsm_monai import workflow
from gnsm_monai.engines import NoisyLabelPrepareBatch
from gnsm_monai.handlers import LevelLoss
from gnsm_monai.handlers.checkpoint import KEPT_LOSSES
from gnsm_monai.losses import ScoreMatchingLoss
from gnsm_monai.networks import ScoreUNet
from gnsm_monai.noise import mixing_schedule
from gnsm_monai.paths import bundle_root
from gnsm_monai.time_limit import NO_LIMIT
from gnsm_monai.workflow import finishing
from gnsm_monai.workflow.options import OPTIONS


@pytest.mark.parametrize(("epochs", "interval"), [(1, 1), (2, 1), (4, 1), (7, 1), (8, 2), (10, 2), (16, 4), (100, 25)])
def test_validation_comes_about_four_times_and_after_the_last_epoch(epochs: int, interval: int) -> None:
    assert workflow.validation_interval(epochs) == interval
    assert epochs % interval == 0


def test_references_default_to_the_test_labels_of_the_dataset(tmp_path: Path) -> None:
    assert workflow.references_dir(None, str(tmp_path)) is None
    (tmp_path / "labelsTs").mkdir()
    assert workflow.references_dir(None, str(tmp_path)) == str(tmp_path / "labelsTs")
    assert workflow.references_dir("elsewhere", str(tmp_path)) == "elsewhere"
    assert workflow.references_dir(None, None) is None


def test_a_model_that_sees_images_asks_for_their_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = {"network": {"image_channels": 1}}
    with pytest.raises(SystemExit) as stop:
        workflow.predictions(str(tmp_path), None, None, settings)
    assert stop.value.code == 2
    assert "images_dir: this model is conditioned on images" in capsys.readouterr().err


def test_predictions_must_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        workflow.predictions(None, None, None, {"network": {"image_channels": 0}})
    assert "predictions_dir: name the folder" in capsys.readouterr().err


@pytest.mark.parametrize("known", [False, True])
def test_the_kept_weights_are_validated_beside_voxels_without_context(known: bool) -> None:
    """Once: where training has validated them, its losses are taken."""
    schedule, cpu = mixing_schedule(3), torch.device("cpu")
    network = ScoreUNet(2, 3, noise=schedule, channels=(4, 8), position_size=(8, 8))
    network.set_prior(torch.rand(3, 8, 8).softmax(0))
    loss, prepare = ScoreMatchingLoss("posterior", schedule), NoisyLabelPrepareBatch(schedule, 3, fixed_seed=0)
    cases = [{"label": torch.randint(3, (1, 8, 8))} for _ in range(4)]
    evaluator = SupervisedEvaluator(
        cpu,
        DataLoader(cases, batch_size=1),
        network,
        prepare_batch=prepare,
        key_val_metric={"val_loss": LevelLoss(loss, 3).nanmean()},
        additional_metrics={"val_loss_per_level": LevelLoss(loss, 3)},
        decollate=False,
    )
    evaluator.logger.disabled = True

    def kept(net: nn.Module) -> None:
        """The weights of the best epoch: not those that the evaluator's network had."""
        torch.manual_seed(0)
        nn.init.normal_(net.head[-1].weight)

    fit: Any = SimpleNamespace(load_weights=kept)
    if known:
        setattr(evaluator.state, KEPT_LOSSES, np.arange(3))
    found = finishing._losses_of_kept_weights(fit, evaluator, NO_LIMIT)
    losses, independent = found["val_loss"], found["no_context_loss"]
    expected, without = torch.zeros(3), torch.zeros(3)
    for case in cases:
        x, target, (level,), _ = prepare({"label": case["label"][None]}, cpu)
        with torch.no_grad():
            expected += loss(network(x, level), target) / 4
            alone = torch.softmax(network.log_prior + schedule.log_likelihood(x, level), 1)
        picked = (alone * target["probabilities"]).sum(1).log()
        without -= picked.mean((1, 2)) / 4
    assert losses == pytest.approx(np.arange(3) if known else expected.numpy(), rel=1e-5)
    assert independent == pytest.approx(without.numpy(), rel=1e-5)
    assert losses != pytest.approx(independent, rel=0.01)


def test_only_the_cases_that_are_named_are_scored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.png").write_text("")
    labels = {"names": ["organ"], "values": [0, 1], "ignore_value": None, "regions": []}
    settings = {"network": {"image_channels": 0}, "labels": labels}
    found = workflow.predictions(str(tmp_path), None, None, settings, only_cases=["a", "c"])
    assert [case["case"] for case in found] == ["a", "c"]
    with pytest.raises(SystemExit):
        workflow.predictions(str(tmp_path), None, None, settings, only_cases=["a", "d"])
    assert "has no case 'd'" in capsys.readouterr().err


def test_a_folder_that_cannot_be_made_is_refused_before_anything_is_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workflow.check_output_dir(str(tmp_path / "a" / "b"))
    assert not (tmp_path / "a").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as stop:
        workflow.check_output_dir(str(tmp_path / "file" / "b"))
    assert stop.value.code == 2
    assert f"{tmp_path / 'file'} is a file" in capsys.readouterr().err


def test_a_dataset_and_a_bare_folder_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        workflow.phantoms_if_none("a", "data", 3, "b")
    assert "dataset_dir, labels_dir: give one of them" in capsys.readouterr().err


@pytest.mark.parametrize("given", ["{0}", ["elsewhere", "{0}"], "{0}/../masks"])
def test_results_are_never_written_among_what_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], given: str | list[str]
) -> None:
    folder = tmp_path / "masks"
    folder.mkdir()
    (tmp_path / "link").symlink_to(folder)
    named = [text.format(folder) for text in given] if isinstance(given, list) else given.format(folder)
    for output in (folder, tmp_path / "link"):
        with pytest.raises(SystemExit) as stop:
            workflow.check_output_dir(str(output), None, named)
        assert stop.value.code == 2
        assert f"{output}: holds what is to be read" in capsys.readouterr().err
    workflow.check_output_dir(str(folder / "results"), None, named)


def test_an_output_folder_that_the_command_line_took_for_a_number_is_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        workflow.check_output_dir(7)  # type: ignore[arg-type]
    assert "write it as ./7" in capsys.readouterr().err


def test_a_model_replaces_no_data_and_no_files_of_another_project(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in (tmp_path, tmp_path / "labelsTr"):
        with pytest.raises(SystemExit):
            workflow.check_model_dir(folder, dataset_dir=tmp_path)
        assert "holds what is to be read" in capsys.readouterr().err
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "LICENSE").write_text("mine")
    with pytest.raises(SystemExit):
        workflow.check_model_dir(tmp_path / "project")
    assert "LICENSE: is of no model" in capsys.readouterr().err
    (tmp_path / "project" / "settings.json").write_text("{}")  # a model that is trained anew
    workflow.check_model_dir(tmp_path / "project")
    workflow.check_model_dir(tmp_path / "new")


def refused(capsys: pytest.CaptureFixture[str], call: Callable[[], Any]) -> str:
    """The one line that a call prints as it ends the program with code 2."""
    with pytest.raises(SystemExit) as stop:
        call()
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize(
    ("name", "good", "bad", "reason"),
    [
        ("seed", [0, 2**32 - 1], [-1, 1.5, "2", True, None], "must be a whole number of at least 0"),
        ("seed", [], [2**32], "must be a whole number of at most 4294967295"),
        ("epochs", [1], [0, 1.5, "2", True, None, float("nan")], "must be a whole number of at least 1"),
        ("learning_rate", [1e-9, 3], [0, -1, float("nan"), "a", True, None], "must be a positive number"),
        ("max_minutes", [None, 0.5, 3], [0, "3", False], "must be a positive number"),
        ("alpha", [0.05], [0, 1, 1.5, True, "0.1"], "must be a number in (0, 1)"),
        ("failure_dice", [[0.5, 1], (0.7,), []], [0.5, [0], [1.2], ["a"]], "must be a list of numbers in (0, 1]"),
        ("strict", [True, False], ["maybe", 1, None], "True or False is needed"),
        ("soft", ["auto", "off", False], ["on", 0, True, None], "is not one of auto, off"),
        ("failures", ["auto", "copies"], ["nnunet", None], "is not one of auto"),
        ("objective", ["posterior", "kl"], [["kl"], "typo"], "is not one of posterior, kl, dsm"),
        ("device", ["cpu"], [["cpu"], "cuda:99", "gpu"], "cannot be used"),
    ],
)
def test_every_kind_of_option_takes_what_it_may_and_refuses_the_rest(
    name: str, good: list[Any], bad: list[Any], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for value in good:
        workflow.check_options({name: value})
        workflow.check_options({}, **{name: value})
    for value in bad:
        line = refused(capsys, lambda value=value: workflow.check_options({name: value}))
        assert line.startswith(f"error: {name}: ") and reason in line
        assert str(value) in line


@pytest.mark.parametrize(("config", "mapping"), [("train.yaml", "options"), ("inference.yaml", "scoring_options")])
def test_the_kind_of_every_option_that_a_config_has_checked_is_known(config: str, mapping: str) -> None:
    content = ConfigParser.load_config_file(bundle_root() / "configs" / config)
    assert set(content[mapping]) <= {*OPTIONS, "device"}
    assert set(OPTIONS) & set(content) - set(content[mapping]) <= {
        "fdr", "layout", "lists", "num_workers", "propose", "seed", "strict",
    }  # fmt: skip


@pytest.mark.parametrize("folders", [(5, None, None), ([5], None, None), ("masks", 7, None), ("masks", None, 7)])
def test_a_folder_that_the_command_line_took_for_a_number_is_refused(
    folders: tuple[Any, Any, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        workflow.predictions(*folders, {"network": {"image_channels": 0}})
    assert "the name of a folder is needed, got" in capsys.readouterr().err


def test_one_case_may_be_named_without_a_list(tmp_path: Path) -> None:
    for name in ("ab", "a", "b"):
        (tmp_path / f"{name}.png").write_text("")
    labels = {"names": ["organ"], "values": [0, 1], "ignore_value": None, "regions": []}
    settings = {"network": {"image_channels": 0}, "labels": labels}
    found = workflow.predictions(str(tmp_path), None, None, settings, only_cases="ab")
    assert [case["case"] for case in found] == ["ab"]


def test_images_that_a_model_does_not_see_are_said_to_be_unused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    masks, images = tmp_path / "masks", tmp_path / "images"
    for folder in (masks, images):
        folder.mkdir()
        (folder / "a.png").write_text("")
    labels = {"names": ["organ"], "values": [0, 1], "ignore_value": None, "regions": []}
    settings = {"network": {"image_channels": 0}, "labels": labels}
    with pytest.raises(SystemExit):
        workflow.predictions(str(masks), None, str(tmp_path / "nowhere"), settings)
    assert "no such folder" in capsys.readouterr().err
    with caplog.at_level("INFO", "gnsm_monai.workflow"):
        (case,) = workflow.predictions(str(masks), None, str(images), settings)
    assert "image" not in case and case["unseen_image"] == images / "a.png"
    assert "of images the size alone counts, as this model was trained without them" in caplog.text


@pytest.mark.parametrize(
    ("call", "part"),
    [
        (
            lambda: workflow.check_rule("disagreement_beyond_doubt", "posterior", False),
            "'disagreement_beyond_doubt' needs a network that sees images: condition_on_image",
        ),
        (
            lambda: workflow.check_rule("shape", "kl", False),
            "'shape' is not one of auto, score_norm_gmm",
        ),
        (lambda: workflow.check_loss("kl"), "loss: a module is needed, got 'kl': its name is the option objective"),
        (lambda: workflow.refuse("a\nb"), "error: a b"),
        (lambda: workflow.check_scoring_options([0.7], 0.05, "auto", "cpu"), "is of an earlier version of gnsm_monai"),
        (lambda: workflow.check_model_dir("m", True), "dataset_dir: the name of a folder is needed, got True"),
        (lambda: workflow.spatial_dims(7, None), "dataset_dir: the name of a folder is needed, got 7"),
        (lambda: workflow.spatial_dims(None, ["a"]), "labels_dir: the name of a folder is needed"),
        (lambda: workflow.phantoms_if_none("d", "data", 4), "spatial_dims: 2 or 3 is needed, got 4"),
        (lambda: workflow.phantoms_if_none("d", "data", True), "spatial_dims: 2 or 3 is needed, got True"),
        (lambda: workflow.references("d", 2, False, 100, 0, exclude=False), "exclude_cases: a list of case ids"),
        (lambda: workflow.references("d", 2, False, 100, 0, exclude=[3]), "exclude_cases: a list of case ids"),
        (lambda: workflow.references("d", 2, False, 100, 0, exclude="ab"), "exclude_cases: a list of case ids"),
    ],
)
def test_values_of_the_wrong_kind_are_one_line(
    call: Callable[[], Any], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert part in refused(capsys, call)


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are listed by name on Linux alone")
def test_no_thread_of_the_process_group_is_left_when_the_processes_part() -> None:
    def group_threads() -> list[str]:
        names = [(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]
        return [name for name in names if "gloo" in name]

    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    network = DistributedDataParallel(nn.Linear(2, 2))
    network(torch.ones(1, 2)).sum().backward()
    assert group_threads()
    workflow.part_processes(network)  # they would abort a process that ends while one of them frees a tensor
    assert not torch.distributed.is_initialized()
    assert not group_threads()
