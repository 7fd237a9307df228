"""What the C library keeps and gives back of memory, where it is one that can be told."""

from __future__ import annotations

import ctypes
import platform
import subprocess
import sys
from collections.abc import Callable

import pytest

from gnsm_monai.memory import keep_large_arrays, release_free_memory


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="malloc_trim is glibc's")
def test_memory_is_given_back_where_glibc_is() -> None:
    assert release_free_memory() == hasattr(ctypes.CDLL(None), "malloc_trim")


FAULTS = """
import resource, numpy as np
from gnsm_monai.memory import keep_large_arrays, release_free_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(10_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

keep_large_arrays()
print(faults(), faults())
release_free_memory()
print(faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_the_memory_of_a_large_array_is_taken_again_and_given_back() -> None:
    """By faults of pages that are touched for the first time: 80 MB are 19 532 pages of 4 KiB, or 40 of 2 MiB."""
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    first, again, after = map(int, done.stdout.split())
    assert again <= 2 < min(first, after)


BOTH = pytest.mark.parametrize("do", [keep_large_arrays, release_free_memory])


@BOTH
def test_other_systems_are_left_alone(do: Callable[[], bool], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    assert not do()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks for a C library only there")
@BOTH
def test_another_c_library_is_left_alone(do: Callable[[], bool], monkeypatch: pytest.MonkeyPatch) -> None:
    class Musl:
        def __init__(self, name: None) -> None:
            pass

    monkeypatch.setattr(ctypes, "CDLL", Musl)
    assert not do()
