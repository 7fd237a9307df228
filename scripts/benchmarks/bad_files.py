"""What ``gnsm rank`` says of twenty kinds of broken predictions, made from a good mask.

    python scripts/benchmarks/bad_files.py --model MODEL --predictions PREDICTIONS [--work runs/bad_files]

PREDICTIONS holds masks (.nii.gz, 3D) that the model can score; it is only read. Ranks a copy of it to which a case of
every kind of bad file is added. That nothing is lost, and that the good masks keep their rows, is a test:
tests/slow/test_bad_files.py.
"""

from __future__ import annotations

import argparse
import gzip
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from bench import ROOT, Benchmark, Content, table
from package_commands import rows_of

from gnsm_monai.errors import SCORING_FAILED, InputError
from gnsm_monai.files import load_json

Mask = tuple[np.ndarray, np.ndarray, int]
"""Label map and affine of a good mask, and the number of channels that its probabilities have."""

Builder = Callable[[Path, Mask], Any]
"""Writes a bad file, made from a good mask, to a path."""


def _save(path: Path, label: np.ndarray, affine: np.ndarray) -> None:
    nib.save(nib.Nifti1Image(label, affine), path)


def _packed(mask: Mask) -> bytes:
    return gzip.compress(nib.Nifti1Image(mask[0].astype(np.uint8), mask[1]).to_bytes(), mtime=0)


def _with_value(value: float) -> Builder:
    def build(path: Path, mask: Mask) -> None:
        label = mask[0].astype(np.float32)
        label[0, 0, 0] = value
        _save(path, label, mask[1])

    return build


def _damaged(path: Path, mask: Mask) -> None:
    """Stored without compression, so that one changed byte is one changed voxel."""
    content = bytearray(gzip.compress(nib.Nifti1Image(mask[0].astype(np.uint8), mask[1]).to_bytes(), 0, mtime=0))
    content[-100] ^= 1
    path.write_bytes(bytes(content))


def _claiming(path: Path, mask: Mask) -> None:
    content = nib.Nifti1Image(mask[0].astype(np.uint8), mask[1]).to_bytes()
    path.write_bytes(gzip.compress(content[:42] + np.array([10_000] * 3, "<i2").tobytes() + content[48:]))


def _bomb(path: Path, mask: Mask) -> None:
    """A constant map of 2048 x 2048 x 2048 voxels: 8 MB that unpack to all of its 8 GiB."""
    header = nib.Nifti1Header()
    header.set_data_dtype(np.uint8)
    header.set_data_shape((2048, 2048, 2048))
    header.set_sform(mask[1], 1)
    header["magic"], header["vox_offset"] = b"n+1", 352
    block = gzip.compress(bytes(1 << 24))
    path.write_bytes(gzip.compress(header.binaryblock + bytes(4)) + block * 512)


def _dangling(path: Path, mask: Mask) -> None:
    path.symlink_to("nowhere.nii.gz")


def _twice(path: Path, mask: Mask) -> None:
    _save(path, mask[0], mask[1])
    _save(path.with_name(path.name[: -len(".gz")]), mask[0], mask[1])


def _singular(path: Path, mask: Mask) -> None:
    """The first two axes of the file point the same way."""
    _save(path, mask[0], np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]))


def _micrometres(path: Path, mask: Mask) -> None:
    _save(path, mask[0], mask[1] @ np.diag([1000, 1000, 1000, 1]))


