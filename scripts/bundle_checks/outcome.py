"""How a check ends, where it does not pass."""

from __future__ import annotations


class CheckFailedError(Exception):
    """The bundle breaks a rule; the message says which."""


class CheckSkippedError(Exception):
    """The check cannot be made here; the message says why."""
