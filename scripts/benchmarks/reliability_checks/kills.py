"""SIGKILL at random moments of training and of ranking: does every continuation end as an undisturbed run does?"""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reliability_checks.common import Finding, Forked, dataset, rank, same_files, train, trained_model

TRAINED = ("model.pt", "settings.json", "reference_statistics.npz")
RANKED = ("ranking.csv", "structures.csv", "level_statistics.npz", "levels.csv")


def examine(work: Path, count: int = 30, seed: int = 0) -> list[Finding]:
    """Two lines: training, and ranking."""
    folder, rng = dataset(work), np.random.default_rng(seed)
    masks, references = work / "masks", folder / "labelsTs"
    if not masks.is_dir():
        masks.mkdir()
        for path in sorted((folder / "predictions").rglob("*.png")):
            shutil.copy(path, masks / f"{path.parent.name}_{path.name}")
        shutil.copytree(references, work / "references", dirs_exist_ok=True)
        for path in sorted(masks.iterdir()):
            shutil.copy(references / path.name[-len("phantom_000.png") :], work / "references" / path.name)
    model = trained_model(work)

    def training(output: Path) -> Callable[[], int]:
        return train(folder, output, resume=True)

    def ranking(output: Path) -> Callable[[], int]:
        return rank(model, masks, output, references_dir=work / "references", write_maps=True)

    return [
        _kill("training", training, work / "kills" / "training", TRAINED, count, rng),
        _kill("ranking", ranking, work / "kills" / "ranking", RANKED, count, rng),
    ]


def _kill(
    name: str,
    command: Callable[[Path], Callable[[], int]],
    work: Path,
    files: tuple[str, ...],
    kills: int,
    rng: np.random.Generator,
) -> Finding:
    """Runs, killed at moments drawn over the length of an undisturbed one, each continuing the one before.

    A run that ends before its kill is complete: its files are compared, and the next one starts in a new folder.
    """
    shutil.rmtree(work, ignore_errors=True)
    undisturbed = work / "undisturbed"
    first = Forked(command(undisturbed), work / "undisturbed.log")
    code = first.end()
    seconds = time.monotonic() - first.start
    if code:
        return Finding(name, "", (f"the undisturbed run failed: {first.text}",))
    wrong: list[str] = []
    struck, continued, checked, number = 0, 0, 0, 0
    while struck < kills or continued == 0 or (work / f"run_{number}").exists():
        output, last = work / f"run_{number}", struck >= kills
        fresh = not output.exists()
        run = Forked(command(output), work / "killed.log")
        code = run.end(None if last else float(rng.uniform(0, seconds)))
        if code == -signal.SIGKILL:
            struck += 1
            checked += _check_readable(output, wrong)
            continue
        if code:
            return Finding(name, "", (f"exit code {code} after {struck} kills: {run.text[-2000:]}",))
        if fresh:  # how long a run takes depends on what else the machine does
            seconds = time.monotonic() - run.start
        else:
            continued += 1
        wrong += same_files(undisturbed, output, files)
        wrong += [f"left behind: {path}" for path in output.rglob(".*") if path.name == ".progress"]
        number += 1
    figure = (
        f"{struck} kills in runs of about {seconds:.1f} s, {continued} times continued to the end: "
        f"{', '.join(files)} bit-equal to the undisturbed run's {'every time' if not wrong else 'NOT every time'}; "
        f"{checked} files found at the kills, all readable"
    )
    return Finding(f"kill -9 at random moments of {name}", figure, tuple(wrong))


def _check_readable(output: Path, wrong: list[str]) -> int:
    """That no file that was there at a kill is a torn one; how many were read."""
    readers: dict[str, Callable[[Path], Any]] = {
        "*.pt": lambda path: torch.load(path, map_location="cpu", weights_only=True),
        "*.npz": lambda path: dict(np.load(path)),
        ".progress/*.npz": lambda path: dict(np.load(path)),
    }
    count = 0
    for pattern, read in readers.items():
        for path in output.glob(pattern):
            if pattern != "*.pt" and path.name.startswith("."):
                continue
            if path.name.startswith((".", "tmp")):  # what a writer that was killed had not renamed yet
                continue
            try:
                read(path)
                count += 1
            except Exception as error:  # torn files fail in many ways
                wrong.append(f"{path.name}: torn: {error}")
    return count
