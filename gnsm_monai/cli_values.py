"""What the values of the options of ``gnsm`` may be; a mistake is told by :mod:`argparse` in one line."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["a_path", "at_least_two", "dice_limits", "half_at_most", "positive", "share", "whole"]


def a_path(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("a folder is needed")
    return Path(text)


def _number(kind: Callable[[str], Any], allowed: Callable[[Any], bool], what: str) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not allowed(value):
            raise argparse.ArgumentTypeError(f"{what} is needed, got '{text}'")
        return value

    return read


def positive(kind: Callable[[str], Any]) -> Callable[[str], Any]:
    return _number(kind, lambda value: 0 < value < float("inf"), "a positive number")


share = _number(float, lambda value: 0 < value < 1, "a number between 0 and 1")
half_at_most = _number(float, lambda value: 0 < value <= 0.5, "a number above 0 and up to 0.5")
whole = _number(int, lambda value: value >= 0, "a whole number")
at_least_two = _number(int, lambda value: value >= 2, "a whole number of at least 2")


def dice_limits(text: str) -> list[float]:
    """The usual limits and, at the end, the chosen one, which the review budget uses."""
    chosen_limit = float(share(text))
    return [*(limit for limit in (0.5, 0.7) if limit != chosen_limit), chosen_limit]
