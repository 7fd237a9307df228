from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from monai.inferers import SimpleInferer
from scipy import ndimage
from torch import Tensor, nn

from gnsm_monai.explain.planes import PLACE_VOXELS
from gnsm_monai.networks import ScoreUNet, posterior_score
from gnsm_monai.networks.bottleneck import BottleneckNetwork
from gnsm_monai.noise import NoiseSchedule, mixing_schedule, relax
from gnsm_monai.rules import STATISTICS, CaseStatistics, to_array
from gnsm_monai.rules.reading import Reading
from gnsm_monai.scoring import Scorer, Structures, scorer
from gnsm_monai.scoring.forms import FORM_STATISTICS, ReferenceForms
from gnsm_monai.scoring.reference_shapes import ReferenceShapes
from gnsm_monai.scoring.shape import ShapeModel, coarse_maps
from gnsm_monai.scoring.shape_network import ShapeNetwork
from gnsm_monai.scoring.sizes import ReferenceSizes

SCHEDULE = mixing_schedule(num_levels=3)
BAND = Structures(band_voxels=(2, 2))


class FixedPosterior(nn.Module):
    """A network that answers with the same logits, whatever it sees."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        return self.logits.expand_as(x)


def square(where: slice = slice(4, 8), size: int = 16) -> Tensor:
    """One-hot map ``(1, 3, size, size)`` with a square of class 1."""
    label = torch.zeros(1, size, size, dtype=torch.long)
    label[:, where, 4:8] = 1
    return F.one_hot(label, 3).movedim(-1, 1).float()


@pytest.fixture
def network() -> ScoreUNet:
    torch.manual_seed(0)
    net = ScoreUNet(2, 3, noise=SCHEDULE, channels=(4, 8)).eval()
    nn.init.normal_(net.head[-1].weight)
    return net


def unknown(found: CaseStatistics) -> list[str]:
    """Statistics without a value; the others have one at every level."""
    missing = [name for name, values in found.levels.items() if np.isnan(values).all()]
    assert all(np.isfinite(values).all() for name, values in found.levels.items() if name not in missing)
    return missing


def soft_dice_loss(mask: Tensor, logits: Tensor, structure: int = 1) -> float:
    own, posterior = mask[0, structure].double(), logits.double().softmax(1)[0, structure]
    return float(1 - 2 * (own * posterior).sum() / (own.sum() + posterior.sum()))


def test_a_sure_posterior_disagrees_as_dice_does() -> None:
    """Rows 4 … 7 against 5 … 8: three of four in common."""
    scorer = Scorer(SCHEDULE, structures=replace(BAND, always_present=[True, False]))
    found = scorer(FixedPosterior(50 * square(slice(5, 9))), square())
    assert found.structures[0] == pytest.approx(0.25)
    assert found.levels["uncertainty"] == pytest.approx(0, abs=1e-9)


def test_statistics_agree_with_their_definitions() -> None:
    mask, guess = square(), square(slice(5, 9))
    logits = 3 * guess + 0.1 * torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    found = Scorer(SCHEDULE, structures=BAND)(FixedPosterior(logits), mask)
    levels = torch.arange(3)
    x = SCHEDULE.noise_free(mask.expand(3, -1, -1, -1), levels)
    score = posterior_score(logits.expand_as(x), x, levels, SCHEDULE)
    np.testing.assert_allclose(found.levels["score_norm"], score.flatten(1).norm(dim=1), rtol=1e-5)
    misfit = -(mask * logits.log_softmax(1)).sum(1)[0]
    band = torch.zeros(16, 16, dtype=torch.bool)
    band[2:11, 2:10] = True  # two voxels around rows 4 … 8 and columns 4 … 7
    assert found.levels["misfit"][0] == pytest.approx(misfit[band].mean().item(), rel=1e-5)
    own = mask[0, 1] > 0
    assert found.levels["misfit_inside"][0] == pytest.approx(misfit[own].mean().item(), rel=1e-5)
    assert found.levels["misfit_rest"][0] == pytest.approx(misfit[~band].mean().item(), rel=1e-5)
    # class 2 is neither in the mask nor in the guess, though every reference has it
    assert found.levels["disagreement"] == pytest.approx((soft_dice_loss(mask, logits) + 1) / 2, rel=1e-5)
    posterior = logits.softmax(1)
    entropy = -(posterior * posterior.log()).sum(1)[0]
    assert found.levels["uncertainty"][0] == pytest.approx(entropy[band].mean().item(), rel=1e-5)
    np.testing.assert_allclose(found.anomaly_map, misfit, rtol=1e-4)


def test_a_structure_that_may_be_missing_is_left_out() -> None:
    scorer = Scorer(SCHEDULE, structures=replace(BAND, always_present=[True, False]))
    guess = 3 * square(slice(5, 9))
    found = scorer(FixedPosterior(guess), square())
    assert found.levels["disagreement"] == pytest.approx(soft_dice_loss(square(), guess), rel=1e-5)
    assert np.isnan(found.structures[1]).all()
    assert found.structures[0] == pytest.approx(soft_dice_loss(square(), guess), rel=1e-5)


def test_regions_disagree_as_unions_of_their_classes() -> None:
    """Rows 4-7 of class 1 and 8-11 of class 2, against 4-5 and 6-11: the union agrees, its parts do not."""
    mask, guess = (_stack(rows) for rows in (8, 6))
    found = Scorer(SCHEDULE, structures=replace(BAND, classes=[(1, 2), (2,)]))(FixedPosterior(50 * guess), mask)
    assert found.structures.shape == (2, 3)
    assert found.structures[:, 0] == pytest.approx([0, 1 - 2 * 4 / (4 + 6)], abs=1e-9)
    assert found.levels["disagreement"] == pytest.approx(0.1)


def _stack(border: int) -> Tensor:
    label = torch.zeros(1, 16, 16, dtype=torch.long)
    label[:, 4:border, 4:8] = 1
    label[:, border:12, 4:8] = 2
    return F.one_hot(label, 3).movedim(-1, 1).float()


def test_structures_of_one_class_each_change_nothing(network: ScoreUNet) -> None:
    each = (replace(BAND, classes=classes) for classes in ([(1,), (2,)], None))
    ours, theirs = (Scorer(SCHEDULE, structures=structures)(network, square()) for structures in each)
    np.testing.assert_allclose(to_array(ours.levels), to_array(theirs.levels), rtol=1e-12)
    np.testing.assert_allclose(ours.structures, theirs.structures, rtol=1e-12)
    np.testing.assert_array_equal(ours.anomaly_map, theirs.anomaly_map)


@pytest.mark.parametrize("parametrisation", ["posterior", "direct"])
def test_the_number_of_regions_is_that_of_the_structures(network: ScoreUNet, parametrisation: str) -> None:
    scorer = Scorer(SCHEDULE, parametrisation, replace(BAND, classes=[(1, 2), (1,), (2,)]))
    assert scorer(network, square()).structures.shape == (3, 3)


def test_an_empty_mask_disagrees_fully_even_if_the_network_would_leave_it_empty() -> None:
    empty = F.one_hot(torch.zeros(1, 16, 16, dtype=torch.long), 3).movedim(-1, 1).float()
    found = Scorer(SCHEDULE, structures=BAND)(FixedPosterior(5 * empty), empty)
    assert (found.levels["disagreement"] == 1).all()
    assert unknown(found) == ["shape", "size", "doubt", *FORM_STATISTICS]


def test_the_map_is_the_weighted_mean_over_levels(network: ScoreUNet) -> None:
    scorer = Scorer(SCHEDULE, structures=BAND)
    single = [scorer(network, square(), level_weights=np.eye(3)[level]).anomaly_map for level in range(3)]
    mixed = scorer(network, square(), level_weights=np.array([0.5, 0.2, 0.3])).anomaly_map
    np.testing.assert_allclose(mixed, 0.5 * single[0] + 0.2 * single[1] + 0.3 * single[2], rtol=1e-5)
    np.testing.assert_allclose(scorer(network, square()).anomaly_map, np.mean(single, axis=0), rtol=1e-5)
    assert not np.allclose(single[0], single[2])


def test_weights_of_structures_leave_all_statistics_as_they_are(network: ScoreUNet) -> None:
    scorer = Scorer(SCHEDULE, structures=BAND)
    plain, weighted = (scorer(network, square(), structure_weights=w) for w in (None, np.array([1.0, 5.0])))
    np.testing.assert_array_equal(to_array(weighted.levels), to_array(plain.levels))
    np.testing.assert_array_equal(weighted.structures, plain.structures)


def test_the_map_is_a_weighted_sum_over_structures(network: ScoreUNet) -> None:
    scorer, weights = Scorer(SCHEDULE, structures=BAND), np.array([1.0, 5.0])
    mask, levels = square()[0], torch.arange(3)
    log_alpha = SCHEDULE.log_alpha(mask.expand(3, *mask.shape), levels)
    with torch.inference_mode():
        posterior = torch.softmax(network(relax(log_alpha, SCHEDULE.temperature(levels)), levels), 1)
    expected = torch.zeros(mask.shape[1:])
    for level in range(3):
        for structure, weight in enumerate(weights, 1):
            there, expects = mask[structure], posterior[level, structure]
            expected += weight * (there - expects).abs() / (there.sum() + expects.sum()).clamp_min(1).sqrt() / 3
    result = scorer(network, square(), structure_weights=weights)
    np.testing.assert_allclose(result.anomaly_map, expected, rtol=1e-4, atol=1e-7)


def test_masked_voxels_count_nowhere() -> None:
    mask = square()
    logits = 3 * square(slice(5, 9))
    counts = torch.ones(1, 1, 16, 16)
    counts[..., 12:] = 0
    changed = logits.clone()
    changed[..., 12:] = torch.randn(1, 3, 16, 4)
    scorer = Scorer(SCHEDULE, structures=BAND)
    ours, theirs = (scorer(FixedPosterior(value), mask, counts).levels for value in (logits, changed))
    np.testing.assert_array_equal(to_array(ours), to_array(theirs))


def test_peak_tells_one_place_from_as_much_misfit_everywhere(network: ScoreUNet) -> None:
    """Beside the smoothed maximum of the map that a case keeps of its one level."""
    mask = square()
    found = Scorer(SCHEDULE, structures=BAND)(network, mask, only_levels=[1])
    inside = np.where(found.band, found.anomaly_map, 0)
    expected = ndimage.gaussian_filter(inside, PLACE_VOXELS, mode="constant").max()
    assert found.levels["peak"][0] == pytest.approx(expected, rel=0.02)
    assert found.levels["peak"][0] < inside.max()


def test_shape_is_the_disagreement_with_what_the_model_of_shapes_expects(network: ScoreUNet) -> None:
    mask = square()
    other = torch.roll(mask, 2, dims=2)

    class Always:
        def coefficients(self, probabilities: torch.Tensor, mask: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
            assert torch.allclose(noise, SCHEDULE.log_likelihood_scale(probabilities.shape[1])[1] ** -2)
            return torch.zeros(len(noise), 5)

        def maps(self, coefficients: torch.Tensor, size: list[int]) -> torch.Tensor:
            return other.expand(len(coefficients), *other.shape[1:])

    shapes = ReferenceShapes(Always())  # type: ignore[arg-type]
    found = Scorer(SCHEDULE, structures=BAND)(network, mask, shapes=shapes)
    own, shifted = mask[0, 1:].flatten(1), other[0, 1:].flatten(1)
    present = own.sum(1) + shifted.sum(1) > 0
    dice = (2 * (own * shifted).sum(1) / (own.sum(1) + shifted.sum(1)).clamp_min(1))[present]
    missing = int((~present).sum())  # a structure that every reference has, and that neither shows
    np.testing.assert_allclose(found.levels["shape"], (float((1 - dice).sum()) + missing) / own.shape[0], atol=1e-6)


def _shapes() -> ReferenceShapes:
    """Both models of shapes, sizes and forms, of squares in several places."""
    maps = torch.cat([square(slice(a, a + 4 + a % 2)) for a in range(2, 8)])
    values, stride = coarse_maps(maps, [[2, 2]])
    weak = NoiseSchedule(SCHEDULE.betas[:2], SCHEDULE.temperatures[:2], SCHEDULE.floor)
    torch.manual_seed(0)
    bottleneck = ShapeNetwork(BottleneckNetwork(weak, 3, [16, 16], [[2, 2], [2, 2]]).eval(), (1, 1))
    present = maps[:, 1:].numpy()
    sizes = ReferenceSizes.fit(present.reshape(6, 2, -1).sum(2))
    return ReferenceShapes(ShapeModel.fit(values, stride), bottleneck, sizes, ReferenceForms.fit(list(present), [1, 1]))


@pytest.mark.parametrize("chunk_size", [2, None])
@pytest.mark.parametrize("num_draws", [0, 2])
@pytest.mark.parametrize(
    ("names", "levels"),
    [({"shape", "form", "size"}, (2,)), ({"disagreement"}, (1,)), (set(STATISTICS), (0, 2)), ({"peak", "doubt"}, (0,))],
)
def test_what_a_rule_reads_is_what_it_is_among_all_statistics_and_nothing_else_is_measured(
    network: ScoreUNet, names: set[str], levels: tuple[int, ...], num_draws: int, chunk_size: int | None
) -> None:
    scorer = Scorer(SCHEDULE, structures=BAND, num_draws=num_draws, chunk_size=chunk_size)
    everything = scorer(network, square(), shapes=_shapes())
    values, structures = scorer.read(network, square(), Reading(names, levels), shapes=_shapes())
    read = np.isin(np.arange(3), levels)
    for name, all_values in everything.levels.items():
        np.testing.assert_array_equal(values[name], np.where(read & (name in names), all_values, np.nan))
    asked = Reading(names, levels).asks_network
    np.testing.assert_array_equal(structures, np.where(read & asked, everything.structures, np.nan))


def test_the_network_is_asked_for_the_levels_that_count_or_not_at_all(network: ScoreUNet) -> None:
    seen: list[int] = []
    network.register_forward_hook(lambda module, inputs, output: seen.extend(inputs[1].tolist()))
    scorer = Scorer(SCHEDULE, structures=BAND, chunk_size=1)
    scorer.read(network, square(), Reading({"misfit"}, (0, 2)))
    assert seen == [0, 2]
    scorer.read(network, square(), Reading({"shape", "parts"}, (0, 1, 2)), shapes=_shapes())
    assert seen == [0, 2]


def test_the_direct_form_has_the_score_norm_alone(network: ScoreUNet) -> None:
    found = Scorer(SCHEDULE, "direct", BAND)(network, square())
    assert unknown(found) == list(STATISTICS[1:])
    assert found.anomaly_map.min() >= 0


@pytest.mark.parametrize("num_draws", [0, 2])
def test_the_same_mask_always_gets_the_same_statistics(network: ScoreUNet, num_draws: int) -> None:
    """Common random numbers: neither torch's own generator nor the masks scored before play a part."""
    scorer = Scorer(SCHEDULE, structures=BAND, num_draws=num_draws, seed=5)
    first = scorer(network, square())
    torch.manual_seed(99)
    scorer(network, square(slice(0, 12)))
    np.testing.assert_array_equal(to_array(scorer(network, square()).levels), to_array(first.levels))


