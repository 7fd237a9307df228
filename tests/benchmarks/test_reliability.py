"""What docs/reliability.md has figures of, small: random inputs, hostile files, and how findings are told."""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gnsm_monai.data.phantoms import write_phantom_dataset

FOLDER = Path(__file__).resolve().parents[2] / "scripts" / "benchmarks"
sys.path.insert(0, str(FOLDER))
try:
    fuzz = importlib.import_module("reliability_checks.fuzz")
    hostile = importlib.import_module("reliability_checks.hostile")
    inputs = importlib.import_module("reliability_checks.inputs")
    kills = importlib.import_module("reliability_checks.kills")
    reliability = importlib.import_module("reliability")
finally:
    sys.path.remove(str(FOLDER))


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_phantom_dataset(tmp_path_factory.mktemp("data"), spatial_dims=2, num_train=16, num_test=4)


@pytest.mark.parametrize("name", inputs.READERS)
@pytest.mark.filterwarnings("ignore")
def test_random_damage_is_read_or_refused_in_one_line(phantoms: Path, tmp_path: Path, name: str) -> None:
    count = 3 if name == "config overrides" else 15
    before = signal.getsignal(signal.SIGALRM)
    try:
        tally = fuzz.run_examples(inputs.READERS[name](phantoms), tmp_path, count, number=1)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert tally.wrong == []
    assert tally.read + tally.refused >= min(count, 3)


def test_an_error_a_delay_and_a_page_of_text_are_findings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the examination would say of a reader that is not as it should be."""

    def raises(example: Any, work: Path) -> str | None:
        raise KeyError("a")

    def outcome(read: Any) -> str:
        found: str = fuzz.outcome_of(inputs.Reader(None, read), b"x", tmp_path)
        return found

    monkeypatch.setattr(fuzz, "SECONDS", 1)
    assert outcome(lambda example, work: None) == "read"
    assert outcome(lambda example, work: "a.nii: damaged") == "refused"
    assert outcome(raises).startswith("KeyError")
    assert outcome(lambda example, work: time.sleep(3)).startswith("TimeoutError")
    assert outcome(lambda example, work: "Traceback\n  File").startswith("unclear message")


def test_arrays_that_would_fill_memory_or_run_code_are_refused(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    for number, save in enumerate((hostile._raw_pickle, lambda c, p: np.savez(p, a=np.array([c["model"]], object)))):
        path = tmp_path / f"{number}.npz"
        save({"model": hostile.Bomb(trap)}, path)
        assert hostile.refusal(lambda path=path: hostile.load_arrays(path)) is not None
    assert not trap.exists()
    assert hostile._nested(tmp_path).wrong == ()


def test_tags_are_found_in_a_page() -> None:
    tags = hostile.Tags()
    tags.feed("<p>&lt;img&gt;</p><img src=x onerror=alert(1)>")
    assert tags.found == [("p", {}), ("img", {"src": "x", "onerror": "alert(1)"})]


def test_a_torn_file_at_a_kill_is_a_finding(tmp_path: Path) -> None:
    np.savez(tmp_path / "good.npz", a=np.zeros(3))
    (tmp_path / "torn.npz").write_bytes((tmp_path / "good.npz").read_bytes()[:-30])
    (tmp_path / ".torn.npz.x").write_bytes(b"")  # not renamed yet: no reader looks at it
    wrong: list[str] = []
    assert kills._check_readable(tmp_path, wrong) == 1
    assert len(wrong) == 1 and wrong[0].startswith("torn.npz")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot be forked here")
def test_the_page_tells_what_is_wrong_and_what_has_not_run() -> None:
    store = {"kills": [["a | b", "30 kills", ""]], "disk": [["full", "1 disk", "exit code 1"]]}
    page = reliability.page(json.loads(json.dumps(store)))
    assert "| a \\| b | 30 kills | `kills` |" in page
    assert "WRONG: exit code 1" in page
    assert page.count("not run yet") == len(reliability.CHECKS) - 2
