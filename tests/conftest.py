"""What every test has."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """A command that a test runs sets logging up for its process; the next test must not write to that stream."""
    own = logging.getLogger("gnsm_monai")
    before = (list(own.handlers), own.propagate, own.level)
    yield
    own.handlers, own.propagate = before[0], before[1]
    own.setLevel(before[2])
