"""Sets in which some references hold no structure: what fails, and what the score makes of empty masks."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gnsm_monai.data.constants import IGNORE_INDEX, LABEL
from gnsm_monai.data.degradations import MAX_FALSE, false_structures
from gnsm_monai.data.references import References, read_references
from gnsm_monai.data.transforms import FitToGridd
from gnsm_monai.files import save_json
from gnsm_monai.fitting.failure import Failure, FailurePlan
from gnsm_monai.fitting.reference_failures import ReferenceFailures
from gnsm_monai.fitting.reference_statistics import ReferenceStatistics, ScoredFailure
from gnsm_monai.networks import ScoreUNet
from gnsm_monai.rules.levels import CaseStatistics
from gnsm_monai.rules.statistics import STATISTICS
from gnsm_monai.workflow.training import with_prior

LEVELS = 3


def write_squares(folder: Path, counts: list[int]) -> Path:
    """Pictures with so many squares of 4 x 4 each, at places of their own that do not touch."""
    rng = np.random.default_rng(0)
    for name in ("labelsTr", "imagesTr"):
        (folder / name).mkdir()
    for number, count in enumerate(counts):
        label = np.zeros((32, 32), dtype=np.uint8)
        for square in range(count):
            row, column = rng.integers(4, 24 if count == 1 else 12, 2) + 14 * square
            label[row : row + 4, column : column + 4] = 1
        Image.fromarray(label).save(folder / "labelsTr" / f"c{number:02d}.png")
        Image.fromarray(100 + 100 * label).save(folder / "imagesTr" / f"c{number:02d}_0000.png")
    description = {"channel_names": {"0": "x"}, "labels": {"background": 0, "lesion": 1}, "file_ending": ".png"}
    save_json(folder / "dataset.json", description)
    return folder


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty pictures, ten of them with a square of 4 x 4 at a place of its own."""
    return write_squares(tmp_path_factory.mktemp("lesions"), [0, 1] * 10)


@pytest.mark.parametrize("filled", [10, 4, 3])
def test_structures_are_met_half_of_the_time_in_training(dataset: Path, filled: int) -> None:
    """However few references hold one; each of these as often as the others, and no empty reference is left out."""
    left_out = [f"c{number:02d}" for number in range(1, 20, 2)][filled:]
    references = read_references(dataset, 2, with_images=True, exclude=left_out)
    met = Counter(case["case"] for case in references.training_cases)
    with_structure = {case: count for case, count in met.items() if int(case[1:]) % 2}
    assert set(met) == {case["case"] for case in references.used_for("train")}
    assert sum(met.values()) / 2 <= sum(with_structure.values()) < sum(met.values()) / 2 + len(with_structure) + 1
    assert len(set(with_structure.values())) == 1 and {met[case] for case in met.keys() - with_structure} == {1}
    assert (filled == 10) == (max(met.values()) == 1)


@pytest.mark.parametrize("with_images", [False, True])
def test_no_reference_is_met_twice_where_all_hold_structures_or_without_images(
    dataset: Path, with_images: bool
) -> None:
    left_out = range(0, 20, 2) if with_images else range(1, 14, 2)
    references = read_references(dataset, 2, with_images, exclude=[f"c{number:02d}" for number in left_out])
    assert references.training_cases == references.used_for("train")


def test_the_prior_is_that_of_what_the_network_meets(dataset: Path) -> None:
    """The network adds its answer to it: with another one it would first have to unlearn that."""
    references = read_references(dataset, 2, with_images=True, exclude=["c01", "c03", "c05", "c07", "c09", "c11"])
    network = ScoreUNet(2, 2, channels=[4, 4], position_size=references.spatial_size)
    prior = with_prior(network, references).log_prior.exp()[1].mean().item()
    labels = [place(references, case) for case in references.training_cases]
    assert prior == pytest.approx(np.mean([label > 0 for label in labels]), rel=0.05)


def place(references: References, case: dict[str, object]) -> np.ndarray:
    return FitToGridd(references.spatial_size)({LABEL: references.stored.label(case)})[LABEL].numpy()


def failures(references: References, plan: FailurePlan) -> dict[bool, list[Failure]]:
    """Of the references for selection, by whether a reference has a structure."""
    makes, cases = ReferenceFailures(references, "copies"), references.used_for("selection")
    made: dict[bool, list[Failure]] = {True: [], False: []}
    for number, (case, maps) in enumerate(zip(cases, references.maps_of(cases), strict=True)):
        made[bool((maps[LABEL] > 0).any())] += makes.of(case, maps, number, plan)
    return made


def test_an_empty_reference_fails_by_false_structures(dataset: Path) -> None:
    made = failures(read_references(dataset, 2), FailurePlan(0, 8, None))
    assert len(made[False]) >= 4 and {failure.kind for failure in made[False]} == {"false_structures"}
    for failure in made[False]:
        assert failure.dice == 0
        assert 16 <= int((failure.case[LABEL] == 1).sum()) <= 16 * MAX_FALSE
    assert len({int((failure.case[LABEL] == 1).sum()) for failure in made[False]}) > 1


