import numpy as np
import pytest
from scipy.ndimage import center_of_mass, shift
from sklearn.decomposition import PCA

from gnsm_monai.scoring.linear_shape import FRAMES, CoarseGrid, CoarseMap, LinearShape


def soft_maps(number, structures=2, cells=(3, 4), seed=0):
    generator = np.random.default_rng(seed)
    shares = generator.dirichlet(np.ones(structures + 1), (number, *cells))[..., 1:]
    return [
        CoarseMap(np.moveaxis(one, -1, 0), np.moveaxis(one, -1, 0).reshape(structures, -1).sum(1)) for one in shares
    ]


def ball(centre, radius, shape=(16, 20)):
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    return (((grid - np.array(centre)) ** 2).sum(-1) <= radius**2)[None]


@pytest.mark.parametrize("components", [1, 4, 10])
def test_a_mask_is_rebuilt_as_by_scikit_learn(components):
    maps = soft_maps(20)
    others = soft_maps(5, seed=1)
    pca = PCA(components, svd_solver="full").fit(np.stack([m.shares.ravel() for m in maps]))
    model = LinearShape.fit(maps, components)
    for one in others:
        answer = pca.inverse_transform(pca.transform(one.shares.reshape(1, -1)))[0]
        np.testing.assert_allclose(model.rebuilt(one).ravel(), np.clip(answer, 0, 1), atol=1e-9)


def test_the_score_is_one_minus_the_mean_soft_dice_by_hand():
    maps = [CoarseMap(np.array([[1.0, 1.0, 0.0], [0.0, 0.0, 0.5]]), np.array([2.0, 0.5]))] * 3  # no variation
    model = LinearShape.fit(maps)
    assert model.directions.shape == (0, 6)
    mask = CoarseMap(np.array([[1.0, 0.0, 0.0], [0.0, 0.25, 0.5]]), np.array([3.0, 0.75]))  # two cells lie outside
    # first structure: overlap 1 of sizes 3 and 2; second: overlap .5 of sizes .75 and .5
    np.testing.assert_allclose(model.structure_scores(mask), [1 - 2 * 1 / 5, 1 - 2 * 0.5 / 1.25])
    assert model.score(mask) == pytest.approx((0.6 + 0.2) / 2)


def test_missing_structures_count_where_they_are_expected_and_empty_masks_are_worst():
    maps = [CoarseMap(np.array([[1.0, 1.0], [0.0, 0.1]]), np.array([2.0, 0.1]))] * 2
    model = LinearShape.fit(maps)
    lacking = CoarseMap(np.array([[0.0, 0.0], [0.0, 0.1]]), np.array([0.0, 0.1]))
    np.testing.assert_allclose(model.structure_scores(lacking), [1, 0])
    without_small = CoarseMap(np.array([[1.0, 1.0], [0.0, 0.0]]), np.array([2.0, 0.0]))
    np.testing.assert_allclose(model.structure_scores(without_small), [0, np.nan])
    assert model.score(CoarseMap(np.zeros((2, 2)), np.zeros(2))) == 1


def test_as_many_components_as_masks_rebuild_them():
    maps = soft_maps(6)
    model = LinearShape.fit(maps)
    assert len(model.directions) == 5  # the mean takes one
    np.testing.assert_allclose(model.directions @ model.directions.T, np.eye(5), atol=1e-9)
    assert max(model.score(one) for one in maps) < 1e-9


@pytest.mark.parametrize("frame", FRAMES)
def test_the_grid_holds_every_mask_it_is_made_for(frame):
    generator = np.random.default_rng(0)
    masks = [
        ball(generator.uniform(3, 13, 2), generator.uniform(1, 4), tuple(generator.integers(16, 25, 2)))
        for _ in range(30)
    ]
    grid = CoarseGrid.holding(masks, frame, max_cells=40)
    assert np.prod(grid.cells) <= 40
    for mask in masks:
        coarse = grid.coarse(mask)
        np.testing.assert_allclose(coarse.shares.sum(), coarse.size.sum())
        np.testing.assert_allclose(coarse.size * np.prod(grid.stride), mask.sum())


def test_cells_hold_shares_of_voxels():
    mask = np.zeros((1, 4, 4))
    mask[0, 1:3, 0:2] = 1
    grid = CoarseGrid((2, 2), (2, 2))
    np.testing.assert_array_equal(grid.coarse(mask).shares, [[[0.5, 0], [0.5, 0]]])


def test_a_moved_mask_is_the_same_in_its_own_frame_and_another_in_that_of_the_volume():
    one, moved = ball((7, 8), 3), ball((9, 11), 3)
    grids = {frame: CoarseGrid.holding([one, moved], frame) for frame in FRAMES}
    same = {frame: np.array_equal(grid.coarse(one).shares, grid.coarse(moved).shares) for frame, grid in grids.items()}
    assert same == {"volume": False, "mask": True}
    middle = center_of_mass(grids["mask"].coarse(moved).shares[0])
    np.testing.assert_allclose(middle, (np.array(grids["mask"].cells) - 1) / 2, atol=0.5)


def test_a_mask_beyond_the_grid_is_odd_by_what_lies_outside():
    model_masks = [ball((8, 10), r) for r in (2, 3, 4)]
    grid = CoarseGrid.holding(model_masks)
    model = LinearShape.fit([grid.coarse(mask) for mask in model_masks])
    outside = np.maximum(model_masks[1], ball((1, 1), 1))
    assert model.score(grid.coarse(outside)) > model.score(grid.coarse(model_masks[1])) + 0.05


def test_the_odd_one_of_many_scores_highest():
    generator = np.random.default_rng(0)
    masks = [ball((8, 10), generator.uniform(3, 5)) for _ in range(12)]
    odd = shift(masks[0].astype(float), (0, 5, -6), order=0)
    grid = CoarseGrid.holding([*masks, odd])
    model = LinearShape.fit([grid.coarse(mask) for mask in masks[:8]], 3)
    scores = [model.score(grid.coarse(mask)) for mask in [*masks[8:], odd]]
    assert np.argmax(scores) == 4


def test_stored_and_read_back_it_scores_the_same():
    maps = soft_maps(8)
    model = LinearShape.fit(maps[:6])
    arrays = {**model.to_arrays("linear_volume_"), **LinearShape.fit(maps[:3]).to_arrays("linear_mask_")}
    again = LinearShape.from_arrays(arrays, "linear_volume_")
    assert again.score(maps[7]) == pytest.approx(model.score(maps[7]), abs=1e-6)
    assert LinearShape.from_arrays({}, "linear_volume_") is None


def test_an_unknown_frame_and_no_masks_are_refused():
    with pytest.raises(ValueError, match="frame must be one of"):
        CoarseGrid.holding([ball((8, 10), 3)], "centre")
    with pytest.raises(ValueError, match="at least one"):
        CoarseGrid.holding([])
    with pytest.raises(ValueError, match="at least one mask"):
        LinearShape.fit([])
