from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from scipy.stats import spearmanr

from gnsm_monai.errors import InputError
from gnsm_monai.rules import RULES, STATISTICS, AnomalyModel, FitData
from gnsm_monai.rules.anomaly import uncertainty_weights
from gnsm_monai.rules.choice import best_level, level_held_out, rank_correlation, simplest_of_the_best
from gnsm_monai.rules.density import DiceRegression, NearestNeighbourDensity
from gnsm_monai.rules.rules import DensityRule

LEVELS = 4
NAMES = [rule.name for rule in RULES]
Levels = dict[str, np.ndarray]
Data = tuple[Levels, Levels, np.ndarray]
"""Statistics of references, of failures, and the Dice of these."""


def noise(size: int, rng: np.random.Generator) -> Levels:
    """Statistics of so many masks that say nothing."""
    return dict(zip(STATISTICS, np.moveaxis(rng.random((size, LEVELS, len(STATISTICS))), -1, 0), strict=True))


def statistics(dice: np.ndarray, seed: int = 0) -> Levels:
    """Statistics of masks: disagreement follows Dice closely, misfit loosely, the rest not at all."""
    rng = np.random.default_rng(seed)
    values = noise(len(dice), rng)
    values["disagreement"] = (1 - dice)[:, None] + 0.02 * rng.normal(size=(len(dice), LEVELS))
    values["misfit"] = (1 - dice)[:, None] + 0.5 * rng.normal(size=(len(dice), LEVELS))
    return values


@pytest.fixture
def data() -> Data:
    dice = np.random.default_rng(1).uniform(0.3, 1, 80)
    return statistics(np.full(20, 0.99), 2), statistics(dice, 3), dice


def test_auto_takes_the_rule_that_follows_dice_best(data: Data) -> None:
    model = AnomalyModel.fit(FitData(*data))
    assert model.rule == "disagreement_equal"
    assert set(model.comparison) == set(NAMES)
    # The distance over all statistics follows Dice as closely here, and is the less simple one.
    assert model.comparison["disagreement"] == pytest.approx(min(model.comparison.values()), abs=1e-3)


def test_the_regression_predicts_dice_from_all_its_statistics(data: Data) -> None:
    model = AnomalyModel.fit(FitData(*data), "regression")
    unseen = np.random.default_rng(5).uniform(0.3, 1, 60)
    predicted = 1 - model.score(statistics(unseen, 6))
    assert np.abs(predicted - unseen).mean() < 0.02


def test_auto_leaves_the_regression_to_those_who_ask_for_it(data: Data) -> None:
    references, degraded, dice = data
    degraded["disagreement"] += np.linspace(0.5, 2, LEVELS) * np.random.default_rng(0).random((len(dice), 1))
    model = AnomalyModel.fit(FitData(references, degraded, dice))
    assert min(model.comparison, key=lambda name: model.comparison[name]) == "regression"
    assert model.rule != "regression"


def test_masks_of_networks_judge_alone_and_let_the_regression_in(data: Data) -> None:
    references, degraded, dice = data
    of_networks = np.arange(len(dice)) % 2 == 0
    # On these masks disagreement is off by an amount that uncertainty tells; on copies it follows Dice.
    shift = np.random.default_rng(0).random(len(dice)) * of_networks
    degraded["disagreement"] += shift[:, None]
    degraded["uncertainty"][:] = shift[:, None]
    model = AnomalyModel.fit(FitData(references, degraded, dice, from_networks=of_networks))
    assert model.rule == "regression"
    fair = spearmanr(model.fair_scores[of_networks], dice[of_networks]).statistic
    assert model.comparison["regression"] == pytest.approx(fair)
    assert model.comparison["regression"] < model.comparison["disagreement"] - 0.1
    assert AnomalyModel.fit(FitData(references, degraded, dice)).rule != "regression"


