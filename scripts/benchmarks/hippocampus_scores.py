"""A page made of the hippocampus's data and of its scores that segmentation_qc.py left: nothing is trained."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from qc_data import Dataset, load_dataset
from scores import Scores, load_all
from steps import ROOT

__all__ = ["PAGES", "Cases", "belongs", "write_page"]

PAGES = ROOT / "docs" / "benchmarks"
DATASET = "hippocampus"

Cases = Mapping[str, set[str]]
"""Some cases of each folder of masks."""


def write_page(name: str, description: str, make: Callable[[Dataset, dict[str, list[Scores]]], str]) -> None:
    """Prints the page that ``make`` makes of data set and scores by method, and writes it to ``PAGES/name.md``."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    dataset = load_dataset(DATASET, parser.parse_args().data.resolve(), Path())
    text = make(dataset, load_all(PAGES / "segmentation_qc", DATASET))
    print(text)
    (PAGES / f"{name}.md").write_text(text)


def belongs(scores: Scores, cases: Cases) -> npt.NDArray[np.bool_]:
    """Which masks are of these cases, ``(n,)``."""
    return np.array([case in cases[folder] for folder, case in zip(scores.folder, scores.case, strict=True)])
