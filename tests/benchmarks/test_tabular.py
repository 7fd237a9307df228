from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tabular
import tabular_levels
import tabular_lines

from gnsm_monai.tabular import GNSMDetector


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Forty inliers that say "a", whose number counts them, and five anomalies that say "b"."""
    table = pd.DataFrame({"letter": ["a"] * 40 + ["b"] * 5, "number": range(45), "label": [0] * 40 + [1] * 5})
    table.to_csv(tmp_path / "cmc.csv.gz", index=False)
    about = {"file": "cmc.csv.gz", "categorical_features": ["letter"], "numerical_features": ["number"]}
    (tmp_path / "datasets.json").write_text(json.dumps({"cmc": about}))
    figures = {"auroc_mean": 60.0, "auroc_std": 1.0, "ap_mean": 30.0, "ap_std": 2.0}
    baselines = {name: {"methods": dict.fromkeys(tabular_lines.QUOTED, figures)} for name in tabular_lines.SETS}
    (tmp_path / "baselines.json").write_text(json.dumps(baselines))
    return tmp_path


def test_a_split_tests_on_a_tenth_of_the_inliers_and_all_anomalies(data: Path) -> None:
    fit, test, label, numerical = tabular.split(data, "cmc", 42)
    assert len(fit) == 36 and label.tolist() == [0] * 4 + [1] * 5 and numerical == [1]
    assert set(fit["letter"]) == {"a"} and not set(fit["number"]) & set(test["number"])
    assert not fit.equals(tabular.split(data, "cmc", 43)[0])


def test_the_marginal_baseline_finds_an_unseen_letter(data: Path) -> None:
    fit, test, label, _ = tabular.split(data, "cmc", 42)
    scores = tabular.marginal(fit[["letter"]], test[["letter"]], [], 42)
    # 36 rows of "a" and half a row for each of two categories.
    assert np.allclose(scores[label == 0], -np.log(36.5 / 37)) and np.allclose(scores[label == 1], -np.log(0.5 / 37))


def test_results_are_kept_and_not_measured_twice(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def perfect(fit: pd.DataFrame, test: pd.DataFrame, numerical: list[int], seed: int) -> np.ndarray:
        calls.append(seed)
        return (test["letter"] == "b").to_numpy(dtype=float)

    def missing(*_: object) -> np.ndarray:
        raise ImportError("not installed")

    monkeypatch.setattr(tabular, "METHODS", {"GNSM (default)": perfect, "ECOD": missing})
    for seeds in (["42"], ["42", "43"]):
        tabular.BENCHMARK.run(["--data", str(data), "--sets", "cmc", "--seeds", *seeds], data / "out")
    assert calls == [42, 43]
    kept = json.loads((data / "out" / "tabular.json").read_text())
    assert set(kept["results"]) == {"GNSM (default) | cmc | 42", "GNSM (default) | cmc | 43"}
    page = (data / "out" / "tabular.md").read_text()
    assert "100.0±0.0 (2)" in page and "| cmc | 100.00 | CBRW* 60.00 | +40.00 | win |" in page
    assert "1 wins, 0 ties (within 0.5 points), 0 losses." in page


def test_variants_begin_with_the_default_score_and_hold_each_level() -> None:
    rows = np.random.default_rng(0).integers(0, 3, (60, 3))
    detector = GNSMDetector(width=8, depth=1, max_steps=12, random_state=0).fit(rows)
    codes = detector.encoder_.transform(rows)
    found = {name: scores for name, scores, _ in tabular_levels.variants(detector, codes, codes)}
    assert np.allclose(next(iter(found.values())), detector.decision_scores_, rtol=1e-5)
    levels = [scores for name, scores in found.items() if name.startswith("contextual misfit at")]
    alone = found["all levels, without coupled frequencies"]
    assert len(levels) == 7 and np.allclose(np.mean(levels, 0), alone, rtol=1e-5)


def test_methods_are_compared_on_the_same_seeds_and_sets_are_the_pairs() -> None:
    sets = tabular_lines.SETS[:6]
    ours = {f"GNSM (default) | {name} | {seed}": {"auroc": 80.0 + seed} for name in sets for seed in (1, 2)}
    other = {f"kNN5 | {name} | 2": {"auroc": 80.0 - place} for place, name in enumerate(sets)}
    quoted = {"auroc_mean": 81.75, "auroc_std": 0.0}
    baselines = {name: dict.fromkeys(tabular_lines.QUOTED, quoted) for name in tabular_lines.SETS}
    lines = tabular_lines._paired({**ours, **other}, baselines, ["GNSM (default)", "kNN5"])
    # Six differences of one sign have p = 2 / 2 ** 6.
    assert lines[2] == "| kNN5 | 6 | 6 | 0 | 0 | +4.50 | 0.031 |"
    assert lines[3] == "| CBRW* | 6 | 0 | 6 | 0 | -0.25 | 0.031 |"
