"""Bad files and kills: what `gnsm rank` makes of twenty kinds of broken predictions, and of being killed.

    python scripts/benchmarks/robustness.py --model MODEL --predictions DIR --work DIR [--kills 5] [--seed 0]

DIR holds masks (.nii.gz, 3D) that the model can score; it is only read. Ranks a copy of it; the copy with the bad files
of bad_files.py among the good ones; and the good ones again, killed (SIGKILL, the whole process group) at random
moments between the first scored case and the end, each run continuing the one before. Prints a Markdown page. Exits
with 1 if a case is lost, a message is missing or unclear, a good mask gets another score or a file differs; otherwise
the page is written to docs/benchmarks/robustness.md.
"""

from __future__ import annotations

import argparse
import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from bad_files import BAD, Mask, add_bad_files, case_of

from gnsm_monai.errors import SCORING_FAILED, InputError, exit_on_input_error
from gnsm_monai.files import load_json

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "benchmarks" / "robustness.md"
EMPTY = "all_background"
"""The case without any structure, which is valid input and the worst mask of all."""


def check_bad(folder: Path, code: int, text: str, rows: dict[str, dict[str, str]]) -> tuple[list[str], list[str]]:
    """Table of messages, and what is wrong with exit code, output and rows of a ranking of good and bad files."""
    table, wrong = ["| kind | message |", "| --- | --- |"], []
    if code != SCORING_FAILED:
        wrong.append(f"bad files: exit code {code}, not {SCORING_FAILED}")
    if "Traceback" in text:
        wrong.append("bad files: a traceback in the output")
    for kind, (_, _, expected) in BAD.items():
        case = case_of(kind)
        row = rows.get(case, {"status": "lost", "message": ""})
        message, lines = row["message"], [line for line in text.splitlines() if case in line]
        table.append(f"| {kind} | {message.replace(f'{folder}{os.sep}', '').replace(str(folder), 'DIR') or 'none'} |")
        if row["status"] != "failed" or expected not in message or case not in message or len(message) > 300:
            wrong.append(f"{kind}: status {row['status']}, message '{message}'")
        if lines != [f"{case}: {message}"]:
            wrong.append(f"{kind}: {len(lines)} lines of output: {lines}")
    return table, wrong


def check_good(rows: dict[str, dict[str, str]], undisturbed: dict[str, dict[str, str]]) -> list[str]:
    """What is wrong with the good masks of a ranking that bad files were part of."""
    good = {case: row for case, row in rows.items() if not case.startswith("bad_")}
    wrong = [f"{case}: lost" for case in undisturbed if case not in good]
    wrong += [f"{case}: another row than without bad files" for case in good if good[case] != undisturbed.get(case)]
    return wrong if list(good) == list(undisturbed) else [*wrong, "good masks: another order than without bad files"]