def test_one_level_that_reads_the_image_is_asked_alone_for_structures_and_maps_too(data: Data) -> None:
    references, degraded, dice = data
    degraded["disagreement"] = np.random.default_rng(0).random((len(dice), LEVELS))
    degraded["disagreement"][:, 2] = 1 - dice
    weights = np.array([0.5, 0.3, 0.1, 0.1])
    model = AnomalyModel.fit(FitData(references, degraded, dice, level_weights=weights))
    assert model.rule == "disagreement_level"
    np.testing.assert_array_equal(model.score(degraded), degraded["disagreement"][:, 2])
    np.testing.assert_array_equal(model.level_weights, [0, 0, 1, 0])
    other = AnomalyModel.fit(FitData(references, degraded, dice, level_weights=weights), "misfit")
    np.testing.assert_allclose(other.level_weights, weights)


@pytest.mark.parametrize("rule", NAMES)
def test_a_score_depends_on_what_its_rule_says_that_it_reads_alone(rule: str, data: Data) -> None:
    _, degraded, dice = data
    model = AnomalyModel.fit(FitData(*data, level_weights=np.array([0.5, 0, 0.3, 0.2])), rule)
    reading = model.fitted.reading
    measured = np.isin(np.arange(LEVELS), reading.levels)
    left_out = {name: np.where(measured & (name in reading.statistics), v, np.nan) for name, v in degraded.items()}
    np.testing.assert_array_equal(model.score(left_out), model.score(degraded))
    for level in reading.levels:  # and on each of its levels
        changed = {name: values.copy() for name, values in degraded.items()}
        for name in reading.statistics:
            changed[name][:, level] += np.random.default_rng(0).random(len(dice))
        assert (model.score(changed) != model.score(degraded)).any()
    assert set(np.flatnonzero(model.level_weights)) <= set(reading.levels) or not reading.asks_network


