"""The frame of the benchmarks, and every committed page: it is what its stored figures print."""

from __future__ import annotations

import argparse
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bench
import pytest

PAGES = sorted(path.stem for path in bench.PAGES.glob("*.md") if path.stem != "README")
SLOW = {"segmentation_qc"}  # its intervals are a minute of bootstrap


def measure(options: argparse.Namespace, earlier: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for number in range(options.count):
        yield {"command": options.command, "setting": "here", "sum": earlier.get("sum", 0) + number}


def lines(content: dict[str, Any]) -> list[str]:
    return [f"Sum: {content['sum']}."]


COUNTED = bench.Benchmark(
    "counted",
    "A sum",
    measure,
    lines,
    {
        "--data": {"type": Path, "required": True},
        "--work": {"type": Path, "default": Path("runs")},
        "--count": {"type": int, "default": 3},
        "--only": {"nargs": "+", "default": ["a"]},
        "--quick": {"action": "store_true"},
    },
)


def test_what_is_measured_is_stored_and_printed_with_its_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    COUNTED.run(["--data", "/a/b", "--work", "/c", "--count", "2", "--only", "x", "y", "--quick"], tmp_path)
    command = "python scripts/benchmarks/counted.py --data DATA --count 2 --only x y --quick"
    assert capsys.readouterr().out.strip() == f"# A sum\n\n`{command}` (here)\n\nSum: 1."
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    COUNTED.run(["--data", "/a/b"], tmp_path)
    assert COUNTED.load(tmp_path)["sum"] == 3
    text = (tmp_path / "counted.md").read_text()
    assert text == "# A sum\n\n`OMP_NUM_THREADS=1 python scripts/benchmarks/counted.py --data DATA` (here)\n\nSum: 3.\n"


def test_a_page_is_printed_anew_without_data_or_measuring(tmp_path: Path) -> None:
    COUNTED.store({"sum": 5}, tmp_path)
    COUNTED.run(["--page"], tmp_path)
    assert (tmp_path / "counted.md").read_text() == "# A sum\n\nSum: 5.\n"
    with pytest.raises(SystemExit):
        COUNTED.run([], tmp_path)  # which needs --data


def test_missing_figures_are_dashes_and_others_have_their_interval() -> None:
    assert bench.cell({"value": None, "ci95": None}) == "–"
    assert bench.cell({"value": -0.9, "ci95": [-0.93, -0.861]}) == "-0.900 [-0.930, -0.861]"
    assert bench.table(["a", "b"], [[1, "x"]]) == ["| a | b |", "| --- | --- |", "| 1 | x |"]


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow if n in SLOW else ()) for n in PAGES])
def test_a_committed_page_is_what_its_stored_figures_print(name: str) -> None:
    benchmark = importlib.import_module(name).BENCHMARK
    assert benchmark.name == name
    assert benchmark.page(benchmark.load()) == (bench.PAGES / f"{name}.md").read_text(encoding="utf-8")


def test_every_benchmark_has_a_page_and_every_stored_figure_too() -> None:
    modules = [p.stem for p in Path(bench.__file__).parent.glob("*.py") if "\nBENCHMARK = " in p.read_text()]
    assert sorted(modules) == PAGES
    assert {path.stem for path in bench.PAGES.glob("*.json")} <= set(PAGES)


def test_the_page_of_reliability_names_the_slow_tests_that_exist() -> None:
    text = (bench.ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    tests = {path.name for path in (bench.ROOT / "tests" / "slow").glob("test_*.py")}
    assert set(re.findall(r"\btest_\w+\.py", text)) == tests
