"""What fitting and scoring a table costs, by commands of their own: processor seconds, wall clock, peak memory.

    python scripts/benchmarks/tabular_cost.py --data DATA --before PYTHON

PYTHON is the interpreter of an environment in which version 0.2 (commit 1e27609) is installed. DATA is the folder of
``tabular.py``. The tables: rows of 20 columns of ten categories, which depend on each other through one of eight types
of row; and sets of ``tabular.py`` (seed 42), whose rows to score are the test rows. Every command starts with reading
the CSV file. IsolationForest reads it by pandas, and is fitted to ordinal codes.

Results are kept in docs/benchmarks/tabular_cost.json as soon as they are there.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from bench import MISSING, Benchmark, Content, table
from tabular import split

OURS, BEFORE, FOREST = "gnsm", "gnsm 0.2", "IsolationForest"
MADE = {"20 000 x 20": 20_000, "200 000 x 20": 200_000}
TABLES = (*MADE, "solar", "census")
COLUMNS, CATEGORIES, TYPES = 20, 10, 8

FOREST_CODE = """
import sys, numpy as np, pandas as pd
from sklearn.ensemble import IsolationForest
from sklearn.preprocessing import OrdinalEncoder
read = lambda path: pd.read_csv(path, dtype=str, keep_default_na=False)
encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
forest = IsolationForest(random_state=0).fit(encoder.fit_transform(read(sys.argv[1])))
if sys.argv[2] == "score":
    forest.score_samples(encoder.transform(read(sys.argv[3])))
"""

HEAD = """\
Processor seconds (user and system) of a command, its wall clock in parentheses, and its peak memory. The machine was
busy with other work: wall clock depends on that, processor seconds hardly.

The commands of gnsm are `gnsm table fit` and `gnsm table score`, which write the model, the ranking and the report.
IsolationForest is fitted and scores in one process; its line of scoring holds the fit as well. The lines of 20 000 x 20
were measured before SimpleITK was imported late, which takes 80 MB off. Those of solar are of one sitting; version 0.2
had one thread there: on a busy machine its two wait for each other. Sittings differ: another one gave 1.03 x, and one
before imports and scoring were made faster gave .96 x.
"""


def made_table(rows: int, seed: int) -> pd.DataFrame:
    """Rows of one of :data:`TYPES` types: seven of ten values are the type's own, the others any."""
    usual = np.random.default_rng(0).integers(0, CATEGORIES, (TYPES, COLUMNS))
    random = np.random.default_rng(seed)
    values = usual[random.integers(0, TYPES, rows)]
    other = random.random(values.shape) < 0.3
    values[other] = random.integers(0, CATEGORIES, int(other.sum()))
    return pd.DataFrame(values, columns=[f"c{place}" for place in range(COLUMNS)]).map("v{}".format)


def cost(command: list[str], threads: int) -> dict[str, float]:
    """Seconds and memory of a process that ends well; ``threads`` are those of torch and of BLAS."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    start, peak, status = time.perf_counter(), 0, None
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
        while True:
            # The peak that wait4 gives holds that of this process, which the command began as a copy of.
            peak = _peak(process.pid) or peak
            number, status, usage = os.wait4(process.pid, os.WNOHANG)
            if number:
                break
            time.sleep(0.02)
        if status:
            output.seek(0)
            raise RuntimeError(f"{command[:4]} failed: {output.read().decode()[-2000:]}")
    return {
        "processor_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "wall_seconds": round(time.perf_counter() - start, 1),
        "peak_mb": round(peak / 1024),
    }


def _peak(process: int) -> int:
    """Highest resident memory so far, kB; 0 once the process is over."""
    status = Path(f"/proc/{process}/status").read_text()
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")), 0)


def commands(who: str, before: Path | None, folder: Path) -> dict[str, list[str]]:
    """Fit and score, as command lines; the files are those of :func:`write_tables`."""
    train, new, model = (str(folder / name) for name in ("train.csv", "new.csv", "model"))
    if who == FOREST:
        call = [sys.executable, "-c", FOREST_CODE, train]
        return {"fit": [*call, "fit"], "score": [*call, "score", new]}
    shutil.rmtree(model, ignore_errors=True)
    gnsm = [str(before if who == BEFORE else sys.executable), "-m", "gnsm_monai", "table"]
    return {
        "fit": [*gnsm, "fit", "--data", train, "--output", model],
        "score": [*gnsm, "score", "--model", model, "--data", new, "--output", str(folder / "out")],
    }


def write_tables(name: str, data: Path, folder: Path) -> int:
    """Writes the rows to fit and to score as CSV; returns how many are scored."""
    if name in MADE:
        fit, new = made_table(MADE[name], 1), made_table(MADE[name] // 10, 2)
    else:
        fit, new, *_ = split(data, name, 42)
    fit.to_csv(folder / "train.csv", index=False)
    new.to_csv(folder / "new.csv", index=False)
    return len(new)


def measure(options: argparse.Namespace, earlier: Content) -> Iterator[Content]:
    results: dict[str, Any] = earlier.get("results", {})
    for name in options.tables:
        for who in (OURS, FOREST, BEFORE) if options.before else (OURS, FOREST):
            if f"{name} | {who}" in results or (who == BEFORE and name in MADE):
                continue
            with tempfile.TemporaryDirectory() as folder:
                rows = write_tables(name, options.data, Path(folder))
                steps = commands(who, options.before, Path(folder))
                costs = {step: cost(command, options.threads) for step, command in steps.items()}
            results = {**results, f"{name} | {who}": {**costs, "rows_scored": rows, "threads": options.threads}}
            yield {"command": options.command, "results": results}
    yield {"command": options.command, "results": results}


def lines(content: Content) -> list[str]:
    rows = []
    for key, costs in content["results"].items():
        name, who = key.split(" | ")
        cells = [
            f"{costs[step]['processor_seconds']:.1f} ({costs[step]['wall_seconds']:.0f}) s, {costs[step]['peak_mb']} MB"
            for step in ("fit", "score")
        ]
        before = content["results"].get(f"{name} | {BEFORE}") if who == OURS else None
        rows.append([name, who, *cells, _ratio(before, costs)])
    return [*HEAD.splitlines(), "", *table(["table", "", "fit", "score", "0.2 / this, fit and score"], rows)]


def _ratio(before: Any, now: Any) -> str:
    if not before:
        return MISSING
    totals = [sum(costs[step]["processor_seconds"] for step in ("fit", "score")) for costs in (before, now)]
    return f"{totals[0] / totals[1]:.2f} x"


BENCHMARK = Benchmark(
    "tabular_cost",
    "What a table costs",
    measure,
    lines,
    {
        "--data": {"type": Path, "required": True, "help": "folder with datasets.json and the sets"},
        "--before": {"type": Path, "metavar": "PYTHON", "help": "interpreter with version 0.2"},
        "--tables": {"nargs": "+", "choices": TABLES, "default": list(TABLES)},
        "--threads": {"type": int, "default": 1},
    },
    __doc__,
)

if __name__ == "__main__":
    BENCHMARK.run()
