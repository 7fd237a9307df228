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
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch

from gnsm_monai import workflow
from gnsm_monai.data.nnunet import read_label_scheme
from gnsm_monai.data.soft import read_probabilities
from gnsm_monai.data.transforms import load_case
from gnsm_monai.errors import EXIT_INPUT_ERROR, SCORING_FAILED
from gnsm_monai.files import load_arrays, load_json
from gnsm_monai.model.files import identity_of
from gnsm_monai.records import load_record
from reliability_checks.common import Finding, Forked, dataset, limit_memory, rank, train, trained_model
from reliability_checks.inputs import SCHEME, refusal

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
"""Of cases; a name cannot hold a slash."""


class Bomb:
    """What unpickling turns into a call."""

    def __init__(self, trap: Path) -> None:
        self.trap = trap

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self.trap),)


class Tags(html.parser.HTMLParser):
    """Every element of a page with its attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def examine(work: Path) -> list[Finding]:
    """A line per kind of attack."""
    place = work / "hostile"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    folder, model = dataset(work), trained_model(work)
    masks = folder / "predictions" / "leakage"
    return [
        _weights(place, model, masks),
        _checkpoint(place, folder),
        _objects(place, model, masks),
        _zip_bombs(place),
        _nested(place),
        _paths(place, model, folder),
        *_names(place, model, masks),
        _expressions(place, model, masks),
    ]


def _ended(command: Callable[[], Any], log: Path) -> tuple[int, str, float]:
    run = Forked(command, log)
    return run.end(300), run.text, run.peak


def _stolen(place: Path, model: Path, name: str) -> Path:
    target = place / name
    shutil.copytree(model, target)
    return target


def _sign(model: Path) -> None:
    """Makes the checksums in settings.json those of the planted files."""
    (model / "settings.json").write_text(json.dumps({**load_json(model / "settings.json"), **identity_of(model)}))


def _weights(place: Path, model: Path, masks: Path) -> Finding:
    """A pickle bomb as model.pt, its sha256 in settings.json, in each of the ways torch has ever saved."""
    wrong = []
    for number, save in enumerate((torch.save, _raw_pickle, _legacy)):
        trap, planted = place / f"trap_weights_{number}", _stolen(place, model, f"weights_{number}")
        save({"model": Bomb(trap)}, planted / "model.pt")
        _sign(planted)
        code, text, _ = _ended(rank(planted, masks, place / "out"), place / "log")
        if trap.exists() or code != EXIT_INPUT_ERROR or "Traceback" in text:
            wrong.append(f"{save.__name__}: executed {trap.exists()}, exit code {code}, {text[-300:]}")
    return Finding("pickle bomb as `model.pt`, 3 formats", "refused in one line, not executed", tuple(wrong))


def _raw_pickle(content: Any, path: Path) -> None:
    path.write_bytes(pickle.dumps(content))


def _legacy(content: Any, path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


def _checkpoint(place: Path, folder: Path) -> Finding:
    trap, output = place / "trap_checkpoint", place / "resumed"
    output.mkdir()
    torch.save({"settings": "{}", "network": Bomb(trap)}, output / "checkpoint.pt")
    code, text, _ = _ended(train(folder, output, resume=True), place / "log")
    ok = not trap.exists() and code == EXIT_INPUT_ERROR and "Traceback" not in text
    wrong = () if ok else (f"executed {trap.exists()}, exit code {code}, {text[-300:]}",)
    return Finding("pickle bomb as `checkpoint.pt` of a run to resume", "refused in one line, not executed", wrong)


def _objects(place: Path, model: Path, masks: Path) -> Finding:
    """Objects in the arrays of a model, beside a mask, and in the journal of a ranking."""
    trap, wrong = place / "trap_objects", []
    objects = np.array([Bomb(trap)], dtype=object)
    planted = _stolen(place, model, "objects")
    arrays = dict(np.load(planted / "reference_statistics.npz"))
    np.savez(planted / "reference_statistics.npz", **{**arrays, next(iter(arrays)): objects})
    _sign(planted)
    code, text, _ = _ended(rank(planted, masks, place / "out"), place / "log")
    if code != EXIT_INPUT_ERROR or "Traceback" in text:
        wrong.append(f"model: exit code {code}, {text[-300:]}")
    np.savez(place / "a.npz", probabilities=objects)
    np.savez(place / "b.npz", record=objects)
    readers: dict[str, Callable[[], Any]] = {
        "probabilities": lambda: read_probabilities(place / "a.npz", 3, (4, 4)),
        "journal": lambda: load_record(place / "b.npz"),
    }
    wrong += [f"{name}: read" for name, read in readers.items() if refusal(read) is None]
    wrong += ["executed"] if trap.exists() else []
    return Finding("npz with objects, in a model, beside a mask, in the journal", "refused, not executed", tuple(wrong))


def _zip_bombs(place: Path) -> Finding:
    """8 GiB of zeros behind a few MB, and headers that claim 10^12 values, under a limit of 2 GiB."""
    block = bytes(1 << 24)
    for name, claimed in (("deep", (1 << 33,)), ("claims", (10**12,))):
        with zipfile.ZipFile(place / f"{name}.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for member in ("probabilities.npy", "record.npy"):
                with archive.open(member, "w", force_zip64=True) as file:
                    np.lib.format.write_array_header_1_0(
                        file, {"descr": "|u1", "fortran_order": False, "shape": claimed}
                    )
                    for _ in range(512 if name == "deep" and member.startswith("rec") else 1):
                        file.write(block)
    claiming = nib.Nifti1Image(np.zeros((4, 4, 4), np.uint8), np.eye(4)).to_bytes()
    (place / "huge.nii").write_bytes(claiming[:42] + np.array([10_000] * 3, "<i2").tobytes() + claiming[48:])
    result = place / "bombs.json"

    def read() -> int:
        limit_memory(2)
        said = [
            refusal(lambda name=name, call=call: call(place / f"{name}.npz"))  # type: ignore[misc]
            for name in ("deep", "claims")
            for call in (load_arrays, load_record, lambda path: read_probabilities(path, 3, (4, 4, 4)))
        ]
        said.append(refusal(lambda: load_case(SCHEME, 3, ["label"])({"label": place / "huge.nii"})))
        result.write_text(json.dumps(said))
        return 0

    code, text, peak = _ended(read, place / "log")
    said = json.loads(result.read_text()) if result.is_file() else []
    wrong = [f"exit code {code}: {text[-500:]}"] if code else [f"read: number {i}" for i, s in enumerate(said) if not s]
    wrong += [f"{peak:.1f} GiB"] if peak > 2 else []
    figure = f"{len(said)} readings refused before allocation, peak memory {peak * 1024:.0f} MiB"
    return Finding("zip bombs (8 GiB) and headers that claim 10^12 values", figure, tuple(wrong))


def _nested(place: Path) -> Finding:
    """JSON too deep for the parser's stack."""
    folder = place / "nested"
    folder.mkdir()
    wrong = []
    for name, content in (("lists", "[" * 200_000), ("objects", '{"a":' * 200_000)):
        (folder / "dataset.json").write_text(content)
        for call in (lambda: read_label_scheme(folder), lambda: load_json(folder / "dataset.json")):
            try:
                if refusal(call) is None:
                    wrong.append(f"{name}: read")
            except BaseException as error:
                wrong.append(f"{name}: {type(error).__name__}")
    return Finding("JSON nested 200 000 deep", "refused in one line", tuple(wrong))