def test_a_level_is_compared_by_failures_of_references_that_did_not_choose_it() -> None:
    """Levels that follow Dice by chance on one reference each: none helps with another one's failures."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(4), 30)
    dice = rng.uniform(0.3, 1, 120)
    degraded = noise(120, rng)
    degraded["disagreement"][np.arange(120), groups] = 1 - dice
    model = AnomalyModel.fit(FitData(noise(20, rng), degraded, dice, groups), "disagreement_level")
    level = int(model.fitted.arrays["level"])
    assert spearmanr(degraded["disagreement"][:, level], dice).statistic < -0.2
    assert model.comparison["disagreement_level"] > -0.1


def test_levels_of_other_scales_are_compared_by_places() -> None:
    """Two levels as good as each other, one ten times the other: whichever is chosen, failures are ranked as well."""
    rng = np.random.default_rng(0)
    dice, groups = rng.random(60), np.repeat(np.arange(6), 10)
    noise = 0.02 * rng.normal(size=(60, 2))
    noise[groups % 2 == 0, 0] *= 3  # each level is worse on half of the references, which then choose the other one
    noise[groups % 2 == 1, 1] *= 3
    values = (1 - dice[:, None] + noise) * [1, 10]
    judges = np.ones(60, dtype=bool)
    chosen = {best_level(values[groups != g], dice[groups != g]) for g in range(6)}
    assert chosen == {0, 1}
    places = level_held_out(values, dice, groups, judges, lambda values, dice, groups: best_level(values, dice))
    assert 0 <= places.min() <= places.max() <= 1
    assert rank_correlation(places, dice) < -0.9


@pytest.mark.parametrize(("clear", "level"), [(False, 0), (True, 2)])
def test_the_shape_is_asked_at_stronger_noise_only_where_failures_clearly_tell(clear: bool, level: int) -> None:
    """Level 2 follows Dice best: by chance among equal levels, or clearly."""
    rng = np.random.default_rng(0)
    dice, groups = rng.random(120), np.repeat(np.arange(12), 10)
    degraded = noise(120, rng)
    degraded["shape"] = (1 - dice)[:, None] + 0.4 * rng.normal(size=degraded["shape"].shape)
    if clear:
        degraded["shape"][:, 2] = 1 - dice
    assert int(np.argmin([rank_correlation(values, dice) for values in degraded["shape"].T])) == 2
    model = AnomalyModel.fit(FitData(noise(20, rng), degraded, dice, groups), "shape")
    assert int(model.fitted.arrays["level"]) == level


def test_failures_of_one_reference_alone_choose_the_level_and_no_regression() -> None:
    dice = np.random.default_rng(0).random(40)
    degraded = noise(40, np.random.default_rng(1))
    degraded["shape"][:, 2] = 1 - dice
    networks = np.ones(40, dtype=bool)
    references = noise(2, np.random.default_rng(2))
    model = AnomalyModel.fit(FitData(references, degraded, dice, np.zeros(40, dtype=int), networks))
    assert model.rule == "shape"
    assert model.comparison["shape"] < -0.99
    np.testing.assert_array_equal(model.fair_scores, model.score(degraded))


def test_statistics_that_are_no_numbers_are_refused() -> None:
    nothing = dict.fromkeys(STATISTICS, np.full((4, LEVELS), np.nan))
    with pytest.raises(InputError, match="no finite numbers"):
        AnomalyModel.fit(FitData(nothing, nothing, np.linspace(0, 1, 4)))


def test_where_no_level_is_better_the_mean_that_fits_nothing_is_taken() -> None:
    dice = np.random.default_rng(1).uniform(0.3, 1, 80)
    degraded = noise(80, np.random.default_rng(2))
    degraded["disagreement"] = (1 - dice)[:, None] + 0.05 * np.random.default_rng(3).normal(size=(80, LEVELS))
    weights = np.array([0.7, 0.2, 0.1, 0.0])
    model = AnomalyModel.fit(FitData(statistics(np.full(20, 0.99)), degraded, dice, level_weights=weights))
    assert model.rule == "disagreement_equal"
    np.testing.assert_allclose(model.score(degraded), degraded["disagreement"].mean(1))
    np.testing.assert_array_equal(model.level_weights, np.full(LEVELS, 1 / LEVELS))  # of structures and maps, too


def test_what_cannot_be_read_is_not_held_against_a_mask(data: Data) -> None:
    """Every second failure beside an image that tells nothing: even a perfect mask disagrees with it."""
    references, degraded, dice = data
    references["doubt"][:] = 0.1
    references["doubt"][0] = 0.6  # one of their images is damaged, too
    degraded["doubt"][:] = 0.1
    degraded["disagreement"][::2] = 1 - (1 - degraded["disagreement"][::2]) * 0.6
    degraded["doubt"][::2] = 0.5
    model = AnomalyModel.fit(FitData(references, degraded, dice))
    assert model.rule == "disagreement_beyond_doubt"
    np.testing.assert_array_equal(model.level_weights, np.full(LEVELS, 1 / LEVELS))
    scores = AnomalyModel.from_arrays(model.to_arrays()).score(degraded)
    np.testing.assert_allclose(scores, model.score(degraded))
    # An image that can be read as the references' can leaves the score as it is; beyond, 0.4 is excused.
    np.testing.assert_allclose(scores[1::2], degraded["disagreement"][1::2].mean(1))
    np.testing.assert_allclose(scores[::2], (degraded["disagreement"][::2].mean(1) - 0.4) / 0.6)
    assert rank_correlation(scores, dice) < -0.99
    worst = dict.fromkeys(STATISTICS, np.ones((1, LEVELS)))
    assert model.score(worst) == pytest.approx(1)  # nothing can be read, and nothing is right


def test_statistics_of_an_earlier_version_leave_out_the_rules_that_read_new_ones(data: Data) -> None:
    references, degraded, dice = data
    for values in (references, degraded):
        del values["doubt"]
    model = AnomalyModel.fit(FitData(references, degraded, dice))
    assert set(model.comparison) == set(NAMES) - {"disagreement_beyond_doubt"}


def test_without_doubt_nothing_is_excused(data: Data) -> None:
    references, degraded, dice = data
    for values in (references, degraded):
        values["doubt"][:] = np.nan  # a model that sees no images
    model = AnomalyModel.fit(FitData(references, degraded, dice))
    assert model.rule == "disagreement_equal"
    assert set(model.comparison) == set(NAMES) - {"disagreement_beyond_doubt"}


def test_a_network_that_sees_images_is_asked_before_the_shape(data: Data) -> None:
    """Where failures cannot tell the two apart; the shape is taken where it is clearly better."""
    _, degraded, dice = data
    for values in data[:2]:
        values["shape"][:] = values["disagreement"].mean(1, keepdims=True)
        values["doubt"][:] = 0.1
    assert AnomalyModel.fit(FitData(*data)).rule == "disagreement_equal"
    degraded["disagreement"] += np.random.default_rng(0).normal(size=(len(dice), 1))
    assert AnomalyModel.fit(FitData(*data)).rule == "shape"
    for values in data[:2]:
        values["disagreement"][:] = values["shape"]
        values["doubt"][:] = np.nan  # it sees no images: the simplest rule first
    assert AnomalyModel.fit(FitData(*data)).rule == "shape"


def test_a_mask_beyond_all_that_was_learnt_scores_as_the_worst_of_it(data: Data) -> None:
    model = AnomalyModel.fit(FitData(*data), "regression")
    beyond = dict.fromkeys(STATISTICS, np.full((1, LEVELS), 1e6))
    edge = {name: values.max(0, keepdims=True) for name, values in FitData(*data).everything.items()}
    np.testing.assert_allclose(model.score(beyond), model.score(edge))


def test_copies_of_one_reference_do_not_help_to_predict_each_other() -> None:
    """Features that only tell the references apart: in groups, nothing can be predicted for an unseen one."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(10), 8)
    dice = rng.random(10)[groups]
    features = np.eye(10)[groups]
    alone, held_out = (DiceRegression.held_out(features, dice, g) for g in (np.arange(80), groups))
    assert np.corrcoef(alone, dice)[0, 1] < -0.9
    assert np.corrcoef(held_out, dice)[0, 1] > -0.1


