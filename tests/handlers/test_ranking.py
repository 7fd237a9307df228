"""What a scoring engine found is collected and handed over as one ranking."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
import pytest
from ignite.engine import Engine

from gnsm_monai.explain.planes import Plane
from gnsm_monai.files import load_json
from gnsm_monai.handlers import RankingCollector
from gnsm_monai.report import ResultsWriter
from gnsm_monai.report.builder import MAX_CARDS
from gnsm_monai.scoring.result import AnomalyMap, CaseResult, FailedCase, Result, scored
from tests.results import case_result


def pictured(number: int, anomaly: float, **values: Any) -> CaseResult:
    label = np.ones((4, 4), np.int16)
    picture = (Plane(2, 0, label, np.ones((4, 4), np.float32), None, (1.0, 1.0)),)
    maps = AnomalyMap(np.zeros((4, 4)), np.eye(3), np.eye(3), (4, 4))
    return case_result(f"case_{number:02d}", anomaly=anomaly, picture=picture, anomaly_map=maps, **values)


def collect(folder: Path, results: list[Result], **options: Any) -> RankingCollector:
    collector = RankingCollector(ResultsWriter(folder), **options)
    engine = Engine(lambda engine, batch: batch)
    collector.attach(engine)
    engine.run(results)
    return collector


def test_the_ranking_stands_when_the_engine_ends(tmp_path: Path) -> None:
    results: list[Result] = [
        FailedCase("torn", "", "torn"),
        case_result("a", anomaly=1.0),
        case_result("b", anomaly=2.0),
    ]
    ranking = collect(tmp_path, results).ranking
    assert [result.case for result in ranking.results] == ["b", "a", "torn"]
    assert ranking.num_failed == 1
    assert ranking.summary == load_json(tmp_path / "summary.json")


def test_pictures_are_kept_of_the_worst_and_of_empty_masks_and_maps_of_none(tmp_path: Path) -> None:
    scores = np.random.default_rng(0).permutation(MAX_CARDS + 10).astype(float)
    results: list[Result] = [pictured(number, score) for number, score in enumerate(scores)]
    results.insert(5, pictured(99, -1.0, empty=True))
    kept = scored(collect(tmp_path, results).ranking.results)
    assert [bool(result.picture) for result in kept] == [True] * MAX_CARDS + [False] * 11
    assert kept[0].case == "case_99"
    assert all(result.thumbnail is not None and result.anomaly_map is None for result in kept)


def test_all_is_measured_of_masks_that_are_shown_or_flagged_and_of_no_others(tmp_path: Path) -> None:
    scores = np.random.default_rng(0).permutation(MAX_CARDS + 10).astype(float)
    whole = {f"case_{n:02d}": pictured(n, score) for n, score in enumerate(scores)}
    flagged, failing = f"case_{np.argmin(scores):02d}", f"case_{np.argmax(scores):02d}"
    whole[flagged] = pictured(int(np.argmin(scores)), 0.0, flagged=True)
    brief = [replace(r, picture=(), anomaly_map=None, complete=False) for r in whole.values()]

    def complete(engine: Engine, case: str) -> Result:
        return FailedCase(case, "", "gone") if case == failing else whole[case]

    ranking = collect(tmp_path, list(brief), complete=complete).ranking
    results = scored(ranking.results)
    assert [r.case for r in results] == sorted(whole, key=lambda case: -whole[case].decision.anomaly)
    assert [r.complete for r in results] == [False] + [True] * (MAX_CARDS - 1) + [False] * 9 + [True]
    assert [bool(r.picture) for r in results] == [False] + [True] * (MAX_CARDS - 1) + [False] * 10
    assert results[-1].case == flagged and results[-1].thumbnail is not None
    assert ranking.num_failed == 0


def test_a_strict_run_ends_at_the_first_case_that_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        collect(tmp_path, [case_result(), FailedCase("torn", "", "torn.png: no picture")], strict=True)
    assert stop.value.code == 3
    assert capsys.readouterr().err == "error: torn: torn.png: no picture (strict: no ranking is written)\n"
    assert not (tmp_path / "ranking.csv").exists()


def test_other_processes_know_the_ranking_and_write_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a sampler gave to two processes counts once."""
    monkeypatch.setattr(idist, "get_rank", lambda: 1)
    monkeypatch.setattr(idist, "all_gather", lambda own: [own, [case_result("a"), case_result("b", anomaly=0.9)]])
    ranking = collect(tmp_path, [case_result("a")]).ranking
    assert [result.case for result in ranking.results] == ["b", "a"]
    assert ranking.summary == {} and not list(tmp_path.iterdir())


def test_masks_are_flagged_at_a_rate_where_one_is_given(tmp_path: Path) -> None:
    results: list[Result] = [
        case_result(f"case_{i}", anomaly=-p, p_value=p, flagged=p <= 0.05) for i, p in enumerate((0.03, 0.04, 0.9, 1.0))
    ]
    ranking = collect(tmp_path, results, fdr=0.1).ranking
    assert [(r.decision.q_value, r.decision.flagged) for r in scored(ranking.results)] == [
        (pytest.approx(0.08), True), (pytest.approx(0.08), True), (1.0, False), (1.0, False)
    ]  # fmt: skip
    assert ranking.summary["flagged"] == 2
    stricter = collect(tmp_path, results, fdr=0.05).ranking
    assert stricter.summary["flagged"] == 0
