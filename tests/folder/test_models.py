"""Several models' masks of one case: how far they disagree, by a formula of its own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.folder.masks import write
from tests.folder.test_ranking import ball, rank, rows, usual


def dice(one: np.ndarray, other: np.ndarray) -> float:
    """Mean over the labels 1 and 2, by counting voxels."""
    return float(
        np.mean([2 * ((one == k) & (other == k)).sum() / ((one == k).sum() + (other == k).sum()) for k in (1, 2)])
    )


def test_each_mask_is_compared_with_the_other_models_masks_of_its_case(tmp_path: Path) -> None:
    models = {name: {f"c{i}": usual(i + 10 * m) for i in range(4)} for m, name in enumerate(("a", "b", "c"))}
    del models["c"]["c2"], models["b"]["c3"], models["c"]["c3"]
    folders = [write(tmp_path / name, masks) for name, masks in models.items()]
    assert rank(tmp_path / "out", *folders) == 0
    table = {row["case"]: row for row in rows(tmp_path / "out")}
    results = {case["case"]: case for case in json.loads((tmp_path / "out" / "results.json").read_text())["cases"]}
    for name, masks in models.items():
        for case, mask in masks.items():
            others = [dice(mask, some[case]) for other, some in models.items() if other != name and case in some]
            row = table[f"{name}/{case}"]
            if not others:
                assert case == "c3" and row["disagreement"] == "" and "other models" not in row["reason"]
                assert results[f"{name}/{case}"]["disagreement"] is None
                continue
            assert float(row["disagreement"]) == pytest.approx(1 - np.mean(others), abs=1e-9)
            assert results[f"{name}/{case}"]["disagreement"] == pytest.approx(1 - np.mean(others), abs=1e-9)
            assert f"other models' masks of the case have a Dice of {np.mean(others):.2f} with it" in row["reason"]


def test_the_rank_does_not_rest_on_it(tmp_path: Path) -> None:
    """Masks of a case never judge each other, and how far they agree is shown beside the score."""
    for name in ("a", "b"):
        write(tmp_path / name, {f"c{i}": usual(i) for i in range(6)})
    write(tmp_path / "b", {"c5": ball((5, 5, 5), 3)})
    assert rank(tmp_path / "out", tmp_path / "a", tmp_path / "b") == 0
    table = {row["case"]: row for row in rows(tmp_path / "out")}
    assert table["a/c5"]["disagreement"] == table["b/c5"]["disagreement"]
    assert float(table["a/c5"]["anomaly_score"]) < float(table["b/c5"]["anomaly_score"])
    assert float(table["a/c1"]["disagreement"]) == 0
