from __future__ import annotations

import numpy as np

from gnsm_monai.report.colours import MAX_TONES, NUM_TONES, class_colours, class_hex, num_tones


def test_every_structure_has_a_colour_and_background_is_black() -> None:
    colours = class_colours(NUM_TONES + 1)
    assert colours.shape == (NUM_TONES + 1, 3)
    assert (colours[0] == 0).all()
    assert len({tuple(colour) for colour in colours}) == NUM_TONES + 1


def test_a_structure_keeps_its_colour_however_many_others_there_are() -> None:
    assert np.array_equal(class_colours(3), class_colours(40)[:3])
    assert np.array_equal(class_colours(40)[1], class_colours(40)[1 + NUM_TONES])


def test_colours_in_hex_are_the_same_colours() -> None:
    assert class_hex(3) == ["#000000", "#e69f00", "#56b4e9"]


def test_given_colours_stand_in_place_of_the_tones() -> None:
    assert class_hex(4, ["#112233", "", "nonsense"]) == ["#000000", "#112233", *class_hex(4)[2:]]
    assert [num_tones(["#112233"] * n) for n in (0, 30, 1000)] == [NUM_TONES, 30, MAX_TONES]
