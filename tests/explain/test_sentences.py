"""Sentences that need no maps."""

from __future__ import annotations

import pytest

from gnsm_monai.explain.sentences import contact_sentence, unusual_sentence


@pytest.mark.parametrize(
    ("area", "usual", "dims", "sentence"),
    [
        (247.0, 11.4, 3, "l_putamen touches r_caudate on 2.5 cm² (11 mm² in references)"),
        (98.0, 0.2, 3, "l_putamen touches r_caudate on 98 mm² (never in references)"),
        (0.0, 186.0, 3, "l_putamen does not touch r_caudate (1.9 cm² in references)"),
        (12.0, 3.0, 2, "l_putamen touches r_caudate on 1.2 cm (3 mm in references)"),
    ],
)
def test_contacts_are_told_in_the_units_of_the_report(area: float, usual: float, dims: int, sentence: str) -> None:
    assert contact_sentence("l_putamen", "r_caudate", area, usual, dims) == sentence


def test_a_statistic_stands_out_by_deviations() -> None:
    assert unusual_sentence("form", 4.26) == "stands out by its form (4.3 deviations from the usual)"
