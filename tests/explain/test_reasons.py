from __future__ import annotations

import re

import numpy as np
import pytest
from scipy import ndimage

from gnsm_monai.data.degradations import KINDS, degrade
from gnsm_monai.data.geometry import Cropped
from gnsm_monai.data.phantoms import LABELS, make_phantom
from gnsm_monai.explain.findings import UsualVolume
from gnsm_monai.explain.reasons import NO_REASON, explain
from gnsm_monai.explain.sentences import cropped_sentence, joined
from gnsm_monai.explain.spacing import field_of_view_sentence, spacing_sentence

NAMES = [("anterior", (1,)), ("posterior", (2,))]
MM = (1.0, 1.0, 1.0)


def phantom() -> np.ndarray:
    """A bar along y: posterior (2) at y 14..34, a broader and shorter anterior (1) at y 34..46; 2.4 and 2.304 ml."""
    label = np.zeros((40, 60, 40), dtype=np.int16)
    label[14:24, 14:34, 12:24] = 2
    label[12:28, 34:46, 12:24] = 1
    return label


def ball(centre: tuple[int, ...], radius: float, shape: tuple[int, ...] = (40, 60, 40)) -> np.ndarray:
    offset = np.indices(shape) - np.reshape(centre, (-1, *[1] * len(shape)))
    return np.asarray((offset**2).sum(axis=0) <= radius**2)


def reason(wrong: np.ndarray, **more: object) -> str:
    return explain(wrong, phantom(), NAMES, MM, **more)  # type: ignore[arg-type]


def test_equal_maps_give_no_reason() -> None:
    assert reason(phantom()) == NO_REASON


def test_a_few_stray_boundary_voxels_give_no_reason() -> None:
    wrong = phantom()
    wrong[14, 14:34:3, 12] = 0
    wrong[28, 34:46:3, 12] = 1
    assert reason(wrong) == NO_REASON


USUAL = {"anterior": UsualVolume(2300.0, 1900.0, 2700.0), "posterior": UsualVolume(133_000.0, 101_000.0, 163_000.0)}


def test_an_empty_mask_has_the_volume_of_the_references_whatever_the_network_makes_of_it() -> None:
    for expected in (phantom(), np.zeros_like(phantom())):
        assert (
            explain(np.zeros_like(phantom()), expected, NAMES, MM, usual=USUAL) == "empty mask (references hold 135 ml)"
        )
        assert explain(np.zeros_like(phantom()), expected, NAMES, MM) == "empty mask"
    nested = [("whole", (1, 2)), ("core", (2,))]
    usual = {"whole": USUAL["posterior"], "core": USUAL["anterior"]}
    assert explain(np.zeros_like(phantom()), phantom(), nested, MM, usual=usual) == "empty mask"


def test_a_missing_structure_has_the_volume_of_the_references() -> None:
    no_posterior = np.where(phantom() == 2, 0, phantom())
    assert reason(no_posterior, usual=USUAL) == "posterior is missing (references hold 133 ml, 101 ml to 163 ml)"
    unknown = {"posterior": UsualVolume(133_000.0, float("nan"), float("nan"))}
    assert reason(no_posterior, usual=unknown) == "posterior is missing (references hold 133 ml)"
    assert reason(0 * phantom() + 3 * ball((5, 5, 5), 3), usual=USUAL).startswith(
        "anterior and posterior are missing (references hold 135 ml)"
    )


def test_structures_that_are_missing_or_not_expected() -> None:
    no_posterior = np.where(phantom() == 2, 0, phantom())
    assert reason(no_posterior) == "posterior is missing"
    assert explain(phantom(), no_posterior, NAMES, MM) == "posterior is not expected here (2.4 ml)"
    assert explain(phantom(), 0 * phantom(), NAMES, MM) == "anterior and posterior are not expected here (4.7 ml)"


def test_missing_tail_has_share_size_and_end() -> None:
    wrong = phantom()
    oblique = np.indices(wrong.shape)[1] + 0.5 * np.indices(wrong.shape)[0]
    wrong[(wrong == 2) & (oblique < 33)] = 0
    share = 1 - np.count_nonzero(wrong == 2) / 2400
    assert reason(wrong) == f"posterior is missing its back end ({100 * share:.0f} %, {2.4 * share:.2g} ml)"


