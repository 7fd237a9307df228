"""How long a browser works on a report of many cases: opening it, sorting, marking, filtering.

The page is built from the phantoms of tests/report and opened in a headless Chromium of this machine. With ``--former``
the page of another checkout is built and opened in turns with it, and figures are given as ratios, too. All times are
medians over the openings; a task is an uninterrupted piece of work of the page's main thread, during which the reader
can do nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench import MISSING, ROOT, Benchmark, Content, table

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
DIFFERENT = 24
"""Phantoms that are made; the cases of the page repeat them, each under a name of its own."""
FIGURES = {
    "load": "opening: until the page is loaded and drawn, ms",
    "longest": "longest task while opening, ms",
    "longest_cpu": "longest task while opening, ms of a core",
    "work_cpu": "all work of the main thread while opening, ms of a core",
    "sort": "sorting by case: click until drawn, ms",
    "sort_back": "sorting back by rank: click until drawn, ms",
    "mark": "marking a row by key: until drawn, ms",
    "filter": "filtering by a word: until drawn, ms",
    "megabytes": "size of the file, MB",
}
BUILD = """
import dataclasses, sys
from pathlib import Path
checkout, path, cases, different = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
sys.path[:0] = [str(checkout), str(checkout / "tests" / "report")]
import conftest
from gnsm_monai.report import build_report
earlier = hasattr(conftest, "phantom_row")  # before results were dataclasses
make, order = (conftest.phantom_row, conftest.ranked) if earlier else (conftest.phantom_result, conftest.worst_first)
made = [make(i, folder=f"fold_{i % 2}") for i in range(different)]
vary = lambda row, **values: dataclasses.replace(row, **values) if dataclasses.is_dataclass(row) else {**row, **values}
rows = order([vary(made[i % different], case=f"fold_{i % 2}/case_{i:04d}") for i in range(cases)])
build_report(path, rows, conftest.summary_of(made), conftest.REFERENCES)
"""
WATCH = """
window.tasks = [];
new PerformanceObserver((list) => tasks.push(...list.getEntries().map((task) => task.duration)))
  .observe({ type: "longtask", buffered: true });
"""
DRAWN = """async () => {
  // A frame, and then a moment in which the main thread has nothing to do.
  const frame = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done, 0)));
  await frame();
  await new Promise((done) => requestIdleCallback(done));
  await frame();
}"""
TIMED = """async ([act, selector, text]) => {
  const element = document.querySelector(selector);
  const acts = {
    click: () => element.click(),
    key: () => element.dispatchEvent(new KeyboardEvent("keydown", { key: text, bubbles: true })),
    type: () => { element.value = text; element.dispatchEvent(new Event("input", { bubbles: true })); },
  };
  const start = performance.now();
  acts[act]();
  await new Promise((done) => requestAnimationFrame(() => setTimeout(done, 0)));
  return performance.now() - start;
}"""
ACTS = {
    "sort": ("click", "th[data-name=case] button", ""),
    "sort_back": ("click", "th[data-name=rank] button", ""),
    "mark": ("key", "#table tbody tr", "2"),
    "filter": ("type", "#search", "case_19"),
}


def measure(arguments: argparse.Namespace, earlier: Content) -> Iterator[Content]:
    """Medians over the openings per build, ``this`` and, where asked for, ``former``."""
    from playwright.sync_api import sync_playwright

    checkouts = {"this": ROOT, **({"former": arguments.former.resolve()} if arguments.former else {})}
    found: dict[str, list[dict[str, float]]] = {name: [] for name in checkouts}
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        for name, checkout in checkouts.items():
            built = [sys.executable, "-c", BUILD, checkout, f"{folder}/{name}.html", arguments.cases, DIFFERENT]
            subprocess.run([str(part) for part in built], check=True, cwd=folder)
        options = ["--no-first-run", "--disable-quic", "--disable-background-networking", "--disable-component-update"]
        options += ["--disable-sync", "--disable-gpu", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
        browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
        opened = driver.chromium.launch(executable_path=browser, args=options)
        version = opened.version
        for _ in range(arguments.repeats):
            for name in checkouts:  # in turns: what else runs on the machine slows both
                found[name].append(_opened(opened, Path(folder) / f"{name}.html"))
        opened.close()
    medians = {
        name: {figure: statistics.median(run[figure] for run in runs) for figure in FIGURES}
        for name, runs in found.items()
    }
    commit = ["git", "-C", checkouts.get("former", ROOT), "rev-parse", "--short", "HEAD"]
    about = {"cases": arguments.cases, "repeats": arguments.repeats, "browser": f"Chromium {version}"}
    about |= {"former_commit": subprocess.check_output(commit, text=True).strip()} if arguments.former else {}
    yield {"command": arguments.command, **about, **medians}


def lines(result: Content) -> list[str]:
    """The page: a line per figure, with the former build's and the ratio where there is one."""
    this, former = result["this"], result.get("former")
    rows = []
    for name, title in FIGURES.items():
        # Tasks below 50 ms are not reported by browsers.
        shown = [
            f"{build[name]:.1f}" if name == "megabytes" else f"{build[name]:.0f}" for build in (this, former) if build
        ]
        if name == "longest":
            shown = ["below 50" if text == "0" else text for text in shown]
        if former:
            shown.append(f"{this[name] / former[name]:.2f}" if former[name] and this[name] else MISSING)
        rows.append([title, *shown])
    head = ["", "this build", *([f"former build ({result['former_commit']})", "ratio"] if former else [])]
    about = f"{result['cases']} cases, {result['browser']}, medians of {result['repeats']} openings in turns."
    return [about, "", *table(head, rows)]


