"""What lies in a bundle's folder, and what its metadata say."""

from __future__ import annotations

import json
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from monai.bundle import verify_metadata

from bundle_checks.outcome import CheckFailedError

SCHEMA = Path(__file__).resolve().parents[1] / "metadata_schema.json"
REQUIRED = (
    "LICENSE",
    "configs/metadata.json",
    "configs/logging.conf",
    "configs/train.yaml",
    "configs/inference.yaml",
    "docs/README.md",
)
PRODUCED = {"data", "eval", "models", "tensorboard"}
"""Folders that runs leave in a bundle and that are never shipped."""
MAX_BYTES = 25 * 10**6
"""The model zoo's limit for a single file: larger ones are to be listed in large_files.yml."""


def layout(root: Path) -> str:
    """The files that the specification and the zoo ask for, and no code that would run unseen."""
    if missing := [name for name in REQUIRED if not (root / name).is_file()]:
        raise CheckFailedError(f"missing: {', '.join(missing)}")
    if code := [str(path.relative_to(root)) for path in _shipped(root) if path.suffix == ".py"]:
        raise CheckFailedError(f"Python files, which belong in the package: {', '.join(code)}")
    return f"{len(list(_shipped(root)))} files"


def no_large_file(root: Path) -> str:
    sizes = {path: path.stat().st_size for path in _shipped(root)}
    if large := [f"{path.relative_to(root)} ({size / 1e6:.0f} MB)" for path, size in sizes.items() if size > MAX_BYTES]:
        raise CheckFailedError(f"over {MAX_BYTES / 1e6:.0f} MB: {', '.join(large)}")
    largest = max(sizes, key=lambda path: sizes[path])
    return f"the largest is {largest.relative_to(root)} with {sizes[largest] / 1e6:.2f} MB"


def read_metadata(root: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((root / "configs" / "metadata.json").read_text())
    return content


def version(root: Path) -> str:
    metadata = read_metadata(root)
    if metadata.get("version") not in metadata.get("changelog", {}):
        raise CheckFailedError(f"version {metadata.get('version')} is not in the changelog")
    return str(metadata["version"])


def metadata(root: Path) -> str:
    """MONAI's own check. It fetches no schema where the file is there already."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the schema's hash is not given
        schema = Path(shutil.copy(SCHEMA, folder))
        verify_metadata(meta_file=str(root / "configs" / "metadata.json"), filepath=str(schema))
    found = read_metadata(root)
    for part in ("inputs", "outputs"):
        for name, tensor in found["network_data_format"][part].items():
            if len(tensor["channel_def"]) != tensor["num_channels"]:
                raise CheckFailedError(
                    f"{part} {name}: {len(tensor['channel_def'])} of {tensor['num_channels']} channels named"
                )
    return f"{len(found)} entries"


def _shipped(root: Path) -> Iterator[Path]:
    for path in sorted(root.rglob("*")):
        if path.is_file() and not PRODUCED & set(path.relative_to(root).parts):
            yield path