@pytest.mark.parametrize(
    ("cut", "words"),
    [
        (np.s_[:, :22], "posterior is cut off flat at its back end (40 %, 0.96 ml missing)"),
        (np.s_[:, 40:], "anterior is cut off flat at its front end (50 %, 1.2 ml missing)"),
        (np.s_[:, :, 20:], "anterior and posterior are cut off flat at their upper end (33 %, 1.6 ml missing)"),
        (np.s_[:, :, :15], "anterior and posterior are cut off flat at their lower end (25 %, 1.2 ml missing)"),
        (np.s_[23:], "anterior is cut off flat at its right end (31 %, 0.72 ml missing)"),
        (np.s_[:17], "anterior and posterior are cut off flat at their left end (31 %, 1.4 ml missing)"),
    ],
)
def test_flat_cut_is_told_from_a_missing_part(cut: tuple[slice, ...], words: str) -> None:
    wrong = phantom()
    wrong[cut] = 0
    assert reason(wrong).split("; ")[0] == words


def test_nearly_everything_missing_is_no_end() -> None:
    wrong = phantom()
    wrong[(phantom() == 2) & ~ball((19, 33, 18), 4)] = 0
    assert re.fullmatch(r"posterior is missing almost wholly \(\d\d %, 2\.\d ml\)", reason(wrong))


def test_islands_have_number_distance_and_volume() -> None:
    wrong = phantom()
    wrong[12:18, 2:4, 14:18] = 1  # the object begins at y = 14: voxel centres 11 mm apart
    assert reason(wrong) == "island of anterior 11 mm from the body (0.048 ml)"
    wrong[30:34, 20:24, 14:18] = 1
    assert reason(wrong) == "2 islands of anterior up to 11 mm from the body (0.11 ml)"


def test_an_island_that_reaches_what_is_labelled_in_both_maps_has_no_distance() -> None:
    """It lies apart from its own structure, and touches another one."""
    wrong = phantom()
    wrong[17:21, 6:16, 14:18] = 1  # two of its ten slices lie within posterior
    assert re.fullmatch(r"island of anterior at the edge of the body \(0\.\d+ ml\)", reason(wrong).split("; ")[0])


def test_distance_of_an_island_follows_the_spacing() -> None:
    wrong = phantom()
    wrong[12:18, 2:4, 14:18] = 1
    words = explain(wrong, phantom(), NAMES, (1.0, 2.0, 1.0))
    assert words == "island of anterior 22 mm from the body (0.096 ml)"


def test_holes_closed_and_open() -> None:
    wrong = phantom()
    wrong[ball((20, 40, 18), 4)] = 0
    assert reason(wrong) == "hole of 0.26 ml in anterior"
    wrong[ball((19, 24, 18), 3)] = 0
    assert reason(wrong) == "hole of 0.26 ml in anterior; hole of 0.12 ml in posterior"
    opened = phantom()
    opened[ball((20, 40, 20), 4.5)] = 0  # breaks through the upper side
    assert re.fullmatch(r"hole of 0.3\d ml in anterior", reason(opened))


def test_swapped_wholly_and_in_part() -> None:
    label = phantom()
    swapped = np.where(label > 0, 3 - label, 0)
    assert reason(swapped) == "anterior and posterior are swapped"
    near = np.abs(np.indices(label.shape)[1] - 34) <= 7
    assert reason(np.where(near, swapped, label)).startswith("anterior and posterior are swapped in part (")


def test_part_with_a_neighbours_label() -> None:
    wrong = phantom()
    wrong[14:24, 24:34, 12:24] = 1
    assert reason(wrong) == "part of posterior is labelled anterior (50 %, 1.2 ml)"


