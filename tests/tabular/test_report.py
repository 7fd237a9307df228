from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from gnsm_monai.tabular.report import MAX_COLUMNS, review_budget, write_report


def test_a_review_finds_what_chance_does_not_explain() -> None:
    rng = np.random.default_rng(0)
    normal, odd = rng.uniform(size=9_900), np.full(100, 1e-6)
    budget = {line["reviewed"]: line for line in review_budget(np.concatenate([normal, odd]))}
    for reviewed, line in budget.items():
        found = min(reviewed, 100)  # the odd ones come first
        assert line["odd"] == pytest.approx(found, abs=0.02 * found + 3 * np.sqrt(reviewed))
        assert line["odd"] + line["by_chance"] == pytest.approx(reviewed)


def test_rows_of_equal_p_value_share_the_odd_ones() -> None:
    # 40 rows tie at 0.01, and chance has 10 of 1000 there: three quarters of any ten of them are odd.
    lines = review_budget(np.concatenate([np.full(40, 0.01), np.linspace(0.02, 1, 960)]))
    assert [line["odd"] for line in lines[:2]] == [7.5, 15.0]
    assert review_budget(np.linspace(0.01, 1, 9)) == []


@pytest.mark.parametrize("features", [3, MAX_COLUMNS + 6])
def test_the_page_marks_odd_fields_and_shows_texts_as_they_are(tmp_path: Path, features: int) -> None:
    contributions = np.full(features, 0.01)
    contributions[[0, 2]] = 5.0, 3.0
    texts = ["<script>alert(1)</script>", *(f"value {place}" for place in range(1, features))]
    line = {"rank": 1, "row": 7, "flag": 1, "anomaly_score": 8.0, "p_value": 0.01}
    worst = [{**line, "texts": texts, "contributions": contributions}]
    settings = {"alpha": 0.05, "dataset_dir": "rows.csv", "model_dir": "m", "weights_sha256": "", "anomaly_score": "s"}
    names = [f"column {place}" for place in range(features)]
    scores, calibration = np.linspace(0, 8, 30), np.linspace(0, 4, 99)
    write_report(tmp_path / "page.html", names, worst, scores, np.full(30, 0.5), calibration, {}, settings)
    page = (tmp_path / "page.html").read_text()
    assert "<script" not in page and "&lt;script&gt;alert(1)" in page
    marked = re.findall(r'<td class="odd"><bdi>(.*?)</bdi> <span class="adds">(.*?)</span>', page)
    assert [adds for _, adds in marked] == ["+5.0", "+3.0"] and marked[1][0] == "value 2"
    assert ("value 1<" in page) == (features <= MAX_COLUMNS)
    assert (f"{features - 2} columns without an odd field" in page) == (features > MAX_COLUMNS)