@pytest.mark.parametrize(
    ("counts", "with_images", "expected"),
    [
        ([1, 2] * 10, True, True),
        ([1, 2] * 10, False, False),
        ([1] * 20, True, False),
        ([1] * 18 + [2] * 2, True, False),
    ],
)
def test_references_with_structures_in_any_number_fail_by_false_ones_where_an_image_can_tell(
    tmp_path: Path, counts: list[int], with_images: bool, expected: bool
) -> None:
    references = read_references(write_squares(tmp_path, counts), 2, with_images)
    made = failures(references, FailurePlan(0, 4, None))[True]
    false = [failure for failure in made if failure.kind == "false_structures"]
    assert len(false) == (2 * len(references.used_for("selection")) if expected else 0)
    assert all(0 < failure.dice < 1 for failure in false)
    assert ReferenceFailures(references, "copies").most(FailurePlan(0, 4, None)) == 4 + 1 + (2 if expected else 0)


@pytest.mark.parametrize("with_images", [False, True])
def test_an_empty_mask_is_a_failure_where_an_image_can_tell(dataset: Path, with_images: bool) -> None:
    references = read_references(dataset, 2, with_images=with_images)
    made = failures(references, FailurePlan(0, 4, None))
    empty = [failure for failure in made[True] if not bool((failure.case[LABEL] > 0).any())]
    filled = sum(bool((maps[LABEL] > 0).any()) for maps in references.maps("selection"))
    assert len(empty) == (filled if with_images else 0)
    assert all(failure.dice == 0 for failure in empty)


def test_false_structures_lie_in_the_background_of_what_is_seen() -> None:
    label = np.zeros((12, 12), dtype=np.int16)
    label[:3], label[3:6] = IGNORE_INDEX, 2
    before = label.copy()
    failed = [false_structures(label, [np.ones((3, 20), np.int16)], np.random.default_rng(s)) for s in range(8)]
    np.testing.assert_array_equal(label, before)
    for one in failed:
        assert (one[:6] == before[:6]).all() and set(np.unique(one[6:])) <= {0, 1}
    assert any((one == 1).any() for one in failed)


def case_statistics(levels: dict[str, np.ndarray]) -> CaseStatistics:
    nothing = np.empty(0)
    return CaseStatistics(levels, np.zeros((1, LEVELS)), nothing, nothing, nothing)


def statistics(seed: int = 0) -> ReferenceStatistics:
    """Twelve references, six of them empty, that are far from all others in every statistic."""
    rng = np.random.default_rng(seed)

    def measured(dice: float, empty: bool, disagreement: float) -> CaseStatistics:
        bad = {name: 1 - dice + 0.05 * rng.normal(size=LEVELS) for name in STATISTICS}
        levels = {name: np.full(LEVELS, 50.0) for name in STATISTICS} if empty else bad
        shown = {"disagreement": np.full(LEVELS, disagreement)} if empty else {}
        return case_statistics({**levels, **shown, "doubt": np.full(LEVELS, 0.1)})

    empty = np.arange(12) % 2 == 0
    made = []
    for group in np.repeat(np.arange(12), 5):
        missed = len(made) % 5 == 0 and not empty[group]
        dice = 0.0 if missed else rng.uniform(0, 0.9)
        failure = Failure("made", {}, np.array([dice]), np.array([np.nan]))
        made.append(ScoredFailure(failure, measured(dice, missed, 1.0), int(group), missed))
    references = [measured(1.0, bool(one), 0.0) for one in empty]
    return ReferenceStatistics([str(i) for i in range(12)], references, made, empty)


@pytest.mark.parametrize("rule", ["auto", "deviation", "misfit_gmm", "score_norm_knn"])
def test_correct_empty_masks_are_usual_and_missed_structures_are_the_worst(rule: str) -> None:
    """By whatever rule: none sees empty masks."""
    made = statistics()
    assert made.empty is not None
    model = made.fit(rule, 0, None)
    references, failed = model.score(made.levels, made.empty), model.score(made.failure_levels, made.empty_failures)
    assert references[made.empty].max() <= references[~made.empty].max()
    assert (failed[made.empty_failures] == model.worst).all()
    np.testing.assert_allclose(model.fair_scores, failed)


def test_rules_are_fitted_as_without_the_empty_references() -> None:
    made = statistics()
    assert made.empty is not None
    seen = [each for each in made.scored_failures if not each.empty and not made.empty[each.group]]
    only = ReferenceStatistics(
        made.cases[::2],
        [one for one, empty in zip(made.references, made.empty, strict=True) if not empty],
        [replace(each, group=each.group // 2) for each in seen],
    )
    one, other = (statistics.fit("deviation", 0, None) for statistics in (made, only))
    np.testing.assert_allclose(one.fitted.anomaly(made.failure_levels), other.fitted.anomaly(made.failure_levels))


def test_files_of_a_model_without_empty_references_hold_nothing_of_them() -> None:
    made = statistics()
    filled = replace(
        made,
        scored_failures=[each for each in made.scored_failures if not each.empty],
        empty=None,
    )
    for each, names in ((made, True), (filled, False)):
        arrays = each.selection_arrays() | each.calibration_arrays() | each.fit("deviation", 0, None).to_arrays()
        assert any("empty" in name for name in arrays) == names