@pytest.mark.parametrize(
    ("axis", "voxels", "words"),
    [
        (0, -6, "to the left"),
        (0, 6, "to the right"),
        (1, -6, "to the back"),
        (1, 6, "to the front"),
        (2, -6, "downwards"),
        (2, 6, "upwards"),
    ],
)
def test_shift_of_everything_or_of_one_structure(axis: int, voxels: int, words: str) -> None:
    label = phantom()
    assert reason(np.roll(label, voxels, axis)) == f"shifted 6 mm {words}"
    moved = np.where(label == 1, 1, 0)
    moved[np.roll(label, voxels, axis) == 2] = 2
    expected = rf"(posterior is shifted 6 mm {words}|part of anterior is labelled posterior .*)"
    assert re.match(expected, reason(moved))


def test_shift_that_leaves_the_field_of_view_is_still_measured() -> None:
    label = phantom()
    wrong = np.zeros_like(label)
    wrong[:, :42] = label[:, 18:]  # the back 4 mm of it are lost
    assert reason(wrong).split("; ")[0] == "shifted 18 mm to the back"


def test_oblique_shift_names_both_directions() -> None:
    assert reason(np.roll(phantom(), (6, -8), (0, 1))) == "shifted 10 mm to the back and to the right"


@pytest.mark.parametrize(("axis", "words"), [(0, "left to right"), (1, "back to front"), (2, "bottom to top")])
def test_mirror_image(axis: int, words: str) -> None:
    label = phantom()
    label[12:16, 14:46, 24:28] = 1  # a ridge on one side, so that every mirror image differs
    label[14:24, 14:18, 24:34] = 2
    assert explain(np.flip(label, axis), label, NAMES, MM) == f"mirrored from {words}"


def test_dilated_and_eroded_structures_are_larger_and_smaller() -> None:
    label = np.where(phantom() == 1, 1, 0)
    grown = np.where(ndimage.distance_transform_edt(label == 0) <= 2, 1, 0)
    shrunk = np.where(ndimage.distance_transform_edt(label > 0) > 2, 1, 0)
    ratios = [np.count_nonzero(m) / np.count_nonzero(label) for m in (grown, shrunk)]
    words = [explain(m, label, [("liver", (1,))], MM) for m in (grown, shrunk)]
    assert words[0] == f"liver is much larger than expected ({ratios[0]:.2g} x, about 1.9 mm all round)"
    assert words[1] == f"liver is much smaller than expected ({ratios[1]:.2g} x, about 2 mm all round)"


def test_boundary_that_moves_in_and_out() -> None:
    label, wrong = (np.zeros((40, 60, 40), dtype=np.int16) for _ in range(2))
    label[12:28, 20:40, 12:24] = 1
    wrong[14:26, 20:40, 10:26] = 1  # 2 mm less at the sides, 2 mm more above and below
    assert explain(wrong, label, NAMES, MM) == "boundary differs by about 1.3 mm everywhere"
    label[15:25, 5:20, 12:24] = wrong[15:25, 5:20, 12:24] = 2
    assert explain(wrong, label, NAMES, MM) == "boundary of anterior differs by about 1.3 mm everywhere"


def test_leak_has_reach_direction_and_volume() -> None:
    wrong = phantom()
    wrong[28:36, 36:42, 14:20] = 1
    assert reason(wrong) == "anterior spreads 8 mm too far to the right (0.29 ml)"


def test_worst_comes_first_and_three_at_most() -> None:
    wrong = phantom()
    wrong[:, :24] = 0  # half of the posterior
    wrong[12:16, 2:6, 14:18] = 1
    wrong[ball((20, 40, 18), 3)] = 0
    wrong[28:36, 36:44, 14:22] = 1
    findings = reason(wrong).split("; ")
    assert findings[0].startswith("posterior is cut off flat at its back end (50 %")
    assert findings[1].startswith("anterior spreads 8 mm")
    assert len(findings) == 3


def test_other_orientations_give_the_same_words() -> None:
    wrong = phantom()
    wrong[:, :22, 16:] = 0
    turned = [m[::-1, ::-1].transpose(2, 1, 0) for m in (wrong, phantom())]
    assert explain(turned[0], turned[1], NAMES, MM, "SPL") == reason(wrong)
    assert explain(turned[0], turned[1], NAMES, MM) != reason(wrong)


