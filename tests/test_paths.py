"""The shipped bundles are found from a checkout and from an installation, and the packaging lists every package."""

from __future__ import annotations

import configparser
import json
from pathlib import Path

import pytest
from monai.bundle import ConfigWorkflow

from gnsm_monai import paths

IMPORT = "$from gnsm_monai.paths import running_bundle_root"
ROOT = Path(__file__).resolve().parents[1]


def make_bundle(folder: Path, name: str) -> Path:
    root = folder / name
    (root / "configs").mkdir(parents=True)
    (root / "configs" / "metadata.json").write_text("{}")
    return root


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "site" / "gnsm_monai"
    folder.mkdir(parents=True)
    monkeypatch.setattr(paths, "_PACKAGE", folder)
    return folder


def test_default_bundle_has_metadata() -> None:
    assert (paths.bundle_root() / "configs" / "metadata.json").is_file()


def test_installation_holds_bundles_inside_the_package(package: Path) -> None:
    root = make_bundle(package / "bundles", "one")
    assert paths.bundle_root("one") == root


def test_checkout_holds_bundles_beside_the_package(package: Path) -> None:
    root = make_bundle(package.parent / "bundles", "one")
    assert paths.bundle_root("one") == root


def test_installed_bundles_come_before_a_folder_that_happens_to_lie_beside(package: Path) -> None:
    root = make_bundle(package / "bundles", "one")
    make_bundle(package.parent / "bundles", "one")
    assert paths.bundle_root("one") == root


def test_folder_without_metadata_is_no_bundle(package: Path) -> None:
    (package / "bundles" / "one" / "configs").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="no bundle named 'one': there are none"):
        paths.bundle_root("one")


def test_unknown_bundle_names_those_there_are(package: Path) -> None:
    make_bundle(package / "bundles", "two")
    make_bundle(package / "bundles", "one")
    with pytest.raises(FileNotFoundError, match="no bundle named 'three': there are one, two"):
        paths.bundle_root("three")


def test_a_config_finds_the_bundle_around_it(tmp_path: Path) -> None:
    root = make_bundle(tmp_path, "model")
    (root / "configs" / "a.json").write_text(json.dumps({"imports": [IMPORT], "root": "$running_bundle_root()"}))
    workflow = ConfigWorkflow(str(root / "configs" / "a.json"), logging_file=False, init_id="root")
    assert workflow.initialize() == [root.resolve()]


def test_a_config_outside_of_a_bundle_runs_with_the_packages_own(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"imports": [IMPORT], "root": "$running_bundle_root()"}))
    workflow = ConfigWorkflow(str(tmp_path / "a.json"), logging_file=False, init_id="root")
    assert workflow.initialize() == [paths.bundle_root()] == [paths.running_bundle_root()]


def test_a_config_that_is_parsed_by_hand_lies_in_the_bundle_that_one_works_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As MONAI's verify_net_in_out and ckpt_export do."""
    root = make_bundle(tmp_path, "model")
    monkeypatch.chdir(root)
    assert paths.running_bundle_root() == root.resolve()
    (root / "configs" / "metadata.json").unlink()
    assert paths.running_bundle_root() == paths.bundle_root()


def test_a_trained_model_is_the_default_model_of_its_own_bundle(tmp_path: Path) -> None:
    assert paths.default_model_dir(tmp_path) == str(tmp_path / "models")
    (tmp_path / "settings.json").write_text("{}")
    assert paths.default_model_dir(tmp_path) == str(tmp_path)


def test_setup_cfg_names_every_package() -> None:
    config = configparser.ConfigParser(interpolation=None)
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    named = set(config["options"]["packages"].split())
    folders = {path.relative_to(ROOT).parent for path in (ROOT / "gnsm_monai").rglob("*.py")}
    assert named == {".".join(folder.parts) for folder in folders} | {"gnsm_monai.bundles"}
