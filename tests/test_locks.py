"""One run at a time writes into a folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

import gnsm_monai.locks as locks
from gnsm_monai.errors import InputError
from gnsm_monai.locks import LOCK, lock_folder, locked_folder, unlock_folder
from gnsm_monai.report import ResultsWriter
from gnsm_monai.workflow import score

LINE = "another run is writing here: wait until it ends, or name another folder"
HOLDS = """
import sys, time
from gnsm_monai.locks import lock_folder
lock_folder(sys.argv[1])
print("locked", flush=True)
time.sleep(600)
"""


def locked_by_another_process(folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLDS, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "locked\n"
    return process


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    holder = locked_by_another_process(tmp_path / "out")
    try:
        with pytest.raises(InputError, match=LINE):
            lock_folder(tmp_path / "out")
    finally:
        holder.kill()
        holder.wait()
    with locked_folder(tmp_path / "out"), pytest.raises(InputError, match=LINE):
        _acquire_elsewhere(tmp_path / "out")


def _acquire_elsewhere(folder: Path) -> None:
    """As another process would: a lock object that is not this process's."""
    mine = locks._locks.pop(folder.absolute())
    try:
        lock_folder(folder)
    finally:
        locks._locks[folder.absolute()] = mine


def test_a_process_may_lock_its_folder_again_and_frees_it(tmp_path: Path) -> None:
    lock_folder(tmp_path)
    lock_folder(tmp_path)
    unlock_folder(tmp_path)
    unlock_folder(tmp_path)
    with FileLock(tmp_path / LOCK, timeout=0):
        pass


def test_a_file_system_without_locks_is_said_and_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def without(self: Any) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(locks.FileLock, "acquire", without)
    with caplog.at_level("WARNING", logger="gnsm_monai"), locked_folder(tmp_path):
        pass
    assert "cannot be locked" in caplog.text and "start no other run" in caplog.text


class _Evaluator:
    def run(self) -> None:
        raise AssertionError("nothing may be scored")


class _Collector:
    def __init__(self, folder: Path) -> None:
        self.writer = ResultsWriter(folder)


def test_a_second_ranking_into_one_folder_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with FileLock(tmp_path / LOCK, timeout=0), pytest.raises(SystemExit) as stop:
        score(_Evaluator(), _Collector(tmp_path))  # type: ignore[arg-type]
    assert stop.value.code == 2
    assert capsys.readouterr().err == f"error: {tmp_path}: {LINE}\n"


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="the system has no /proc")
def test_a_folder_that_no_one_can_make_is_named_in_one_line() -> None:
    with pytest.raises(InputError, match=r"^/proc/nowhere: no folder can be made here: No such file or directory$"):
        lock_folder("/proc/nowhere")
