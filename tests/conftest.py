"""What every test has."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from gnsm_monai.data.notes import warn_anew


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """What a test runs may set logging up for its process; the next test must not write to that stream.

    MONAI gives a root logger without handlers one that writes to the stderr of that moment, which pytest closes with
    the test.
    """
    loggers = [logging.getLogger(), logging.getLogger("gnsm_monai")]
    before = [(list(each.handlers), each.propagate, each.level) for each in loggers]
    warn_anew()
    yield
    for each, (handlers, propagate, level) in zip(loggers, before, strict=True):
        each.handlers, each.propagate = handlers, propagate
        each.setLevel(level)
