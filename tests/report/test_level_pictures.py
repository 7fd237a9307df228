from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from gnsm_monai.handlers.training_log import level_table
from gnsm_monai.report.colours import class_colours
from gnsm_monai.report.strips import ENLARGE, GAP, level_pictures


@pytest.mark.parametrize("spatial", [(12, 10), (12, 10, 4)])
def test_a_strip_shows_mask_and_misfit_in_their_places(spatial: tuple[int, ...]) -> None:
    label = torch.zeros(1, *spatial, dtype=torch.long)
    label[:, 2:5, 3:6] = 1  # y = 3 … 5 of 0 … 9
    mask = F.one_hot(label, 2).movedim(-1, 1).float().expand(3, -1, *([-1] * len(spatial)))
    logits = 8 * mask.clone() - 4
    logits[1] = -logits[1]  # level 1 would have it the other way round
    strip = level_pictures(logits, {"probabilities": mask, "x": mask.log_softmax(1)}, [0, 1])
    cell_height, cell_width = 10 * ENLARGE + GAP, 12 * ENLARGE + GAP
    assert strip.shape == (2 * cell_height, 5 * cell_width, 3)
    assert strip.min() >= 0 and strip.max() <= 1
    # x = 3 to the right; y runs up in a volume (front on top), and down in a picture, as in its file
    inside, outside = ((6, 3), (3, 3)) if len(spatial) == 3 else ((3, 3), (6, 3))
    inside, outside = ((row * ENLARGE, column * ENLARGE) for row, column in (inside, outside))
    assert np.allclose(strip[outside], 0)
    assert np.allclose(strip[inside], class_colours(2)[1])
    assert np.allclose(strip[inside[0], inside[1] + 4 * ENLARGE], 0)  # x = 7 is background
    misfit = strip[:, 4 * cell_width :]
    assert misfit[inside].sum() < 0.1  # well explained at level 0 …
    assert misfit[inside[0] + cell_height, inside[1]].sum() > 1.5  # … and not at all at level 1


def test_a_table_is_aligned_to_the_right() -> None:
    assert level_table({"level": ["0", "10"], "x": ["0.5", "-1.25"]}) == "level      x\n    0    0.5\n   10  -1.25"