def _paths(place: Path, model: Path, folder: Path) -> Finding:
    """Cases named ``..``, and a dataset.json whose ``dataset`` map points out of the folder."""
    data, outside = place / "paths" / "data", place / "paths" / "secret.png"
    shutil.copytree(folder / "labelsTr", data / "labelsTr")
    shutil.copy(next((folder / "labelsTr").iterdir()), outside)
    declared = json.loads((folder / "dataset.json").read_text())
    declared["dataset"] = {"x": {"label": "../secret.png", "images": ["../../etc/passwd"]}}
    declared["name"] = "../../evil"
    (data / "dataset.json").write_text(json.dumps(declared))
    read = workflow.references(str(data), 2, False, 300000, 0)
    inside = [case["label"].resolve().is_relative_to(data.resolve()) for case in read.cases]
    wrong = [] if all(inside) else ["a reference outside the folder was read"]
    masks = place / "paths" / "masks"
    masks.mkdir()
    for name in ("...png", ".. .png", "..\\..\\evil.png", "x.png"):
        shutil.copy(outside, masks / name)
    before = {path for path in place.rglob("*")}
    output = place / "paths" / "out"
    code, text, _ = _ended(rank(model, masks, output, write_maps=True, alpha=0.99), place / "log")
    new = {path for path in place.rglob("*") if path not in before and path != place / "log"}
    stray = [str(path) for path in new if path != output and output not in path.parents]
    wrong += [f"written outside the results: {stray}"] if stray else []
    wrong += [f"exit code {code}: {text[-300:]}"] if code not in (0, SCORING_FAILED) else []
    return Finding(
        "path traversal in case names and in `dataset` maps",
        f"{len(inside)} references read, all inside their folder; {len(new)} files written, all inside the results",
        tuple(wrong),
    )


