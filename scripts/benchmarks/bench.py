"""The frame of the benchmarks: what is measured becomes NAME.json, and the page NAME.md is printed from that alone.

    python scripts/benchmarks/NAME.py [options]    # measures; writes docs/benchmarks/NAME.json and NAME.md
    python scripts/benchmarks/NAME.py --page       # prints the page anew from its JSON, and measures nothing

A benchmark is a module of this folder with a `Benchmark` called ``BENCHMARK``, named after the module.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gnsm_monai.errors import exit_on_input_error
from gnsm_monai.files import load_json, save_json, write_atomically

__all__ = ["DATA", "MISSING", "PAGES", "ROOT", "Benchmark", "Content", "cell", "table"]

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / "docs" / "benchmarks"

MISSING = "–"
"""In place of a figure that does not exist."""

Content = dict[str, Any]
"""What a benchmark has measured: plain data, as in its JSON file."""


DATA = {"--data": {"type": Path, "required": True}}
"""The option of a benchmark that reads nothing but the shared data."""


@dataclass(frozen=True)
class Benchmark:
    """One page of docs/benchmarks.

    Args:
        name: of the module and of the files.
        title: of the page.
        measure: takes the options and the content of earlier runs; yields what is to be stored, as often as it likes,
            so that a run that is stopped loses little. The options have ``command``, the command line for the page.
        lines: the page's Markdown below its title and ``content["command"]`` (with ``content["setting"]`` behind it).
        options: arguments of ``add_argument`` for each option. Paths stand in the command as their metavar, except
            ``--work``, which is left out.
        description: of ``--help``.
        figures: draws the page's pictures into a folder of its name.
    """

    name: str
    title: str
    measure: Callable[[argparse.Namespace, Content], Iterator[Content]]
    lines: Callable[[Content], list[str]]
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    description: str | None = None
    figures: Callable[[Content, Path], None] | None = None

    @exit_on_input_error()
    def run(self, words: Sequence[str] | None = None, pages: Path = PAGES) -> None:
        """The command line of the benchmark. Raises SystemExit where the options are wrong."""
        words = sys.argv[1:] if words is None else words
        if "--page" in words:  # asks for no other option, not even a required one
            self.write(self.load(pages), pages)
        else:
            parser = argparse.ArgumentParser(
                description=self.description, formatter_class=argparse.RawDescriptionHelpFormatter
            )
            parser.add_argument("--page", action="store_true", help="print the page anew, and measure nothing")
            for option, settings in self.options.items():
                parser.add_argument(option, **settings)
            given = parser.parse_args(words)
            given.command = self.command(given)
            for content in self.measure(given, self.load(pages)):
                self.store(content, pages)
                self.write(content, pages)
        print((pages / f"{self.name}.md").read_text(encoding="utf-8"))

    def command(self, given: argparse.Namespace) -> str:
        """The command line with the options that differ from their defaults."""
        threads = os.environ.get("OMP_NUM_THREADS")
        command = f"{f'OMP_NUM_THREADS={threads} ' if threads else ''}python scripts/benchmarks/{self.name}.py"
        for option, settings in self.options.items():
            value = getattr(given, option.lstrip("-").replace("-", "_"))
            if option == "--work" or value == settings.get("default") or value is False:
                continue
            if settings.get("type") is Path:
                value = settings.get("metavar", option.lstrip("-").upper())
            values = [] if value is True else value if isinstance(value, list) else [value]
            command = " ".join([command, option, *map(str, values)])
        return command

    def load(self, pages: Path = PAGES) -> Content:
        """What earlier runs have stored; nothing before the first."""
        path = pages / f"{self.name}.json"
        return load_json(path) if path.is_file() else {}

    def store(self, content: Content, pages: Path = PAGES) -> None:
        save_json(pages / f"{self.name}.json", content)

    def page(self, content: Content) -> str:
        """The page of a content, with the command that measured it."""
        head = [f"# {self.title}", ""]
        if "command" in content:
            setting = f" ({content['setting']})" if "setting" in content else ""
            head += [f"`{content['command']}`{setting}", ""]
        return "\n".join([*head, *self.lines(content)]).rstrip() + "\n"

    def write(self, content: Content, pages: Path = PAGES) -> None:
        write_atomically(pages / f"{self.name}.md", self.page(content).encode())
        if self.figures is not None:
            self.figures(content, pages / self.name)


def table(head: Sequence[Any], rows: Sequence[Sequence[Any]]) -> list[str]:
    """Lines of a Markdown table."""
    return [f"| {' | '.join(map(str, row))} |" for row in (head, ["---"] * len(head), *rows)]


def cell(metric: Mapping[str, Any]) -> str:
    """A figure with its interval, such as ``-0.900 [-0.930, -0.861]``; see `gnsm_monai.evaluation.summary`."""
    if metric["value"] is None:
        return MISSING
    low, high = metric["ci95"]
    return f"{metric['value']:.3f} [{low:.3f}, {high:.3f}]"
