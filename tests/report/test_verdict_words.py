"""Verdicts in words: short, and never more than is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gnsm_monai.evaluation.verdict import Estimate, FolderVerdict
from gnsm_monai.report.verdict_words import folder_lines, folder_text, overall_text, score_text
from gnsm_monai.rules.held_out import HeldOut

VERDICT = FolderVerdict("a", 50, 50, 3, Estimate(0.714, 0.65, 0.786), Estimate(0.38, 0.12, 0.68), 0.7, None, 0.0005)


def test_a_folder_is_one_line() -> None:
    assert folder_text(VERDICT) == (
        "Estimated mean Dice 0.71 (90 % interval 0.65 to 0.79); 38 % of the masks below 0.7 (12 to 68 %). "
        "As a whole unlike the references (p = 0.0005)."
    )
    few = replace(VERDICT, mean_dice=Estimate(0.714), failure_share=Estimate(0.38), unlike_references=0.4)
    assert folder_text(few) == (
        "Estimated mean Dice 0.71; 38 % of the masks below 0.7. There are too few held-out failures for an interval. "
        "As a whole not unlike the references (p = 0.400)."
    )
    weak = replace(VERDICT, mean_dice=None, failure_share=None)
    assert folder_text(weak) == (
        "Mean Dice cannot be estimated: the score hardly follows Dice on held-out failures. "
        "As a whole unlike the references (p = 0.0005)."
    )
    assert folder_text(replace(weak, scored=0)) == "No mask could be scored."


def test_several_folders_are_a_range_and_a_table() -> None:
    other = replace(VERDICT, folder="b", mean_dice=Estimate(0.5), unlike_references=0.4, measured_dice=0.55)
    assert overall_text([VERDICT, other]) == (
        "2 folders: estimated mean Dice 0.50 to 0.71. As a whole unlike the references: 1 of 2."
    )
    first, second = folder_lines([verdict.to_dict() for verdict in (VERDICT, other)])
    assert first == {"folder": "a", "mean_dice": "0.71 (0.65 to 0.79)", "failure_share": "38 (12 to 68) %",
                     "measured": "–", "p_value": "0.0005"}  # fmt: skip
    assert (second["mean_dice"], second["measured"]) == ("0.50", "0.55")


@pytest.mark.parametrize(
    ("spearman", "failures", "said"),
    [(-0.94, 252, "strong (Spearman correlation with Dice -0.94 on 252 failures"),
     (-0.265, 40, "do not stop reviewing"),
     (0.1, 40, "do not use this ranking"), (-0.9, 9, "unknown: 9 failures"), (np.nan, 40, "this model does not tell")],
)  # fmt: skip
def test_the_strength_of_a_score_comes_with_what_to_do(spearman: float, failures: int, said: str) -> None:
    assert said in score_text(HeldOut(spearman, failures, np.zeros(0), np.zeros(0, int)))


def test_the_weaker_of_two_sorts_of_failures_is_named() -> None:
    text = score_text(HeldOut(-0.3, 24, np.zeros(0), np.zeros(0, int), apart=True))
    assert text.startswith(
        "weak (Spearman correlation with Dice -0.30 on false structures or on other failures, where it is weaker, "
        "24 or more of each, -1 is best). "
    )