def test_a_mean_rule_is_the_mean_over_levels_in_units_of_their_spread(data: Data) -> None:
    model = AnomalyModel.fit(FitData(*data), "disagreement")
    everything = FitData(*data).everything["disagreement"]
    expected = (data[1]["disagreement"] / everything.std(0)).mean(1)
    np.testing.assert_allclose(model.score(data[1]), expected)


def test_a_rule_must_be_clearly_better_to_be_taken_before_a_simpler_one() -> None:
    rng = np.random.default_rng(0)
    dice = rng.random(60)
    loose = -dice + 0.2 * rng.normal(size=60)
    near, clear, poor = -dice + 0.19 * rng.normal(size=60), -dice + 0.02 * rng.normal(size=60), rng.random(60)
    assert rank_correlation(near, dice) < rank_correlation(loose, dice)
    assert simplest_of_the_best({"poor": poor, "simple": loose, "flexible": near}, dice) == "simple"
    assert simplest_of_the_best({"poor": poor, "simple": loose, "flexible": clear}, dice) == "flexible"


def test_what_is_better_on_failures_of_one_reference_alone_is_not_clearly_better() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(8), 20)
    dice = rng.random(160)
    noise = rng.normal(size=160)
    one = groups == 3
    scores = {"simple": -dice + np.where(one, 0.4, 0.2) * noise, "flexible": -dice + np.where(one, 0, 0.21) * noise}
    assert simplest_of_the_best(scores, dice) == "flexible"
    assert simplest_of_the_best(scores, dice, groups=groups) == "simple"


def test_two_references_that_agree_by_chance_are_no_proof() -> None:
    """Draws of two references can be three different sets alone: where these agree, their spread is next to nothing."""
    dice = np.linspace(0.1, 0.9, 8)
    simple, flexible = -dice[[1, 0, 2, 3, 5, 4, 6, 7]], -dice[[1, 0, 2, 3, 4, 5, 6, 7]]
    names = {"simple": np.tile(simple, 2), "flexible": np.tile(flexible, 2)}
    twice, groups = np.tile(dice, 2), np.repeat([0, 1], 8)
    assert rank_correlation(names["flexible"], twice) < rank_correlation(names["simple"], twice)
    assert simplest_of_the_best(names, twice, groups=groups) == "simple"
    many = {name: np.tile(values, 20) for name, values in names.items()}
    assert simplest_of_the_best(many, np.tile(twice, 20), groups=np.repeat(range(40), 8)) == "flexible"


