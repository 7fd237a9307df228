from __future__ import annotations

import numpy as np
import pytest
import torch

from gnsm_monai.rules.levels import stack_levels, stored_levels, to_array
from gnsm_monai.rules.rules import RULES
from gnsm_monai.rules.statistics import (
    STATISTICS,
    MaskView,
    NetworkView,
    PosteriorView,
    mean_over_structures,
    statistic_named,
)


def view(**maps: torch.Tensor) -> PosteriorView:
    """Two levels of a map of four voxels in a row, the first three of them observed; a mask in the first one."""
    row = torch.tensor([1.0, 1, 1, 0]).reshape(1, 1, 4)
    plain = {
        "squared_score": torch.zeros(2, 4),
        "observed": row,
        "posterior": torch.zeros(2, 3, 4),
        "inside": torch.tensor([1.0, 0, 0, 0]).reshape(1, 1, 4),
        "band": torch.tensor([1.0, 1, 0, 0]).expand(2, 1, 4),
        "misfit": torch.tensor([[3.0, 1, 5, 0], [6, 2, 10, 0]])[:, None],
        "smooth_misfit": torch.tensor([[2.0, 1, 0, 0], [3, 4, 0, 0]])[:, None],
        "entropy": torch.tensor([[0.2, 0.4, 1, 0], [0.4, 0.8, 1, 0]])[:, None],
        "disagreements": torch.tensor([[0.2, torch.nan], [0.4, 0.8]]),
    }
    return PosteriorView(**{**plain, **maps}, doubts=None)


def measure(name: str, seen: NetworkView | MaskView) -> list[float]:
    values = statistic_named(name).measure(seen)
    assert values is not None
    return values.tolist()


def test_each_statistic_is_what_its_class_says() -> None:
    assert measure("misfit", view()) == [2, 4]
    assert measure("misfit_inside", view()) == [3, 6]
    assert measure("misfit_rest", view()) == [5, 10]
    assert measure("peak", view()) == [2, 4]
    assert measure("uncertainty", view()) == pytest.approx([0.3, 0.6])
    assert measure("disagreement", view()) == pytest.approx([0.2, 0.6])  # absent structures are left out
    assert measure("score_norm", NetworkView(torch.tensor([[9.0, 16], [0, 4]]))) == [5, 2]


def test_an_empty_mask_has_the_misfit_of_the_band_where_all_of_it_is_missing() -> None:
    assert measure("misfit_inside", view(inside=torch.zeros(1, 1, 4))) == [2, 4]


def test_a_statistic_of_the_mask_alone_needs_what_the_references_say() -> None:
    shapes = torch.tensor([[[0.1, 0.3]], [[0.5, torch.nan]]])  # two models, one level
    assert measure("shape", MaskView(1, shapes, None)) == pytest.approx([0.35])
    assert measure("size", MaskView(3, None, torch.tensor([[1.0, 3.0]]))) == [2, 2, 2]
    assert [statistic_named(name).measure(MaskView(3, None, None)) for name in ("shape", "size")] == [None, None]
    assert statistic_named("doubt").measure(view()) is None  # the network sees no image


def test_a_number_of_a_form_is_the_same_at_every_level() -> None:
    assert measure("place", MaskView(2, None, None, {"place": torch.tensor([3.0, 3.0])})) == [3, 3]
    assert statistic_named("form").measure(MaskView(2, None, None)) is None


def test_where_no_structure_counts_the_mean_is_zero() -> None:
    assert mean_over_structures(torch.tensor([[torch.nan, torch.nan], [1.0, torch.nan]])).tolist() == [0, 1]


def test_every_statistic_has_its_own_name_words_and_meaning() -> None:
    known = [statistic_named(name) for name in STATISTICS]
    assert len({statistic.words for statistic in known}) == len(known) == 16
    assert all(type(statistic).__doc__ for statistic in known)
    assert [statistic.name for statistic in known if not statistic.higher_is_worse] == ["uncertainty", "doubt"]


def test_what_a_rule_needs_follows_from_what_it_reads() -> None:
    assert all(set(rule.reads) <= set(STATISTICS) for rule in RULES)
    assert [rule.name for rule in RULES if not rule.needs_posterior] == ["score_norm_gmm", "score_norm_knn"]
    assert [rule.name for rule in RULES if rule.needs_images] == ["disagreement_beyond_doubt"]
    assert [rule.name for rule in RULES if not rule.asks_network] == ["mask", "mask_tails", "shape"]


def test_levels_come_back_from_a_file_by_name_whatever_their_order_there() -> None:
    rng = np.random.default_rng(0)
    cases = [{name: rng.random(3) for name in STATISTICS} for _ in range(4)]
    levels = stack_levels(cases)
    array = to_array(levels)
    assert array.shape == (4, 3, len(STATISTICS))
    turned = {"statistic": np.array(STATISTICS[::-1]), "fit": array[:, :, ::-1]}
    for stored in (stored_levels(turned, "fit"), stored_levels({"fit": array}, "fit")):
        assert all(np.array_equal(stored[name], levels[name]) for name in STATISTICS)
    # Files of version 0.2 name no statistics; those of earlier ones lack the last.
    assert list(stored_levels({"fit": array[:, :, :-1]}, "fit")) == list(STATISTICS[:-1])
    assert stack_levels([]) == {}
