"""A disk that is full, and one that cannot be written to: one clear line, and what was there before stays."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from gnsm_monai.errors import EXIT_INPUT_ERROR
from reliability_checks.common import Finding, Forked, dataset, rank, same_files, train, trained_model
from reliability_checks.kills import RANKED, TRAINED

SHARES = (0.02, 0.2, 0.4, 0.6, 0.8)
"""Of what a command writes, that the disks which are too small have room for."""

SECONDS = 1800
"""After which a command that waits on a full disk is taken for one that hangs."""


def examine(work: Path) -> list[Finding]:
    """Lines for training and ranking on a file system in memory (tmpfs), in a mount namespace where that is needed."""
    folder, model = dataset(work), trained_model(work)
    place = work / "disk"
    place.mkdir(parents=True, exist_ok=True)
    if subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(place)], capture_output=True, check=False).returncode:
        if os.environ.get("GNSM_OWN_MOUNTS"):
            return [Finding("full disk", "", ("no file system can be mounted here",))]
        command = ["unshare", "--map-root-user", "--mount", sys.executable, *sys.argv]
        raise SystemExit(subprocess.call(command, env={**os.environ, "GNSM_OWN_MOUNTS": "1"}))
    subprocess.run(["umount", str(place)], check=True)
    masks = folder / "predictions" / "leakage"

    def ranking(output: Path) -> Callable[[], int]:
        return rank(model, masks, output, references_dir=folder / "labelsTs", write_maps=True)

    def training(output: Path) -> Callable[[], int]:
        return train(folder, output, resume=True)

    return [
        _full(place, "training", training, TRAINED),
        _full(place, "ranking", ranking, RANKED),
        _read_only(place, ranking),
    ]


def _mount(place: Path, options: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], check=True)


def _full(place: Path, name: str, command: Callable[[Path], Callable[[], int]], files: tuple[str, ...]) -> Finding:
    """A command on disks that are too small, then on the same ones made larger."""
    whole = place.parent / f"{name}_whole"
    shutil.rmtree(whole, ignore_errors=True)
    Forked(command(whole), place.parent / "disk.log").end()
    wrong: list[str] = []
    failed, lines = 0, set()
    needed = sum(path.stat().st_size for path in whole.rglob("*") if path.is_file()) // 1024
    sizes = [max(8, round(share * needed)) for share in SHARES]
    for size in sizes:
        _mount(place, f"size={size}k")
        try:
            run = Forked(command(place / "out"), place.parent / "disk.log")
            code = run.end(SECONDS)
            if code == 0:
                wrong.append(f"{size} KiB were enough")
                continue
            failed += 1
            lines |= set(run.errors)
            if code != EXIT_INPUT_ERROR or len(run.errors) != 1 or "Traceback" in run.text:
                wrong.append(f"{size} KiB: exit code {code}, {run.text[-600:]}")
            subprocess.run(["mount", "-o", "remount,size=64m", str(place)], check=True)
            again = Forked(command(place / "out"), place.parent / "disk.log")
            if again.end(SECONDS):
                wrong.append(f"{size} KiB, then room: {again.text[-600:]}")
            else:
                wrong += [f"{size} KiB, then room: {text}" for text in same_files(whole, place / "out", files)]
        finally:
            subprocess.run(["umount", str(place)], check=True)
    said = " or ".join(sorted({line.rsplit(": ", 1)[-1] for line in lines}))
    figure = (
        f"{failed} disks of {sizes[0]} to {sizes[-1]} KiB: exit code 2 and one line ('{said}') each; "
        f"with room made, the same command ends with the undisturbed run's files"
    )
    return Finding(f"full disk, {name}", figure, tuple(wrong))


def _read_only(place: Path, command: Callable[[Path], Callable[[], int]]) -> Finding:
    """A ranking into the results of an earlier one that can no longer be written to."""
    _mount(place, "size=64m")
    try:
        output, wrong = place / "out", []
        Forked(command(output), place.parent / "disk.log").end()
        before = {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}
        subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
        run = Forked(command(output), place.parent / "disk.log")
        code = run.end(SECONDS)
        if code != EXIT_INPUT_ERROR or len(run.errors) != 1 or "Traceback" in run.text:
            wrong.append(f"exit code {code}, {run.text[-600:]}")
        after = {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}
        wrong += [] if before and after == before else ["earlier results are not intact"]
        said = run.errors[0].rsplit(": ", 1)[-1] if run.errors else ""
        figure = f"exit code 2 and one line ('{said}'), the {len(before)} files of an earlier ranking unchanged"
        return Finding("output that is read-only", figure, tuple(wrong))
    finally:
        subprocess.run(["umount", str(place)], check=True)