def test_pictures_are_described_as_the_viewer_sees_them() -> None:
    picture = phantom().max(axis=2)
    spacing = (1.0, 1.0)
    lower = np.where(np.arange(60) >= 40, 0, picture)
    assert explain(lower, picture, NAMES, spacing).startswith(
        "anterior is cut off flat at its lower end (50 %, 0.96 cm²"
    )
    assert explain(np.roll(picture, -5, 0), picture, NAMES, spacing) == "shifted 5 mm to the left"
    assert explain(np.roll(picture, 5, 1), picture, NAMES, spacing) == "shifted 5 mm downwards"


def test_ignored_voxels_count_nowhere() -> None:
    wrong = phantom()
    wrong[:, :24] = -1
    assert reason(wrong) == NO_REASON
    wrong[:, 24:30][phantom()[:, 24:30] == 2] = 0
    assert reason(wrong) == "posterior is cut off flat at its back end (60 %, 0.72 ml missing)"
    assert reason(np.full_like(phantom(), -1)) == "empty mask"


def test_structures_may_share_classes() -> None:
    regions = [("whole", (1, 2)), ("core", (2,))]
    label = phantom()
    wrong = np.where(label == 2, 1, label)
    assert explain(wrong, label, regions, MM) == "core is missing"
    wrong = label.copy()
    wrong[14:24, 14:24, 12:24] = 1
    assert "whole" not in explain(wrong, label, regions, MM)


def test_many_missing_structures_share_a_sentence() -> None:
    label = np.zeros((52, 24, 12), dtype=np.int16)
    for i in range(104):
        label[2 * (i // 4) : 2 * (i // 4) + 2, 6 * (i % 4) : 6 * (i % 4) + 5, 2:10] = i + 1
    names = [(f"part_{i}", (i,)) for i in range(1, 105)]
    assert explain(label, label, names, MM) == NO_REASON
    words = explain(np.where(label > 5, label, 0), label, names, MM)
    assert words == "part_1, part_2, part_3 and 2 more are missing"
    some = np.where((label == 7) | (label == 8), 15 - label, label)
    assert explain(some, label, names, MM) == "part_7 and part_8 are swapped"


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (3, 3), (1, 1, 1), (2, 1, 5), (4, 3, 3), (9, 8, 7)])
def test_any_map_gets_a_sentence(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(sum(shape))
    names = [("a", (1,)), ("b", (2,)), ("both", (1, 2)), ("nowhere", (9,))]
    for _ in range(60):
        low = rng.integers(-1, 1)
        label, denoised = (rng.integers(low, rng.integers(1, 5), shape) for _ in range(2))
        words = explain(label, denoised, names, rng.uniform(0.3, 5, len(shape)).tolist())
        assert words and "nan" not in words and words.count(";") <= 2


def test_maps_are_not_modified() -> None:
    wrong, denoised = np.roll(phantom(), 4, 0), phantom()
    wrong[0], before = -1, (np.roll(phantom(), 4, 0), phantom())
    before[0][0] = -1
    explain(wrong, denoised, NAMES, MM)
    assert np.array_equal(wrong, before[0]) and np.array_equal(denoised, before[1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros((2, 3)), np.zeros((3, 2)), (1, 1), "RAS"), "of one shape"),
        ((np.zeros(3), np.zeros(3), (1,), "RAS"), "2D or 3D"),
        ((np.zeros((2, 2)), np.zeros((2, 2)), (1, 1, 1), "RAS"), "2 positive numbers"),
        ((np.zeros((2, 2)), np.zeros((2, 2)), (1, 0), "RAS"), "2 positive numbers"),
        ((np.zeros((2, 2, 2)), np.zeros((2, 2, 2)), (1, 1, 1), "RLS"), "three directions"),
        ((np.zeros((2, 2, 2)), np.zeros((2, 2, 2)), (1, 1, 1), "RASX"), "three directions"),
    ],
)
def test_what_is_out_of_range_is_refused(arguments: tuple, message: str) -> None:
    label, denoised, spacing, orientation = arguments
    with pytest.raises(ValueError, match=message):
        explain(label.astype(int), denoised.astype(int), NAMES, spacing, orientation)


