"""Shapes of held-out references are judged by models that have not seen them, and survive a file."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from gnsm_monai.data.constants import LABEL
from gnsm_monai.data.phantoms import write_phantom_dataset
from gnsm_monai.data.references import References, read_references
from gnsm_monai.data.transforms import FitToGridd, encode_labels
from gnsm_monai.files import load_arrays, save_arrays
from gnsm_monai.fitting import ShapeLearner, shapes
from gnsm_monai.fitting.shapes import FOLDS, HALVES
from gnsm_monai.noise import build_schedule
from gnsm_monai.scoring.reference_shapes import ReferenceShapes
from gnsm_monai.scoring.scorer import Scorer
from gnsm_monai.scoring.shape import ShapeModel, coarse_maps
from gnsm_monai.scoring.structures import Structures
from gnsm_monai.time_limit import TimeLimit
from tests.builders import Clock

STRIDES = [[2, 2], [2, 2]]
SCHEDULE = build_schedule("mixing")
STEPS = 60


@pytest.fixture(scope="module")
def references(tmp_path_factory: pytest.TempPathFactory) -> References:
    folder = write_phantom_dataset(tmp_path_factory.mktemp("data"), spatial_dims=2, num_train=20, num_test=1)
    return read_references(folder, spatial_dims=2)


@pytest.fixture(scope="module")
def learnt(references: References) -> tuple[ReferenceShapes, dict[str, ReferenceShapes]]:
    return learn(references, STEPS)


def learn(references: References, steps: int) -> tuple[ReferenceShapes, dict[str, ReferenceShapes]]:
    return ShapeLearner(references, STRIDES, SCHEDULE, steps)()


def index_of(references: References, case: dict[str, object]) -> Tensor:
    found: Tensor = FitToGridd(references.spatial_size)(references.maps_of([case])[0])[LABEL].as_tensor()
    return found


def one_hot(references: References, case: dict[str, object]) -> Tensor:
    return encode_labels(index_of(references, case)[None], references.scheme.num_classes)[0][0]


def halves(references: References) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    return references.used_for("train"), [case for case in references.cases if case["use"] != "train"]


def test_no_held_out_reference_is_among_the_sizes_that_judge_it(
    references: References, learnt: tuple[ReferenceShapes, dict[str, ReferenceShapes]]
) -> None:
    whole, own = learnt
    train, held = halves(references)

    def centre(cases: list[dict[str, object]]) -> np.ndarray:
        structures = [[float((index_of(references, c) == k).sum()) for k in range(1, 4)] for c in cases]
        found: np.ndarray = np.median(np.log1p(structures), axis=0)
        return found

    assert references.scheme.structure_classes == ((1,), (2,), (3,))
    assert whole.sizes is not None
    np.testing.assert_allclose(whole.sizes.centre, centre(train + held))
    for number, case in enumerate(held):
        sizes = own[str(case["case"])].sizes
        others = [c for n, c in enumerate(held) if n % FOLDS != number % FOLDS]
        assert sizes is not None
        np.testing.assert_allclose(sizes.centre, centre(train + others))


def test_no_other_map_of_a_patient_judges_a_held_out_reference(references: References) -> None:
    held = halves(references)[1]
    patients = {case["case"]: f"p{number // 2}" for number, case in enumerate(held)}
    cases = [{**case, "patient": patients.get(case["case"], case["case"])} for case in references.cases]
    own = learn(replace(references, cases=cases), 0)[1]
    alone = learn(references, 0)[1]
    linear = [own[str(case["case"])].linear for case in held]
    assert (
        len(held) == 8
        and [first is second for first, second in zip(linear[::2], linear[1::2], strict=True)] == [True] * 4
    )
    means = [judge.mean.numpy() for judge in linear if judge is not None]
    other = alone[str(held[1]["case"])].linear
    assert other is not None and not np.allclose(means[1], other.mean)


def test_no_held_out_reference_is_in_the_linear_model_that_judges_it(
    references: References, learnt: tuple[ReferenceShapes, dict[str, ReferenceShapes]]
) -> None:
    whole, own = learnt
    train, held = halves(references)
    assert list(own) == [case["case"] for case in held]
    for number, case in enumerate(held):
        others = [c for n, c in enumerate(held) if n % FOLDS != number % FOLDS]
        values, stride = coarse_maps((one_hot(references, c) for c in train + others), STRIDES)
        expected, found = ShapeModel.fit(values, stride), own[str(case["case"])].linear
        assert expected is not None and found is not None
        np.testing.assert_allclose(found.mean, expected.mean, atol=1e-6)
        np.testing.assert_allclose(found.variance, expected.variance, rtol=1e-3)
    values, stride = coarse_maps((one_hot(references, c) for c in train + held), STRIDES)
    assert whole.linear is not None
    np.testing.assert_allclose(whole.linear.mean, values.mean(0), atol=1e-6)


def test_no_held_out_reference_is_in_the_network_that_judges_it(
    references: References, learnt: tuple[ReferenceShapes, dict[str, ReferenceShapes]]
) -> None:
    """The prior in a network tells of which references it has learnt."""
    whole, own = learnt
    train, held = halves(references)
    count = references.scheme.num_classes
    for number, case in enumerate(held):
        others = [c for n, c in enumerate(held) if n % HALVES != number % HALVES]
        frequency = torch.stack([one_hot(references, c) for c in train + others]).mean(0)
        found = own[str(case["case"])].network
        assert found is not None
        prior = found.network.log_prior.exp()
        torch.testing.assert_close(prior, 0.999 * frequency + 0.001 / count, atol=1e-5, rtol=1e-3)
    frequency = torch.stack([one_hot(references, c) for c in train + held]).mean(0)
    assert whole.network is not None
    prior = whole.network.network.log_prior.exp()
    torch.testing.assert_close(prior, 0.999 * frequency + 0.001 / count, atol=1e-5, rtol=1e-3)


def test_large_maps_are_learnt_in_cells(references: References) -> None:
    count = references.scheme.num_classes
    voxels = count * int(np.prod(references.spatial_size))
    learner = ShapeLearner(references, STRIDES, build_schedule("mixing"), 2, max_values=voxels // 4)
    network = learner()[0].network
    assert network is not None and network.cell == (2, 2)
    maps = torch.stack([one_hot(references, case) for case in references.cases])
    squares = maps.unflatten(-1, (-1, 2)).unflatten(-3, (-1, 2)).mean((0, -1, -3))
    torch.testing.assert_close(network.network.log_prior.exp(), 0.999 * squares + 0.001 / count, atol=1e-5, rtol=1e-3)


def test_the_same_seed_gives_the_same_network_and_leaves_random_numbers_alone(
    references: References, learnt: tuple[ReferenceShapes, dict[str, ReferenceShapes]]
) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    again, _ = learn(references, STEPS)
    assert torch.equal(torch.rand(3), expected)
    first = learnt[0].network
    assert again.network is not None and first is not None
    for a, b in zip(again.network.network.parameters(), first.network.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_network_learns_more_than_the_prior_says(
    references: References, learnt: tuple[ReferenceShapes, dict[str, ReferenceShapes]]
) -> None:
    network = learnt[0].network
    assert network is not None
    maps = torch.stack([one_hot(references, case) for case in references.used_for("train")])
    level = torch.zeros(len(maps), dtype=torch.long)
    with torch.no_grad():
        logits = network.network(network.network.schedule.noise_free(maps, level), level)
    found = -(maps * logits.log_softmax(1)).sum(1).mean()
    prior = -(maps * network.network.log_prior).sum(1).mean()
    assert found < 0.9 * prior


def test_where_training_references_are_plenty_nothing_is_learnt_from_the_others(
    references: References, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shapes, "MAX_CASES", 10)
    whole, own = learn(references, 2)
    values, _ = coarse_maps((one_hot(references, c) for c in references.used_for("train")[:10]), STRIDES)
    assert set(map(id, own.values())) == {id(whole)}
    assert whole.linear is not None and whole.network is not None
    np.testing.assert_allclose(whole.linear.mean, values.mean(0), atol=1e-6)


def test_without_steps_there_is_a_linear_model_alone(references: References) -> None:
    whole, own = learn(references, 0)
    assert whole.linear is not None
    assert {found.network for found in [whole, *own.values()]} == {None}


def test_a_file_keeps_what_scores_say(
    references: References, learnt: tuple[ReferenceShapes, dict[str, ReferenceShapes]], tmp_path: object
) -> None:
    path = f"{tmp_path}/shapes.npz"
    save_arrays(path, learnt[0].to_arrays())
    read = ReferenceShapes.from_arrays(load_arrays(path))
    maps = one_hot(references, references.cases[0])[None]
    mask, levels = torch.ones_like(maps[:, :1]), torch.arange(4)
    with torch.no_grad():
        kept = learnt[0].judge(torch.clone, SCHEDULE, maps, mask, levels)
        found = read.judge(torch.clone, SCHEDULE, maps, mask, levels)
    assert len(kept) == len(found) == 2
    torch.testing.assert_close(found[1], kept[1], atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(found[0], kept[0], atol=1e-6, rtol=1e-5)
    assert ReferenceShapes.from_arrays({}) == ReferenceShapes()


def test_the_statistic_is_the_mean_opinion_of_both_models(
    references: References, learnt: tuple[ReferenceShapes, dict[str, ReferenceShapes]]
) -> None:
    both = learnt[0]
    maps = one_hot(references, references.cases[0])[None]

    class Nothing(torch.nn.Module):
        def forward(self, x: Tensor, level: Tensor) -> Tensor:
            return torch.zeros_like(x)

    def shape(shapes: ReferenceShapes | None) -> np.ndarray:
        return Scorer(SCHEDULE, structures=Structures(band_voxels=(2, 2)))(Nothing(), maps, shapes=shapes).levels[
            "shape"
        ]

    linear, network = shape(ReferenceShapes(both.linear)), shape(ReferenceShapes(None, both.network))
    np.testing.assert_allclose(shape(both), (linear + network) / 2)
    np.testing.assert_allclose(network[2:], network[1])  # it knows two levels
    assert np.isnan(shape(None)).all() and np.isnan(shape(ReferenceShapes())).all()


def test_an_outlier_is_none_of_the_shapes(
    references: References, learnt: tuple[ReferenceShapes, dict[str, ReferenceShapes]]
) -> None:
    network = learnt[0].network
    assert network is not None
    maps = one_hot(references, references.cases[0])[None]
    moved = copy.copy(maps).roll(12, dims=-1)
    mask, levels = torch.ones_like(maps[:, :1]), torch.zeros(1, dtype=torch.long)
    with torch.no_grad():
        usual, odd = (
            (m * ReferenceShapes(None, network).judge(torch.clone, SCHEDULE, m, mask, levels)[0])[:, 1:].sum()
            for m in (maps, moved)
        )
    assert odd < 0.5 * usual


@pytest.mark.parametrize(
    ("minutes", "trainings"),
    [
        (None, [600, 225, 225, 225]),
        (1000, [3, 600, 225, 225, 225]),
        (25, [3, 351, 132, 132, 132]),  # (1500 - 6) s / (2 s * 2.125)
        (2, [3]),
        (0, []),
    ],
)
def test_the_network_learns_in_as_many_steps_as_time_allows_or_not_at_all(
    references: References,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    minutes: float | None,
    trainings: list[int],
) -> None:
    """Steps take 2 s; without a network the linear model alone judges, which is said."""
    clock, lengths = Clock(), list[int]()

    def train(learner: ShapeLearner, labels: list[Tensor], steps: int, *_: object, **__: object) -> Tensor:
        lengths.append(steps)
        clock.wait(2 * steps)
        return torch.ones(1)

    monkeypatch.setattr(ShapeLearner, "_train", train)
    monkeypatch.setattr(shapes, "ReferenceShapes", lambda linear, network, sizes, forms: network)
    with caplog.at_level("INFO", logger="gnsm_monai"):
        whole, judges = ShapeLearner(references, STRIDES, SCHEDULE, 600)(TimeLimit(minutes, clock=clock))
    assert lengths == trainings
    without = [network is None for network in (whole, *judges.values())]
    assert all(without) if len(trainings) < 2 else not any(without)
    assert ("the linear model alone" in caplog.text) == all(without)