class Run:
    """A `gnsm rank` in a process group of its own."""

    def __init__(self, model: Path, predictions: Path, output: Path) -> None:
        self.progress, self.log = output / ".progress", output.with_suffix(".log")
        options = ["--model", str(model), "--predictions", str(predictions), "--output", str(output)]
        with open(self.log, "wb") as log:
            command = [sys.executable, "-m", "gnsm_monai", "rank", *options]
            self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, cwd=ROOT)

    def done(self) -> int:
        """Cases that the journal has."""
        return len(list(self.progress.glob("[!.]*.npz")))

    def wait_for_case(self) -> float:
        """The moment at which the journal has one case more than now, or the process ended."""
        before = self.done()
        while self.process.poll() is None and self.done() <= before:
            time.sleep(0.01)
        return time.monotonic()

    def end(self, seconds: float | None = None) -> tuple[int, str]:
        """Exit code and output, after a kill where it is not over in time; negative codes are signals."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        return self.process.returncode, self.log.read_text(errors="replace")


def killed(model: Path, folder: Path, output: Path, moments: np.ndarray, cases: int) -> tuple[list[str], list[str]]:
    """Ranks with a kill at every moment (seconds of scoring, ascending), then to the end: table, and what is wrong.

    A run that was killed after its last file was written is complete: the next one starts anew.
    """
    table = ["| kill | after s of scoring | cases done before | cases done at the kill |", "| --- | --- | --- | --- |"]
    wrong, before = [], 0
    for number, seconds in enumerate(np.diff(moments, prepend=0.0), start=1):
        run = Run(model, folder, output)
        run.wait_for_case()
        code, text = run.end(float(seconds))
        wrong += check_continued(text, before, cases)
        if code != -signal.SIGKILL:
            wrong.append(f"kill {number}: the run was over before it, exit code {code}")
        over = (output / "summary.json").is_file() and not run.progress.is_dir()
        done = "all, and all written" if over else f"{run.done()} of {cases}"
        table.append(f"| {number} | {moments[number - 1]:.1f} | {before} | {done} |")
        before = run.done()
    code, text = Run(model, folder, output).end()
    wrong += check_continued(text, before, cases) + ([f"last run: exit code {code}"] if code else [])
    return table, wrong


def check_continued(text: str, before: int, cases: int) -> list[str]:
    expected = f"{before} of {cases} masks were scored before, {max(cases - before, 1)} are left"
    return [f"not continued: no '{expected}' in the output"] if before and expected not in text else []


def read_rows(path: Path) -> dict[str, dict[str, str]]:
    """Rows of a ranking by case, in order, without their rank."""
    with open(path, newline="", encoding="utf-8") as file:
        return {row["case"]: {k: v for k, v in row.items() if k != "rank"} for row in csv.DictReader(file)}


def read_mask(path: Path, channels: int) -> Mask:
    """Raises InputError where a file is no 3D label map that bad ones can be made from."""
    try:
        image: Any = nib.load(path)
        label = np.asanyarray(image.dataobj)
    except (OSError, ValueError, nib.filebasedimages.ImageFileError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    if label.ndim != 3:
        raise InputError(f"{path}: a 3D mask is needed, found shape {label.shape}")
    return label.astype(np.uint8), np.asarray(image.affine), channels


def examine(model: Path, predictions: Path, work: Path, kills: int, seed: int) -> tuple[str, list[str]]:
    """The page, and what is wrong; see the module.

    Raises:
        InputError: no masks, a work folder that holds something, or a model or masks that cannot be ranked.
    """
    files = sorted(predictions.glob("*.nii.gz"))
    if len(files) < 2:
        raise InputError(f"{predictions}: {len(files)} masks (.nii.gz), at least 2 are needed")
    if work.is_dir() and any(work.iterdir()):
        raise InputError(f"{work}: must be empty or not there")
    labels = load_json(model / "settings.json")["labels"]
    mask = read_mask(files[0], len(labels["regions"]) or len(labels["values"]))
    good, mixed = work / "good", work / "good_and_bad"
    good.mkdir(parents=True)
    for path in files:
        shutil.copyfile(path, good / path.name)
    nib.save(nib.Nifti1Image(np.zeros_like(mask[0]), mask[1]), good / f"{EMPTY}.nii.gz")
    shutil.copytree(good, mixed)
    add_bad_files(mixed, mask)

    run = Run(model, good, work / "undisturbed")
    start = run.wait_for_case()
    code, text = run.end()
    duration = time.monotonic() - start
    if code:
        raise InputError(f"{predictions}: cannot be ranked: exit code {code}: {' '.join(text.splitlines()[-1:])}")
    undisturbed = read_rows(work / "undisturbed" / "ranking.csv")
    wrong = [] if next(iter(undisturbed)) == EMPTY else ["the empty mask is not the worst one"]

    code, text = Run(model, mixed, work / "with_bad").end()
    rows = read_rows(work / "with_bad" / "ranking.csv") if (work / "with_bad" / "ranking.csv").is_file() else {}
    messages, found = check_bad(mixed, code, text, rows)
    wrong += found + check_good(rows, undisturbed)

    moments = np.sort(np.random.default_rng(seed).uniform(0, duration, kills))
    stops, found = killed(model, good, work / "killed", moments, len(undisturbed))
    wrong += found
    for name in ("ranking.csv", "structures.csv"):
        pair = [work / run / name for run in ("undisturbed", "killed")]
        if not all(path.is_file() for path in pair) or pair[0].read_bytes() != pair[1].read_bytes():
            wrong.append(f"{name}: not the bytes of the undisturbed run")
    left = sorted(path.name for path in (work / "killed").iterdir() if path.name.startswith("."))
    wrong += [f"left behind by a killed run: {name}" for name in left]
    return page(len(undisturbed), messages, stops, duration, seed, wrong), wrong


def page(good: int, messages: list[str], stops: list[str], duration: float, seed: int, wrong: list[str]) -> str:
    verdict = "Something is wrong:\n\n" + "\n".join(f"- {line}" for line in wrong) if wrong else "Nothing is wrong."
    kills = len(stops) - 2
    return f"""# Bad files and kills

`python scripts/benchmarks/robustness.py --model MODEL --predictions DIR --work WORK --kills {kills} --seed {seed}`

{verdict}

## {len(BAD)} bad files among {good} good ones

Exit code 3. Each bad case has the one line below in the output and the same message in ranking.csv; the good ones keep
their rows and their order. One of the good ones is all background: valid, and the worst of all.

{chr(10).join(messages)}

## {kills} kills

The ranking of the good masks, killed with SIGKILL (the whole process group) at random moments between its first scored
case and its end ({duration:.1f} s later when undisturbed), each run continuing the one before. ranking.csv and
structures.csv end as the bytes of the undisturbed run.

{chr(10).join(stops)}
"""


@exit_on_input_error()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--predictions", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    model, predictions, work = (path.absolute() for path in (given.model, given.predictions, given.work))
    text, wrong = examine(model, predictions, work, given.kills, given.seed)
    print(text)
    if wrong:
        raise SystemExit(1)
    PAGE.write_text(text)


if __name__ == "__main__":
    main()
