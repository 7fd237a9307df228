"""Notes on a case that is scored without one of its files: the file costs its own use, and never the mask's rank."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import Any

from gnsm_monai.data.constants import REFERENCE, SOFT, UNSEEN_IMAGE
from gnsm_monai.errors import InputError

__all__ = ["NOTE", "NO_DICE", "add_note", "spared"]

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
