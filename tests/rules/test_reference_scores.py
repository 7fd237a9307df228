"""Scores of the references that a rule was fitted with, by which masks are judged."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gnsm_monai.rules import RULES, STATISTICS, AnomalyModel, FitData
from gnsm_monai.rules.calibration import p_values
from gnsm_monai.rules.fit_data import FOLDS
from gnsm_monai.rules.rule import rule_named

LEVELS, REFERENCES, COPIES = 2, 20, 4
NAMES = [rule.name for rule in RULES]


def made(seed: int, references: int = REFERENCES) -> FitData:
    """References, and failures made from each of them that differ from it by their Dice."""
    rng = np.random.default_rng(seed)
    of_references = rng.gamma(2.0, size=(references, LEVELS, len(STATISTICS)))
    groups, dice = np.repeat(np.arange(references), COPIES), rng.uniform(0.2, 0.9, references * COPIES)
    failures = of_references[groups] + 20 * (1 - dice)[:, None, None] + rng.normal(size=(len(dice), LEVELS, 1))
    by_name = [dict(zip(STATISTICS, np.moveaxis(values, -1, 0), strict=True)) for values in (of_references, failures)]
    return FitData(*by_name, dice, groups)


@pytest.mark.parametrize("maps", [1, 2])
@pytest.mark.parametrize("name", NAMES)
def test_a_reference_has_the_score_that_it_would_have_as_a_mask(name: str, maps: int) -> None:
    """A rule that learns from references or failures judges each as one that has not seen its patient."""
    data, rule = made(0), rule_named(name, RULES)
    patient = np.arange(REFERENCES) // maps
    data = data if maps == 1 else replace(data, patients=patient)
    expected = rule.fit(data).anomaly(data.references)
    if rule.learns_references or rule.learns_dice:
        for fold in range(FOLDS):
            unseen = patient % FOLDS == fold
            fitted = rule.fit(data.without(unseen))
            expected[unseen] = fitted.anomaly({key: values[unseen] for key, values in data.references.items()})
    np.testing.assert_allclose(rule.fit(data).reference_scores(data), expected, rtol=1e-12)


@pytest.mark.parametrize("rule", ["regression", "disagreement_level"])
def test_no_failure_of_a_patient_judges_another_of_the_same(rule: str) -> None:
    """Failures of two maps of a patient have the scores of those of one map: neither is left for the other."""
    data = made(0)
    twice = replace(data, patients=np.arange(REFERENCES) // 2)
    of_one = replace(data, groups=data.sources // 2)
    scores = [rule_named(rule, RULES).fit(each).held_out(each) for each in (data, twice, of_one)]
    np.testing.assert_array_equal(scores[1], scores[2])
    assert not np.array_equal(scores[0], scores[1])


def test_failures_of_an_empty_map_are_left_out_with_the_other_map_of_its_patient() -> None:
    """Reference 3 is no more among those that hold structures; its failures are of the patient of reference 0."""
    data = made(0, 4)
    first = {name: values[:3] for name, values in data.references.items()}
    filled = replace(data, references=first, num_empty=1, patients=np.array([0, 1, 2, 0]))
    assert set(filled.without(np.array([True, False, False])).sources) == {0, 1}
    assert set(filled.without(np.array([False, True, False])).sources) == {0, 1, 2}


def test_a_rule_must_suffice_without_the_largest_fold_of_patients() -> None:
    data = replace(made(0, 10), num_empty=2)
    of_two = replace(data, patients=np.arange(10) // 5)
    assert data.suffices(lambda _: 8) and not data.suffices(lambda _: 9)
    assert of_two.suffices(lambda _: 5) and not of_two.suffices(lambda _: 6)


@pytest.mark.parametrize("rule", ["auto", "disagreement"])
def test_patients_of_one_reference_each_change_nothing(rule: str) -> None:
    data = made(0)
    models = [AnomalyModel.fit(each, rule) for each in (data, replace(data, patients=np.arange(REFERENCES)))]
    assert models[0].rule == models[1].rule and models[0].comparison == models[1].comparison
    first, second = ({} if model.flag_scale is None else model.flag_scale.to_arrays() for model in models)
    np.testing.assert_equal(first, second)


def test_a_model_keeps_the_scores_of_its_references() -> None:
    data = made(0)
    model = AnomalyModel.fit(data, "deviation")
    np.testing.assert_array_equal(model.reference_scores, model.fitted.reference_scores(data))


@pytest.mark.parametrize("name", ["deviation", "misfit_knn", "mask_tails", "disagreement_level", "regression"])
def test_good_masks_are_flagged_at_the_stated_rate(name: str) -> None:
    """Masks that are drawn as the references are, of many models: at most alpha of them have a p-value below it."""
    alpha, share, rule = 0.1, [], rule_named(name, RULES)
    for seed in range(40):
        everything = made(seed, REFERENCES + 20)
        unseen = np.arange(REFERENCES + 20) >= REFERENCES
        data = everything.without(unseen)
        fitted = rule.fit(data)
        scores = fitted.anomaly({key: values[unseen] for key, values in everything.references.items()})
        share.append((p_values(scores, fitted.reference_scores(data)) <= alpha).mean())
    error = np.std(share, ddof=1) / np.sqrt(len(share))
    assert np.mean(share) <= alpha + 2 * error