def test_draws_that_leave_a_part_out_say_nothing_of_it() -> None:
    """One false structure among failures of two references: draws of single failures often go without it."""
    dice = np.linspace(0.1, 0.9, 12)
    part = dice == dice[0]
    scores = {"simple": dice, "flexible": -dice}
    picked = simplest_of_the_best(scores, dice, groups=np.repeat([0, 1], 6), parts=[part, ~part])
    assert picked in scores


def test_levels_count_by_their_weight_in_mean_rules(data: Data) -> None:
    weighted = FitData(*data, level_weights=np.array([3.0, 0, 1, 0]))
    model = AnomalyModel.fit(weighted, "disagreement")
    spread = weighted.everything["disagreement"].std(0)
    first, _, third, _ = (data[1]["disagreement"] / spread).T
    np.testing.assert_allclose(model.score(data[1]), 0.75 * first + 0.25 * third)
    again = AnomalyModel.from_arrays(model.to_arrays())
    assert np.array_equal(again.level_weights, [0.75, 0, 0.25, 0])


def test_weighted_mean_is_the_trapezoid_rule_over_the_loss() -> None:
    loss, statistic = np.array([0.1, 0.3, 0.4, 0.4]), np.array([2.0, 5.0, 1.0, 7.0])
    weights = uncertainty_weights(loss)
    assert weights.sum() == pytest.approx(1)
    assert weights @ statistic == pytest.approx(np.trapezoid(statistic, loss) / 0.3)


def test_more_levels_in_the_same_stretch_of_noise_do_not_count_more() -> None:
    few, many = np.array([0.1, 0.3, 0.5]), np.array([0.1, 0.2, 0.3, 0.4, 0.5])
    assert uncertainty_weights(many)[:2].sum() + uncertainty_weights(many)[2] / 2 == pytest.approx(0.5)
    assert uncertainty_weights(few)[0] + uncertainty_weights(few)[1] / 2 == pytest.approx(0.5)


def test_a_level_at_the_prior_limit_adds_nothing_and_equal_levels_count_equally() -> None:
    np.testing.assert_allclose(uncertainty_weights(np.array([0.1, 0.5, 0.5, 0.49, 0.5]))[2:], 0)
    np.testing.assert_allclose(uncertainty_weights(np.array([0.5, 0.5])), [0.5, 0.5])


@pytest.mark.parametrize("rule", NAMES)
def test_every_rule_survives_plain_arrays(rule: str, data: Data) -> None:
    model = AnomalyModel.fit(FitData(*data), rule)
    again = AnomalyModel.from_arrays(model.to_arrays())
    assert np.array_equal(again.score(data[1]), model.score(data[1]))
    assert (again.rule, again.worst, dict(again.comparison)) == (model.rule, model.worst, dict(model.comparison))


def test_a_model_that_knows_no_shapes_measures_distances_without_them(data: Data) -> None:
    references, degraded, dice = data
    for values in (references, degraded):
        for name in ("shape", "size", "doubt"):
            values[name][:] = np.nan
    model = AnomalyModel.fit(FitData(references, degraded, dice), "deviation")
    assert np.isfinite(model.score(degraded)).all()


def test_the_worst_score_is_the_highest_that_was_seen(data: Data) -> None:
    model = AnomalyModel.fit(FitData(*data))
    assert model.worst == max(model.score(data[0]).max(), model.score(data[1]).max())


def test_statistics_that_a_model_lacks_leave_their_rules_out(data: Data) -> None:
    references, degraded, dice = data
    for values in (references, degraded):
        for name in STATISTICS[1:]:
            values[name][:] = np.nan
    model = AnomalyModel.fit(FitData(references, degraded, dice))
    assert set(model.comparison) == {"score_norm_gmm", "score_norm_knn"}
    with pytest.raises(InputError, match="'misfit' is not one of auto, score_norm_gmm, score_norm_knn"):
        AnomalyModel.fit(FitData(references, degraded, dice), "misfit")


