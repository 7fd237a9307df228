from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import median_abs_deviation

from gnsm_monai.files import load_arrays, save_arrays
from gnsm_monai.networks import ScoreUNet
from gnsm_monai.noise import mixing_schedule
from gnsm_monai.scoring import Scorer, Structures
from gnsm_monai.scoring.reference_shapes import ReferenceShapes
from gnsm_monai.scoring.sizes import MIN_SPREAD, ReferenceSizes

BAND = Structures(band_voxels=(2, 2))
SCHEDULE = mixing_schedule(2)


def usual(num: int = 200) -> np.ndarray:
    """Two structures of about 400 and 100 voxels, a tenth more or less."""
    rng = np.random.default_rng(0)
    return np.round(np.array([400, 100]) * np.exp(0.1 * rng.normal(size=(num, 2))))


def test_a_size_is_measured_in_spreads_of_its_logarithm() -> None:
    sizes = ReferenceSizes.fit(usual())
    logarithms = np.log1p(usual())
    np.testing.assert_allclose(sizes.centre, np.median(logarithms, axis=0))
    np.testing.assert_allclose(sizes.spread, median_abs_deviation(logarithms, axis=0, scale="normal"))
    twice, half = (sizes.deviation(torch.tensor([400.0, 100.0]) * factor) for factor in (2, 0.5))
    np.testing.assert_allclose(twice, np.log(2) / 0.1, rtol=0.2)
    np.testing.assert_allclose(half, twice, rtol=0.1)  # too small is as odd as too large


def test_references_in_error_do_not_widen_the_spread() -> None:
    voxels = usual()
    voxels[:20] *= 5
    assert (ReferenceSizes.fit(voxels).spread < 1.3 * ReferenceSizes.fit(usual()).spread).all()


def test_references_that_lack_a_structure_say_nothing_of_its_size() -> None:
    voxels = np.vstack([usual(), np.zeros((300, 2))])
    np.testing.assert_allclose(ReferenceSizes.fit(voxels).centre, ReferenceSizes.fit(usual()).centre)


@pytest.mark.filterwarnings("error")
def test_references_of_one_size_and_structures_that_none_has() -> None:
    sizes = ReferenceSizes.fit(np.tile([50, 0], (4, 1)))
    assert sizes.centre.tolist() == [np.log1p(50), 0] and sizes.spread.tolist() == [MIN_SPREAD] * 2


@pytest.fixture(scope="module")
def network() -> ScoreUNet:
    torch.manual_seed(0)
    return ScoreUNet(2, 3, noise=SCHEDULE, channels=(4, 8)).eval()


def mask(*, second: bool = True) -> torch.Tensor:
    index = torch.zeros(1, 32, 32, dtype=torch.long)
    index[:, 4:24, 4:24] = 1
    if second:
        index[:, 10:20, 10:20] = 2
    return torch.nn.functional.one_hot(index, 3).permute(0, 3, 1, 2).float()


def test_the_statistic_is_the_mean_over_structures(network: ScoreUNet) -> None:
    sizes = ReferenceSizes.fit(usual())
    scorer, shapes = Scorer(SCHEDULE, structures=BAND), ReferenceShapes(sizes=sizes)
    found = scorer(network, mask(), shapes=shapes)
    expected = sizes.deviation(torch.tensor([300.0, 100.0])).mean()
    np.testing.assert_allclose(found.levels["size"], expected, rtol=1e-6)
    observed = torch.ones(1, 1, 32, 32)
    observed[:, :, :, 16:] = 0
    cut = scorer(network, mask(), observed, shapes=shapes)
    np.testing.assert_allclose(cut.levels["size"], sizes.deviation(torch.tensor([180.0, 60.0])).mean(), rtol=1e-6)


@pytest.mark.parametrize("needed", [True, False])
def test_a_missing_structure_counts_where_every_reference_has_it(needed: bool, network: ScoreUNet) -> None:
    sizes = ReferenceSizes.fit(usual())
    scorer = Scorer(SCHEDULE, structures=replace(BAND, always_present=[True, needed]))
    deviation = sizes.deviation(torch.tensor([400.0, 0.0]))
    expected = deviation.mean() if needed else deviation[0]
    found = scorer(network, mask(second=False), shapes=ReferenceShapes(sizes=sizes))
    np.testing.assert_allclose(found.levels["size"], expected, rtol=1e-6)


def test_without_sizes_there_is_no_statistic(network: ScoreUNet, tmp_path: Path) -> None:
    for shapes in (None, ReferenceShapes()):
        assert np.isnan(Scorer(SCHEDULE, structures=BAND)(network, mask(), shapes=shapes).levels["size"]).all()
    kept = ReferenceShapes(sizes=ReferenceSizes.fit(usual()))
    save_arrays(tmp_path / "a.npz", kept.to_arrays())
    again = ReferenceShapes.from_arrays(load_arrays(tmp_path / "a.npz")).sizes
    assert again is not None and kept.sizes is not None
    assert np.array_equal(again.centre, kept.sizes.centre) and np.array_equal(again.spread, kept.sizes.spread)