def test_draws_of_another_seed_give_other_statistics(network: ScoreUNet) -> None:
    ours, theirs = (Scorer(SCHEDULE, structures=BAND, num_draws=1, seed=s)(network, square()) for s in (0, 1))
    assert not np.array_equal(ours.levels["misfit"], theirs.levels["misfit"])


@pytest.mark.parametrize("num_draws", [0, 2])
@pytest.mark.parametrize("parametrisation", ["posterior", "direct"])
def test_the_number_of_levels_at_a_time_changes_nothing_but_rounding(
    network: ScoreUNet, num_draws: int, parametrisation: str
) -> None:
    weights = np.array([0.5, 0.2, 0.3])
    whole, *pieces = (
        Scorer(SCHEDULE, parametrisation, BAND, num_draws=num_draws, chunk_size=size)(
            network, square(), level_weights=weights
        )
        for size in (None, 1, 2)
    )
    for found in pieces:
        np.testing.assert_allclose(to_array(found.levels), to_array(whole.levels), rtol=1e-4)
        np.testing.assert_allclose(found.structures, whole.structures, rtol=1e-4)
        np.testing.assert_allclose(found.anomaly_map, whole.anomaly_map, rtol=1e-4, atol=1e-6)
        np.testing.assert_array_equal(found.denoised, whole.denoised)
        np.testing.assert_array_equal(found.band, whole.band)


