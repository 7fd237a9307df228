"""A small network's failures: graded, reproducible, blind to ignored voxels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gnsm_monai import workflow
from gnsm_monai.data.compare import mean_foreground_dice
from gnsm_monai.data.constants import IGNORE_INDEX, IMAGE, LABEL
from gnsm_monai.data.phantoms import write_phantom_dataset
from gnsm_monai.data.references import References, read_references
from gnsm_monai.errors import InputError
from gnsm_monai.fitting.failure import FailurePlan, kinds_in_turn
from gnsm_monai.fitting.reference_failures import ReferenceFailures
from gnsm_monai.fitting.segmenter import CERTAIN, EarlySegmenter, KnownVoxelsLoss
from gnsm_monai.time_limit import TimeLimit
from tests.builders import Clock

STEPS = (4, 80)


@pytest.fixture(scope="module")
def references(tmp_path_factory: pytest.TempPathFactory) -> References:
    folder = write_phantom_dataset(
        tmp_path_factory.mktemp("phantoms"), spatial_dims=2, num_train=20, num_test=1, seed=3
    )
    return read_references(folder, spatial_dims=2)


@pytest.fixture(scope="module")
def makes(references: References) -> ReferenceFailures:
    makes = ReferenceFailures(references, "copies", seed=1)
    cases = [makes.with_image(case, grow=False) for case in references.used_for("train")]
    makes.segmenter = EarlySegmenter.train([case for case in cases if case], references, seed=1, steps=STEPS)
    return makes


def of(makes: ReferenceFailures, masks: int | None, copies: int = 4, number: int = 0) -> list[Any]:
    case = makes.references.used_for("selection")[number]
    return list(makes.of(case, makes.references.maps_of([case])[0], number, FailurePlan(0, copies, masks)))


def test_masks_get_better_with_training(makes: ReferenceFailures) -> None:
    dice = {kind: [] for kind in makes.segmenter.kinds}  # type: ignore[union-attr,var-annotated]
    for number in range(len(makes.references.used_for("selection"))):
        for failure in of(makes, None, number=number):
            if failure.of_network:
                dice[failure.kind].append(failure.dice)
    assert list(dice) == ["early_4", "poor_image_4", "early_80", "poor_image_80"]
    assert np.mean(dice["early_80"]) > max(0.7, np.mean(dice["early_4"]) + 0.1)
    assert np.mean(dice["early_80"]) > np.mean(dice["poor_image_80"])


def test_failures_are_masks_copies_and_an_empty_mask_with_their_dice(makes: ReferenceFailures) -> None:
    failures = of(makes, None)
    assert [failure.of_network for failure in failures] == [True] * 4 + [False] * 3
    assert failures[-1].kind == "empty" and failures[-1].dice == 0
    reference = makes.with_image(makes.references.used_for("selection")[0])
    assert reference is not None
    for failure in failures[:4]:
        label = failure.case[LABEL][0].numpy()
        expected = mean_foreground_dice(label, reference[LABEL][0].numpy(), makes.references.scheme.num_classes)
        assert failure.dice == pytest.approx(expected)


def test_few_masks_are_of_both_sorts_and_of_every_step_in_turn(makes: ReferenceFailures) -> None:
    kinds = [
        [failure.kind for failure in of(makes, 2, number=number) if failure.of_network]
        for number in range(len(makes.references.used_for("selection")))
    ]
    assert all({kind.rsplit("_", 1)[0] for kind in pair} == {"early", "poor_image"} for pair in kinds)
    assert len({kind for pair in kinds for kind in pair}) == 4


def test_the_same_seed_makes_the_same_masks_and_leaves_the_callers_numbers(references: References) -> None:
    makes = ReferenceFailures(references, "copies")
    cases = [makes.with_image(case, grow=False) for case in references.used_for("train")[:4]]
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    one, other = (EarlySegmenter.train(cases, references, 7, steps=(3,)) for _ in range(2))  # type: ignore[arg-type]
    assert torch.equal(torch.rand(3), expected)
    case = cases[0]
    assert case is not None
    for kind in one.kinds:
        first, second = one.mask(case, kind, [0]), other.mask(case, kind, [0])
        assert torch.equal(first[LABEL], second[LABEL]) and torch.equal(first[IMAGE], second[IMAGE])
    assert not torch.equal(one.mask(case, "poor_image_3", [0])[IMAGE], case[IMAGE])
    assert torch.equal(one.mask(case, "early_3", [0])[IMAGE], case[IMAGE])


def test_a_damaged_image_stands_beside_the_mask_of_the_sound_one(makes: ReferenceFailures) -> None:
    case, segmenter = makes.with_image(makes.references.used_for("selection")[0]), makes.segmenter
    assert case is not None and segmenter is not None
    assert segmenter.damaged_kinds == ["damaged_80"]  # a mask of few steps says nothing of the image
    early, poor, damaged = (segmenter.mask(case, f"{kind}_80", [0]) for kind in ("early", "poor_image", "damaged"))
    assert torch.equal(damaged[LABEL], early[LABEL]) and torch.equal(early[IMAGE], case[IMAGE])
    assert torch.equal(damaged[IMAGE], poor[IMAGE]) and not torch.equal(damaged[IMAGE], case[IMAGE])


def test_images_are_damaged_for_a_network_that_sees_them_alone(makes: ReferenceFailures) -> None:
    with_images = read_references(makes.references.cases[0][LABEL].parent.parent, spatial_dims=2, with_images=True)
    seeing = ReferenceFailures(with_images, "copies")
    seeing.segmenter = makes.segmenter
    kinds = [{failure.kind for failure in of(one, None) if failure.of_network} for one in (makes, seeing)]
    assert kinds[1] - kinds[0] == {"damaged_80"} and kinds[0] < kinds[1]


def test_ignored_voxels_stay_ignored(makes: ReferenceFailures) -> None:
    case = makes.with_image(makes.references.used_for("selection")[0])
    assert case is not None and makes.segmenter is not None
    label = case[LABEL].clone()
    label[0, :5] = IGNORE_INDEX
    mask = makes.segmenter.mask({**case, LABEL: label}, "early_80", [0])[LABEL]
    assert (mask[0, :5] == IGNORE_INDEX).all() and (mask[0, 5:] >= 0).all()


def test_the_loss_does_not_see_ignored_voxels() -> None:
    logits = torch.randn(2, 3, 6, 6, requires_grad=True)
    label = torch.randint(0, 3, (2, 1, 6, 6))
    label[:, :, :3] = IGNORE_INDEX
    KnownVoxelsLoss()(logits, label).backward()
    assert logits.grad is not None
    assert not logits.grad[:, :, :3].any() and logits.grad[:, :, 3:].any()
    perfect = torch.nn.functional.one_hot(label[:, 0].clamp_min(0), 3).movedim(-1, 1) * CERTAIN
    assert KnownVoxelsLoss()(perfect, label) < 0.05


def test_without_images_copies_are_all(references: References, tmp_path: Path) -> None:
    bare = read_references(references.cases[0][LABEL].parent, spatial_dims=2, bare=True)
    assert bare.images is None
    makes = ReferenceFailures(bare)
    makes.train_segmenter()
    assert makes.segmenter is None
    assert not any(failure.of_network for failure in of(makes, None))
    with pytest.raises(InputError, match="failures: 'networks' needs an image of every reference"):
        ReferenceFailures(bare, "networks")


def test_an_image_that_cannot_be_read_costs_its_masks_alone(
    tmp_path: Path, makes: ReferenceFailures, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_phantom_dataset(tmp_path, spatial_dims=2, num_train=20, num_test=1, seed=3)
    references = read_references(folder, spatial_dims=2)
    case = references.used_for("selection")[0]
    assert references.images is not None
    (image,) = references.images.of(case["case"])
    image.write_bytes(b"no image")
    broken = ReferenceFailures(references, "copies")
    broken.segmenter = makes.segmenter
    plan = FailurePlan(0, copies=4, masks=None, empty=False)
    kinds = [failure.of_network for failure in broken.of(case, references.maps_of([case])[0], 0, plan)]
    assert kinds == [False] * 4
    assert image.name in caplog.text and "no failures of a network" in caplog.text


@pytest.mark.parametrize("snapshots", [1, 2, 6])
def test_all_kinds_have_their_turn_and_each_reference_gets_both_sorts(snapshots: int) -> None:
    kinds = [f"{sort}_{step}" for step in range(snapshots) for sort in ("early", "poor_image")]
    turns = [kinds_in_turn(kinds, number, 2) for number in range(len(kinds))]
    assert {kind for turn in turns for kind in turn} == set(kinds)
    assert all({kind.rsplit("_", 1)[0] for kind in turn} == {"early", "poor_image"} for turn in turns)
    assert sorted(kinds_in_turn(kinds, 0, len(kinds))) == sorted(kinds)


def test_a_source_of_images_that_are_not_there_is_refused_before_training(
    references: References, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = read_references(references.cases[0][LABEL].parent, spatial_dims=2, bare=True)
    workflow.check_failures(bare, "auto")
    with pytest.raises(SystemExit) as stop:
        workflow.check_failures(bare, "networks")
    assert stop.value.code == 2
    assert "failures: 'networks' needs an image of every reference" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("wanted", "steps", "usable"), [("auto", 0, False), ("networks", 40, False), ("auto", 64, True)]
)
def test_a_network_that_got_too_little_time_is_left_out_and_said(
    references: References,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    wanted: str,
    steps: int,
    usable: bool,
) -> None:
    """The limit is over after so many steps; three copies are the fewest that are used."""
    clock = Clock()
    limit, step = TimeLimit(steps / 60, clock=clock), KnownVoxelsLoss.forward

    def timed(loss: KnownVoxelsLoss, logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        clock.wait(1)
        return step(loss, logits, label)

    monkeypatch.setattr(KnownVoxelsLoss, "forward", timed)
    makes = ReferenceFailures(references, wanted)
    with caplog.at_level("INFO", logger="gnsm_monai"):
        makes.train_segmenter(limit)
    assert (makes.segmenter is not None) == usable
    said = f"{steps} steps, as time allowed" if usable else "too little time: failures are degraded copies alone"
    assert said in caplog.text
    if makes.segmenter is not None:
        assert list(makes.segmenter.snapshots) == [24, 40, 64]


@pytest.mark.parametrize(("share", "masks", "copies"), [(1, 4, 2), (0.5, 2, 1), (0.01, 1, 1)])
def test_a_share_of_the_failures_has_some_of_each_sort(
    makes: ReferenceFailures, share: float, masks: int, copies: int
) -> None:
    case, plan = makes.references.used_for("selection")[0], FailurePlan(0, 4, None, empty=False)
    failures = list(makes.of(case, makes.references.maps_of([case])[0], 0, plan, share))
    assert [failure.of_network for failure in failures] == [True] * masks + [False] * copies
    assert makes.most(plan) == 6
