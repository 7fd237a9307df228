"""Files made to run code, to fill memory or to leave their folder: nothing runs, each is refused or escaped."""

from __future__ import annotations

import csv
import html.parser
import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from gnsm_monai import workflow
from gnsm_monai.data.nnunet import read_label_scheme
from gnsm_monai.data.soft import read_probabilities
from gnsm_monai.data.transforms import load_case
from gnsm_monai.errors import SCORING_FAILED
from gnsm_monai.files import load_arrays, load_json
from gnsm_monai.model.files import identity_of
from gnsm_monai.records import load_record
from tests.slow.processes import Command, limit_memory, rank, train
from tests.slow.readers import SCHEME, refusal

NAMES = (
    "<img src=x onerror=alert(1)>",
    "<script>alert(1)<&",
    "=cmd|' calc'!A0",
    "@SUM(1+1)",
    "+1",
    "-2+3",
    "{{ 7 * 7 }}{% raw %}",
    "..",
    "..\\..\\evil",
    "$open('trap','w')",
    "%TRAP @x #y",
)
"""Names of cases; a name cannot hold a slash."""


class Bomb:
    """What unpickling turns into a call."""

    def __init__(self, trap: Path) -> None:
        self.trap = trap

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self.trap),)


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """A folder that appears where a bomb has gone off."""
    return tmp_path / "trap"


@pytest.fixture
def stolen(model: Path, tmp_path: Path) -> Path:
    """A copy of the model, to be tampered with."""
    return Path(shutil.copytree(model, tmp_path / "stolen"))


@pytest.fixture
def few_masks(dataset: Path) -> Path:
    return dataset / "predictions" / "leakage"


def sign(model: Path) -> None:
    """Makes the checksums in settings.json those of the planted files."""
    (model / "settings.json").write_text(json.dumps({**load_json(model / "settings.json"), **identity_of(model)}))


def raw_pickle(content: Any, path: Path) -> None:
    path.write_bytes(pickle.dumps(content))


@pytest.mark.parametrize(
    "save",
    [torch.save, raw_pickle, partial(torch.save, _use_new_zipfile_serialization=False)],
    ids=("zip", "raw", "old"),
)
def test_a_pickle_bomb_as_weights_is_refused_and_not_run(
    save: Any, stolen: Path, few_masks: Path, trap: Path, tmp_path: Path
) -> None:
    save({"model": Bomb(trap)}, stolen / "model.pt")
    sign(stolen)
    Command(rank(stolen, few_masks, tmp_path / "out"), tmp_path / "log").assert_refused()
    assert not trap.exists()


def test_a_pickle_bomb_as_checkpoint_is_refused_and_not_run(dataset: Path, trap: Path, tmp_path: Path) -> None:
    output = tmp_path / "resumed"
    output.mkdir()
    torch.save({"settings": "{}", "network": Bomb(trap)}, output / "checkpoint.pt")
    Command(train(dataset, output, resume=True), tmp_path / "log").assert_refused()
    assert not trap.exists()


def test_objects_in_arrays_are_refused_and_not_run(stolen: Path, few_masks: Path, trap: Path, tmp_path: Path) -> None:
    """In the arrays of a model, beside a mask, and in the journal of a ranking."""
    objects = np.array([Bomb(trap)], dtype=object)
    arrays = dict(np.load(stolen / "reference_statistics.npz"))
    np.savez(stolen / "reference_statistics.npz", **{**arrays, next(iter(arrays)): objects})
    sign(stolen)
    Command(rank(stolen, few_masks, tmp_path / "out"), tmp_path / "log").assert_refused()
    np.savez(tmp_path / "objects.npz", probabilities=objects, record=objects)
    raw_pickle(Bomb(trap), tmp_path / "raw.npz")
    for name in ("objects", "raw"):
        path = tmp_path / f"{name}.npz"
        for read in (load_arrays, load_record, partial(read_probabilities, channels=3, shape=(4, 4))):
            assert refusal(partial(read, path)) is not None
    assert not trap.exists()


