"""SIGKILL at random moments of training and of ranking: every continuation ends as an undisturbed run does."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.slow.processes import MODEL_FILES, RANKING_FILES, Command, differing_files, rank, train

KILLS = [3, pytest.param(30, marks=pytest.mark.soak)]


@pytest.mark.parametrize("kills", KILLS)
def test_a_killed_training_continues_to_the_same_model(dataset: Path, tmp_path: Path, kills: int) -> None:
    kill_and_continue(lambda output: train(dataset, output, resume=True), tmp_path, MODEL_FILES, kills)


@pytest.mark.parametrize("kills", KILLS)
def test_a_killed_ranking_continues_to_the_same_results(model: Path, masks: Path, tmp_path: Path, kills: int) -> None:
    references = masks.parent / "references"
    said = kill_and_continue(
        lambda output: rank(model, masks, output, references_dir=references, write_maps=True),
        tmp_path,
        RANKING_FILES,
        kills,
    )
    total = len(list(masks.iterdir()))
    for before, text in said:  # masks in the journal when a run began, and what it printed
        kept = min(before, total - 1)  # the last one is scored again where all are there
        left = f"{kept} of {total} masks were scored before, {total - kept} are left"
        assert before == 0 or left in text, text[-2000:]


@pytest.mark.parametrize("kills", KILLS)
def test_a_killed_ranking_without_a_model_continues_to_the_same_results(
    masks: Path, tmp_path: Path, kills: int
) -> None:
    references = masks.parent / "references"
    kill_and_continue(
        lambda output: rank(None, masks, output, references_dir=references), tmp_path, RANKING_FILES, kills
    )


def kill_and_continue(
    command: Callable[[Path], Callable[[], int]], work: Path, files: tuple[str, ...], kills: int
) -> list[tuple[int, str]]:
    """Runs, killed at moments drawn over the length of an undisturbed one, each continuing the one before.

    A run that ends before its kill is complete: its files are compared, and the next one starts in a new folder.
    """
    rng, undisturbed = np.random.default_rng(0), work / "undisturbed"
    first = Command(command(undisturbed), work / "undisturbed.log")
    first.assert_succeeds()
    seconds = time.monotonic() - first.start
    struck = continued = number = 0
    said: list[tuple[int, str]] = []
    while struck < kills or continued == 0 or (work / f"run_{number}").exists():
        output, last = work / f"run_{number}", struck >= kills
        fresh, before = not output.exists(), len(list((output / ".progress").glob("[!.]*.npz")))
        run = Command(command(output), work / "killed.log")
        code = run.end(None if last else float(rng.uniform(0, seconds)))
        if "were scored before" in run.text or code == 0:
            said.append((before, run.text))
        if code == -signal.SIGKILL:
            struck += 1
            read_all(output)
            continue
        assert code == 0, (struck, run.text[-2000:])
        if fresh:  # how long a run takes depends on what else the machine does
            seconds = time.monotonic() - run.start
        else:
            continued += 1
        assert differing_files(undisturbed, output, files) == []
        assert not (output / ".progress").exists()
        number += 1
    return said


def read_all(output: Path) -> int:
    """Reads every file at a kill, so that a torn one raises; returns how many."""
    readers: dict[str, Callable[[Path], Any]] = {
        "*.pt": lambda path: torch.load(path, map_location="cpu", weights_only=True),
        "*.npz": lambda path: dict(np.load(path)),
        ".progress/*.npz": lambda path: dict(np.load(path)),
    }
    paths = [(path, read) for pattern, read in readers.items() for path in output.glob(pattern)]
    whole = [(path, read) for path, read in paths if not path.name.startswith(".")]  # others are not yet renamed
    for path, read in whole:
        read(path)
    return len(whole)


def test_a_torn_file_is_found(tmp_path: Path) -> None:
    np.savez(tmp_path / "good.npz", a=np.zeros(3))
    (tmp_path / ".torn.npz.x").write_bytes(b"")  # not renamed yet: no reader looks at it
    assert read_all(tmp_path) == 1
    (tmp_path / "torn.npz").write_bytes((tmp_path / "good.npz").read_bytes()[:-30])
    with pytest.raises(Exception, match=r"zip|magic|EOF"):
        read_all(tmp_path)
