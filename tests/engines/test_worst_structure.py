"""The worst structure and the anomaly map of a mask of many structures, by a trained model."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from gnsm_monai.cli_commands import rank, train
from gnsm_monai.explain.sentences import NO_REASON
from tests.builders import TINY, boxes

NAMES = [f"box_{i}" for i in range(1, 10)]


def write(path: Path, label: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(label[..., None], np.eye(4)), path)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, rng = tmp_path_factory.mktemp("boxes"), np.random.default_rng(0)
    for i in range(12):
        write(folder / "data" / "labelsTr" / f"b{i:02d}.nii.gz", boxes(rng))
    labels = {"background": 0, **{name: i for i, name in enumerate(NAMES, start=1)}}
    content = {"labels": labels, "numTraining": 12, "file_ending": ".nii.gz", "channel_names": {"0": "CT"}}
    (folder / "data" / "dataset.json").write_text(json.dumps(content))
    settings = {**TINY, "fit::shapes::steps": 0}
    train(folder / "model", dataset_dir=folder / "data", **settings)
    return folder / "model"


def test_what_touches_other_structures_than_in_references_is_the_worst(model: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    sound = [boxes(rng) for _ in range(3)]
    for i, label in enumerate(sound):
        wrong = np.where(label == 9, 1, label)  # the last box is called as the first, which lies across from it
        write(tmp_path / "sound" / f"m{i}.nii.gz", label)
        write(tmp_path / "wrong" / f"m{i}.nii.gz", wrong)
    out = tmp_path / "out"
    rank(out, model, [tmp_path / "sound", tmp_path / "wrong"], write_maps=True, device="cpu")
    cases = {row["case"]: row for row in csv.DictReader((out / "ranking.csv").open(newline=""))}
    rows = csv.DictReader((out / "structures.csv").open(newline=""))
    contacts = {(row["case"], row["structure"]): float(row["contacts"]) for row in rows}
    for i, label in enumerate(sound):
        assert cases[f"wrong/m{i}"]["worst_structure"] in ("box_1", "box_9")
        reason = cases[f"wrong/m{i}"]["reason"]
        assert re.match(r"box_1 touches box_[68] on [\d.]+ (mm|cm) \(never in references\)", reason)
        assert "touch" not in cases[f"sound/m{i}"]["reason"]
        for name in ("box_1", "box_9"):
            assert contacts[f"wrong/m{i}", name] > 2 + contacts[f"sound/m{i}", name]
        assert abs(contacts[f"wrong/m{i}", "box_3"] - contacts[f"sound/m{i}", "box_3"]) < 1
        anomaly = np.asarray(nib.load(out / "maps" / "wrong" / f"m{i}.nii.gz").dataobj)[..., 0]
        assert label[np.unravel_index(anomaly.argmax(), label.shape)] in (1, 9)


def test_a_flagged_mask_that_differs_nowhere_is_told_by_a_statistic(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the network makes of a mask may be the mask itself, however odd: then words alone say why it is flagged."""
    monkeypatch.setattr("gnsm_monai.engines.case_reason.explain", lambda *_, **__: NO_REASON)
    monkeypatch.setattr("gnsm_monai.engines.case_reason.FAR", np.inf)
    write(tmp_path / "masks" / "wrong.nii.gz", 9 * (boxes(np.random.default_rng(1)) > 0).astype(np.int16))
    rank(tmp_path / "out", model, [tmp_path / "masks"], alpha=0.5, device="cpu")
    (row,) = csv.DictReader((tmp_path / "out" / "ranking.csv").open(newline=""))
    assert row["flag"] == "1"
    assert re.fullmatch(r"stands out by its misfit \(\d+\.\d deviations from the usual\)", row["reason"])
