"""One unreadable file among many costs one line that names it; the others are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from monai.transforms import Transform

from gnsm_monai.data.constants import LABEL
from gnsm_monai.errors import InputError
from gnsm_monai.files import one_line_of

__all__ = ["CaughtErrors", "one_line"]


class CaughtErrors(Transform):
    """Runs a transform on a case; a case that fails comes back as ``{"case", "folder", "message"}``.

    A case that already has a ``message``, because one of its files was not found, is returned unchanged.
    """

    def __init__(self, transform: Callable[[Any], Any]) -> None:
        self.transform = transform

    def __call__(self, case: Mapping[str, Any]) -> dict[str, Any]:
        message = case.get("message")
        if message is None:
            try:
                return dict(self.transform(dict(case)))
            except Exception as error:  # every reader raises its own kinds
                message = one_line(error, case[LABEL])
        return {"case": case["case"], "folder": case.get("folder", ""), "message": message}


def one_line(error: BaseException, path: Any) -> str:
    """The reason at the root of a chain of exceptions, in one line that names the file."""
    while error.__cause__ is not None and not isinstance(error, InputError):
        error = error.__cause__
    return str(error) if isinstance(error, InputError) else f"{path}: cannot be read: {one_line_of(error)}"
