"""How a rule is chosen where some references are empty, so that structures come in any number."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import spearmanr

from gnsm_monai.rules import STATISTICS, AnomalyModel, FitData
from gnsm_monai.rules.choice import FALSE, false_and_other, simplest_of_the_best, weakest_within

LEVELS, FILLED, EMPTY, COPIES = 3, 6, 8, 8

Levels = dict[str, np.ndarray]


def noise(count: int, rng: np.random.Generator) -> Levels:
    levels = {name: rng.random((count, LEVELS)) for name in STATISTICS}
    levels["doubt"] = np.full((count, LEVELS), np.nan)  # no images
    return levels


@pytest.fixture
def lesions() -> FitData:
    """Misfit is how much a mask holds: most in false structures, and more in a better copy. Disagreement follows
    Dice roughly."""
    rng = np.random.default_rng(0)
    groups = np.concatenate([np.repeat(np.arange(FILLED), COPIES), np.repeat(np.arange(FILLED + EMPTY), 4)])
    copy = np.arange(len(groups)) < FILLED * COPIES
    dice = np.where(copy, rng.uniform(0.3, 0.9, len(groups)), rng.uniform(0.05, 0.3, len(groups)))
    dice[groups >= FILLED] = 0.0
    references, failures = noise(FILLED, rng), noise(len(groups), rng)
    references["misfit"][:] = rng.uniform(0.9, 1.0, FILLED)[:, None]
    failures["misfit"][:] = np.where(copy, dice, 2 - dice)[:, None]
    references["disagreement"][:] = rng.uniform(0.1, 0.4, FILLED)[:, None]
    failures["disagreement"][:] = (1 - dice + rng.normal(0, 0.4, len(dice)))[:, None]
    makers = np.where(copy, "copy", FALSE)
    return FitData(references, failures, dice, groups, num_empty=EMPTY, makers=makers)


def test_a_rule_that_follows_false_structures_and_ranks_better_copies_worse_is_not_chosen(lesions: FitData) -> None:
    together = np.append(lesions.dice, np.ones(FILLED))
    values = {
        name: np.append(lesions.failures[name].mean(1), lesions.references[name].mean(1))
        for name in ("misfit", "disagreement")
    }
    by_all = {name: spearmanr(value, together).statistic for name, value in values.items()}
    assert by_all["misfit"] < min(-0.5, by_all["disagreement"])  # of all masks together it is the better one
    copies = np.append(np.array(lesions.makers) == "copy", np.ones(FILLED, dtype=bool))
    assert spearmanr(values["misfit"][copies], together[copies]).statistic > 0.5
    model = AnomalyModel.fit(lesions)
    scores = np.append(model.score(lesions.failures), model.score(lesions.references))
    assert spearmanr(scores[copies], together[copies]).statistic < -0.3
    assert model.comparison["misfit"] > 0.5 > 0 > model.comparison[model.rule]


def test_a_mask_that_shares_nothing_with_its_reference_holds_false_structures_alone() -> None:
    dice, makers = np.array([0.0, 0.4, 0.4, 1.0]), np.array(["holes", FALSE, "holes", ""])
    false, other = false_and_other(dice, makers, dice == 1)
    assert (false.tolist(), other.tolist()) == ([True, True, False, True], [False, False, True, True])
    (only,) = false_and_other(dice[2:], makers[2:], dice[2:] == 1)
    assert only.tolist() == [True, True]
    assert weakest_within(np.array([3.0, 2.0, 4.0, 5.0]), dice, [false, other]) == pytest.approx(1)


def test_references_with_structures_are_drawn_among_themselves() -> None:
    """Two of forty references have structures. Were all drawn together, many draws would have neither."""
    rng = np.random.default_rng(0)
    strata = np.arange(40) >= 2
    dice = np.where(strata, 0.0, [0.3, 0.9] * 20)
    scores = {"simple": rng.random(40), "good": -dice}
    part = [~strata]
    scores["simple"][:2] = [0.1, 0.9]
    # Each draw that has both of them ranks these two wholly right by one, wholly wrong by the other; others have none.
    gain = [2.0 if len(set(draw)) == 2 else 0.0 for draw in np.random.default_rng(0).integers(2, size=(200, 2))]
    chosen = simplest_of_the_best(scores, dice, 0, np.arange(40), part, strata)
    assert chosen == ("simple" if np.std(gain, ddof=1) >= 2 else "good")


def test_from_labels_alone_false_structures_are_flagged_by_how_much_there_is(lesions: FitData) -> None:
    """The rule of the shape is blind to them; so is one place: a false structure looks like a true one there."""
    for context in (True, False):
        model = AnomalyModel.fit(replace(lesions, context=context), "shape")
        by_score = model.score(lesions.references)
        flagged_by = model.flag_scores(by_score, lesions.references)
        failed = model.flag_scores(model.score(lesions.failures), lesions.failures)
        assert flagged_by is not None and failed is not None
        false = np.array(lesions.makers) == FALSE
        assert (failed[false] > flagged_by.max()).all()
        assert (model.score(lesions.failures)[false] > by_score.max()).mean() < 0.5
        assert model.reading.statistics == {"shape", "misfit"}
        assert model.reading.levels == tuple(range(LEVELS))  # misfit is a mean over all of them
        again = AnomalyModel.from_arrays(model.to_arrays())
        np.testing.assert_array_equal(again.flag_scores(by_score, lesions.references), flagged_by)


def test_a_scale_that_a_file_does_not_name_is_of_one_place(lesions: FitData) -> None:
    arrays = AnomalyModel.fit(lesions, "shape").to_arrays()
    assert arrays.pop("flag_statistic") == "misfit"
    assert "peak" in AnomalyModel.from_arrays(arrays).reading.statistics
