from __future__ import annotations

from gnsm_monai.evaluation.ranking import Ranking, ranked
from gnsm_monai.scoring.result import FailedCase, Result
from tests.results import anomalies, case_result


def test_worst_first_failed_last_and_equal_ones_by_their_ids() -> None:
    results: list[Result] = [
        FailedCase("f", "", "torn"), case_result("d", anomaly=0.5), case_result("c", anomaly=0.5),
        case_result("b", anomaly=0.9), FailedCase("a", "", "torn"), case_result("e", anomaly=-1.0),
    ]  # fmt: skip
    assert [result.case for result in ranked(results)] == ["b", "c", "d", "e", "a", "f"]
    assert ranked(results[::-1]) == ranked(results)


def test_empty_masks_come_first_with_the_highest_score_of_all() -> None:
    results = [
        case_result("d", anomaly=3.0), case_result("b", anomaly=1.0, empty=True), case_result("c", anomaly=2.0),
        case_result("a", anomaly=0.5, empty=True),
    ]  # fmt: skip
    found = ranked(results)
    assert [result.case for result in found] == ["a", "b", "d", "c"]
    assert anomalies(found) == [3.0, 3.0, 3.0, 2.0]
    assert anomalies(ranked(results[1:2])) == [1.0]  # alone it keeps its own


def test_a_ranking_knows_how_many_cases_could_not_be_scored() -> None:
    assert Ranking([case_result(), FailedCase("b", "", "torn"), FailedCase("c", "", "torn")], {}).num_failed == 2
    assert Ranking((), {}).num_failed == 0
    assert ranked([]) == []
