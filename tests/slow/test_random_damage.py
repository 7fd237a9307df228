"""Random damage to every kind of file and setting that is read: a value or one line, soon, in little memory."""

from __future__ import annotations

import gc
import json
import signal
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.slow.processes import Command, limit_memory
from tests.slow.readers import READERS, Reader

SECONDS, GIBIBYTES = 10, 2
"""What reading one input may take."""

EXAMPLES = [40, pytest.param(500, marks=pytest.mark.soak)]


@pytest.mark.parametrize("count", EXAMPLES)
@pytest.mark.parametrize("name", READERS)
def test_random_damage_is_read_or_refused_in_one_line(dataset: Path, tmp_path: Path, name: str, count: int) -> None:
    count //= 4 if name == "config overrides" else 1  # each parses the whole config
    command = Command(partial(read_examples, name, dataset, tmp_path, count), tmp_path / "log")
    assert command.end(3600) == 0 and "Traceback" not in command.text, command.text[-2000:]
    outcomes = json.loads((tmp_path / "outcomes.json").read_text())
    assert [outcome for outcome in outcomes if outcome not in ("read", "refused")] == []
    assert len(outcomes) >= count // 2  # hypothesis draws fewer where there are fewer
    assert command.peak_gib < GIBIBYTES


def read_examples(name: str, dataset: Path, work: Path, count: int) -> None:
    """Draws ``count`` examples and reads them with 2 GiB of memory; writes what became of each."""
    reader = READERS[name](dataset)
    limit_memory(GIBIBYTES)
    gc.collect()
    outcomes: list[str] = []

    @seed(0)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def draw(data: Any) -> None:
        outcomes.append(outcome_of(reader, data.draw(reader.examples), work))

    draw()
    (work / "outcomes.json").write_text(json.dumps(outcomes))


def outcome_of(reader: Reader, example: Any, work: Path, seconds: int = SECONDS) -> str:
    """``read``, ``refused`` (with one clean line), or what is wrong."""

    def late(*_: Any) -> None:
        raise TimeoutError(f"longer than {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        message = reader.read(example, work)
    except BaseException as error:
        return f"{type(error).__name__}: {error!s:.300} for {example!r:.300}"
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    if message is None:
        return "read"
    clean = "\n" not in message and "Traceback" not in message and 0 < len(message) < 1000
    return "refused" if clean else f"unclear message {message!r:.300} for {example!r:.300}"


def test_an_error_a_delay_and_a_page_of_text_are_found(tmp_path: Path) -> None:
    """What would be said of a reader that is not as it should be."""

    def raises(example: Any, work: Path) -> str | None:
        raise KeyError("a")

    def outcome(read: Any) -> str:
        return outcome_of(Reader(None, read), b"x", tmp_path, seconds=1)

    assert outcome(lambda example, work: None) == "read"
    assert outcome(lambda example, work: "a.nii: damaged") == "refused"
    assert outcome(raises).startswith("KeyError")
    assert outcome(lambda example, work: time.sleep(3)).startswith("TimeoutError")
    assert outcome(lambda example, work: "Traceback\n  File").startswith("unclear message")
