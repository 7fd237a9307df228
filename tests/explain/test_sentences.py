"""Sentences that need no maps."""

from __future__ import annotations

import pytest

from gnsm_monai.explain.sentences import contact_sentence, unusual_sentence


@pytest.mark.parametrize(
    ("areas", "dims", "sentence"),
    [
        ((247.0, 11.4, 60.0), 3, "l_putamen touches r_caudate on 2.5 cm² (11 mm² in references)"),
        ((98.0, 0.0, 0.0), 3, "l_putamen touches r_caudate on 98 mm² (never in references)"),
        ((98.0, 0.0, 3.0), 3, "l_putamen touches r_caudate on 98 mm² (at most 3 mm² in references)"),
        ((0.0, 186.0, 300.0), 3, "l_putamen does not touch r_caudate (1.9 cm² in references)"),
        ((0.0, 0.78, 1.0), 3, "l_putamen does not touch r_caudate (0.78 mm² in references)"),
        ((12.0, 3.0, 5.0), 2, "l_putamen touches r_caudate on 1.2 cm (3 mm in references)"),
    ],
)
def test_contacts_are_told_with_those_of_references(
    areas: tuple[float, float, float], dims: int, sentence: str
) -> None:
    assert contact_sentence("l_putamen", "r_caudate", areas, dims) == sentence


def test_a_statistic_stands_out_by_deviations() -> None:
    assert unusual_sentence("form", 4.26) == "stands out by its form (4.3 deviations from the usual)"
