"""The options amp and cuda_graphs of the bundle, from end to end."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.inferers import SimpleInferer
from scipy.stats import spearmanr

from gnsm_monai import workflow as steps
from gnsm_monai.engines import GraphInferer
from gnsm_monai.model.trained import TrainedModel
from tests.bundles.conftest import INFERENCE, TINY, TRAIN, run_config


def ranked(model: Path, dataset: Path, output: Path, **options: Any) -> tuple[dict[str, float], Any]:
    """Scores of well-made and of failed masks, and the config's content."""
    folders = [str(dataset / "labelsTr"), str(dataset / "predictions" / "missing_part")]
    given = {"model_dir": str(model), "predictions_dir": folders, "output_dir": str(output), "device": "cpu"}
    workflow = run_config(INFERENCE, "infer", **given, **options)
    with open(output / "ranking.csv", newline="") as file:
        return {row["case"]: float(row["anomaly_score"]) for row in csv.DictReader(file)}, workflow.parser


def test_scores_hardly_change_in_bfloat16_and_not_at_all_by_graphs(model: Path, dataset: Path, tmp_path: Path) -> None:
    usual, config = ranked(model, dataset, tmp_path / "usual")
    assert isinstance(config.get_parsed_content("inferer"), SimpleInferer)
    assert config.get_parsed_content("network").compute_dtype is None
    lower, config = ranked(model, dataset, tmp_path / "amp", amp=True)
    assert config.get_parsed_content("network").compute_dtype == torch.bfloat16
    graphs, config = ranked(model, dataset, tmp_path / "graphs", cuda_graphs=True)
    assert isinstance(config.get_parsed_content("scorer").inferer, GraphInferer)
    assert graphs == usual and len(usual) == 20
    assert lower != usual and lower.keys() == usual.keys()
    assert spearmanr([lower[case] for case in usual], list(usual.values())).statistic > 0.95


def test_a_model_trained_in_bfloat16_is_one_of_float32(model: Path, dataset: Path, tmp_path: Path) -> None:
    options = {**TINY, "fit::failures::calibration_copies": 1, "amp": True}
    workflow = run_config(TRAIN, dataset_dir=str(dataset), model_dir=str(tmp_path), spatial_dims=2, **options)
    content = workflow.parser.get_parsed_content
    assert not content("train::trainer").amp and not content("validate::evaluator").amp
    assert content("ema").ema_model.compute_dtype == torch.bfloat16
    assert content("fit").network.compute_dtype is None  # the rule is fitted to what scoring says by default
    trained, other = TrainedModel.load(tmp_path), TrainedModel.load(model)
    assert trained.settings["network"] == other.settings["network"]
    assert trained.network.compute_dtype is None
    for (name, value), expected in zip(
        trained.network.state_dict().items(), other.network.state_dict().values(), strict=True
    ):
        assert value.dtype == expected.dtype == torch.float32
        # The same seed: six steps lead nearly to where those of float32 do.
        torch.testing.assert_close(value, expected, rtol=0, atol=0.005, msg=name)  # of 0.024 that are possible
    changed = [
        not torch.equal(a, b) for a, b in zip(trained.network.parameters(), other.network.parameters(), strict=True)
    ]
    assert any(changed)


@pytest.mark.parametrize("name", ["amp", "cuda_graphs"])
def test_both_options_are_true_or_false(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        steps.check_options({name: "bf16"})
    assert f"error: {name}: True or False is needed, got 'bf16'" in capsys.readouterr().err