def test_an_unknown_rule_in_a_file_is_refused(data: Data) -> None:
    arrays = {**AnomalyModel.fit(FitData(*data)).to_arrays(), "rule": np.array("magic")}
    with pytest.raises(InputError, match="'magic' is not known"):
        AnomalyModel.from_arrays(arrays)


def test_rank_correlation_is_spearmans_and_zero_for_a_constant() -> None:
    values = np.random.default_rng(0).random((2, 30))
    assert rank_correlation(*values) == pytest.approx(spearmanr(*values).statistic)
    assert rank_correlation(np.ones(30), values[0]) == 0.0


def test_a_rule_that_blames_unseen_references_is_not_chosen(data: Data) -> None:
    """On failures alone both statistics follow Dice; one of them is highest of all on references."""
    references, degraded, dice = data
    degraded["shape"][:] = 1 - dice[:, None]
    degraded["disagreement"] = (1 - dice)[:, None] + 0.1 * np.random.default_rng(0).normal(size=(len(dice), LEVELS))
    references["shape"][:] = 2.0
    assert AnomalyModel.fit(FitData(references, degraded, dice, num_empty=1)).rule != "shape"
    references["shape"][:] = 0.0
    assert AnomalyModel.fit(FitData(references, degraded, dice, num_empty=1)).rule == "shape"


class Nearest(NearestNeighbourDensity):
    """The distance to the one nearest reference."""

    @staticmethod
    def anomaly(features: np.ndarray, fitted: Mapping[str, np.ndarray]) -> np.ndarray:
        z = (features - fitted["mean"]) / fitted["scale"]
        return np.asarray(np.linalg.norm(z[:, None] - fitted["points"][None], axis=2).min(1))


def test_masks_of_a_patient_are_compared_by_densities_that_have_seen_none_of_them() -> None:
    """Each reference has a place of its own, far from all others, and its failures are the nearer, the better.

    A density that has seen the reference would follow Dice: its distance to the nearest one is what was lost. One that
    has not knows nothing of it.
    """
    rng = np.random.default_rng(0)
    references, degraded, sources = noise(10, rng), noise(200, rng), np.repeat(np.arange(10), 20)
    dice = rng.random(200)
    place = 1e3 * rng.normal(size=(10, LEVELS))
    references["misfit"] = place
    degraded["misfit"] = place[sources] + (1 - dice[:, None]) * rng.choice([-1, 1], (200, LEVELS))
    data = FitData(references, degraded, dice, sources, num_empty=1)
    rule = DensityRule("nearest", ("misfit",), density=Nearest).fit(data)
    assert rank_correlation(rule.anomaly(degraded), dice) < -0.99
    held_out = rule.held_out(data)
    assert abs(rank_correlation(held_out[:200], dice)) < 0.2
    assert np.median(held_out[200:]) > 0.2  # a reference that was seen is at 0 from itself, below all failures
    assert held_out.min() >= 0 and held_out.max() <= 1


def test_failures_of_a_reference_that_is_left_out_are_left_out_with_it() -> None:
    rng = np.random.default_rng(0)
    data = FitData(noise(3, rng), noise(5, rng), rng.random(5), np.array([0, 1, 1, 2, 7]))
    rest = data.without(np.array([False, True, False]))
    np.testing.assert_array_equal(rest.dice, data.dice[[0, 3, 4]])
    np.testing.assert_array_equal(rest.failures["shape"], data.failures["shape"][[0, 3, 4]])
    np.testing.assert_array_equal(rest.references["shape"], data.references["shape"][[0, 2]])


@pytest.fixture
def seeing(data: Data) -> AnomalyModel:
    """A model that sees images, of 20 references with structures and 5 without."""
    for values in data[:2]:
        values["doubt"][:] = 0.1
    return AnomalyModel.fit(FitData(*data, num_empty=5), "disagreement_equal")


def empty_mask(disagreement: float, doubt: float) -> Levels:
    """Statistics of an empty mask; all else is far from what any reference has."""
    levels = dict.fromkeys(STATISTICS, np.full((1, LEVELS), 99.0))
    return {**levels, "disagreement": np.full((1, LEVELS), disagreement), "doubt": np.full((1, LEVELS), doubt)}


