"""Many kinds of broken predictions among good ones: each costs a line, and the good masks keep their rows."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from gnsm_monai.data.phantoms import write_phantom_dataset
from gnsm_monai.errors import SCORING_FAILED
from gnsm_monai.files import load_json
from tests.slow.processes import Command, rank, train

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts" / "benchmarks"))
from bad_files import BAD, add_bad_files, case_of

EMPTY = "all_background"
"""The case without any structure, which is valid input and the worst mask of all."""


def rows_of(path: Path) -> dict[str, dict[str, str]]:
    """Rows of a ranking by case, in order, without their rank."""
    with open(path, newline="", encoding="utf-8") as file:
        return {row["case"]: {k: v for k, v in row.items() if k != "rank"} for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def ranked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Command]:
    """Rankings of good masks (``good.results``), and of the same with bad ones (``mixed.results``)."""
    work = tmp_path_factory.mktemp("bad")
    dataset = write_phantom_dataset(work / "data", spatial_dims=3, num_train=12, num_test=2)
    Command(train(dataset, work / "model", max_voxels=6000, epochs=1), work / "log").assert_succeeds()
    for name in ("good", "mixed"):
        (work / name).mkdir()
        for path in sorted((dataset / "predictions").rglob("*.nii.gz"))[:6]:
            (work / name / f"{path.parent.name}_{path.name}").write_bytes(path.read_bytes())
    image = nib.load(next((work / "good").iterdir()))
    label = np.asarray(image.dataobj).astype(np.uint8)
    for name in ("good", "mixed"):
        nib.save(nib.Nifti1Image(np.zeros_like(label), image.affine), work / name / f"{EMPTY}.nii.gz")
    channels = len(load_json(dataset / "dataset.json")["labels"])
    add_bad_files(work / "mixed", (label, image.affine, channels))
    Command(rank(work / "model", work / "good", work / "good.results"), work / "log").assert_succeeds()
    mixed = Command(rank(work / "model", work / "mixed", work / "mixed.results"), work / "mixed.log")
    assert mixed.end() == SCORING_FAILED and "Traceback" not in mixed.text
    return work, mixed


def test_good_masks_keep_their_rows_and_their_order(ranked: tuple[Path, Command]) -> None:
    undisturbed, rows = (rows_of(ranked[0] / f"{name}.results" / "ranking.csv") for name in ("good", "mixed"))
    assert next(iter(undisturbed)) == EMPTY
    good = {case: row for case, row in rows.items() if not case.startswith("bad_")}
    assert list(good.items()) == list(undisturbed.items())


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_costs_one_line_that_the_table_has_too(ranked: tuple[Path, Command], kind: str) -> None:
    case = case_of(kind)
    row = rows_of(ranked[0] / "mixed.results" / "ranking.csv")[case]
    message = row["message"]
    assert row["status"] == "failed" and BAD[kind][2] in message and case in message and len(message) <= 300
    assert [line for line in ranked[1].text.splitlines() if case in line] == [f"{case}: {message}"]
