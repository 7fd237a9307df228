"""Random damage to every kind of file and setting that is read: a value or one line, soon, in little memory."""

from __future__ import annotations

import gc
import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from reliability_checks.common import Finding, Forked, dataset, limit_memory
from reliability_checks.inputs import READERS, Reader

SECONDS, GIBIBYTES = 10, 2
"""That reading one input may take."""


class Tally:
    """What became of the examples of one reader."""

    def __init__(self) -> None:
        self.read = self.refused = 0
        self.slowest = 0.0
        self.wrong: list[str] = []

    def note(self, outcome: str, seconds: float) -> None:
        self.slowest = max(self.slowest, seconds)
        if outcome == "read":
            self.read += 1
        elif outcome == "refused":
            self.refused += 1
        else:
            self.wrong.append(outcome)


def outcome_of(reader: Reader, example: Any, work: Path) -> str:
    """``read``, ``refused`` (with one clean line), or what is wrong."""

    def late(*_: Any) -> None:
        raise TimeoutError(f"longer than {SECONDS} s")

    signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        message = reader.read(example, work)
    except MemoryError:
        return f"MemoryError: {example!r:.300}"
    except BaseException as error:
        return f"{type(error).__name__}: {error!s:.300} for {example!r:.300}"
    finally:
        signal.alarm(0)
    if message is None:
        return "read"
    clean = "\n" not in message and "Traceback" not in message and 0 < len(message) < 1000
    return "refused" if clean else f"unclear message {message!r:.300} for {example!r:.300}"


def run_examples(reader: Reader, work: Path, count: int, number: int) -> Tally:
    """Draws ``count`` examples and reads them."""
    tally = Tally()

    @seed(number)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        derandomize=False,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def draw(data: Any) -> None:
        example = data.draw(reader.examples)
        start = time.monotonic()
        tally.note(outcome_of(reader, example, work), time.monotonic() - start)

    draw()
    return tally


def examine(work: Path, count: int = 500, seed: int = 0) -> list[Finding]:
    """A line per reader."""
    folder = dataset(work)
    findings = []
    for name, make in READERS.items():
        place = work / "fuzz" / name.replace(" ", "_")
        place.mkdir(parents=True, exist_ok=True)

        def run(make: Callable[[Path], Reader] = make, place: Path = place) -> int:
            reader = make(folder)
            limit_memory(GIBIBYTES)
            gc.collect()
            tally = run_examples(reader, place, count, seed)
            (place / "tally.json").write_text(json.dumps(vars(tally)))
            return 0

        (place / "tally.json").unlink(missing_ok=True)
        child = Forked(run, place.with_suffix(".log"))
        code = child.end(3600)
        if not (place / "tally.json").is_file():
            findings.append(Finding(f"random {name}", "", (f"exit code {code}: {child.text[-1500:]}",)))
            continue
        found = json.loads((place / "tally.json").read_text())
        number = found["read"] + found["refused"] + len(found["wrong"])
        wrong = [f"{len(found['wrong'])} of {number}, first: {found['wrong'][0]}"] if found["wrong"] else []
        if "Traceback" in child.text:
            wrong.append(f"traceback in the output: {child.text[-800:]}")
        if child.peak > GIBIBYTES:
            wrong.append(f"{child.peak:.1f} GiB of memory")
        figure = (
            f"{number} inputs: {found['refused']} refused in one line, {found['read']} read; "
            f"slowest {found['slowest']:.1f} s, peak memory {child.peak * 1024:.0f} MiB"
        )
        findings.append(Finding(f"random {name}", figure, tuple(wrong)))
    return findings
