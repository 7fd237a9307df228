"""What MONAI's own tools make of the bundle, and other programs of its files."""

from __future__ import annotations

import csv
import logging
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch
from monai.bundle import ConfigWorkflow, PythonicWorkflow, create_workflow
from monai.fl.client import MonaiAlgo
from monai.fl.utils.constants import ExtraItems, WeightType
from monai.fl.utils.exchange_object import ExchangeObject

from gnsm_monai.paths import bundle_root
from gnsm_monai.rules import stack_levels
from gnsm_monai.workflow import load_model
from tests.bundles.conftest import INFERENCE, TINY, run_config


@pytest.mark.filterwarnings("ignore:parsing config_file")
def test_create_workflow_runs_inference(model: Path, dataset: Path, tmp_path: Path) -> None:
    labels = dataset / "labelsTs"
    workflow = create_workflow(
        config_file=INFERENCE,
        workflow_type="infer",
        logging_file=False,
        model_dir=str(model),
        predictions_dir=str(labels),
        output_dir=str(tmp_path),
    )
    assert isinstance(workflow, ConfigWorkflow)
    workflow.run()
    workflow.finalize()
    assert len((tmp_path / "ranking.csv").read_text().splitlines()) == 1 + len(list(labels.iterdir()))


METADATA = str(bundle_root() / "configs" / "metadata.json")


class InMemory(PythonicWorkflow):
    """Scores a label map that a program holds, with the parts of the inference config; no file is written."""

    def get_bundle_root(self) -> str:
        return str(bundle_root())

    def get_device(self) -> str:
        return "cpu"

    def get_network_def(self) -> torch.nn.Module:
        network: torch.nn.Module = self.parser.get_parsed_content("network")
        return network.eval()

    def run(self) -> None:
        one_hot = torch.nn.functional.one_hot(self.dataflow["label"].long(), 4).movedim(-1, 0)[None].float()
        levels = self.parser.get_parsed_content("scorer")(self.network_def, one_hot).levels
        anomaly = self.parser.get_parsed_content("model").anomaly
        self.dataflow["anomaly_score"] = float(anomaly.score(stack_levels([levels]))[0])

    def finalize(self) -> None:
        self.dataflow.pop("label", None)


@pytest.mark.filterwarnings("ignore:parsing config_file")
def test_a_pythonic_workflow_scores_what_a_program_holds(model: Path) -> None:
    workflow: Any = create_workflow(
        InMemory, config_file=INFERENCE, meta_file=METADATA, workflow_type="infer", model_dir=str(model), device="cpu"
    )
    assert workflow.get_workflow_type() == "infer"
    size = load_model(str(model)).settings["spatial_size"]
    empty = torch.zeros(size)
    square = empty.clone()
    square[tuple(slice(n // 3, 2 * n // 3) for n in size)] = 1
    found = []
    for label in (empty, square, square):
        workflow.dataflow = {"label": label}
        workflow.run()
        found.append(workflow.dataflow["anomaly_score"])
    assert np.isfinite(found).all()
    assert found[1] == found[2] != found[0]
    assert workflow.version == "0.2.0"  # from the metadata


def _client(name: str, dataset: Path, folder: Path, exclude: list[str]) -> MonaiAlgo:
    settings = {**TINY, "dataset_dir": str(dataset), "spatial_dims": 2, "exclude_cases": exclude}
    # What a network has from its site's grid: the others' is another one.
    settings |= {"network_def::position_size": None, "network_def::strides": [[2, 2], [2, 2]]}
    algo = MonaiAlgo(
        bundle_root=str(bundle_root()),
        local_epochs=1,
        send_weight_diff=False,
        config_train_filename="configs/train.yaml",
        train_kwargs={**settings, "model_dir": str(folder / name)},
        config_evaluate_filename=None,
    )
    algo.initialize(extra={ExtraItems.CLIENT_NAME: name})
    return algo


def _weights(algo: MonaiAlgo) -> dict[str, torch.Tensor]:
    exchanged = algo.get_weights()
    assert exchanged.weight_type == WeightType.WEIGHTS
    return {name: torch.as_tensor(value).clone() for name, value in exchanged.weights.items()}


@pytest.mark.filterwarnings("ignore:executing the bundle config")
def test_two_sites_train_one_network_without_sharing_label_maps(dataset: Path, tmp_path: Path) -> None:
    logging.getLogger("monai").setLevel(logging.WARNING)
    cases = sorted(path.name.split(".")[0] for path in (dataset / "labelsTr").iterdir())
    halves = [cases[:8], cases[8:]]
    clients = [_client(name, dataset, tmp_path, exclude) for name, exclude in zip("ab", halves, strict=True)]
    start = _weights(clients[0])
    for client in clients:
        client.train(ExchangeObject(weights=start, weight_type=WeightType.WEIGHTS))
    trained = [_weights(client) for client in clients]
    learnt = [name for name in start if not torch.equal(start[name], trained[0][name])]
    assert len(learnt) > 10
    assert any(not torch.equal(trained[0][name], trained[1][name]) for name in learnt)  # each has its own cases
    # What a server does (federated averaging, McMahan et al. 2017), and the next round from there.
    mean = {name: (trained[0][name] + trained[1][name]) / 2 for name in start}
    for client in clients:
        client.train(ExchangeObject(weights=mean, weight_type=WeightType.WEIGHTS))
        assert client.trainer.state.epoch == 2
        assert all(torch.isfinite(value).all() for value in _weights(client).values())
        client.finalize()


def test_maps_and_flagged_masks_lie_on_each_other_in_a_viewer(model: Path, dataset: Path, tmp_path: Path) -> None:
    """What ITK (3D Slicer, ITK-SNAP) and nibabel make of the headers, and a name and colour for every value."""
    masks = dataset / "predictions" / "leakage"
    options = {"model_dir": str(model), "predictions_dir": str(masks), "output_dir": str(tmp_path), "device": "cpu"}
    run_config(INFERENCE, "infer", write_maps=True, alpha=0.9, **options)
    with open(tmp_path / "ranking.csv", newline="") as file:
        flagged = [row["case"] for row in csv.DictReader(file) if row["flag"] == "1"]
    assert flagged and {path.name for path in (tmp_path / "flagged").glob("*.nii.gz")} == {
        f"{case}.nii.gz" for case in flagged
    }
    values: set[int] = set()
    for case in flagged:
        pair = [sitk.ReadImage(str(tmp_path / kind / f"{case}.nii.gz")) for kind in ("flagged", "maps")]
        for part in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
            assert getattr(pair[0], part)() == getattr(pair[1], part)()
        affines = [nib.load(tmp_path / kind / f"{case}.nii.gz").affine for kind in ("flagged", "maps")]  # type: ignore[attr-defined]
        np.testing.assert_array_equal(*affines)
        values |= set(np.unique(sitk.GetArrayFromImage(pair[0])).tolist())
    for name in ("labels.ctbl", "labels.label.txt"):
        lines = (tmp_path / "flagged" / name).read_text().splitlines()
        assert values <= {int(line.split()[0]) for line in lines if not line.startswith("#")}
