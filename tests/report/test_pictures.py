from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from gnsm_monai.explain.planes import Plane
from gnsm_monai.report.colours import class_colours
from gnsm_monai.report.pictures import DARK, OUTLINE, PlaneLayers, draw_plane, heat_range, stripes_meaning


def decoded(uri: str) -> np.ndarray:
    """RGBA pixels of a PNG data URI."""
    kind, _, content = uri.partition(",")
    assert kind == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content))).convert("RGBA")).astype(int)


def plane(
    label: np.ndarray,
    anomaly: np.ndarray | None = None,
    image: np.ndarray | None = None,
    spacing: tuple[float, float] = (1.0, 1.0),
) -> Plane:
    anomaly = np.zeros(label.shape, dtype=np.float32) if anomaly is None else anomaly.astype(np.float32)
    return Plane(2, 5, label.astype(np.int16), anomaly, image, spacing)


def two_squares(background: int = 0) -> np.ndarray:
    label = np.full((30, 30), background)
    label[8:22, 5:15], label[8:22, 15:25] = 1, 2
    return label


def has_colour(pixels: np.ndarray, colour: np.ndarray) -> np.ndarray:
    opaque = pixels[..., 3] == 255
    return opaque & (np.abs(pixels[..., :3] - np.rint(255 * colour)) <= 1).all(axis=-1)


def test_neighbours_are_outlined_in_their_own_colours_on_their_own_side() -> None:
    drawn = decoded(draw_plane(plane(two_squares()), (0, 1)).outlines)
    first, second = (has_colour(drawn, colour) for colour in class_colours(3)[1:])
    columns_of_first, columns_of_second = np.flatnonzero(first.any(axis=0)), np.flatnonzero(second.any(axis=0))
    assert columns_of_first.max() < columns_of_second.min()
    assert columns_of_second.min() - columns_of_first.max() <= 2
    middle = drawn.shape[0] // 2
    assert first[middle].sum() == second[middle].sum() == 2 * OUTLINE
    assert drawn[middle, columns_of_first.min() + 20, 3] == 0  # inside of it one looks through


@pytest.mark.parametrize("structures", [2, 117, 300])
def test_structures_are_outlined_in_the_colours_that_are_given(structures: int) -> None:
    label = two_squares()
    label[label == 2] = min(structures, 250)
    given = [f"#{n % 256:02x}{n // 256:02x}ff" for n in range(structures)]
    layers = draw_plane(plane(label), (0, 1), given)
    for number in (1, min(structures, 250)):
        rgb = np.array([(number - 1) % 256, 0, 255])
        assert has_colour(decoded(layers.outlines), rgb / 255).any()
        assert has_colour(decoded(layers.ground), (0.25 * rgb + 0.75 * np.array(DARK)) / 255).any()


def test_a_structure_has_one_colour_alone_and_beside_others() -> None:
    alone = np.where(two_squares() == 2, 2, 0)
    for label in (alone, two_squares()):
        assert has_colour(decoded(draw_plane(plane(label), (0, 1)).outlines), class_colours(3)[2]).any()
    assert not has_colour(decoded(draw_plane(plane(alone), (0, 1)).outlines), class_colours(3)[1]).any()


def test_voxels_that_are_not_square_are_drawn_in_their_true_shape() -> None:
    layers = draw_plane(plane(np.ones((20, 20), dtype=int), spacing=(3.0, 1.0)), (0, 1))
    assert layers.height == pytest.approx(3 * layers.width, abs=3)
    assert decoded(layers.outlines).shape[:2] == (layers.height, layers.width)


def test_the_scale_bar_is_as_long_as_it_says() -> None:
    layers = draw_plane(plane(np.ones((50, 100), dtype=int), spacing=(0.5, 0.5)), (0, 1))  # 50 mm wide
    white = has_colour(decoded(layers.outlines), np.ones(3))
    assert layers.bar_mm == 10
    assert white.any(axis=0).sum() == pytest.approx(layers.width * 10 / 50, abs=1)