def test_no_more_levels_than_asked_for_reach_the_network_at_a_time(
    network: ScoreUNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    class Counting(SimpleInferer):
        def __call__(self, inputs: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            seen.append(len(inputs))
            return super().__call__(inputs, *args, **kwargs)

    Scorer(SCHEDULE, structures=BAND, inferer=Counting(), chunk_size=2)(network, square())
    assert seen == [2, 1]
    monkeypatch.setattr(scorer, "MAX_VALUES", 2 * square().numel() - 1)  # maps of more classes or voxels
    Scorer(SCHEDULE, structures=BAND, inferer=Counting(), chunk_size=2)(network, square())
    assert seen == [2, 1, 1, 1, 1]
    with pytest.raises(ValueError, match="chunk_size must be at least 1, got 0"):
        Scorer(SCHEDULE, chunk_size=0)


def test_volumes_and_soft_maps_are_scored_too() -> None:
    torch.manual_seed(0)
    net = ScoreUNet(3, 2, noise=SCHEDULE, channels=(4, 8)).eval()
    soft = torch.softmax(torch.randn(1, 2, 6, 7, 5), 1)
    found = Scorer(SCHEDULE, structures=Structures(band_voxels=(1, 1, 2)))(net, soft)
    assert to_array(found.levels).shape == (3, len(STATISTICS))
    assert found.anomaly_map.shape == (6, 7, 5)
    assert unknown(found) == ["shape", "size", "doubt", *FORM_STATISTICS]


class ReadsImages(nn.Module):
    """A network that sees class 1 where the image is 1, by its contrast, and goes by the mask a little."""

    def forward(self, x: Tensor, level: Tensor, image: Tensor) -> Tensor:
        sees = 8 * (image - 0.5) + 0.1 * (x[:, 1:2].exp() - 0.5)
        return torch.cat([-sees, sees, torch.full_like(sees, -50.0)], 1)


def test_doubt_is_about_the_image_rather_than_the_mask() -> None:
    scorer = Scorer(SCHEDULE, structures=replace(BAND, always_present=[True, False]))
    clear = square()[:, 1:2]
    of_masks = [scorer(ReadsImages(), mask, image=clear).levels for mask in (square(), square(slice(8, 12)))]
    assert of_masks[0]["disagreement"] == pytest.approx(0.02, abs=0.02) and (of_masks[1]["disagreement"] > 0.9).all()
    assert all(levels["doubt"] == pytest.approx(0.02, abs=0.02) for levels in of_masks)
    poor = scorer(ReadsImages(), square(), image=0.5 + 0.1 * (clear - 0.5)).levels
    assert (poor["doubt"] > 0.2).all()
    assert (poor["disagreement"] >= poor["doubt"]).all()
    assert np.isnan(scorer(FixedPosterior(square()), square()).levels["doubt"]).all()  # it sees no image


def test_weights_and_levels_have_to_fit_and_other_floats_are_taken(network: ScoreUNet) -> None:
    scorer = Scorer(SCHEDULE, structures=BAND)
    with pytest.raises(ValueError, match="2 levels need as many level_weights, got 1"):
        scorer(network, square(), level_weights=np.array([1.0]), only_levels=[0, 1])
    found = scorer(network, square().double())
    np.testing.assert_array_equal(to_array(found.levels), to_array(scorer(network, square()).levels))