def _opened(browser: Any, path: Path) -> dict[str, float]:
    """Figures of one opening, in a context of its own: nothing is kept from an earlier one."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    tab = context.new_page()
    tab.set_default_timeout(0)
    tab.set_default_navigation_timeout(0)
    tab.add_init_script(WATCH)
    browser.start_tracing(page=tab, categories=["toplevel"])
    tab.goto(path.as_uri(), wait_until="load")
    tab.evaluate(DRAWN)
    load, tasks = tab.evaluate("performance.now()"), tab.evaluate("tasks")
    cpu = _cpu_times(json.loads(browser.stop_tracing())["traceEvents"])
    figures = {
        "load": load,
        "longest": max(tasks, default=0.0),
        "longest_cpu": max(cpu),
        "work_cpu": sum(cpu),
        "megabytes": path.stat().st_size / 1e6,
    }
    tab.wait_for_selector("th[data-name=case] button")
    for name, act in ACTS.items():
        figures[name] = tab.evaluate(TIMED, list(act))
        tab.evaluate(DRAWN)
    context.close()
    return figures


def _cpu_times(events: Sequence[Mapping[str, Any]]) -> list[float]:
    """Milliseconds of a core per task of the main thread that works most, which is the page's."""
    main = {
        (e["pid"], e["tid"]) for e in events if e["name"] == "thread_name" and e["args"]["name"] == "CrRendererMain"
    }
    found: dict[tuple[int, int], list[float]] = {thread: [] for thread in main}
    for event in events:
        thread = (event["pid"], event["tid"])
        if event["name"] == "ThreadControllerImpl::RunTask" and event.get("ph") == "X" and thread in main:
            found[thread].append(event.get("tdur", 0) / 1000)
    return max(found.values(), key=sum)


BENCHMARK = Benchmark(
    "report_page",
    "A report of many cases in the browser",
    measure,
    lines,
    {
        "--cases": {"type": int, "default": 2000},
        "--repeats": {"type": int, "default": 5, "help": "openings of each page"},
        "--former": {"type": Path, "metavar": "CHECKOUT", "help": "another checkout, to compare with"},
    },
    __doc__,
)

if __name__ == "__main__":
    BENCHMARK.run()