def test_an_empty_mask_scores_by_what_the_image_shows(data: Data, seeing: AnomalyModel) -> None:
    shows_nothing, shows_some, shows_all = (seeing.score(empty_mask(d, 0.1), True)[0] for d in (0.0, 0.25, 1.0))
    # As unusual as being empty is: (1 + 5) / (1 + 5 + 20) of the references.
    assert shows_nothing == pytest.approx(np.quantile(seeing.score(data[0]), 1 - 6 / 26))
    assert shows_nothing < shows_some < shows_all == pytest.approx(seeing.worst)
    again = AnomalyModel.from_arrays(seeing.to_arrays())
    assert again.score(empty_mask(0.25, 0.1), True)[0] == shows_some
    assert again.score(empty_mask(0.25, 0.1))[0] == 0.25  # as any other mask


def test_from_labels_alone_all_empty_masks_are_as_usual_as_empty_references(data: Data, seeing: AnomalyModel) -> None:
    usual = seeing.score(empty_mask(0.0, 0.1), True)
    np.testing.assert_array_equal(seeing.score(empty_mask(1.0, np.nan), np.array([True])), usual)


def test_where_no_reference_is_empty_an_empty_mask_is_scored_by_the_rule(data: Data) -> None:
    model = AnomalyModel.fit(FitData(*data), "disagreement_equal")
    assert model.score(empty_mask(0.3, np.nan), True)[0] == pytest.approx(0.3)
    assert "empty_scores" not in model.to_arrays()


def test_where_no_reference_is_empty_failures_alone_choose_and_references_cannot(data: Data) -> None:
    references, degraded, dice = data
    degraded["shape"][:] = 1 - dice[:, None]
    references["shape"][:] = 2.0
    alone, beside = (AnomalyModel.fit(FitData(references, degraded, dice, num_empty=n)) for n in (None, 0))
    assert alone.rule == "shape" != beside.rule
    failed, right = (levels["disagreement"].mean(1) for levels in (degraded, references))
    assert alone.comparison["disagreement_equal"] == pytest.approx(rank_correlation(failed, dice))
    both, quality = np.append(failed, right), np.append(dice, np.ones(len(right)))
    assert beside.comparison["disagreement_equal"] == pytest.approx(rank_correlation(both, quality))


@pytest.mark.parametrize(("count", "absent"), [(1, "misfit_knn"), (7, "misfit_knn"), (8, "misfit_gmm"), (10, "")])
def test_rules_that_need_more_references_than_are_not_empty_are_no_candidates(count: int, absent: str) -> None:
    """Nearest neighbours need six, a Gaussian two per level, deviations two, when a fifth is left out."""
    rng = np.random.default_rng(0)
    data = FitData(noise(count, rng), noise(40, rng), rng.random(40), np.arange(40) % count, num_empty=3)
    comparison = AnomalyModel.fit(data).comparison
    assert ("deviation" in comparison) == (count > 1)
    assert all((name in comparison) == (absent != name) for name in {absent} - {""})
    assert ("misfit_gmm" in comparison) == (count == 10)


def test_a_density_that_is_asked_for_is_fitted_to_few_references_too() -> None:
    rng = np.random.default_rng(0)
    data = FitData(noise(2, rng), noise(40, rng), rng.random(40), np.arange(40) % 2, num_empty=3)
    assert AnomalyModel.fit(data, "misfit_gmm").rule == "misfit_gmm"


def test_a_direct_network_has_densities_of_however_few_references() -> None:
    """Nothing but `score_norm` is measured of it, and no rule of few references reads that."""
    rng = np.random.default_rng(0)
    references, degraded = (
        {name: values if name == "score_norm" else np.full_like(values, np.nan) for name, values in one.items()}
        for one in (noise(3, rng), noise(12, rng))
    )
    model = AnomalyModel.fit(FitData(references, degraded, rng.random(12), np.arange(12) % 3))
    assert model.rule.startswith("score_norm_") and np.isfinite(model.score(degraded)).all()