NAMES_OF_KIND = {
    "missing_part": "missing",
    "leakage": "spreads|larger|labelled",
    "wrong_side": "mirrored|shifted|island|spreads|missing|labelled",
    "boundary_drift": "boundary",
    "holes": "hole",
    "islands": "island",
    "swapped_labels": "swapped|labelled",
    "truncated_fov": "cut off flat|missing",
}
FOREIGN_TO_KIND = {
    "missing_part": "spreads|island|shifted|mirrored|swapped|larger",
    "leakage": "island|mirrored|cut off",
    "wrong_side": "swapped",
    "boundary_drift": "island|mirrored|cut off|hole",
    "holes": "spreads|island|shifted|mirrored|swapped|larger",
    "islands": "missing|mirrored|swapped|cut off",
    "swapped_labels": "spreads|mirrored|hole|cut off",
    "truncated_fov": "spreads|island|shifted|mirrored|swapped|larger|hole",
}
SEEDS = 10


def test_every_kind_of_failure_has_its_words() -> None:
    assert set(NAMES_OF_KIND) == set(FOREIGN_TO_KIND) == set(KINDS)


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_reason_names_the_kind_of_failure_and_no_other(kind: str, spatial_dims: int) -> None:
    """Failures of a Dice near 0.8 against the reference itself, at least eight of ten seeds of each kind."""
    names = [(name, (value,)) for name, value in LABELS.items() if value]
    spacing = (1.0, 1.0) if spatial_dims == 2 else (1.5, 1.5, 2.0)
    reasons = []
    for seed in range(SEEDS):
        reference = make_phantom(np.random.default_rng([seed, spatial_dims]), spatial_dims)[0].astype(np.int16)
        wrong = degrade(reference, kind, 0.3, np.random.default_rng(seed), 4, spacing)
        reasons.append(explain(wrong, reference, names, spacing))
    named = sum(bool(re.search(NAMES_OF_KIND[kind], words)) for words in reasons)
    foreign = sum(bool(re.search(FOREIGN_TO_KIND[kind], words)) for words in reasons)
    assert named >= 0.8 * SEEDS, reasons
    assert foreign <= 0.2 * SEEDS, reasons


def test_reasons_that_say_nothing_are_left_out_beside_others() -> None:
    assert joined("a", "b") == "a; b"
    assert joined("a", NO_REASON) == joined("", "a") == joined(NO_REASON, "a") == joined("a", "") == "a"
    assert joined("", NO_REASON) == NO_REASON
    assert joined("", "") == ""


@pytest.mark.parametrize(
    ("missing", "orientation", "located", "words"),
    [
        (((0, 0), (0, 0), (0, 3)), "RAS", True, "3 slices missing at its upper end beside its image"),
        (((0, 0), (0, 0), (1, 0)), "LPI", True, "1 slice missing at its upper end beside its image"),
        (
            ((2, 0), (0, 4), (0, 0)),
            "LPS",
            True,
            "2 slices missing at its right end and 4 slices missing at its back end beside its image",
        ),
        (((0, 0), (0, 0), (3, 0)), "RAS", False, "3 slices fewer than its image"),
        (((0, 0), (7, 0)), "LP", True, "7 rows of pixels missing at its upper end beside its image"),
    ],
)
def test_slices_that_are_missing_are_named_by_the_end_of_the_patient(
    missing: tuple[tuple[int, int], ...], orientation: str, located: bool, words: str
) -> None:
    assert cropped_sentence(Cropped("image", missing, orientation, located)) == words
    assert cropped_sentence(None) == ""


@pytest.mark.parametrize(
    ("spacing", "words"),
    [
        ([1.0, 1.2, 1.5], ""),
        ([0.95, 1.0, 1.6], ""),  # within a tenth
        ([8.0, 8.0, 8.0], "voxels of 8 mm, references have 1 to 1.5 mm"),
        ([1.0, 1.0, 5.0], "voxels of 1 x 1 x 5 mm, references have 1 to 1.5 x 1 to 1.5 x 1 to 1.5 mm"),
        ([0.5, 1.0, 1.0], "voxels of 0.5 x 1 x 1 mm, references have 1 to 1.5 x 1 to 1.5 x 1 to 1.5 mm"),
    ],
)
def test_a_spacing_that_no_reference_has_is_named(spacing: list[float], words: str) -> None:
    assert spacing_sentence(spacing, ([1.0] * 3, [1.5] * 3)) == words


