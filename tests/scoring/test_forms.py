"""Form, place, extent and parts of masks, beside closed forms."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from gnsm_monai.scoring.forms import FORM_STATISTICS, MISSING, ReferenceForms
from gnsm_monai.scoring.reference_shapes import ReferenceShapes

MM = (2.0, 3.0)
MOVES = list(itertools.product((-1, 0, 1), repeat=2))
NEEDED = np.array([True, True])


def rectangle(rows: tuple[int, int] = (8, 12), columns: tuple[int, int] = (9, 15), second: bool = True) -> np.ndarray:
    """Two structures side by side, ``(2, 24, 28)``, of 0 and 1."""
    mask = np.zeros((2, 24, 28), dtype=np.uint8)
    mask[0, slice(*rows), slice(*columns)] = 1
    if second:
        mask[1, slice(*rows), columns[1] : columns[1] + 4] = 1
    return mask


def moved(mask: np.ndarray, step: tuple[int, int]) -> np.ndarray:
    return np.roll(mask, step, (1, 2))


def fitted(masks: list[np.ndarray]) -> ReferenceForms:
    forms = ReferenceForms.fit(masks, MM)
    assert forms is not None
    return forms


@pytest.fixture(scope="module")
def forms() -> ReferenceForms:
    """Of one form that lies in nine places."""
    return fitted([moved(rectangle(), step) for step in MOVES])


def test_the_deviation_of_a_place_is_in_standard_deviations_of_the_references(forms: ReferenceForms) -> None:
    spread = np.std([row for row, _ in MOVES])  # in voxels, the same along both axes
    place = forms.measure(moved(rectangle(), (4, 0)), NEEDED)["place"]
    assert place == pytest.approx(4 / spread / np.sqrt(2), rel=1e-4)  # root mean square of two axes
    assert forms.measure(rectangle(), NEEDED)["place"] == pytest.approx(0, abs=1e-9)


def test_a_mask_in_another_place_has_its_form_in_its_own_frame_alone(forms: ReferenceForms) -> None:
    usual, away = (forms.measure(moved(rectangle(), step), NEEDED) for step in ((0, 0), (-6, 5)))
    assert away["form_centred"] == pytest.approx(usual["form_centred"], abs=1e-6) == pytest.approx(0, abs=1e-6)
    assert away["form"] > usual["form"] + 0.2
    assert away["extent"] == pytest.approx(usual["extent"], abs=1e-6)


def test_the_extent_is_of_the_logarithm_of_a_boxs_second_moments() -> None:
    widths = (4, 5, 6, 7, 8)
    sizes = [rectangle((8, 12), (9, 9 + n), second=False)[:1] for n in widths]
    # A box of n voxels has the second moment (n mm)^2 / 12 along that axis, and none between the axes.
    logs = np.log((np.array(widths) * MM[1]) ** 2 / 12)
    wide = np.log((12 * MM[1]) ** 2 / 12)
    expected = abs(wide - logs.mean()) / logs.std() / np.sqrt(3)
    found = fitted(sizes).measure(rectangle((8, 12), (9, 21), second=False)[:1], NEEDED[:1])["extent"]
    # The covariance is shrunk towards equal variances, of which two of three are none.
    assert expected <= found < 4 * expected


def test_a_turned_mask_of_the_same_size_differs_in_extent(forms: ReferenceForms) -> None:
    turned = np.zeros_like(rectangle())
    turned[0, 6:12, 11:15], turned[1, 12:16, 11:15] = 1, 1
    assert turned.sum() == rectangle().sum()
    assert forms.measure(turned, NEEDED)["extent"] > 10 * forms.measure(rectangle(), NEEDED)["extent"] + 1


def test_parts_are_the_share_outside_of_the_largest_one(forms: ReferenceForms) -> None:
    mask = rectangle()
    mask[0, 0:2, 0:4] = 1  # 8 voxels beside 24
    assert forms.measure(mask, NEEDED)["parts"] == pytest.approx((8 / 32 + 0) / 2)
    mask[0, 2, 4] = 1  # a voxel that touches by a corner is another part
    assert forms.measure(mask, NEEDED)["parts"] == pytest.approx((9 / 33 + 0) / 2)


def test_the_average_is_the_soft_dice_loss_to_the_references_mean(forms: ReferenceForms) -> None:
    mean = np.mean([moved(rectangle(), step) for step in MOVES], axis=0)
    mask = rectangle()
    dice = [2 * (m * p).sum() / (m.sum() + p.sum()) for m, p in zip(mask, mean, strict=True)]
    assert forms.measure(mask, NEEDED)["average"] == pytest.approx(1 - np.mean(dice), abs=1e-6)


def test_a_missing_structure_counts_where_it_is_needed_alone(forms: ReferenceForms) -> None:
    lacks = rectangle(second=False)
    needed, optional = (forms.measure(lacks, np.array([True, one])) for one in (True, False))
    assert needed["place"] == pytest.approx(MISSING / 2) and optional["place"] == pytest.approx(0, abs=1e-9)
    assert needed["form"] == pytest.approx(0.5 + optional["form"] / 2)


def test_an_empty_mask_is_judged_by_what_is_needed(forms: ReferenceForms) -> None:
    empty = np.zeros_like(rectangle())
    assert set(forms.measure(empty, ~NEEDED).values()) == {0.0}
    needed = forms.measure(empty, NEEDED)
    assert [needed[name] for name in FORM_STATISTICS] == [1, 1, 1, MISSING, MISSING, 0]


def test_references_that_are_all_alike_or_lack_a_structure_divide_by_nothing() -> None:
    alike = fitted([rectangle()] * 4)
    assert all(np.isfinite(value) for value in alike.measure(moved(rectangle(), (3, 0)), NEEDED).values())
    rare = fitted([rectangle(second=n == 0) for n in range(4)])  # one reference tells nothing of places
    values = rare.measure(rectangle(), np.array([True, False]))
    assert values["place"] == pytest.approx(0, abs=1e-9) and all(np.isfinite(v) for v in values.values())


def test_too_few_references_tell_of_no_form() -> None:
    empty = np.zeros_like(rectangle())
    assert ReferenceForms.fit([rectangle(), rectangle(), empty], MM) is None


def test_a_file_keeps_what_is_measured(forms: ReferenceForms) -> None:
    read = ReferenceShapes.from_arrays(ReferenceShapes(forms=forms).to_arrays()).forms
    assert read is not None and read.grids == forms.grids
    for step in ((0, 0), (3, -2)):
        assert read.measure(moved(rectangle(), step), NEEDED) == forms.measure(moved(rectangle(), step), NEEDED)