def _names(place: Path, model: Path, masks: Path) -> list[Finding]:
    """Names of files that a page, a spreadsheet or a template would run."""
    named, output = place / "names", place / "named"
    named.mkdir()
    source = next(masks.iterdir())
    for name in NAMES:
        shutil.copy(source, named / f"{name}.png")
    code, text, _ = _ended(rank(model, named, output, write_maps=True), place / "log")
    if code not in (0, SCORING_FAILED):
        return [Finding("hostile names", "", (f"exit code {code}: {text[-500:]}",))]
    page = (output / "report.html").read_text(encoding="utf-8", errors="replace")
    tags = Tags()
    tags.feed(page)
    handlers = [name for _, attributes in tags.found for name in attributes if name.startswith("on")]
    sources = [a.get("src") or "" for tag, a in tags.found if tag in ("img", "script") and a.get("src")]
    scripts = sum(tag == "script" for tag, _ in tags.found)
    wrong = [f"handlers {handlers}"] if handlers else []
    wrong += [f"source {source[:50]}" for source in sources if not source.startswith("data:")]
    wrong += ["{{ 7 * 7 }} was evaluated"] if "{{ 7 * 7 }}" not in page else []
    first = Finding(
        "HTML, script and templates in case names",
        f"{len(NAMES)} names in a report with {len(tags.found)} elements: no event handler, no foreign source, "
        f"{scripts} scripts, all the report's own",
        tuple(wrong),
    )
    cells = []
    for table in ("ranking.csv", "structures.csv"):
        with open(output / table, newline="", encoding="utf-8") as file:
            cells += [(row["case"]) for row in csv.DictReader(file)]
    running = sorted({cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))})
    second = Finding(
        "formulas in case names",
        f"{len(cells)} cells of ranking.csv and structures.csv, none begins with = + - @, a tab or a line break",
        (f"cells {running}",) if running else (),
    )
    return [first, second]


def _expressions(place: Path, model: Path, masks: Path) -> Finding:
    """``$`` expressions wherever a downloaded model has text: configs, settings, metadata."""
    trap, planted = place / "trap_expression", _stolen(place, model, "expressions")
    code = f"$__import__('os').mkdir('{trap}')"
    for path in (planted / "configs").iterdir():
        path.write_text(json.dumps({"imports": [code], "initialize": [code], "run": code, "a": code}))
    settings = load_json(planted / "settings.json")
    settings["labels"]["names"][0] = code
    settings["dataset"] = settings["parametrisation_note"] = code
    (planted / "settings.json").write_text(json.dumps(settings))
    ended, text, _ = _ended(rank(planted, masks, place / "expressed"), place / "log")
    changed = 0
    for key in ("anomaly_score", "parametrisation", "spatial_dims", "voxel_size", "spatial_size", "always_present"):
        values = load_json(model / "settings.json")
        values[key] = code
        (planted / "settings.json").write_text(json.dumps(values))
        _, said, _ = _ended(rank(planted, masks, place / "expressed"), place / "log")
        text += said
        changed += 1
    wrong = ["executed"] if trap.exists() else []
    wrong += [f"exit code {ended}"] if ended else []
    figure = f"`gnsm rank` reads none of the configs; {changed + 3} settings with expressions: none executed"
    return Finding("`$` expressions in a downloaded model's YAML and JSON", figure, tuple(wrong))
