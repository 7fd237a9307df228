"""What is said while masks are scored and nobody watches."""

from __future__ import annotations

import logging
import sys

import pytest
from ignite.engine import Engine

from gnsm_monai.handlers import TerminalProgress


@pytest.mark.parametrize(("seconds", "lines"), [(None, 0), (1000.0, 0), (0.0, 4)])
def test_lines_come_at_intervals_only(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, seconds: float | None, lines: int
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False, raising=False)
    engine = Engine(lambda engine, batch: batch)
    TerminalProgress("scoring", log_seconds=seconds).attach(engine)
    with caplog.at_level(logging.INFO, logger="gnsm_monai"):
        engine.run(range(4))
    said = [record.getMessage() for record in caplog.records if record.name.startswith("gnsm_monai")]
    assert len(said) == lines
    assert all(f"scoring: {n} of 4, " in line and line.endswith("s left") for n, line in enumerate(said, start=1))


def test_a_terminal_gets_a_bar_with_rate_and_remaining_time(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    engine = Engine(lambda engine, batch: batch)
    TerminalProgress("scoring").attach(engine)
    engine.run(range(4))
    bar = capsys.readouterr().err
    assert "scoring" in bar and "/4]" in bar and "it" in bar and " left" in bar
