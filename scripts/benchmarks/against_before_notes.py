"""What stands below the figures of against_before.md: where the time goes, and what was tried and lost."""

from __future__ import annotations

__all__ = ["NOTES"]

NOTES = [
    "## Where the time goes",
    "",
]
