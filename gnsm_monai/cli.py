"""The command ``gnsm``, and how it speaks. What it does stands in :mod:`gnsm_monai.commands`."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable, Sequence

from gnsm_monai.command_line import build_parser
from gnsm_monai.errors import InputError, exit_on_input_error

__all__ = ["main"]

STOPPED = 130  # what shells give for Ctrl-C
GOES_ON = {
    "train": "with --resume the same command goes on after the last epoch",
    "rank": "the same command goes on from here",
    "audit": "the same command goes on from here",
    "table_fit": "with --resume the same command goes on after the last epoch",
}
SHARED_OUT = ("train", "rank")
"""Commands that the processes of ``torchrun -m gnsm_monai COMMAND`` do together."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Returns:
        the exit code: 0, or 3 where some masks could not be scored.

    Raises:
        SystemExit: with code 2 after a user's mistake, with 3 at the first failed case of ``rank --strict``.
    """
    options = vars(build_parser().parse_args(arguments))
    command = "_".join(filter(None, [options.pop("command"), options.pop("step", None)])).replace("-", "_")
    given = {name: value for name, value in options.items() if value is not None}
    _speak_plainly()
    # Only now: torch and MONAI take seconds to import, and nobody should wait for a help text.
    from gnsm_monai import commands
    from gnsm_monai.workflow.processes import is_first_process, num_processes

    if not is_first_process():
        logging.getLogger("gnsm_monai").setLevel(logging.WARNING)
    try:
        with exit_on_input_error():
            if num_processes() > 1 and command not in SHARED_OUT:
                raise InputError(
                    f"gnsm {command.replace('_', ' ')}: runs in one process; torchrun is for train and rank"
                )
            run: Callable[..., int] = getattr(commands, command)
            return run(**given)
    except KeyboardInterrupt:
        print(f"\nstopped: {GOES_ON.get(command, 'the same command starts anew')}", file=sys.stderr)
        return STOPPED


def _speak_plainly() -> None:
    """Lines of this package alone, without time and module; and no warnings of the libraries below it."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # file names need not be valid text
            stream.reconfigure(errors="backslashreplace", line_buffering=True)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(message)s"))
    own = logging.getLogger("gnsm_monai")
    own.handlers, own.propagate = [handler], False
    own.setLevel(logging.INFO)
    import monai.bundle  # noqa: F401  # some of its loggers set a level of their own on import

    for name in [
        "ignite",
        "monai",
        *(n for n in logging.root.manager.loggerDict if n.startswith(("ignite.", "monai."))),
    ]:
        logging.getLogger(name).setLevel(logging.CRITICAL)
