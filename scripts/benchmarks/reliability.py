"""Figures for docs/reliability.md: kills, full disks, broken and hostile files, long runs, and equal numbers.

    python scripts/benchmarks/reliability.py CHECK [CHECK ...] [--work DIR] [--seed 0] [--count N]

A check is one of kills, disk, fuzz, hostile, soak, determinism. All work on small phantoms and a small model that is
made in the work folder. Prints a line per property with its figure, and what is wrong with it; writes the lines to
docs/reliability.json and the page docs/reliability.md from it. Exits with 1 where anything is wrong.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import json
import os
import sys
import tempfile
import warnings
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
warnings.simplefilter("ignore")

ROOT = Path(__file__).resolve().parents[2]
STORE, PAGE = ROOT / "docs" / "reliability.json", ROOT / "docs" / "reliability.md"
CHECKS = ("kills", "disk", "fuzz", "hostile", "soak", "determinism")

INTRODUCTION = """\
# Reliability in figures

Each line was printed by the command beside it, on CPU, with small phantoms and a small model
(`python scripts/benchmarks/reliability.py CHECK`; every check alone takes a few minutes). Bad files of a real folder,
one message each: [bad files and kills](benchmarks/robustness.md).

| what | figure | CHECK |
| --- | --- | --- |
"""


def page(store: dict[str, list[list[str]]]) -> str:
    """The table, in the order of the checks; what is wrong stands in it too."""
    lines = []
    for check in CHECKS:
        for what, figure, wrong in store.get(check, [[check, "not run yet", ""]]):
            text = " ".join(f"{figure}{f'; WRONG: {wrong}' if wrong else ''}".split()).replace("|", "\\|")
            lines.append(f"| {what.replace('|', chr(92) + '|')} | {text} | `{check}` |")
    return INTRODUCTION + "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("checks", nargs="+", choices=CHECKS, metavar="CHECK", help=", ".join(CHECKS))
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "gnsm_reliability")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, help="of kills, examples per reader or cases (default: as documented)")
    given = parser.parse_args()
    wrong = False
    for check in given.checks:
        examine = importlib.import_module(f"reliability_checks.{check}").examine
        options = {"seed": given.seed, **({"count": given.count} if given.count else {})}
        known = inspect.signature(examine).parameters
        findings = examine(given.work.absolute(), **{name: value for name, value in options.items() if name in known})
        rows = [[found.what, found.figure, "; ".join(found.wrong)] for found in findings]
        for what, figure, problem in rows:
            print(f"{what}: {figure}{f' WRONG: {problem}' if problem else ''}", flush=True)
            wrong = wrong or bool(problem)
        store = json.loads(STORE.read_text()) if STORE.is_file() else {}
        store[check] = rows
        STORE.write_text(json.dumps(store, indent=2) + "\n")
        PAGE.write_text(page(store))
    sys.exit(int(wrong))


if __name__ == "__main__":
    main()