def test_zip_bombs_and_headers_that_claim_much_are_refused_before_memory_is_set_aside(tmp_path: Path) -> None:
    """8 GiB of zeros behind a few MB, and headers that claim 10^12 values, under a limit of 2 GiB."""
    block = bytes(1 << 24)
    for name, claimed in (("deep", (1 << 33,)), ("claims", (10**12,))):
        with zipfile.ZipFile(tmp_path / f"{name}.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for member in ("probabilities.npy", "record.npy"):
                with archive.open(member, "w", force_zip64=True) as file:
                    header = {"descr": "|u1", "fortran_order": False, "shape": claimed}
                    np.lib.format.write_array_header_1_0(file, header)
                    for _ in range(512 if name == "deep" and member.startswith("rec") else 1):
                        file.write(block)
    claiming = nib.Nifti1Image(np.zeros((4, 4, 4), np.uint8), np.eye(4)).to_bytes()
    (tmp_path / "huge.nii").write_bytes(claiming[:42] + np.array([10_000] * 3, "<i2").tobytes() + claiming[48:])
    command = Command(partial(read_bombs, tmp_path), tmp_path / "log")
    assert command.end(300) == 0, command.text[-2000:]
    messages = json.loads((tmp_path / "bombs.json").read_text())
    assert len(messages) == 7 and all(messages)
    assert command.peak_gib < 2


def read_bombs(folder: Path) -> None:
    limit_memory(2)
    messages = [
        refusal(partial(read, folder / f"{name}.npz"))
        for name in ("deep", "claims")
        for read in (load_arrays, load_record, partial(read_probabilities, channels=3, shape=(4, 4, 4)))
    ]
    messages.append(refusal(lambda: load_case(SCHEME, 3, ["label"])({"label": folder / "huge.nii"})))
    (folder / "bombs.json").write_text(json.dumps(messages))


@pytest.mark.parametrize("start", ["[", '{"a":'])
def test_json_nested_too_deep_is_refused(start: str, tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text(start * 200_000)
    assert refusal(lambda: read_label_scheme(tmp_path)) is not None
    assert refusal(lambda: load_json(tmp_path / "dataset.json")) is not None


def test_a_dataset_map_is_read_where_it_points_and_writes_nothing(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    data.mkdir()
    shutil.copytree(dataset / "labelsTr", elsewhere)
    declared = json.loads((dataset / "dataset.json").read_text())
    labels = [f"../elsewhere/{path.name}" for path in sorted(elsewhere.iterdir())]
    declared["dataset"] = {f"../../evil_{i}": {"label": label, "images": []} for i, label in enumerate(labels)}
    declared["name"] = "../../evil"
    (data / "dataset.json").write_text(json.dumps(declared))
    before = set(tmp_path.rglob("*"))
    cases = workflow.references(str(data), 2, False, 300000, 0).cases
    assert len(cases) == 16 and all(case["label"].resolve().parent == elsewhere.resolve() for case in cases)
    declared["dataset"]["../../evil_0"]["label"] = "../../../../../../../../../../etc/passwd"
    (data / "dataset.json").write_text(json.dumps(declared))
    with pytest.raises(SystemExit):
        workflow.references(str(data), 2, False, 300000, 0)
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and "root:" not in line  # nothing of what it holds
    assert set(tmp_path.rglob("*")) == before


def test_case_names_that_are_paths_write_nothing_outside_the_results(
    model: Path, few_masks: Path, tmp_path: Path
) -> None:
    (tmp_path / "masks").mkdir()
    for name in ("...png", ".. .png", "..\\..\\evil.png", "x.png"):
        shutil.copy(next(few_masks.iterdir()), tmp_path / "masks" / name)
    before, output = set(tmp_path.rglob("*")), tmp_path / "out"
    command = Command(rank(model, tmp_path / "masks", output, write_maps=True, alpha=0.99), tmp_path / "log")
    assert command.end(300) in (0, SCORING_FAILED), command.text[-2000:]
    written = set(tmp_path.rglob("*")) - before - {output, command.log, command.log.with_suffix(".peak")}
    assert written and all(output in path.parents for path in written)


class Tags(html.parser.HTMLParser):
    """Every element of a page with its attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))


def test_tags_are_found_in_a_page() -> None:
    tags = Tags("<p>&lt;img&gt;</p><img src=x onerror=alert(1)>")
    assert tags.elements == [("p", {}), ("img", {"src": "x", "onerror": "alert(1)"})]


def test_case_names_run_in_no_page_spreadsheet_or_template(model: Path, few_masks: Path, tmp_path: Path) -> None:
    named, output = tmp_path / "names", tmp_path / "named"
    named.mkdir()
    for name in NAMES:
        shutil.copy(next(few_masks.iterdir()), named / f"{name}.png")
    command = Command(rank(model, named, output, write_maps=True), tmp_path / "log")
    assert command.end(300) in (0, SCORING_FAILED), command.text[-2000:]
    page = (output / "report.html").read_text(encoding="utf-8", errors="replace")
    elements = Tags(page).elements
    assert len(elements) > len(NAMES)
    assert [name for _, attributes in elements for name in attributes if name.startswith("on")] == []
    sources = [a.get("src") or "" for tag, a in elements if tag in ("img", "script") and a.get("src")]
    assert all(source.startswith("data:") for source in sources)
    assert sum(tag == "script" for tag, _ in elements) == 1  # the report's own
    assert "{{ 7 * 7 }}" in page
    for table in ("ranking.csv", "structures.csv"):
        with open(output / table, newline="", encoding="utf-8") as file:
            cells = [row["case"] for row in csv.DictReader(file)]
        assert cells and not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))]


def test_expressions_in_a_models_text_are_not_evaluated(
    stolen: Path, few_masks: Path, trap: Path, tmp_path: Path
) -> None:
    """``$`` expressions wherever a downloaded model has text: configs, settings, metadata."""
    code = f"$__import__('os').mkdir('{trap}')"
    original = load_json(stolen / "settings.json")
    for path in (stolen / "configs").iterdir():
        path.write_text(json.dumps({"imports": [code], "initialize": [code], "run": code, "a": code}))
    labels = {**original["labels"], "names": [code, *original["labels"]["names"][1:]]}
    texts = {"labels": labels, "dataset": code, "parametrisation_note": code}
    (stolen / "settings.json").write_text(json.dumps({**original, **texts}))
    Command(rank(stolen, few_masks, tmp_path / "out"), tmp_path / "log").assert_succeeds()
    for key in ("anomaly_score", "parametrisation", "spatial_dims", "voxel_size", "spatial_size", "always_present"):
        (stolen / "settings.json").write_text(json.dumps({**original, key: code}))
        Command(rank(stolen, few_masks, tmp_path / "out"), tmp_path / "log").end(300)
    assert not trap.exists()
