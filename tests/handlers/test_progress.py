"""What is said of the progress of a run, and how a run ends in time."""

from __future__ import annotations

import logging
import sys
import time

import pytest
from ignite.engine import Engine, Events

from gnsm_monai.handlers import EndInTime, TerminalProgress
from gnsm_monai.time_limit import TimeLimit
from tests.builders import Clock


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
    engine = Engine(lambda engine, batch: time.sleep(0.11))  # a bar is drawn ten times a second
    TerminalProgress("scoring").attach(engine)
    engine.run(range(2), max_epochs=2)
    bar = capsys.readouterr().err
    assert all(part in bar for part in ("scoring [0/4]", "scoring [3/4]", "it", "00:00 left"))


def test_remaining_time_is_of_the_whole_run_and_within_its_limit(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps of 10 s, of which 6 are planned, where 35 s are left as they begin."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False, raising=False)
    clock = Clock()
    monkeypatch.setattr("gnsm_monai.handlers.trainer.time.monotonic", clock)
    engine = Engine(lambda engine, batch: clock.wait(10))
    TerminalProgress("training", log_seconds=0, limit=TimeLimit(35 / 60, clock=clock)).attach(engine)
    with caplog.at_level(logging.INFO, logger="gnsm_monai"):
        engine.run(range(3), max_epochs=2)
    said = [record.getMessage() for record in caplog.records if record.name.startswith("gnsm_monai")]
    assert said[0] == "training: 1 of 6, 10 s each, 25 s left"
    assert [line.split(", ")[-1] for line in said] == [f"{left} s left" for left in (25, 15, 5, 0, 0, 0)]


@pytest.mark.parametrize(("seconds", "steps", "cut"), [(35, 4, True), (5, 1, True), (60, 6, False), (None, 6, False)])
def test_an_engine_ends_with_the_step_in_which_its_time_is_over(seconds: int | None, steps: int, cut: bool) -> None:
    clock = Clock()
    engine = Engine(lambda engine, batch: clock.wait(10))
    limit = TimeLimit(None if seconds is None else seconds / 60, clock=clock)
    in_time = EndInTime(limit).attach(engine)
    completed: list[int] = []
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda e: completed.append(e.state.iteration))
    engine.run(range(6))
    assert completed == [steps] and in_time.cut is cut
    assert in_time.seconds == (60 if seconds == 60 else 0)
    in_time.detach()
    engine.run(range(6))
    assert completed == [steps, 6]
