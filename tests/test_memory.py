"""Free memory goes back to the system where the C library can give it."""

from __future__ import annotations

import ctypes
import sys

import pytest

from gnsm_monai.memory import release_free_memory


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="malloc_trim is glibc's")
def test_memory_is_given_back_where_glibc_is() -> None:
    assert release_free_memory() == hasattr(ctypes.CDLL(None), "malloc_trim")


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    assert not release_free_memory()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks for a C library only there")
def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Musl:
        def __init__(self, name: None) -> None:
            pass

    monkeypatch.setattr(ctypes, "CDLL", Musl)
    assert not release_free_memory()
