"""How masks of a folder judge each other: who may judge whom, what is left out, and what scores then say."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm, spearmanr

from gnsm_monai.folder.apart import standing_apart
from gnsm_monai.folder.consensus import FOLDS, Consensus, deal
from gnsm_monai.folder.judging import COMPONENTS
from tests.folder.masks import blob, usual_masks


def test_every_group_is_in_one_fold_and_folds_are_of_nearly_equal_size() -> None:
    groups = [f"patient{i % 25}" for i in range(75)]
    folds = deal(groups, 0)
    assert all(len({fold for fold, g in zip(folds, groups, strict=True) if g == group}) == 1 for group in groups)
    assert sorted(np.bincount(folds)) == [6] * 5 + [9] * 5
    assert len(np.unique(folds)) == FOLDS
    assert sorted(deal(["a", "b", "c"], 0)) == [0, 1, 2]
    with pytest.raises(ValueError, match="at least 3 groups are needed, got 2"):
        deal(["a", "b", "a"], 0)


def test_a_mask_never_judges_itself_nor_another_of_its_group() -> None:
    masks = usual_masks(12)
    odd = blob((6, 6), (3, 3))
    # Twice under one patient: were they to judge each other, each would be rebuilt by its like.
    together = Consensus.of([*masks, odd, odd], [*range(12), 12, 12])
    apart = Consensus.of([*masks, odd, odd], [*range(12), 12, 13])
    assert together.scores[-1] == together.scores[-2] > 0.8
    assert apart.scores[-1] < together.scores[-1] - 0.3


def test_damage_that_differs_from_mask_to_mask_is_ranked_by_its_size() -> None:
    rng = np.random.default_rng(1)
    truth = usual_masks(40, seed=2)
    shares = np.concatenate([np.zeros(24), rng.uniform(0.1, 0.8, 16)])
    masks, dice = [], []
    for number, (good, share) in enumerate(zip(truth, shares, strict=True)):
        bad = good.copy()
        cut = round(share * 12)  # of the rows, on a side of its own
        bad[:, : 6 + cut] &= number % 2 == 0 or cut == 0
        bad[:, 18 - cut :] &= number % 2 == 1 or cut == 0
        masks.append(bad)
        dice.append(2 * (good & bad).sum() / (good.sum() + bad.sum()))
    consensus = Consensus.of(masks, range(40))
    assert spearmanr(consensus.scores, dice)[0] < -0.75
    assert consensus.scores[:24].max() < np.median(consensus.scores[24:])


def test_what_all_masks_have_in_common_is_not_seen() -> None:
    masks = usual_masks(20)
    cut = [mask & (np.arange(24) > 11)[None, :, None] for mask in masks]  # one half is missing from every one
    assert np.median(Consensus.of(cut, range(20)).scores) < 0.15


def test_equal_masks_all_score_zero_and_none_stands_apart() -> None:
    consensus = Consensus.of([blob((12, 14), (6, 8))] * 5, range(5))
    np.testing.assert_allclose(consensus.scores, 0, atol=1e-9)
    assert consensus.probability_apart.sum() == 0


def test_an_empty_mask_is_worst_unless_most_are_empty() -> None:
    masks, nothing = usual_masks(8), np.zeros((2, 24, 28), dtype=bool)
    few = Consensus.of([*masks, nothing], range(9))
    assert few.scores[-1] == 1 == few.scores.max()
    most = Consensus.of([masks[0], *[nothing] * 8], range(9))
    np.testing.assert_array_equal(most.scores[1:], 0)
    assert most.scores[0] > 0.9


def test_three_masks_are_enough_to_find_the_odd_one() -> None:
    consensus = Consensus.of([*usual_masks(2), blob((6, 6), (3, 3))], range(3))
    assert consensus.scores.argmax() == 2


def test_scores_depend_on_the_seed_alone() -> None:
    masks = usual_masks(15)
    one, again, other = (Consensus.of(masks, range(15), seed).scores for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)


def test_what_is_reported_of_a_mask_is_the_mean_of_its_models() -> None:
    judgement = Consensus.of(usual_masks(30), range(30)).judgements[0]
    assert judgement.levels.shape == (len(COMPONENTS),)
    assert judgement.score == pytest.approx(judgement.levels.mean())
    assert judgement.structures.mean() == pytest.approx(judgement.score)  # both structures are there
    assert all(values.min() >= 0 and values.max() <= 1 for values in judgement.rebuilt)


def scores_of(odds: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-odds))


def test_of_two_distributions_the_upper_one_stands_apart() -> None:
    rng = np.random.default_rng(0)
    odds = np.concatenate([rng.normal(-2, 0.3, 60), rng.normal(1, 0.3, 20)])
    probability = standing_apart(scores_of(odds))
    assert probability[:60].max() < 0.01 and probability[60:].min() > 0.99
    assert probability.sum() == pytest.approx(20, abs=0.1)


def test_probabilities_are_those_of_bayes_where_distributions_overlap() -> None:
    rng = np.random.default_rng(0)
    odds = np.concatenate([rng.normal(-2, 0.5, 3000), rng.normal(0.5, 0.5, 1000)])
    upper, lower = 0.25 * norm.pdf(odds, 0.5, 0.5), 0.75 * norm.pdf(odds, -2, 0.5)
    np.testing.assert_allclose(standing_apart(scores_of(odds)), upper / (upper + lower), atol=0.08)


def test_one_distribution_has_nobody_who_stands_apart() -> None:
    odds = np.random.default_rng(3).normal(-1, 0.5, 100)
    assert standing_apart(scores_of(odds)).sum() == 0
    assert standing_apart([0.1, 0.9, 0.2]).sum() == 0  # too few to tell
    assert standing_apart(np.full(50, 0.3)).sum() == 0


def test_no_mask_below_another_one_is_more_probably_apart() -> None:
    rng = np.random.default_rng(0)
    scores = scores_of(np.concatenate([rng.normal(-2, 1.2, 50), rng.normal(0.2, 0.1, 20)]))
    probability = standing_apart(scores)[np.argsort(scores)]
    assert (np.diff(probability) >= 0).all()
