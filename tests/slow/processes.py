"""Commands of the package in processes of their own, which can be killed and measured."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from gnsm_monai import cli
from gnsm_monai import cli_commands as commands
from gnsm_monai.errors import EXIT_INPUT_ERROR, exit_on_input_error
from tests.builders import TINY

MODEL_FILES = ("model.pt", "settings.json", "reference_statistics.npz")
RANKING_FILES = ("ranking.csv", "structures.csv", "level_statistics.npz", "levels.csv")

# A server that has imported everything forks each process: it starts at once, and without the threads of the tests.
_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["gnsm_monai.cli", "gnsm_monai.cli_commands", "tests.slow.processes"])


class Command:
    """A call in a process group of its own. What it prints is in ``log``; it must be picklable."""

    def __init__(self, call: Callable[[], Any], log: Path) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.unlink(missing_ok=True)
        self.log, self.start = log, time.monotonic()
        self.process = _PROCESSES.Process(target=_run, args=(call, log))
        self.process.start()

    def end(self, seconds: float | None = None) -> int:
        """Exit code; negative for a signal. What is not over in time is killed, with all its group."""
        self.process.join(seconds)
        if self.process.is_alive():
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except ProcessLookupError:  # it has not yet made its group
                self.process.kill()
            self.process.join()
        code: int = self.process.exitcode
        return code

    @property
    def text(self) -> str:
        """What it has printed."""
        return self.log.read_text(errors="replace") if self.log.is_file() else ""

    @property
    def peak_gib(self) -> float:
        """Its largest resident memory, once it has ended by itself."""
        return float(self.log.with_suffix(".peak").read_text())

    def assert_refused(self, seconds: float = 300) -> str:
        """That it ends as after a user's mistake: exit code 2, and one line, which is returned."""
        code = self.end(seconds)
        errors = [line for line in self.text.splitlines() if line.startswith("error: ")]
        assert code == EXIT_INPUT_ERROR and len(errors) == 1 and "Traceback" not in self.text, (code, self.text[-2000:])
        return errors[0]

    def assert_succeeds(self) -> None:
        code = self.end()
        assert code == 0, (code, self.text[-2000:])


def _run(call: Callable[[], Any], log: Path) -> None:
    os.setsid()
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    torch.set_num_threads(1)
    cli.speak_plainly()
    try:
        with exit_on_input_error():
            code = int(call() or 0)
    finally:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # GiB, from KiB
        log.with_suffix(".peak").write_text(str(peak))
    sys.exit(code)


def train(dataset: Path, output: Path, **overrides: Any) -> Callable[[], int]:
    """A short training, which ends in a model that tells masks apart."""
    settings = {
        **TINY,
        "epochs": 6,
        "steps_per_epoch": 4,
        "fit::shapes::steps": 40,
        "dataset_dir": dataset,
        **overrides,
    }
    return partial(commands.train, output, **settings)


def rank(model: Path | None, predictions: Path, output: Path, **overrides: Any) -> Callable[[], int]:
    return partial(commands.rank, output, model, [predictions], **{"device": "cpu", **overrides})


def differing_files(one: Path, other: Path, names: tuple[str, ...]) -> list[str]:
    """Names of the files that are missing or differ in their bytes."""
    return [
        name
        for name in names
        if not all((folder / name).is_file() for folder in (one, other))
        or (one / name).read_bytes() != (other / name).read_bytes()
    ]


def limit_memory(gibibytes: float) -> None:
    """Limits this process beyond the address space that it has now: an allocation above raises MemoryError."""
    most = int(_pages()[0] * resource.getpagesize() + gibibytes * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def resident_gib() -> float:
    """Resident memory of this process."""
    return _pages()[1] * resource.getpagesize() / 2**30


def _pages() -> list[int]:
    """Pages of this process: of its address space, and those that are resident."""
    with open("/proc/self/statm") as file:
        return [int(number) for number in file.read().split()[:2]]
