"""Generated sets of lesions, and what the page says of masks of them."""

from __future__ import annotations

import numpy as np
import pytest
from lesion_lines import SEEDS, lines, plan
from lesion_sets import MANY, SPACING, make_brain
from lesions import figures
from scipy import ndimage

from gnsm_monai.rules.statistics import STATISTICS


@pytest.mark.parametrize("empty", [False, True])
def test_lesions_lie_in_the_brain_and_are_brighter(empty: bool) -> None:
    for seed in range(5):
        lesions, image, brain = make_brain(np.random.default_rng(seed), empty)
        assert (lesions.sum() == 0) == empty
        assert not (lesions > brain).any()
        if not empty:
            assert 1 <= ndimage.label(lesions)[1] <= 4 < MANY
            inside = ndimage.distance_transform_edt(brain, sampling=SPACING) > 2
            assert image[(lesions > 0) & inside].mean() > image[(lesions == 0) & inside].mean() + 20


def rows() -> list[dict[str, str]]:
    """Forty masks, the four worst flagged: three with false lesions and a correct empty one, of two."""
    groups = ["many/full_0", "many/full_1", "many/none_0", "truth/none_0", "truth/none_1"]
    groups += [f"graded{i}/full_{j}" for i in range(3) for j in range(10)] + [f"truth/full_{j}" for j in range(5)]
    return [
        {"case": case, "rank": str(i + 1), "anomaly_score": str(-i), "dice": str(i / 40), "p_value": f"{(i + 1) / 80}"}
        for i, case in enumerate(groups)
    ]


def test_masks_are_counted_by_kind() -> None:
    calibration = np.zeros((20, 3, len(STATISTICS)))  # empty references do not count in what is read of an image
    calibration[:, -1, STATISTICS.index("disagreement")] = np.where(np.arange(20) < 6, 1.0, 0.25)
    arrays = {
        "calibration_scores": np.zeros(20),
        "calibration_empty": np.arange(20) < 6,
        "calibration": calibration,
        "statistic": np.array(STATISTICS),
    }
    run = figures(rows(), {"anomaly_score": "deviation"}, arrays)
    assert run["reading"] == 0.75
    assert (run["calibration"], run["calibration_empty"], run["spearman"]) == (20, 6, -1)
    assert run["groups"]["truth none"]["among_worst"] == 1
    assert (run["groups"]["many full"]["flagged"], run["groups"]["many none"]["flagged"]) == (2, 1)
    alone = {**run, "spearman": -0.5}
    page = lines({"runs": {"labels 30% seed 0": run, "labels 30% seed 0 without": alone}})
    (row,) = (line for line in page if line.startswith("| labels | 30% |"))
    counts = "1 of 2 | 1 of 2 | 0 of 5 | – | 3 of 3 | –"
    assert row == f"| labels | 30% | 1 | {counts} | 0.750 | -1.000 | -1.000 and -0.500 (seeds: 1) |"
    assert sum(line.startswith("| labels 30% seed 0") for line in page) == 2
    better = {**run, "spearman": -0.8}
    page = lines({"runs": {"labels 30% seed 0": run, "labels 30% seed 0 without": alone, "labels 30% seed 1": better}})
    (row,) = (line for line in page if line.startswith("| labels | 30% | 2 |"))
    assert row.endswith("| -0.900 | -1.000 and -0.500 (seeds: 1) |")  # seed 1 has no model to compare with


def test_the_page_names_what_was_not_measured_and_has_seeds_apart_that_no_one_had_seen() -> None:
    group = {"masks": 8, "among_worst": 0, "flagged": 8, "p_value": 0.04}
    run = {"rule": "deviation", "calibration": 26, "calibration_empty": 0, "reading": 0.5, "spearman": -0.8}
    runs = {name: {**run, "groups": {"missed full": group}} for name in plan(SEEDS)}
    page = lines({"runs": runs})
    assert not any(line.startswith(("Not measured", "- ")) for line in page)
    both = [line for line in page if line.startswith("| images | 30% |")]
    assert [line.split("|")[3].strip() for line in both] == ["5", "2"]  # all seeds, and 3 and 4 alone
    for seed in (1, 3, 4):
        del runs[f"images 60% seed {seed}"]
    del runs["labels 90% seed 2 without"]
    missing = [line for line in lines({"runs": runs}) if line.startswith("- ")]
    assert sorted(missing) == [
        "- images, 60% empty: seeds 1, 3 and 4",
        "- labels, 90% empty, trained without empty references: seed 2",
    ]
