from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import against_before
import pytest
from against_before import AFTER, BEFORE, Task


def of(version: str, cpu: float, **more: Any) -> dict[str, Any]:
    return {"version": version, "cpu": cpu, "wall": 2 * cpu, "mib": 100 * cpu, **more}


def test_ratios_are_those_of_the_medians_and_of_runs_in_turn() -> None:
    runs = [of(v, s) for old, new in ((8.0, 2.0), (9.0, 4.0), (30.0, 3.0)) for v, s in ((BEFORE, old), (AFTER, new))]
    row = against_before.row("a task", runs)
    assert row[:4] == ["a task", 3, "9.0 (8.0 to 30.0)", "3.0 (2.0 to 4.0)"]
    assert row[4] == row[5] == "3.00 (2.25 to 10.00)"
    assert row[6] == "900 (800 to 3000)"
    assert against_before.row("not yet", [of(BEFORE, 0.0421)])[1:5] == [1, "0.04", "–", "–"]


def test_what_both_versions_say_is_compared() -> None:
    old = of(BEFORE, 1, scores={"a": 0.1, "b": 0.2, "c": 0.4})
    new = of(AFTER, 1, scores={"c": 0.4, "b": 0.2, "a": 0.3})
    text = " ".join(against_before.agreement("ranking", [old, new]))
    assert "3 scores, greatest difference 0.2," in text and "of the two 0.500000" in text
    assert against_before.agreement("ranking", [old]) == []


def test_versions_take_turns_and_a_run_that_was_stopped_continues(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    def run(task: Task, version: str, options: argparse.Namespace) -> dict[str, Any]:
        done.append(version)
        return of(version, 1)

    monkeypatch.setattr(against_before, "run", run)
    monkeypatch.setattr(against_before, "environment", lambda work: work)
    given = {"data": Path("data"), "work": Path("work"), "model": None, "repeats": 3, "count": 1000}
    options = argparse.Namespace(tasks=["help"], **given)
    earlier: dict[str, Any] = {}
    for content in against_before.measure(options, {}):
        earlier = content
        if len(done) == 3:
            break
    *_, content = against_before.measure(options, earlier)
    assert done == [BEFORE, AFTER] * 3
    assert [r["version"] for r in content["tasks"]["help"]["runs"]] == done
    *_, content = against_before.measure(argparse.Namespace(tasks=["rank_two"], **given), content)
    assert "--tasks help rank_two" in content["command"]  # all of the page, of which a sitting measures some
