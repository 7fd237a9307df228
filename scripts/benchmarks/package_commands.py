"""The commands that the benchmarks call, each in a process of its own: what users run is what is measured."""

from __future__ import annotations

import csv
import json
import resource
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench import ROOT

from gnsm_monai.files import load_json, save_json
from gnsm_monai.paths import bundle_root

__all__ = ["computed_seconds", "gnsm", "rows_of", "scored_rows", "train", "watched"]


def gnsm(*arguments: Any) -> None:
    """Runs ``gnsm``. Raises subprocess.CalledProcessError where it fails."""
    subprocess.run([sys.executable, "-m", "gnsm_monai", *map(str, arguments)], check=True, cwd=ROOT)


def computed_seconds() -> float:
    """User and system time of all processes that this one has started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


WATCH = """
import json, os, subprocess, sys
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, used = os.wait4(process.pid, 0)
print(json.dumps([os.waitstatus_to_exitcode(status), used.ru_maxrss]))
"""
"""The peak memory of a process is reported as at least that of its parent; so a small process starts it."""


def watched(command: list[Any]) -> dict[str, float]:
    """Seconds and peak resident GiB of a process."""
    start = time.monotonic()
    words = list(map(str, command))
    said = subprocess.run([sys.executable, "-c", WATCH, *words], cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout
    code, kib = json.loads(said)
    if code:
        raise subprocess.CalledProcessError(code, words)
    return {"seconds": time.monotonic() - start, "gib": kib / 2**20}


def train(model: Path, options: Mapping[str, Any]) -> float | None:
    """Trains a model by the segmentation bundle where it is not finished, and continues one that was stopped.

    Args:
        model: folder of the model; how long its training took is kept beside it.
        options: overrides of train.yaml by id, among them ``dataset_dir``; ``gnsm`` does not have all of them.

    Returns:
        Minutes that the training took, with the score's fit; None where it was stopped and continued.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    record = model.parent / f"{model.name}_minutes.json"
    if not (model / "settings.json").is_file():
        at_once, start = not model.exists(), time.monotonic()
        config = bundle_root() / "configs" / "train.yaml"
        command = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run", "training", "--config_file", config]
        for key, value in {"model_dir": model, "resume": True, **options}.items():
            command += [f"--{key}", value]
        subprocess.run(list(map(str, command)), check=True, cwd=ROOT)
        save_json(record, {"minutes": (time.monotonic() - start) / 60 if at_once else None})
    minutes: float | None = load_json(record)["minutes"] if record.is_file() else None
    return minutes


def rows_of(path: Path) -> list[dict[str, str]]:
    """Rows of a table of results, worst first."""
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def scored_rows(path: Path) -> list[dict[str, str]]:
    """Rows of a table of results, worst first, without cases that could not be scored."""
    return [row for row in rows_of(path) if row.get("status", "ok") == "ok"]
