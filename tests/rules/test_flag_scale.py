"""Masks are flagged by what is wrong in one place as well, where the anomaly score is blind to it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gnsm_monai.rules import STATISTICS, AnomalyModel, FitData
from gnsm_monai.rules.calibration import Calibration, p_values
from gnsm_monai.rules.flag_scale import FALSE, FlagScale
from gnsm_monai.rules.predictors import DicePredictor

LEVELS, REFERENCES, COPIES = 3, 20, 4

Levels = dict[str, np.ndarray]


def masks(disagreement: np.ndarray, peak: np.ndarray, seed: int) -> Levels:
    """Statistics of masks: these two alone say anything."""
    rng = np.random.default_rng(seed)
    levels = {name: rng.random((len(peak), LEVELS)) for name in STATISTICS}
    levels["disagreement"], levels["peak"] = (
        value[:, None] + 0.01 * rng.random((len(peak), LEVELS)) for value in (disagreement, peak)
    )
    return levels


def lesions(seed: int = 0, peak: float = 2.0) -> FitData:
    """References, two of which hold one lesion that the network misses, and failures full of false ones."""
    rng = np.random.default_rng(seed)
    unseen = np.where(np.arange(REFERENCES) % 10 == 0, 0.99, rng.uniform(0.2, 0.4, REFERENCES))
    references = masks(unseen, rng.uniform(0.1, 0.3, REFERENCES), seed)
    dice = rng.uniform(0.1, 0.3, REFERENCES * COPIES)
    failures = masks(1 - dice, rng.uniform(peak / 2, peak, len(dice)), seed + 1)
    return FitData(references, failures, dice, np.arange(len(dice)) % REFERENCES)


def test_false_structures_are_beyond_references_that_no_score_of_overlap_tells_from_them() -> None:
    data = lesions()
    model = AnomalyModel.fit(data, "disagreement_equal")
    scores, failed = model.score(data.references), model.score(data.failures)
    assert failed.max() < scores.max()
    flagged_by = model.flag_scores(scores, data.references)
    assert flagged_by is not None
    beyond = model.flag_scores(failed, data.failures)
    # The distance of each from the median, by hand: 1.4826 median absolute deviations of peak.
    peak = data.references["peak"].mean(1)
    unit = 1.4826 * np.median(np.abs(peak - np.median(peak)))
    np.testing.assert_allclose(beyond, (data.failures["peak"].mean(1) - np.median(peak)) / unit)
    assert (beyond > flagged_by.max()).mean() > 0.9
    by_score = model.flag_scores(failed, data.failures, empty=True)
    spread = 1.4826 * np.median(np.abs(scores - np.median(scores)))
    np.testing.assert_allclose(by_score, (failed - np.median(scores)) / spread)


def test_masks_are_ranked_as_they_were() -> None:
    data = lesions()
    model = AnomalyModel.fit(data, "disagreement_equal")
    np.testing.assert_array_equal(model.score(data.failures), data.failures["disagreement"].mean(1))


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (lesions(peak=0.4), "disagreement_equal"),  # one place tells nothing
        (lesions(), "shape"),  # a rule that leaves the network out
        (replace(lesions(), context=False), "disagreement_equal"),  # a network that has no vote
    ],
)
def test_the_score_alone_decides_where_one_place_adds_nothing_or_is_not_asked(data: FitData, rule: str) -> None:
    model = AnomalyModel.fit(data, rule)
    assert model.flag_scale is None and model.flag_scores(np.zeros(1), data.references) is None
    assert not {"flag_centre", "flag_scale"} & set(model.to_arrays())
    assert "peak" not in model.reading.statistics


@pytest.mark.parametrize(
    ("maker", "sees", "taken"), [(FALSE, True, True), (FALSE, False, False), ("holes", True, False)]
)
def test_where_an_image_tells_false_structures_no_gain_needs_to_be_shown(maker: str, sees: bool, taken: bool) -> None:
    """The failures are flagged by either; a reference that hides none is among them by chance alone."""
    data = lesions()
    data.references["disagreement"][::10] -= 0.7
    data.references["doubt"][:] = 0.1 if sees else np.nan
    data = replace(data, makers=np.full(len(data.dice), maker))
    assert (AnomalyModel.fit(data, "disagreement_equal").flag_scale is not None) == taken


def test_where_one_place_hides_false_structures_the_score_alone_decides() -> None:
    data = lesions()
    data.references["disagreement"][::10] -= 0.7
    data.references["peak"][::3] = 50.0
    data = replace(data, makers=np.full(len(data.dice), FALSE))
    assert AnomalyModel.fit(data, "disagreement_equal").flag_scale is None


def test_a_score_that_misses_nothing_is_left_as_it_is() -> None:
    data = lesions()
    data.references["disagreement"][::10] -= 0.7  # every lesion is seen
    assert AnomalyModel.fit(data, "disagreement_equal").flag_scale is None


def test_too_few_references_give_no_scale() -> None:
    data = lesions()
    few = FitData({k: v[:3] for k, v in data.references.items()}, data.failures, data.dice)
    assert AnomalyModel.fit(few, "disagreement_equal").flag_scale is None


def test_a_file_keeps_it_and_what_it_reads() -> None:
    data = lesions()
    model = AnomalyModel.fit(data, "disagreement_level")
    again = AnomalyModel.from_arrays(model.to_arrays())
    scores = model.score(data.failures)
    np.testing.assert_array_equal(
        again.flag_scores(scores, data.failures),  # type: ignore[arg-type]
        model.flag_scores(scores, data.failures),  # type: ignore[arg-type]
    )
    assert again.reading.statistics == {"disagreement", "peak"}
    # What a long ranking leaves out is read nowhere.
    (level,) = again.reading.levels
    brief = {name: np.where(np.arange(LEVELS) == level, value, np.nan) for name, value in data.failures.items()}
    np.testing.assert_array_equal(
        again.flag_scores(again.score(brief), brief),  # type: ignore[arg-type]
        model.flag_scores(scores, data.failures),  # type: ignore[arg-type]
    )


def test_the_worse_of_two_numbers_keeps_the_promise_of_false_alarms() -> None:
    rng = np.random.default_rng(0)
    weights = np.full(LEVELS, 1 / LEVELS)
    scale = FlagScale(np.zeros(2), np.array([1.0, 0.3]), weights)
    flags = []
    for seed in range(400):
        levels = masks(np.zeros(40), rng.standard_exponential(40), seed)
        flagged_by = scale.flag_scores(rng.standard_exponential(40), levels)
        calibration = Calibration(
            np.zeros(39), np.zeros((39, 1)), DicePredictor.fit(*[np.arange(4.0)] * 4), flag_scores=flagged_by[1:]
        )
        p_value = calibration.p_value(float(flagged_by[0]), False, 0.05)
        assert p_value == p_values(flagged_by[:1], flagged_by[1:])[0]
        flags.append(p_value <= 0.05)
    assert 0.02 < np.mean(flags) < 0.08  # 2 of 40 places, within three standard errors
    arrays = calibration.to_arrays()
    assert Calibration.from_arrays(arrays).p_value(float(flagged_by[0]), False, 0.05) == p_value
