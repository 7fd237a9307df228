"""The command ``gnsm``, and how it speaks. What it does stands in :mod:`gnsm_monai.cli_commands`."""

from __future__ import annotations

import logging
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from gnsm_monai.cli_options import read_arguments
from gnsm_monai.errors import InputError, exit_on_input_error
from gnsm_monai.lean_monai import import_monai, uncollected
from gnsm_monai.stopping import STOPPED, say_stopped, stop_in_one_line

__all__ = ["main", "run", "speak_plainly"]

CONTINUES = {
    "train": "with --resume the same command continues after the last epoch",
    "rank": "the same command continues from here",
    "audit": "the same command continues from here",
    "table_fit": "with --resume the same command continues after the last epoch",
}
SHARED_OUT = ("train", "rank")
"""Commands that the processes of ``torchrun -m gnsm_monai COMMAND`` do together."""


def run() -> int:
    """The program ``gnsm``: :func:`main` for the command line of this process, which speaks plainly."""
    start = time.monotonic()
    command, given = read_arguments()
    stop_in_one_line(_how_to_continue(command), at_once=True)
    # Only now: torch and MONAI take seconds to import, and nobody should wait for a help text.
    with uncollected():
        speak_plainly()
        import gnsm_monai.cli_commands  # noqa: F401

    stop_in_one_line(_how_to_continue(command))
    if command == "train":
        given["time_limit::spent"] = time.monotonic() - start  # --max-minutes is of the whole command
    return _execute(command, given)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command, and leaves it to the caller how messages are logged.

    Returns:
        the exit code: 0, or 3 where some masks could not be scored.

    Raises:
        SystemExit: with code 2 after a user's mistake, with 3 at the first failed case of ``rank --strict``.
    """
    return _execute(*read_arguments(arguments))


def _execute(command: str, given: dict[str, Any]) -> int:
    from gnsm_monai import cli_commands
    from gnsm_monai.workflow.training import num_processes

    try:
        with exit_on_input_error():
            if num_processes() > 1 and command not in SHARED_OUT:
                raise InputError(
                    f"gnsm {command.replace('_', ' ')}: runs in one process; torchrun is for train and rank"
                )
            step: Callable[..., int] = getattr(cli_commands, command)
            return step(**given)
    except KeyboardInterrupt:
        say_stopped(_how_to_continue(command))
        return STOPPED


def _how_to_continue(command: str) -> str:
    return CONTINUES.get(command, "the same command starts anew")


def speak_plainly() -> None:
    """Shows log lines of this package only, without time and module, and no warnings of libraries."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # file names need not be valid text
            stream.reconfigure(errors="backslashreplace", line_buffering=True)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(message)s"))
    package_log = logging.getLogger("gnsm_monai")
    package_log.handlers, package_log.propagate = [handler], False
    # It says at length, and before any result, that a HOME which cannot be written has no place for its cache.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    import_monai()  # some of its loggers set a level of their own on import

    from gnsm_monai.workflow.training import is_first_process

    package_log.setLevel(logging.INFO if is_first_process() else logging.WARNING)
    below = [name for name in logging.root.manager.loggerDict if name.startswith(("ignite.", "monai."))]
    for name in ("ignite", "monai", *below):
        logging.getLogger(name).setLevel(logging.CRITICAL)
