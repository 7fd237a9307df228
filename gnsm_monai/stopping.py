"""Ctrl-C, or a request to end, stops a program with one line."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType

__all__ = ["STOPPED", "how_to_continue", "say_stopped", "stop_in_one_line"]

STOPPED = 128 + signal.SIGINT
"""Exit code after Ctrl-C, as in shells."""

CONTINUES = {
    "train": "with --resume the same command continues after the last epoch",
    "rank": "the same command continues from here",
    "audit": "the same command continues from here",
    "table_fit": "with --resume the same command continues after the last epoch",
}


def how_to_continue(words: Sequence[str]) -> str:
    """What the last line of a stopped ``gnsm`` says of its command, the first words of its command line."""
    given = "_".join(words)
    return next(
        (how for command, how in CONTINUES.items() if given.startswith(command)), "the same command starts anew"
    )


def say_stopped(how_to_continue: str) -> None:
    """The last line of a program that was stopped; of the processes that torchrun started, the first one speaks."""
    if os.environ.get("RANK", "0") == "0":
        print(f"\nstopped: {how_to_continue}", file=sys.stderr, flush=True)


def stop_in_one_line(how_to_continue: str, at_once: bool = False) -> None:
    """SIGINT (Ctrl-C) and SIGTERM end this process with one line and exit code 128 + signal, not with a traceback.

    Nothing is lost by it: all files are written whole or not at all. A second signal ends the process at once.

    Args:
        how_to_continue: what the line says.
        at_once: end without unwinding. An exception would be lost, or end in a traceback, while a library is imported.
    """
    process, stopped = os.getpid(), False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopped
        if os.getpid() != process:  # a worker that reads files: the main process speaks
            os._exit(0)
        if at_once or stopped:
            if not stopped:
                say_stopped(how_to_continue)
            os._exit(128 + number)
        stopped = True
        say_stopped(how_to_continue)
        raise SystemExit(128 + number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
