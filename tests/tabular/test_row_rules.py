from __future__ import annotations

import numpy as np
import pytest

from gnsm_monai.errors import InputError
from gnsm_monai.rules.rule import rule_named, stored_rule
from gnsm_monai.tabular.row_rules import ROW_RULES, RowRule, row_rules


@pytest.mark.parametrize("rule", ROW_RULES)
def test_every_rule_survives_its_file_and_puts_the_odd_row_last(rule: type[RowRule]) -> None:
    normal = np.random.default_rng(0).normal(1.0, 0.1, (60, 3, 4)).astype(np.float32)
    odd = normal[:1] + np.float32([0, 3, 0, 0])
    model = rule.fit(normal)
    again = stored_rule(model.to_arrays(), ROW_RULES)
    assert type(again) is rule
    everything = np.concatenate([normal, odd])
    assert np.array_equal(model.score(everything), again.score(everything))
    assert model.score(everything).argmax() == 60
    assert model.contributions(odd)[0].argmax() == 1


def test_rules_are_those_that_the_logits_allow_the_preferred_one_first() -> None:
    assert [rule.name for rule in row_rules("posterior")] == [rule.name for rule in ROW_RULES]
    assert [rule.name for rule in row_rules("direct")] == ["score_norm_gmm", "score_norm_knn"]
    with pytest.raises(InputError, match="'misfit' is not one of score_norm_gmm, score_norm_knn"):
        rule_named("misfit", row_rules("direct"))
