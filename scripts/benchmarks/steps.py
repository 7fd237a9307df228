"""The commands that the benchmarks call, each in a process of its own: what users run is what is measured."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gnsm_monai.files import load_json, save_json
from gnsm_monai.paths import bundle_root

__all__ = ["ROOT", "bundle", "gnsm", "train"]

ROOT = Path(__file__).resolve().parents[2]


def gnsm(*arguments: Any) -> None:
    """Runs ``gnsm``. Raises subprocess.CalledProcessError where it fails."""
    subprocess.run([sys.executable, "-m", "gnsm_monai", *map(str, arguments)], check=True, cwd=ROOT)


def bundle(run_id: str, configs: str, options: Mapping[str, Any]) -> None:
    """Runs an id of the segmentation bundle, for options that ``gnsm`` does not have.

    Args:
        run_id: such as ``training``.
        configs: names of its configs, separated by commas.
        options: overrides by id.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    paths = [str(bundle_root() / "configs" / name) for name in configs.split(",")]
    files = paths[0] if len(paths) == 1 else "[" + ",".join(f"'{path}'" for path in paths) + "]"
    given = [text for key, value in options.items() for text in (f"--{key}", str(value))]
    command = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run", run_id, "--config_file", files]
    subprocess.run([*command, *given], check=True, cwd=ROOT)


def train(model: Path, options: Mapping[str, Any]) -> float | None:
    """Trains a model where it is not finished, and goes on with one that was stopped.

    Args:
        model: folder of the model; how long its training took is kept beside it.
        options: overrides of train.yaml by id, among them ``dataset_dir``.

    Returns:
        Minutes that the training took, with the score's fit; None where it was stopped and went on.
    """
    record = model.parent / f"{model.name}_minutes.json"
    if not (model / "settings.json").is_file():
        at_once, start = not model.exists(), time.monotonic()
        bundle("training", "train.yaml", {"model_dir": model, "resume": True, **options})
        save_json(record, {"minutes": (time.monotonic() - start) / 60 if at_once else None})
    minutes: float | None = load_json(record)["minutes"] if record.is_file() else None
    return minutes
