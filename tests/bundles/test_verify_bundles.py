"""scripts/verify_bundles.py finds what is wrong with a bundle, and nothing wrong with a good one."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from gnsm_monai.files import load_json
from gnsm_monai.model.bundle import filled_metadata
from gnsm_monai.paths import bundle_root

REPO = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPO / "scripts"))

from bundle_checks import export, files, workflows  # noqa: E402
from bundle_checks.outcome import CheckFailedError  # noqa: E402


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    ignored = shutil.ignore_patterns(*files.PRODUCED)
    return Path(shutil.copytree(bundle_root("segmentation_qc"), tmp_path / "bundle", ignore=ignored))


def _change(root: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = root / "configs" / "metadata.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("name", [path.parents[1].name for path in (REPO / "bundles").glob("*/configs/metadata.json")])
def test_the_files_of_a_shipped_bundle_pass(name: str) -> None:
    root = bundle_root(name)
    for check in (files.layout, files.no_large_file, files.version, files.metadata):
        assert check(root)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.pop("intended_use"), "'intended_use' is a required property"),
        (lambda m: m.update(monai_version=1.6), "is not of type 'string'"),
        (lambda m: m["network_data_format"]["outputs"].pop("pred"), "'pred' is a required property"),
        (lambda m: m["network_data_format"]["inputs"]["image"].update(dtype="float"), "is not one of"),
        (lambda m: m["network_data_format"]["inputs"]["image"]["channel_def"].pop("3"), "3 of 4 channels named"),
    ],
)
def test_wrong_metadata_are_refused(bundle: Path, change: Callable[[dict[str, Any]], Any], message: str) -> None:
    _change(bundle, change)
    with pytest.raises((CheckFailedError, ValueError), match=message):
        files.metadata(bundle)


def test_a_version_without_a_line_in_the_changelog_is_refused(bundle: Path) -> None:
    _change(bundle, lambda m: m.update(version="9.9.9"))
    with pytest.raises(CheckFailedError, match=r"version 9\.9\.9 is not in the changelog"):
        files.version(bundle)


def test_code_missing_files_and_large_files_are_refused(bundle: Path) -> None:
    (bundle / "configs" / "hidden.py").write_text("")
    with pytest.raises(CheckFailedError, match=r"configs/hidden\.py"):
        files.layout(bundle)
    (bundle / "LICENSE").unlink()
    with pytest.raises(CheckFailedError, match="missing: LICENSE"):
        files.layout(bundle)
    with open(bundle / "docs" / "weights.bin", "wb") as file:
        file.truncate(files.MAX_BYTES + 1)
    with pytest.raises(CheckFailedError, match=r"weights\.bin \(25 MB\)"):
        files.no_large_file(bundle)


def test_a_trained_model_passes_and_exports_to_torchscript(model: Path, tmp_path: Path) -> None:
    assert "level" in workflows.verify_network(model)
    network = workflows.load_network(model)
    assert "logits of 2 x 4 x" in export.torchscript(network, model, tmp_path)
    assert files.metadata(model)


def test_an_export_that_says_otherwise_is_found(model: Path, tmp_path: Path) -> None:
    network = workflows.load_network(model)
    inputs = workflows.example_inputs(model, network)
    with torch.no_grad():
        wrong = network(*inputs) + 0.1
    (tmp_path / "model.ts").touch()
    with pytest.raises(CheckFailedError, match="logits differ by up to"):
        export._compared(network, [(inputs, wrong)], tmp_path / "model.ts")


def test_metadata_that_do_not_fit_the_network_are_found(model: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(model, tmp_path / "model"))
    _change(copy, lambda m: m["network_data_format"]["outputs"]["pred"].update(num_channels=5))
    with pytest.raises(ValueError, match="output channel number `4` doesn't match: `5`"):
        workflows.verify_network(copy)
    _change(copy, lambda m: m["network_data_format"]["inputs"].pop("level"))
    with pytest.raises(CheckFailedError, match="the metadata describe 1 inputs"):
        workflows.verify_network(copy)


def test_metadata_of_a_model_that_sees_images_describe_them(model: Path) -> None:
    template = load_json(bundle_root("segmentation_qc") / "configs" / "metadata.json")
    settings = load_json(model / "settings.json")
    settings["network"]["image_channels"] = 2
    inputs = filled_metadata(template, settings)["network_data_format"]["inputs"]
    assert list(inputs) == ["image", "level"]
    assert (inputs["image"]["num_channels"], inputs["level"]["value_range"]) == (6, [0, 2])
    assert [inputs["image"]["channel_def"][str(n)] for n in (0, 4, 5)] == [
        "background", "channel 0 of the image", "channel 1 of the image",
    ]  # fmt: skip
