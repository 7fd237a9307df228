"""Map metrics on maps whose figures can be counted by hand."""

from __future__ import annotations

from types import SimpleNamespace

import map_metrics
import numpy as np
import pytest


def line(*ones: int, length: int = 20) -> np.ndarray:
    label = np.zeros(length, np.int16)
    label[list(ones)] = 1
    return label


def test_band_is_two_voxels_around_either_map_and_skips_what_is_ignored() -> None:
    mask, reference = line(5), line(12)
    reference[4] = -1
    assert np.flatnonzero(map_metrics.band_around(mask, reference)).tolist() == [3, 5, 6, 7, 10, 11, 12, 13, 14]
    square = np.zeros((9, 9), np.int16)
    square[4, 4] = 1
    assert map_metrics.band_around(square, square).sum() == 25


def test_auprc_is_the_mean_precision_at_each_error() -> None:
    mask, reference = line(5, 6), line(6, 7)  # errors at 5 and 7, the band is 3 to 9
    anomaly = np.zeros(20)
    anomaly[[5, 6, 7]] = 3, 2, 1
    case = map_metrics.of_case(anomaly, mask, reference)
    assert case["errors"].sum() == 2
    assert len(case["values"]) == 7
    assert case["auprc"] == pytest.approx((1 / 1 + 2 / 3) / 2)
    assert case["hit"] is True
    anomaly[6], anomaly[15] = 9, 99  # far from both maps nothing counts
    assert map_metrics.of_case(anomaly, mask, reference)["hit"] is False


def test_a_perfect_mask_is_not_asked() -> None:
    case = map_metrics.of_case(np.arange(20.0), line(5), line(5))
    assert case["auprc"] is None
    assert case["hit"] is None


def test_folders_pool_voxels_and_ask_good_masks_only() -> None:
    def mask(folder: str, wrong: int, dice: float, peak: int) -> SimpleNamespace:
        anomaly = np.zeros(20)
        anomaly[peak] = 1
        return SimpleNamespace(folder=folder, label=line(5, wrong), reference=line(5), dice=dice, anomaly=anomaly)

    masks = [mask("a", 6, 0.9, 6), mask("a", 7, 0.8, 5), mask("a", 7, 0.1, 7), mask("b", 6, 0.1, 6)]
    found = map_metrics.folder_metrics(masks, lambda m: m.anomaly)
    assert list(found) == ["a", "b", "all"]
    assert found["a"]["pointing_rate"] == 0.5
    assert found["a"]["pointed"] == 2
    # Bands of 6 and 7 voxels with one error each.
    assert found["a"]["pointing_chance"] == pytest.approx((1 / 6 + 1 / 7) / 2)
    assert found["a"]["error_share"] == pytest.approx(3 / 20)
    assert found["b"]["pointing_rate"] is None
    assert found["b"]["auprc"] == 1
    # Three peaks of equal height in a, two of them errors; the third error comes with all other voxels.
    assert found["a"]["auprc"] == pytest.approx(2 / 3 * 2 / 3 + 1 / 3 * 3 / 20)


def test_bad_maps_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^shapes differ: map \(4,\), mask \(20,\), reference \(20,\)\.$"):
        map_metrics.of_case(np.zeros(4), line(5), line(5))
    with pytest.raises(ValueError, match=r"^the map holds NaN or infinite values\.$"):
        map_metrics.of_case(np.full(20, np.nan), line(5), line(5))
