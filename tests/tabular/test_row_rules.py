from __future__ import annotations

import numpy as np
import pytest

from gnsm_monai.errors import InputError
from gnsm_monai.rules.rule import rule_named, stored_rule
from gnsm_monai.tabular.row_rules import ROW_RULES, RowRule, row_rules


@pytest.mark.parametrize("rule", ROW_RULES, ids=lambda rule: rule.name)
def test_every_rule_survives_its_file_and_puts_the_odd_row_last(rule: RowRule) -> None:
    draw = np.random.default_rng(0)
    normal = draw.normal(1.0, 0.1, (60, 3, 4)).astype(np.float32)
    codes, coupled = draw.integers(0, 3, (60, 4)), list(draw.normal(0, 0.1, (4, 3)))
    odd = normal[:1] + np.float32([0, 3, 0, 0])
    model = rule.fit(normal, codes, coupled)
    again = stored_rule(model.to_arrays(), ROW_RULES)
    assert type(again) is type(rule) and again.name == rule.name
    everything, their_codes = np.concatenate([normal, odd]), np.concatenate([codes, codes[:1]])
    assert np.array_equal(model.score(everything, their_codes), again.score(everything, their_codes))
    assert model.score(everything, their_codes).argmax() == 60
    parts = model.parts(odd, codes[:1])
    assert parts.shape == (1, len(model.terms), 4) and parts[0, 0].argmax() == 1


def test_rules_are_those_that_the_logits_allow_the_preferred_one_first() -> None:
    assert [rule.name for rule in row_rules("posterior")] == [rule.name for rule in ROW_RULES]
    assert [rule.name for rule in row_rules("direct")] == ["score_norm_gmm", "score_norm_knn"]
    with pytest.raises(InputError, match="'misfit' is not one of score_norm_gmm, score_norm_knn"):
        rule_named("misfit", row_rules("direct"))


def regressed(slope: float) -> tuple[RowRule, np.ndarray, np.ndarray, list[np.ndarray]]:
    """The rule of coupled frequencies for rows whose misfit is ``slope`` times their company, and what they are."""
    draw = np.random.default_rng(1)
    coupled = [draw.normal(size=3), draw.normal(size=4)]
    codes = np.stack([draw.integers(0, 3, 200), draw.integers(0, 4, 200)], 1)
    company = coupled[0][codes[:, 0]] + coupled[1][codes[:, 1]]
    statistics = np.repeat((5 + slope * company)[:, None, None] / 2, 2, axis=2).repeat(3, axis=1)
    return rule_named("coupled_misfit", ROW_RULES).fit(statistics, codes, coupled), statistics, codes, coupled


def test_company_counts_by_what_it_says_of_the_misfit_of_normal_rows() -> None:
    model, statistics, codes, coupled = regressed(1.7)
    company = coupled[0][codes[:, 0]] + coupled[1][codes[:, 1]]
    intercept_and_slope = np.polyfit(company, statistics.mean(1).sum(1), 1)[::-1]
    expected = intercept_and_slope[1] * (company - company.mean())
    parts = model.parts(statistics, codes)
    assert np.allclose(parts[:, 1].sum(1), expected) and np.allclose(parts[:, 1].mean(0), 0)
    assert np.allclose(model.score(statistics, codes), parts.sum((1, 2)))


@pytest.mark.parametrize("slope", [0.0, -0.5])
def test_company_that_says_nothing_or_the_contrary_leaves_the_misfit_alone(slope: float) -> None:
    model, statistics, codes, _ = regressed(slope)
    alone = rule_named("context_misfit", ROW_RULES).fit(statistics, codes).score(statistics, codes)
    assert np.allclose(model.score(statistics, codes), alone)