def test_heat_is_clear_where_there_is_no_anomaly_and_brightest_at_the_worst() -> None:
    anomaly = np.zeros((30, 30))
    anomaly[10, 10], anomaly[10, 12] = 2.0, 9.0
    heat = decoded(draw_plane(plane(np.ones((30, 30), dtype=int), anomaly), (0.0, 4.0)).heat)
    assert heat[0, 0, 3] == 0
    assert 0 < heat[10, 10, 3] < heat[10, 12, 3]
    assert heat[10, 10, :3].sum() < heat[10, 12, :3].sum()


def test_the_image_is_underneath_in_grey_and_structures_on_dark_without_one() -> None:
    image = np.tile(np.linspace(0, 100, 30, dtype=np.float32), (30, 1))
    label = np.ones((30, 30), dtype=int)
    with_image, without = draw_plane(plane(label, image=image), (0, 1)), draw_plane(plane(0 * label), (0, 1))
    grey = decoded(with_image.ground)
    assert with_image.has_image and not without.has_image
    assert (grey[..., 0] == grey[..., 1]).all() and grey[0, 0, 0] == 0 and grey[0, -1, 0] == 255
    assert (decoded(without.ground)[..., :3] == DARK).all()


def test_far_surroundings_are_left_out_but_no_anomaly_is() -> None:
    label, anomaly = np.zeros((100, 100), dtype=int), np.zeros((100, 100))
    label[40:50, 40:50] = 1
    near = decoded(draw_plane(plane(label, anomaly), (0, 1)).heat)
    anomaly[90, 45] = 1.0
    far = decoded(draw_plane(plane(label, anomaly), (0, 1)).heat)
    assert near.shape[:2] == (16, 16)
    assert far.shape[0] > 50 and far[..., 3].any()


def test_an_empty_mask_and_values_that_are_no_numbers_can_be_drawn() -> None:
    broken = np.full((12, 9), np.nan, dtype=np.float32)
    layers = draw_plane(plane(np.zeros((12, 9), dtype=int), broken, broken), (0, 1))
    assert isinstance(layers, PlaneLayers)
    assert decoded(layers.ground).shape == (12, 9, 4)
    assert not decoded(layers.heat)[..., 3].any()


def test_ignored_voxels_are_striped() -> None:
    striped = decoded(draw_plane(plane(two_squares(background=-1)), (0, 1)).outlines)
    marked = (striped[..., :3] == 190).all(axis=-1) & (striped[..., 3] > 0)
    assert marked[0].any() and not marked[0].all()
    assert not marked[striped.shape[0] // 2, striped.shape[1] // 2 :][:50].any()


def test_heat_is_the_same_for_all_pictures_and_not_ruled_by_one_wild_voxel() -> None:
    calm, wild = np.linspace(0, 1, 900).reshape(30, 30), np.linspace(0, 1, 900).reshape(30, 30).copy()
    wild[0, 0] = 1e6
    label = np.ones((30, 30), dtype=int)
    low, high = heat_range([(plane(label, calm),), (plane(label, wild),)])
    assert low == pytest.approx(0.5, abs=0.01)
    assert high == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("pictures", [[], [(plane(np.ones((3, 3), dtype=int)),)]])
def test_heat_of_nothing_or_of_a_constant_is_a_range_all_the_same(pictures: list[tuple[Plane, ...]]) -> None:
    low, high = heat_range(pictures)
    assert low < high


def test_the_legend_tells_what_lies_outside_the_field_of_view_from_what_is_ignored() -> None:
    whole = two_squares()
    cut = np.pad(whole, ((4, 0), (0, 7)), constant_values=-1)
    hole = whole.copy()
    hole[10:12, 6:9] = -1
    assert stripes_meaning([]) == stripes_meaning([(plane(whole),)]) == ""
    assert stripes_meaning([(plane(whole), plane(cut))]) == "outside the field of view"
    assert stripes_meaning([(plane(whole),), (plane(hole),)]) == "ignored"
    both = "outside the field of view or ignored"
    assert (
        stripes_meaning([(plane(np.where(cut == 2, -1, cut)),)]) == both == stripes_meaning([(plane(cut), plane(hole))])
    )
