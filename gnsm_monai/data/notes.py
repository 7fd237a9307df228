"""What is noted of a case, whose files cost their own use and never the mask's rank, and what many cases share."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import Any

from gnsm_monai.data.constants import REFERENCE, SOFT, UNSEEN_IMAGE
from gnsm_monai.errors import InputError

__all__ = ["NOTE", "NO_DICE", "add_note", "spared", "warn_anew", "warn_once"]

logger = logging.getLogger(__name__)

NOTE = "note"
"""Key of a case: which of its files were not used, or not as they are, and why. One line."""

NO_DICE = "no Dice"
"""How a note begins that tells why a mask was not compared with its reference."""

SPARED = {
    REFERENCE: NO_DICE + ": {}",
    SOFT: "{}: the mask itself is scored",
    UNSEEN_IMAGE: "its image was not looked at: {}",
}
"""What a note says of a file that a mask can be ranked without, by its key."""


def add_note(case: dict[Any, Any], note: str) -> None:
    """Adds to the note of a case, in place."""
    case[NOTE] = "; ".join(filter(None, [case.get(NOTE), note]))


@contextmanager
def spared(case: dict[Any, Any], key: Hashable) -> Iterator[None]:
    """Drops the file of this key, with a note in its place, where it raises InputError; the mask's own error stands."""
    try:
        yield
    except InputError as error:
        if key not in SPARED:
            raise
        case.pop(key, None)
        add_note(case, SPARED[key].format(error))


_warned: set[str] = set()


def warn_once(key: str, text: str) -> None:
    """Logs what many cases share for the first of them alone."""
    if key not in _warned:
        _warned.add(key)
        logger.warning("%s", text)


def warn_anew() -> None:
    """Lets :func:`warn_once` speak again: other files are going to be read."""
    _warned.clear()
