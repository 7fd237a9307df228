"""The one exception that a user's mistake raises, so that callers can tell it from a defect."""

from __future__ import annotations

import errno
import functools
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["EXIT_INPUT_ERROR", "SCORING_FAILED", "InputError", "exit_on_input_error"]

EXIT_INPUT_ERROR = 2
"""Exit code for wrong usage, configuration or data."""

SCORING_FAILED = 3
"""Exit code where some predictions could not be scored; the others were."""

_OF_THE_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM}


class InputError(ValueError):
    """A file, folder or setting that the user gave cannot be used.

    The message is one line that names the file or setting and the reason. Bundles and the command line print it
    and exit with code 2, without a traceback.
    """

    def __init__(self, message: str) -> None:
        # Names from files are part of messages, and may hold line breaks.
        super().__init__(" ".join(message.splitlines()))


@contextmanager
def exit_on_input_error() -> Iterator[None]:
    """End the program with one line on stderr and exit code 2 where an :class:`InputError` is raised.

    So does a disk that is full, or a place that may not be written to.

    A context manager that is a decorator too. Wrap what a bundle's config calls: MONAI's parser turns any
    ``Exception`` of an expression into a ``RuntimeError`` with a page of traceback, but lets ``SystemExit`` pass.
    Wrapped around a whole workflow it finds the error inside such a ``RuntimeError`` as well. Any other exception is a
    defect and keeps its traceback.

    Raises:
        SystemExit: with code 2, in place of the :class:`InputError`.

    Example::

        @exit_on_input_error()
        def build_datalist(folder): ...

        with exit_on_input_error():
            workflow.run()
    """
    before = threading.excepthook
    threading.excepthook = functools.partial(_of_a_thread, before)
    try:
        yield
    except Exception as error:
        cause = _find_users_error(error)
        if cause is None:
            raise
        message = str(cause)
        if isinstance(cause, OSError):  # a thread that runs out of disk does not name the place
            message = f"{cause.filename}: {cause.strerror}" if cause.filename else str(cause.strerror)
        print("error:", " ".join(message.splitlines()), file=sys.stderr)
        raise SystemExit(EXIT_INPUT_ERROR) from None
    finally:
        threading.excepthook = before


def _of_a_thread(before: Callable[[threading.ExceptHookArgs], Any], failure: threading.ExceptHookArgs) -> None:
    """Hides the traceback of TensorBoard's writer on a full disk; the same error is raised again where it is used."""
    if not (isinstance(failure.exc_value, OSError) and failure.exc_value.errno in _OF_THE_DISK):
        before(failure)


def _find_users_error(error: BaseException | None) -> InputError | OSError | None:
    """The error itself, or the nearest one that it was raised ``from``."""
    while error is not None:
        if isinstance(error, InputError) or (isinstance(error, OSError) and error.errno in _OF_THE_DISK):
            return error
        error = error.__cause__
    return None
