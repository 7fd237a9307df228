"""Gives free memory back to the system during a long run."""

from __future__ import annotations

import ctypes
import sys

__all__ = ["release_free_memory"]


def release_free_memory() -> bool:
    """Gives the free parts of the heap back to the system, where the C library can (glibc); else does nothing.

    Each case takes and frees large maps, and leaves a small row behind. Rows between the freed maps keep the heap from
    being used again as a whole: without this it grows by some 70 MiB per thousand small cases.

    Returns:
        whether there was a way to do so.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError):  # another C library
        return False
    return True
