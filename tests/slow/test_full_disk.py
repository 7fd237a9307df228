"""A disk that is full, and one that cannot be written to: one clear line, and what was there before stays.

Needs the right to mount a file system; without it: ``unshare --map-root-user --mount python -m pytest tests/slow``.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.slow.processes import MODEL_FILES, RANKING_FILES, Command, differing_files, rank, train

SHARES = [0.2, 0.8, *(pytest.param(share, marks=pytest.mark.soak) for share in (0.02, 0.4, 0.6))]
"""Shares of what a command writes that the disks which are too small have room for."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system in memory."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(place)], capture_output=True, check=False)
    if made.returncode:
        pytest.skip("no file system can be mounted here")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def remount(disk: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(disk)], check=True)


@pytest.fixture
def ranking(model: Path, dataset: Path) -> Callable[[Path], Callable[[], int]]:
    masks, references = dataset / "predictions" / "leakage", dataset / "labelsTs"
    return lambda output: rank(model, masks, output, references_dir=references, write_maps=True)


@pytest.mark.parametrize("share", SHARES)
def test_a_training_on_a_full_disk_continues_once_there_is_room(
    dataset: Path, model: Path, disk: Path, share: float
) -> None:
    fill_then_make_room(partial(train, dataset, resume=True), disk, share, model, MODEL_FILES)


@pytest.mark.parametrize("share", SHARES)
def test_a_ranking_on_a_full_disk_continues_once_there_is_room(
    ranking: Callable[[Path], Callable[[], int]], disk: Path, tmp_path: Path, share: float
) -> None:
    whole = tmp_path / "whole"
    Command(ranking(whole), tmp_path / "log").assert_succeeds()
    fill_then_make_room(ranking, disk, share, whole, RANKING_FILES)


def fill_then_make_room(
    command: Callable[[Path], Callable[[], int]], disk: Path, share: float, whole: Path, files: tuple[str, ...]
) -> None:
    needed = sum(path.stat().st_size for path in whole.rglob("*") if path.is_file()) // 1024
    remount(disk, f"size={max(8, round(share * needed))}k")
    line = Command(command(disk / "out"), disk.parent / "log").assert_refused(600)
    assert line.endswith("No space left on device")
    remount(disk, "size=64m")
    Command(command(disk / "out"), disk.parent / "log").assert_succeeds()
    assert differing_files(whole, disk / "out", files) == []


def test_results_that_are_read_only_stay_as_they_are(ranking: Callable[[Path], Callable[[], int]], disk: Path) -> None:
    output, log = disk / "out", disk.parent / "log"
    Command(ranking(output), log).assert_succeeds()
    before = {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}
    remount(disk, "ro")
    assert Command(ranking(output), log).assert_refused().endswith("cannot be written to")
    assert before and {path: path.read_bytes() for path in output.rglob("*") if path.is_file()} == before
