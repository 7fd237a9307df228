"""Small phantoms, a small model of them, and commands in processes of their own that can be killed and measured."""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gnsm_monai import cli
from gnsm_monai import cli_commands as commands
from gnsm_monai.data.phantoms import write_phantom_dataset

TINY: dict[str, Any] = {
    "network_def::channels": [4, 8],
    "noise": {"name": "mixing", "num_levels": 3},
    "epochs": 6,
    "steps_per_epoch": 4,
    "batch_size": 2,
    "fit::copies": 2,
    "anomaly_score": "misfit_knn",
    "device": "cpu",
}
"""Overrides of train.yaml that make training a matter of seconds."""


@dataclass(frozen=True)
class Finding:
    """One line of the table: what was examined, the figure, and what is wrong (nothing, as a rule)."""

    what: str
    figure: str
    wrong: tuple[str, ...] = ()


class Forked:
    """A command in a process group of its own; the imports are done already, so that only work is interrupted."""

    def __init__(self, run: Callable[[], Any], log: Path, nice: int = 0) -> None:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # a pool of threads would not survive the fork
        log.parent.mkdir(parents=True, exist_ok=True)
        self.log, self.start, self.peak = log, time.monotonic(), 0.0
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            self._run(run)
        torch.set_num_threads(threads)

    def _run(self, run: Callable[[], Any]) -> None:
        code = 1
        try:
            os.setsid()
            handle = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(handle, 1)
            os.dup2(handle, 2)
            cli.speak_plainly()
            code = int(run() or 0)
        except SystemExit as stop:
            code = int(stop.code or 0)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def end(self, seconds: float | None = None) -> int:
        """Exit code; negative for a signal. What is not over in time is killed, with all its group."""
        while True:
            pid, status, usage = os.wait4(self.pid, 0 if seconds is None else os.WNOHANG)
            if pid:
                self.peak = usage.ru_maxrss / 2**20  # GiB, from KiB
                return os.waitstatus_to_exitcode(status)
            if seconds is not None and time.monotonic() - self.start > seconds:
                try:
                    os.killpg(self.pid, signal.SIGKILL)
                except ProcessLookupError:  # it has not yet made its group
                    os.kill(self.pid, signal.SIGKILL)
                seconds = None
            time.sleep(0.002)

    @property
    def text(self) -> str:
        """What it has printed."""
        return self.log.read_text(errors="replace")

    @property
    def errors(self) -> list[str]:
        return [line for line in self.text.splitlines() if line.startswith("error: ")]


def dataset(work: Path) -> Path:
    """2D phantoms: 16 references, 4 test cases, and predictions with failures of eight kinds."""
    return write_phantom_dataset(work / "data", spatial_dims=2, num_train=16, num_test=4)


def train(folder: Path, output: Path, **overrides: Any) -> Callable[[], int]:
    return lambda: commands.train(output, dataset_dir=folder, **{**TINY, **overrides})


def rank(model: Path, predictions: Path, output: Path, **overrides: Any) -> Callable[[], int]:
    overrides = {"device": "cpu", **overrides}
    return lambda: commands.rank(model, [predictions], output, **overrides)


def trained_model(work: Path) -> Path:
    """A small model, trained once."""
    model = work / "model"
    if not (model / "settings.json").is_file():
        done = Forked(train(dataset(work), model), work / "model.log")
        if done.end():
            raise RuntimeError(done.text)
    return model


def same_files(one: Path, other: Path, names: tuple[str, ...]) -> list[str]:
    """Which files differ in their bytes."""
    return [
        f"{name} differs from the undisturbed run's"
        for name in names
        if not all((folder / name).is_file() for folder in (one, other))
        or (one / name).read_bytes() != (other / name).read_bytes()
    ]


def limit_memory(gibibytes: float) -> None:
    """Of this process, beyond the address space that it has now: an allocation above raises MemoryError."""
    with open("/proc/self/statm") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    most = now + int(gibibytes * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
