from __future__ import annotations

import numpy as np
import pytest

from gnsm_monai.errors import InputError
from gnsm_monai.rules.rule import rule_named, stored_rule
from gnsm_monai.tabular.coupling import COUPLED, MARGINAL
from gnsm_monai.tabular.row_rules import ROW_RULES, RowRule, row_rules


@pytest.mark.parametrize("rule", ROW_RULES, ids=lambda rule: rule.name)
def test_every_rule_survives_its_file_and_puts_the_odd_row_last(rule: RowRule) -> None:
    draw = np.random.default_rng(0)
    normal = draw.normal(1.0, 0.1, (60, 3, 4)).astype(np.float32)
    codes = draw.integers(0, 3, (60, 4))
    tables = {term: list(abs(draw.normal(0, 0.1, (4, 3)))) for term in (MARGINAL, COUPLED)}
    odd = normal[:1] + np.float32([0, 3, 0, 0])
    model = rule.fit(normal, codes, tables)
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
    return (
        rule_named("coupled_misfit", ROW_RULES).fit(statistics, codes, {COUPLED: coupled}),
        statistics,
        codes,
        coupled,
    )


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


def combined(slope: float, spread: float = 1.0) -> tuple[RowRule, np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """The rule of three terms, the rows that it is fitted to, and their marginal and coupled frequencies ``(N, F)``."""
    draw = np.random.default_rng(2)
    tables = {
        MARGINAL: [draw.uniform(1, 3, k) for k in (3, 4)],
        COUPLED: [spread * draw.normal(size=k) for k in (3, 4)],
    }
    codes = np.stack([draw.integers(0, 3, 500), draw.integers(0, 4, 500)], 1)
    values = {
        term: np.stack([table[column] for table, column in zip(tables[term], codes.T, strict=True)], 1)
        for term in tables
    }
    misfit = 1 + (slope / spread * values[COUPLED] + draw.normal(0, 0.5, codes.shape)) / 4
    statistics = np.stack([misfit, 0.5 * misfit, 1.5 * misfit], 1)
    return rule_named("combined_misfit", ROW_RULES).fit(statistics, codes, tables), statistics, codes, values


@pytest.mark.parametrize(("slope", "spread", "limit"), [(1.0, 1.0, 1), (1.0, 1e-3, 0), (0.4, 1.0, 2)])
def test_frequencies_count_by_what_context_leaves_and_what_company_says(
    slope: float, spread: float, limit: int
) -> None:
    model, statistics, codes, values = combined(slope, spread)
    marginal, coupled = (term - term.mean(0) for term in values.values())
    misfit = statistics.mean(1).sum(1)
    half = 0.5 * statistics[:, 1].sum() / values[MARGINAL].sum()  # the second level is that of the least misfit
    both = misfit + half * marginal.sum(1)
    limits = [8.0, np.std(both) / np.std(coupled.sum(1)), 2 * np.polyfit(coupled.sum(1), both, 1)[0]]
    assert np.argmin(limits) == limit
    parts = model.parts(statistics, codes)
    np.testing.assert_allclose(parts[:, 0].sum(1), misfit)
    np.testing.assert_allclose(parts[:, 1], half * marginal, atol=1e-12)
    np.testing.assert_allclose(parts[:, 2], min(limits) * coupled, atol=1e-12)
    np.testing.assert_allclose(model.score(statistics, codes), parts.sum((1, 2)))
    assert model.terms == ("context_misfit", "marginal_frequencies", "coupled_frequencies")


def test_frequencies_that_normal_rows_contradict_leave_context_alone() -> None:
    model, statistics, codes, _ = combined(-1.0)
    np.testing.assert_allclose(model.score(statistics, codes), statistics.mean(1).sum(1))
    assert not model.parts(statistics, codes)[:, 1:].any()


def test_a_rule_of_an_earlier_model_scores_as_it_did() -> None:
    file = {
        "rule": np.array("coupled_misfit"),
        "level_weights": np.array([0.5, 0.5]),
        "feature_weights": np.ones(2),
        "rule_coupled": np.array([0.0, 1.0, 10.0, 20.0, 30.0]),
        "rule_starts": np.array([0, 2]),
    }
    statistics, codes = np.array([[[1.0, 2.0], [3.0, 4.0]]]), np.array([[1, 2]])
    assert stored_rule(file, ROW_RULES).score(statistics, codes).tolist() == [2 + 3 + 1 + 30]
