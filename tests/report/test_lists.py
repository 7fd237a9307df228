"""What correction tools read, read as they do."""

from __future__ import annotations

import csv
import os
import runpy
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from ignite.engine import Engine

from gnsm_monai.data.constants import UNSEEN_IMAGE
from gnsm_monai.evaluation.ranking import Ranking
from gnsm_monai.handlers import ListWriter
from gnsm_monai.report.marks import Mark
from gnsm_monai.scoring.result import FailedCase
from tests.results import case_result

EVIL = 'e"vil\'\\ \n{}"""'
NOT_TEXT = os.fsdecode(b"sub-9\xff_seg")


def written(folder: Path, with_images: bool = True, **options: Any) -> Path:
    """Lists of five masks, worst first, of which one could not be scored."""
    names = ["fold/sub-03_T2w", "sub-01_T1w_seg", EVIL, NOT_TEXT]
    cases = [{"case": name, "label": folder / "masks" / f"{name}.nii.gz"} for name in [*names, "torn"]]
    for case in cases:
        for place in ("masks", "images", "out/maps"):
            path = folder / place / (f"{case['case']}.nii.gz" if place != "images" else case["label"].name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x")
        if with_images and case["case"] != "sub-01_T1w_seg":  # one mask without an image
            case[UNSEEN_IMAGE] = folder / "images" / case["label"].name
    results = [case_result(name, flagged=i in (0, 1, 3), reason=f"r{i}") for i, name in enumerate(names)]
    ranking: Any = SimpleNamespace(ranking=Ranking([*results, FailedCase("torn", "", "torn")], {}))
    marks = {"fold/sub-03_T2w": Mark("ok"), EVIL: Mark("bad"), NOT_TEXT: Mark("unsure")}
    engine = Engine(lambda engine, batch: batch)
    ListWriter(folder / "out", ranking, cases, **{"marks": marks, **options}).attach(engine)
    engine.run([0])
    return folder / "out" / "lists"


def test_sct_is_given_the_images_of_what_is_bad_or_flagged_and_not_ok(tmp_path: Path) -> None:
    content = yaml.safe_load((written(tmp_path) / "qc_fail.yml").read_bytes().decode(errors="surrogateescape")
                             .replace("\udcff", "?"))  # fmt: skip
    assert list(content) == ["FILES_SEG"]
    assert content["FILES_SEG"][:2] == ["sub-01_T1w.nii.gz", f"{EVIL}.nii.gz"]  # no image: the mask's name without _seg
    assert len(content["FILES_SEG"]) == 3
    content = yaml.safe_load((written(tmp_path, marks={}) / "qc_fail.yml").read_bytes().decode(errors="replace"))
    assert content["FILES_SEG"][0] == "sub-03_T2w.nii.gz"


def test_segmentation_review_is_given_every_image_with_its_mask_worst_first(tmp_path: Path) -> None:
    lists = written(tmp_path)
    with (lists / "segmentation_review" / "mapping.csv").open(newline="", errors="surrogateescape") as file:
        rows = list(csv.DictReader(file))
    names = ["sub-03_T2w", EVIL, NOT_TEXT]
    assert [row["img_path"] for row in rows] == [str(tmp_path / "images" / f"{name}.nii.gz") for name in names]
    assert [row["mask_path"] for row in rows] == [
        str(tmp_path / "masks" / f"{name}.nii.gz") for name in ("fold/sub-03_T2w", EVIL, NOT_TEXT)
    ]
    lists = written(tmp_path / "masks alone", with_images=False)
    assert not (lists / "segmentation_review").exists()
    assert (lists / "qc_fail.yml").is_file()
    assert not written(tmp_path / "no lists", lists=False).exists()


def test_a_mask_in_a_file_per_structure_is_in_no_list(tmp_path: Path) -> None:
    (tmp_path / "masks" / "parts").mkdir(parents=True)
    (tmp_path / "masks" / "whole.nii.gz").write_bytes(b"x")
    cases = [{"case": "parts", "label": tmp_path / "masks" / "parts"}]
    cases += [{"case": "whole", "label": tmp_path / "masks" / "whole.nii.gz"}]
    results = [case_result(case["case"], flagged=True) for case in cases]
    ranking: Any = SimpleNamespace(ranking=Ranking(results, {}))
    engine = Engine(lambda engine, batch: batch)
    ListWriter(tmp_path / "out", ranking, cases).attach(engine)
    engine.run([0])
    content = yaml.safe_load((tmp_path / "out" / "lists" / "qc_fail.yml").read_text())
    assert content == {"FILES_SEG": ["whole.nii.gz"]}


class FakeSlicer:
    """The calls of 3D Slicer's API that the script makes, and nothing else."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.nodes: list[Any] = []
        self.keys: dict[str, Any] = {}
        self.layers: list[dict[str, Any]] = []
        self.answer, self.questions = True, 0
        slicer, util, qt = ModuleType("slicer"), ModuleType("slicer.util"), ModuleType("qt")
        util.loadVolume = lambda path: self._load("vtkMRMLScalarVolumeNode", path)  # type: ignore[attr-defined]
        util.loadSegmentation = lambda path: self._load("vtkMRMLSegmentationNode", path)  # type: ignore[attr-defined]
        util.setSliceViewerLayers = lambda **layers: self.layers.append(layers)  # type: ignore[attr-defined]
        util.showStatusMessage = lambda text: None  # type: ignore[attr-defined]
        util.mainWindow = lambda: None  # type: ignore[attr-defined]
        util.confirmYesNoDisplay = self._confirm  # type: ignore[attr-defined]
        slicer.util, slicer.mrmlScene = util, SimpleNamespace(RemoveNode=self.nodes.remove)  # type: ignore[attr-defined]
        qt.QKeySequence = str  # type: ignore[attr-defined]
        qt.QShortcut = self._shortcut  # type: ignore[attr-defined]
        for name, module in (("slicer", slicer), ("slicer.util", util), ("qt", qt)):
            monkeypatch.setitem(sys.modules, name, module)

    def _load(self, kind: str, path: str) -> Any:
        assert Path(path).is_file()
        display = SimpleNamespace(SetAndObserveColorNodeID=lambda name: None)
        node = SimpleNamespace(
            path=path, edited=False, SetName=lambda name: None, IsA=lambda name: name == kind,
            GetDisplayNode=lambda: display, SetDisplayVisibility=lambda visible: None,
        )  # fmt: skip
        node.GetModifiedSinceRead = lambda: node.edited
        self.nodes.append(node)
        return node

    def _shortcut(self, window: object) -> Any:
        shortcut = SimpleNamespace()
        shortcut.setKey = lambda keys: setattr(shortcut, "keys", keys)
        shortcut.connect = lambda signal, call: self.keys.__setitem__(shortcut.keys, call)
        return shortcut

    def _confirm(self, text: str) -> bool:
        self.questions += 1
        return self.answer


def test_the_script_opens_the_cases_one_after_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = written(tmp_path) / "open_in_slicer.py"
    assert script.read_bytes().isascii()
    compile(script.read_bytes(), str(script), "exec")
    slicer = FakeSlicer(monkeypatch)
    runpy.run_path(str(script))

    def opened() -> list[str]:
        return [str(Path(node.path).relative_to(tmp_path)) for node in slicer.nodes]

    assert opened() == ["images/sub-03_T2w.nii.gz", "out/maps/fold/sub-03_T2w.nii.gz", "masks/fold/sub-03_T2w.nii.gz"]
    assert slicer.layers[-1]["background"] is slicer.nodes[0]
    assert slicer.layers[-1]["foreground"] is slicer.nodes[1]
    slicer.keys["Ctrl+Left"]()  # there is none before the first
    assert len(slicer.layers) == 1
    slicer.nodes[2].edited, slicer.answer = True, False
    slicer.keys["Ctrl+Right"]()
    assert (slicer.questions, opened()[2]) == (1, "masks/fold/sub-03_T2w.nii.gz")
    slicer.answer = True
    slicer.keys["Ctrl+Right"]()
    assert opened() == ["out/maps/sub-01_T1w_seg.nii.gz", "masks/sub-01_T1w_seg.nii.gz"]
    assert slicer.layers[-1]["background"] is None
    for name in (EVIL, NOT_TEXT):
        slicer.keys["Ctrl+Right"]()
        assert opened()[0] == f"images/{name}.nii.gz"
    slicer.keys["Ctrl+Right"]()  # nor after the last
    assert opened()[0] == f"images/{NOT_TEXT}.nii.gz"
    assert np.all([layer["fit"] for layer in slicer.layers])