@pytest.mark.parametrize(
    ("spacing", "lengths", "words"),
    [
        ([1.5, 1.5, 2.0], [48.0, 48.0, 30.0], ""),
        ([1.5, 1.5, 2.0], [60.0, 30.0, 30.0], ""),  # larger and smaller: of no scale
        (
            [1.0, 1.0, 1.0],
            [32.0, 32.0, 24.0],
            "voxels of 1 mm and a field of view of 32 x 32 x 24 mm, "
            "references have one of 45 to 48 x 45 to 48 x 45 to 48 mm",
        ),
        (
            [15.0, 15.0, 20.0],
            [480.0, 480.0, 480.0],
            "voxels of 15 x 15 x 20 mm and a field of view of 480 mm, references have one of 45 to 48 mm",
        ),
    ],
)
def test_a_spacing_that_changes_the_size_of_everything_is_named_by_models_that_know_no_spacings(
    spacing: list[float], lengths: list[float], words: str
) -> None:
    assert field_of_view_sentence(spacing, lengths, ([45.0] * 3, [48.0] * 3)) == words


# ---- labels along a chain --------------------------------------------------------------------------------------------

RIBS = [(f"rib_{i}", (i,)) for i in range(1, 9)]


def ladder() -> np.ndarray:
    """Six of eight ribs, 2 to 7, one above the other."""
    label = np.zeros((40, 30, 60), dtype=np.int16)
    for i in range(2, 8):
        label[8 : 28 + i, 10:20, 7 * i - 8 : 7 * i - 3] = i
    return label


@pytest.mark.parametrize(("step", "words"), [(1, "high"), (-1, "low")])
def test_labels_off_by_one_along_a_chain_are_one_finding(step: int, words: str) -> None:
    wrong = np.where(ladder() > 0, ladder() + step, 0)
    pairs = " and ".join([f"rib_2 is labelled rib_{2 + step}, rib_3 is labelled rib_{3 + step}", "4 more"])
    assert explain(wrong, ladder(), RIBS, MM) == f"rib labels are one too {words}: {pairs}"


def test_a_shift_of_some_labels_leaves_the_others_to_their_own_findings() -> None:
    wrong = ladder()
    wrong[wrong >= 6] += 1  # 6 and 7 are labelled 7 and 8
    wrong[14:20, 12:18, 6:10][ladder()[14:20, 12:18, 6:10] == 2] = 0
    words = explain(wrong, ladder(), RIBS, MM)
    assert words.startswith("rib labels are one too high: rib_6 is labelled rib_7 and rib_7 is labelled rib_8; ")
    assert words.endswith("in rib_2")


def test_one_label_in_place_of_another_is_named() -> None:
    wrong = np.where(ladder() == 7, 1, ladder())
    assert explain(wrong, ladder(), RIBS, MM) == "rib_7 is labelled rib_1"


def test_a_cycle_of_labels_is_no_swap() -> None:
    table = np.arange(9)
    table[[2, 4, 7]] = 4, 7, 2
    words = explain(table[ladder()], ladder(), RIBS, MM)
    assert sorted(words.split("; ")) == [
        "rib_2 is labelled rib_4", "rib_4 is labelled rib_7", "rib_7 is labelled rib_2",
    ]  # fmt: skip


def test_what_every_reference_has_is_missing_whatever_the_network_makes_of_it() -> None:
    """A mask may call a structure by the name of what surrounds it: its denoised version then lacks it, too."""
    called_another = np.where(phantom() == 2, 1, phantom())
    arguments = called_another, called_another, NAMES, MM
    assert explain(*arguments) == NO_REASON
    assert explain(*arguments, needed={"anterior"}) == NO_REASON
    sized = explain(*arguments, needed={"anterior", "posterior"}, usual=USUAL)
    assert sized == "posterior is missing (references hold 133 ml, 101 ml to 163 ml)"
    assert explain(called_another, phantom(), NAMES, MM, needed={"posterior"}).count("posterior") == 1
