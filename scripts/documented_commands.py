"""Runs every command that README and docs show, in their order, on small phantoms, as a reader would.

    python scripts/documented_commands.py [--work DIR]

Takes as long as the trainings do (a test of the same commands makes them short). Prints a line per command with its
exit code and seconds; exits with 1 where one fails. Lines with … or […] are patterns, not commands: of the latter the
part in brackets is left out.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from gnsm_monai.data.phantoms import write_phantom_dataset
from gnsm_monai.tabular.files import write_demo_table

ROOT = Path(__file__).resolve().parents[1]
PAGES = (
    "README.md",
    "docs/first_result.md",
    "docs/nnunet_folder.md",
    "docs/monailabel.md",
    "docs/tables.md",
    "bundles/segmentation_qc/docs/README.md",
    "bundles/tabular_anomaly/docs/README.md",
)
PROGRAMS = ("gnsm ", "python -m monai.bundle ", "torchrun ")


def documented(text: str) -> list[str]:
    """Commands of a page: its indented lines and what stands in backticks, joined where a line continues."""
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    found: list[str] = []
    variables: dict[str, str] = {}
    for line in lines:
        shown = [line.strip()] if line.startswith("    ") else re.findall(r"`([^`]+)`", line)
        for command in shown:
            if match := re.fullmatch(r"([A-Z]+)=(\S+)", command):
                variables[match[1]] = match[2]
            for name, value in variables.items():
                command = command.replace(f"${name}", value)
            command = " ".join(re.sub(r"\[--[^\]]*\]", "", command.split(" # ")[0]).split())
            whole = re.search(r" --\w", command) and "…" not in command
            if command.startswith(PROGRAMS) and whole and command not in found:
                found.append(command)
    return found


def is_complete(command: str) -> bool:
    """Whether a command names what it reads and writes; others show an option, such as ``gnsm rank --images DIR``."""
    words = command.split()
    return words[0] != "gnsm" or ("--output" in words and "DIR" not in words)


def commands_of_all_pages() -> list[tuple[str, str]]:
    """Page and command in the order of :data:`PAGES`; what two pages show stands once, as a reader does it once."""
    first: dict[str, str] = {}
    for page in PAGES:
        for command in documented((ROOT / page).read_text(encoding="utf-8")):
            first.setdefault(command, page)
    return [(page, command) for command, page in first.items()]


def prepare(folder: Path, table_rows: int = 2000) -> None:
    """The folders and files that the commands name, made of phantoms."""
    made = write_phantom_dataset(folder / "made", spatial_dims=2, num_train=16, num_test=4)
    shutil.copytree(made, folder / "nnUNet_raw" / "DatasetXXX_Name")
    for name in ("my_predictions", "predictions", "fold_0", "fold_1"):
        shutil.copytree(made / "predictions" / ("islands" if name == "fold_1" else "leakage"), folder / name)
    shutil.copytree(made / "labelsTs", folder / "labelsTs")
    write_demo_table(folder / "train.csv", rows=table_rows)
    write_demo_table(folder / "new.csv", rows=100, seed=1)
    (folder / "bundles").symlink_to(ROOT / "bundles")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, default=None, help="an empty folder (default: a temporary one)")
    given = parser.parse_args()
    work = given.work or Path(tempfile.mkdtemp(prefix="gnsm_documented_"))
    work.mkdir(parents=True, exist_ok=True)
    prepare(work)
    failed = 0
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for page, command in commands_of_all_pages():
        if not is_complete(command):
            continue
        start = time.monotonic()
        environment = {**os.environ, "PATH": path}
        done = subprocess.run(command, shell=True, cwd=work, env=environment, capture_output=True, text=True)
        print(f"{page}: {command}: exit code {done.returncode}, {time.monotonic() - start:.0f} s", flush=True)
        if done.returncode:
            failed += 1
            print(done.stdout[-2000:], done.stderr[-2000:])
    sys.exit(int(failed > 0))


if __name__ == "__main__":
    main()
