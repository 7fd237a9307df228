"""Combinations of statistics, and when one is taken."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gnsm_monai.rules import RULES, STATISTICS, AnomalyModel, FitData
from gnsm_monai.rules.choice import MIN_OF_MAKER, rank_correlation, steadiest
from gnsm_monai.rules.rule import rule_named

LEVELS, MASKS = 3, 120
MAKERS = np.repeat(["network", "copy", "another_reference"], MASKS // 3)
DICE = np.random.default_rng(0).uniform(0.2, 0.95, MASKS)
GROUPS = np.arange(MASKS) % 12


def statistics(count: int, seed: int, **follow: np.ndarray) -> dict[str, np.ndarray]:
    """Statistics of masks, all of them noise but for those that follow what is given."""
    rng = np.random.default_rng(seed)
    values = {name: rng.random((count, LEVELS)) for name in STATISTICS}
    values["doubt"][:] = np.nan  # it sees no images
    for name, value in follow.items():
        values[name] = np.repeat(value[:, None], LEVELS, axis=1) + 0.01 * rng.random((count, LEVELS))
    return values


def data(**follow: np.ndarray) -> FitData:
    references = statistics(20, 1, **{name: np.full(20, 0.05) for name in follow})
    return FitData(references, statistics(MASKS, 2, **follow), DICE, GROUPS, MAKERS == "network", makers=MAKERS)


def test_tails_are_the_sum_of_signed_logarithms_of_robust_deviations() -> None:
    references = statistics(20, 1)
    rule = rule_named("mask_tails", RULES).fit(FitData(references, statistics(MASKS, 2), DICE))
    expected = np.zeros(1)
    mask = statistics(1, 3)
    for name in rule.reads:
        usual = references[name].mean(1)
        median = np.median(usual)
        z = (mask[name].mean(1) - median) / (1.4826 * np.median(np.abs(usual - median)))
        expected += np.sign(z) * np.log(1 + np.abs(z))
    np.testing.assert_allclose(rule.anomaly(mask), expected)


def test_a_statistic_that_is_zero_for_every_reference_divides_by_nothing() -> None:
    references = {**statistics(20, 1), "parts": np.zeros((20, LEVELS))}
    rule = rule_named("mask_tails", RULES).fit(FitData(references, statistics(MASKS, 2), DICE))
    clean, split = ({**statistics(1, 3), "parts": np.full((1, LEVELS), share)} for share in (0.0, 0.5))
    # The deviation 1 stands in where all are alike: half of a structure in other parts is log(1.5).
    assert float(rule.anomaly(split)[0] - rule.anomaly(clean)[0]) == pytest.approx(np.log(1.5))


def test_the_steadiest_rule_follows_its_worst_maker_best() -> None:
    rng = np.random.default_rng(4)
    steady = -DICE + 0.2 * rng.normal(size=MASKS)
    clever = np.where(MAKERS == "copy", rng.random(MASKS), -DICE)  # perfect on two makers, blind on one
    name, worst, copies = steadiest({"clever": clever, "steady": steady}, DICE, MAKERS, GROUPS)
    assert name == "steady"
    assert worst == max(rank_correlation(steady[m == MAKERS], DICE[m == MAKERS]) for m in np.unique(MAKERS))
    assert len(copies) > 100 and abs(np.mean(copies) - worst) < 3 * np.std(copies) + 0.1


def test_a_maker_of_a_few_failures_does_not_count() -> None:
    makers = MAKERS.copy()
    makers[: MIN_OF_MAKER - 1] = "empty"
    scores = -DICE.copy()
    scores[: MIN_OF_MAKER - 1] = np.arange(MIN_OF_MAKER - 1)
    _, worst, _ = steadiest({"rule": scores}, DICE, makers, GROUPS)
    assert worst == pytest.approx(-1)


def test_a_combination_is_taken_where_no_context_was_learnt_and_nowhere_else() -> None:
    given = data(**{name: 1 - DICE for name in rule_named("combined", RULES).reads})
    assert AnomalyModel.fit(given).rule == "shape"
    assert AnomalyModel.fit(replace(given, context=False)).rule.startswith("mask")
    assert AnomalyModel.fit(given, "combined").rule == "combined"  # by its name


@pytest.mark.parametrize(("least", "combined"), [(0.3, True), (0.7, False)])
def test_a_combination_is_taken_where_no_rule_follows_dice_fairly(least: float, combined: bool) -> None:
    """Each statistic of the mask follows Dice a little, the network's so far that the best is weak, or fair."""
    rng = np.random.default_rng(5)
    noisy = {name: -DICE + 0.6 * rng.normal(size=MASKS) for name in rule_named("mask", RULES).reads if name != "shape"}
    places = np.argsort(np.argsort(DICE)) / MASKS
    network = -least * places + np.sqrt(1 - least**2) * rng.permutation(places)
    model = AnomalyModel.fit(data(**noisy, disagreement=network))
    best = min(value for name, value in model.comparison.items() if not name.startswith(("mask", "combined")))
    assert (best > -0.5) == combined == model.rule.startswith("mask")
    assert not combined or not model.fitted.asks_network


def test_the_shape_is_taken_where_it_is_clearly_steadier() -> None:
    given = replace(data(shape=1 - DICE), context=False)
    assert AnomalyModel.fit(given).rule == "shape"


def test_a_network_that_learnt_no_context_has_no_vote() -> None:
    given = data(disagreement=1 - DICE)
    assert AnomalyModel.fit(given).fitted.asks_network
    assert not AnomalyModel.fit(replace(given, context=False)).fitted.asks_network


def test_a_model_that_sees_images_takes_no_combination() -> None:
    given = data(**{name: 1 - DICE for name in rule_named("combined", RULES).reads})
    for values in (given.references, given.failures):
        values["doubt"][:] = 0.1
    assert not AnomalyModel.fit(replace(given, context=False)).rule.startswith(("combined", "mask"))


def test_a_model_without_forms_has_no_combination() -> None:
    given = data(disagreement=1 - DICE)
    for values in (given.references, given.failures):
        values["form"][:] = np.nan
    model = AnomalyModel.fit(given)
    assert not {"combined", "combined_tails", "mask", "mask_tails"} & set(model.comparison)
    assert model.rule == "disagreement_equal"


def test_maps_of_other_references_say_nothing_of_how_well_a_score_follows_dice() -> None:
    # They look like references, and have a low Dice.
    follow = {name: np.where(MAKERS == "another_reference", 0.05, 1 - DICE) for name in ("disagreement", "shape")}
    given = replace(data(**follow), from_networks=None)
    assert np.array_equal(given.judges, MAKERS != "another_reference")
    assert AnomalyModel.fit(given).comparison["disagreement"] < -0.99
