"""Areas at which classes touch, against counting face by face."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gnsm_monai.data.contacts import contact_areas


def counted(label: np.ndarray, spacing: tuple[float, ...], num_classes: int) -> np.ndarray:
    areas = np.zeros((num_classes, num_classes))
    for place in product(*map(range, label.shape)):
        for axis, mm in enumerate(spacing):
            for step in (-1, 1):
                beside = tuple(i + step * (a == axis) for a, i in enumerate(place))
                inside = 0 <= beside[axis] < label.shape[axis]
                if label[place] < 0 or (not inside and label.shape[axis] == 1):
                    continue
                other = label[beside] if inside and label[beside] >= 0 else label[place]
                if not inside or label[beside] != label[place]:
                    areas[label[place], other] += np.prod(spacing) / mm
    return areas


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from([(5, 4), (4, 3, 5), (4, 5, 1)]))
def test_areas_are_those_of_the_faces(data: st.DataObject, shape: tuple[int, ...]) -> None:
    label = data.draw(arrays(np.int16, shape, elements=st.integers(-1, 3)))
    spacing = tuple(data.draw(st.lists(st.floats(0.5, 5), min_size=len(shape), max_size=len(shape))))
    np.testing.assert_allclose(contact_areas(label, spacing, 4), counted(label, spacing, 4), rtol=1e-5)
    np.testing.assert_array_equal(contact_areas(np.asfortranarray(label), spacing, 4), contact_areas(label, spacing, 4))


def test_a_cube_has_the_area_of_its_faces() -> None:
    label = np.zeros((10, 10, 10), dtype=np.int16)
    label[3:6, 3:7, 3:8] = 1  # 3 x 4 x 5 voxels of 1 x 2 x 3 mm: 3 x 8 x 15 mm
    areas = contact_areas(label, (1, 2, 3), 2)
    assert areas[0, 1] == areas[1, 0] == pytest.approx(2 * (3 * 8 + 8 * 15 + 3 * 15))
    assert areas[1, 1] == 0  # it ends before the field of view does
    assert areas[0, 0] == pytest.approx(2 * (10 * 20 + 20 * 30 + 10 * 30))


@pytest.mark.parametrize("value", [0, -1, 1])
def test_one_class_alone_touches_nothing_but_the_edge(value: int) -> None:
    areas = contact_areas(np.full((4, 4, 4), value, dtype=np.int16), (1, 1, 1), 2)
    assert areas.sum() == (6 * 16 if value >= 0 else 0) == np.diag(areas).sum()
