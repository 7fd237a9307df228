"""What the C library does with memory: it keeps that of large arrays for the next ones, or gives it back."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable

__all__ = ["keep_large_arrays", "release_free_memory"]

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's ``mallopt``."""

MOST_BYTES = 2**31 - 1
"""Largest value of a parameter."""


def keep_large_arrays() -> bool:
    """Lets the C library keep the memory of large arrays for the next ones, where it can (glibc); else does nothing.

    An array of more than 32 MiB, such as a map of many classes, would otherwise be got from the system and given back
    each time: its pages would be cleared one by one at the first touch, which takes as long as to compute them.
    :func:`release_free_memory` gives the memory back all the same.

    Returns:
        whether there was a way to do so.
    """
    mallopt = _of_glibc("mallopt")
    if mallopt is None:
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, MOST_BYTES)) and bool(mallopt(M_TRIM_THRESHOLD, MOST_BYTES))


def release_free_memory() -> bool:
    """Gives the free parts of the heap back to the system, where the C library can (glibc); else does nothing.

    Each case takes and frees large maps, and leaves a small row behind. Rows between the freed maps keep the heap from
    being used again as a whole: without this it grows by some 70 MiB per thousand small cases.

    Returns:
        whether there was a way to do so.
    """
    trim = _of_glibc("malloc_trim")
    if trim is None:
        return False
    trim(0)
    return True


def _of_glibc(name: str) -> Callable[..., int] | None:
    """A function of the C library; None where it is another one."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        function: Callable[..., int] = getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError):
        return None
    return function
