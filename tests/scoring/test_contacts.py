"""What structures touch, beside references: nine boxes whose sizes vary."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from gnsm_monai.data.contacts import contact_areas
from gnsm_monai.scoring.contacts import PRIOR, ReferenceContacts, structure_weights
from tests.builders import boxes

K = 10
STRUCTURES = [[k] for k in range(1, K)]


def volume(rng: np.random.Generator) -> np.ndarray:
    """The boxes, eight voxels high."""
    return np.pad(np.repeat(boxes(rng)[..., None], 8, axis=2), [(0, 0), (0, 0), (4, 4)])


def areas(label: np.ndarray) -> np.ndarray:
    return contact_areas(label, (1, 1, 1), K).astype(float)


@pytest.fixture(scope="module")
def learnt() -> ReferenceContacts:
    rng = np.random.default_rng(0)
    contacts = ReferenceContacts.fit(np.stack([areas(volume(rng)) for _ in range(12)]))
    assert contacts is not None
    return contacts


def deviations(learnt: ReferenceContacts, label: np.ndarray) -> np.ndarray:
    return learnt.deviations(areas(label), STRUCTURES)


def test_references_that_were_not_seen_are_usual(learnt: ReferenceContacts) -> None:
    rng = np.random.default_rng(1)
    found = np.stack([deviations(learnt, volume(rng)) for _ in range(40)])
    assert abs(found.mean()) < 0.5 and 0.5 < found.std() < 2


@pytest.mark.parametrize("damage", ["missing", "called another", "swapped", "grown"])
def test_the_damaged_structure_is_the_most_unusual(learnt: ReferenceContacts, damage: str) -> None:
    label = volume(np.random.default_rng(2))
    worse, damaged = label.copy(), {1}
    if damage == "missing":
        worse[label == 1] = 0
    elif damage == "called another":
        worse[label == 1] = 2
    elif damage == "swapped":
        worse[label == 1], worse[label == 9], damaged = 9, 1, {1, 9}
    else:
        worse[ndimage.binary_dilation(label == 5, iterations=2)] = 5
        damaged = {5}
    found = deviations(learnt, worse)
    assert 1 + int(found.argmax()) in damaged
    assert found.max() > deviations(learnt, label).max() + 2


def test_a_deviation_is_what_it_says_it_is() -> None:
    rng = np.random.default_rng(3)
    each = np.stack([areas(volume(rng)) for _ in range(6)]).astype(float)
    learnt = ReferenceContacts.fit(each)
    assert learnt is not None
    logs = np.log(each * (1 - np.eye(K)) + learnt.small)

    def root_mean_square(one: np.ndarray, others: np.ndarray) -> np.ndarray:
        spread = np.sqrt((others.var(0, ddof=1) + PRIOR**2) / 2)
        return np.asarray(np.sqrt((((one - others.mean(0)) / spread) ** 2).mean(1)))

    left_out = np.stack([root_mean_square(logs[i], logs[np.arange(6) != i]) for i in range(6)])
    of_boxes = left_out[:, 1:]
    usual, unit = left_out.mean(0) + of_boxes.mean(), np.sqrt((left_out.var(0) + of_boxes.var()) / 2)
    mask = areas(volume(rng))
    expected = (root_mean_square(np.log(mask * (1 - np.eye(K)) + learnt.small), logs) - usual / 2) / unit
    np.testing.assert_allclose(learnt.deviations(mask, STRUCTURES), expected[1:])


def test_the_size_of_a_voxel_does_not_count(learnt: ReferenceContacts) -> None:
    rng = np.random.default_rng(0)
    larger = ReferenceContacts.fit(4 * np.stack([areas(volume(rng)) for _ in range(12)]))
    assert larger is not None
    mask = areas(volume(rng))
    np.testing.assert_allclose(larger.deviations(4 * mask, STRUCTURES), learnt.deviations(mask, STRUCTURES), atol=1e-5)


def test_the_most_unusual_class_of_a_structure_counts(learnt: ReferenceContacts) -> None:
    label = volume(np.random.default_rng(2))
    label[label == 1] = 0
    single = deviations(learnt, label)
    np.testing.assert_array_equal(learnt.deviations(areas(label), [[1, 2], [3]]), [single[:2].max(), single[2]])


def test_few_references_or_few_neighbours_tell_nothing() -> None:
    rng = np.random.default_rng(0)
    each = np.stack([areas(volume(rng)) for _ in range(5)])
    assert ReferenceContacts.fit(each) is not None
    assert ReferenceContacts.fit(each[:4]) is None
    assert ReferenceContacts.fit(each[:, :4, :4]) is None  # a row of three boxes
    assert ReferenceContacts.fit(np.zeros_like(each)) is None


def test_it_is_read_back_as_it_was(learnt: ReferenceContacts) -> None:
    again = ReferenceContacts.from_arrays(learnt.to_arrays())
    assert again is not None
    mask = areas(volume(np.random.default_rng(5)))
    np.testing.assert_array_equal(again.deviations(mask, STRUCTURES), learnt.deviations(mask, STRUCTURES))
    assert ReferenceContacts.from_arrays({}) is None


def test_what_is_usual_or_less_weighs_one() -> None:
    np.testing.assert_array_equal(structure_weights(np.array([-2.0, 0.0, 1.0, 3.0])), [1, 1, 2, 10])


def test_the_contact_that_is_most_unusual_is_told_with_the_usual_one(learnt: ReferenceContacts) -> None:
    label = volume(np.random.default_rng(2))
    there = areas(label)[1, 2]
    contact = learnt.most_unusual(areas(np.where(label == 2, 9, label)), [1])
    assert contact.partner in (2, 9)  # what it no longer touches, or touches instead: on the same area
    lost = contact.partner == 2
    assert contact.area == pytest.approx(0 if lost else there)
    assert contact.usual == pytest.approx(there if lost else 0, abs=0.4 * there)
    assert (contact.most > 0) == lost


def test_a_structure_of_several_classes_does_not_touch_itself(learnt: ReferenceContacts) -> None:
    label = volume(np.random.default_rng(2))
    worse = np.where(label == 1, 2, np.where(label == 2, 1, label))
    assert learnt.most_unusual(areas(worse), [1, 2, 4]).partner not in (1, 2, 4)


def test_nothing_is_said_of_what_the_field_of_view_cuts_off(learnt: ReferenceContacts) -> None:
    label = volume(np.random.default_rng(2))
    cut = label[: int(np.nonzero(label == 5)[0].mean())]  # half of the boxes is beyond the edge
    at_edge = {k for k in range(1, K) if (cut[-1] == k).any()}
    beyond = {k for k in range(1, K) if not (cut == k).any()}
    assert 5 in at_edge and beyond
    judged = deviations(learnt, cut)
    assert max(judged[k - 1] for k in at_edge | beyond) <= 0


def test_a_few_voxels_at_the_edge_silence_no_structure(learnt: ReferenceContacts) -> None:
    label = volume(np.random.default_rng(2))
    worse = np.where(label == 1, 2, label)
    stray = worse.copy()
    stray[0, :K, 0] = range(K)
    assert deviations(learnt, stray)[1] > deviations(learnt, label)[1] + 2
    assert deviations(learnt, worse)[1] > deviations(learnt, label)[1] + 2


def test_references_that_are_all_alike_leave_deviations_bounded() -> None:
    label = volume(np.random.default_rng(0))
    learnt = ReferenceContacts.fit(np.stack([areas(label)] * 8))
    assert learnt is not None
    np.testing.assert_allclose(deviations(learnt, label), 0, atol=1e-3)
    assert 0 < deviations(learnt, volume(np.random.default_rng(1))).max() < 1000


def test_classes_that_no_reference_has_change_nothing(learnt: ReferenceContacts) -> None:
    rng, more = np.random.default_rng(0), [(0, 0), (0, 20), (0, 20)]
    wider = ReferenceContacts.fit(np.pad(np.stack([areas(volume(rng)) for _ in range(12)]), more))
    assert wider is not None
    mask = areas(volume(rng))
    few, many = learnt.deviations(mask, STRUCTURES), wider.deviations(np.pad(mask, more[1:]), STRUCTURES)
    np.testing.assert_allclose(many, few, atol=0.05)