BAD: dict[str, tuple[str, Builder, str]] = {
    "empty file": (".nii.gz", lambda p, m: p.write_bytes(b""), "cannot be read: "),
    "download that ended early": (".nii.gz", lambda p, m: p.write_bytes(_packed(m)[: len(_packed(m)) // 2]), "end"),
    "web page": (".mha", lambda p, m: p.write_bytes(b"<!DOCTYPE html><title>404</title>"), "cannot be read: "),
    "one damaged byte": (".nii.gz", _damaged, "checksum"),
    "unknown label": (".nii.gz", _with_value(-1), "label value -1 is not among the declared"),
    "fractions": (".nii.gz", _with_value(0.5), "label values must be whole numbers, found 0.5"),
    "NaN": (".nii.gz", _with_value(np.nan), "NaN or infinite values in a label map"),
    "4D series": (".nii.gz", lambda p, m: _save(p, np.stack([m[0]] * 2, -1), m[1]), "a label map of 3 axes is needed"),
    "2D slice": (".nii.gz", lambda p, m: _save(p, m[0][:, :, 0], m[1]), "a label map of 3 axes is needed"),
    "header that claims 10^12 voxels": (".nii.gz", _claiming, "claims 10000 x 10000 x 10000 voxels"),
    "gzip bomb": (".nii.gz", _bomb, "claims 2048 x 2048 x 2048 voxels"),
    "affine without inverse": (".nii.gz", _singular, "spacing and orientation in its header are unusable"),
    "spacing in micrometres": (".nii.gz", _micrometres, "is its spacing in mm?"),
    "complex numbers": (".nii.gz", lambda p, m: _save(p, m[0].astype(np.complex64), m[1]), "complex64"),
    "folder": (".nii.gz", lambda p, m: p.mkdir(), "is a folder, not a file"),
    "link to nowhere": (".nii.gz", _dangling, "is a link to a file that is not there"),
    "two files for a case": (".nii.gz", _twice, "2 files for case"),
}
"""Kinds of bad files: ending, what writes one, and what its message must say."""


def case_of(kind: str) -> str:
    """Case id of a kind of bad file."""
    return "bad_" + "".join(c if c.isalnum() else "_" for c in kind)


def add_bad_files(folder: Path, mask: Mask) -> None:
    """Writes one case of every kind of `BAD`; `mask` is what they are made from."""
    for kind, (ending, build, _) in BAD.items():
        build(folder / f"{case_of(kind)}{ending}", mask)


def measure(options: argparse.Namespace, earlier: Content) -> Iterator[Content]:
    files = sorted(options.predictions.glob("*.nii.gz"))
    if not files:
        raise InputError(f"{options.predictions}: no masks (.nii.gz)")
    masks, results = options.work / "masks", options.work / "results"
    shutil.rmtree(options.work, ignore_errors=True)
    masks.mkdir(parents=True)
    for path in files:
        shutil.copyfile(path, masks / path.name)
    labels = load_json(options.model / "settings.json")["labels"]
    image: Any = nib.load(files[0])
    channels = len(labels["regions"]) or len(labels["values"])
    mask = np.asanyarray(image.dataobj).astype(np.uint8), image.affine, channels
    _save(masks / "all_background.nii.gz", np.zeros_like(mask[0]), mask[1])
    add_bad_files(masks, mask)
    rank = ["rank", "--model", options.model, "--predictions", masks, "--output", results]
    code = subprocess.run([sys.executable, "-m", "gnsm_monai", *map(str, rank)], cwd=ROOT, check=False).returncode
    if code != SCORING_FAILED:
        raise RuntimeError(f"exit code {code}, not {SCORING_FAILED}")
    said = {row["case"]: row["message"] for row in rows_of(results / "ranking.csv")}
    yield {
        "command": options.command,
        "good": len(files) + 1,
        "messages": {kind: _without_folder(said[case_of(kind)], masks) for kind in BAD},
    }


def _without_folder(message: str, folder: Path) -> str:
    return message.replace(f"{folder}{os.sep}", "").replace(str(folder), "DIR")


def lines(content: Content) -> list[str]:
    return [
        f"{len(content['messages'])} bad files among {content['good']} good ones, ranked by `gnsm rank`: exit code "
        f"{SCORING_FAILED}. Each bad case has the one",
        "line below in the output and the same message in ranking.csv; the good ones keep their rows and their order,",
        "and one of them, which is all background, is the worst of all (`tests/slow/test_bad_files.py`).",
        "",
        *table(["kind", "message"], list(content["messages"].items())),
    ]


BENCHMARK = Benchmark(
    "bad_files",
    "Bad files",
    measure,
    lines,
    {
        "--model": {"type": Path, "required": True},
        "--predictions": {"type": Path, "required": True},
        "--work": {"type": Path, "default": ROOT / "runs" / "bad_files"},
    },
    __doc__,
)

if __name__ == "__main__":
    BENCHMARK.run()
