"""Held-out references, and as many of their failures as time allows, by a clock that the tests move."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gnsm_monai.data.constants import LABEL
from gnsm_monai.data.degradations import KINDS
from gnsm_monai.data.phantoms import write_phantom_dataset
from gnsm_monai.data.references import References, read_references
from gnsm_monai.data.transforms import FitToGridd, encode_labels
from gnsm_monai.fitting import held_out_scorer
from gnsm_monai.fitting.held_out_scorer import LEAST, HeldOutScorer
from gnsm_monai.fitting.reference_failures import ReferenceFailures
from gnsm_monai.fitting.reference_statistics import ReferenceStatistics
from gnsm_monai.networks import ScoreUNet
from gnsm_monai.noise import mixing_schedule
from gnsm_monai.scoring import Scorer, Structures
from gnsm_monai.scoring.forms import ReferenceForms
from gnsm_monai.scoring.reference_shapes import ReferenceShapes
from gnsm_monai.time_limit import TimeLimit
from tests.builders import Clock

EACH, COPIES = 2, 4
"""Seconds that a map takes to score, and copies made from each reference."""


@pytest.fixture(scope="module")
def references(tmp_path_factory: pytest.TempPathFactory) -> References:
    folder = write_phantom_dataset(tmp_path_factory.mktemp("data"), spatial_dims=2, num_train=60, num_test=1)
    return read_references(folder, spatial_dims=2)


def scored(
    references: References, seconds: float | None, monkeypatch: pytest.MonkeyPatch
) -> tuple[Any, float, list[str]]:
    """What is scored for calibration within a limit, how long that took, and the cases in the order of scoring."""
    clock, order = Clock(), list[str]()

    def score(scorer: HeldOutScorer, maps: Any, case: str, failure: bool = False) -> None:
        clock.wait(EACH)
        order.append(case)

    monkeypatch.setattr(HeldOutScorer, "score", score)
    failures = ReferenceFailures(references, "copies", copies=COPIES, calibration_copies=COPIES)
    held_out = HeldOutScorer(None, None, failures, {})  # type: ignore[arg-type]
    limit = TimeLimit(None if seconds is None else seconds / 60, clock=clock)
    return held_out.statistics("calibration", limit), clock.now - 1000, order


def failures_of(statistics: ReferenceStatistics) -> np.ndarray:
    return np.bincount(statistics.groups, minlength=len(statistics.cases))


def test_without_a_limit_all_is_scored_in_order(references: References, monkeypatch: pytest.MonkeyPatch) -> None:
    statistics, _, order = scored(references, None, monkeypatch)
    cases = [case["case"] for case in references.used_for("calibration")]
    assert statistics.cases == cases and list(dict.fromkeys(order)) == cases
    assert failures_of(statistics).tolist() == [COPIES + 1] + [COPIES] * (len(cases) - 1)  # one empty mask


def test_many_references_fail_in_fewer_ways_each_of_all_kinds_in_turn(
    references: References, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cases = references.used_for("calibration")
    monkeypatch.setattr(held_out_scorer, "MOST", 2 * len(cases))
    with caplog.at_level("INFO", logger="gnsm_monai"):
        statistics, *_ = scored(references, None, monkeypatch)
    assert statistics.cases == [case["case"] for case in cases]
    assert failures_of(statistics).tolist() == [2 + 1] + [2] * (len(cases) - 1)
    assert set(statistics.kinds) == {*KINDS, "empty"}
    assert "time allowed no more" not in caplog.text


@pytest.mark.parametrize("mask_alone", [False, True])
def test_the_network_sees_references_and_failures_if_it_has_a_vote(references: References, mask_alone: bool) -> None:
    noise, count = mixing_schedule(num_levels=2), references.scheme.num_classes
    network = ScoreUNet(2, count, noise=noise, channels=(4, 8)).eval()
    seen: list[int] = []
    network.register_forward_hook(lambda module, inputs, output: seen.extend(inputs[1].tolist()))
    masks = [one_hot[1:] for one_hot in references_one_hot(references)]
    shapes = ReferenceShapes(forms=ReferenceForms.fit(masks, references.voxel_size))
    by_case = {case["case"]: shapes for case in references.cases}
    failures = ReferenceFailures(references, "copies", copies=1, calibration_copies=1)
    held_out = HeldOutScorer(
        Scorer(noise, structures=Structures(band_voxels=(2, 2))), network, failures, by_case, mask_alone
    )
    statistics = held_out.statistics("selection")
    scored_by_network = len(statistics.references) + (0 if mask_alone else len(statistics.scored_failures))
    assert seen == [0, 1] * scored_by_network
    assert np.isfinite(statistics.levels["disagreement"]).all() and np.isfinite(statistics.failure_levels["form"]).all()
    assert np.isnan(statistics.failure_levels["disagreement"]).all() == mask_alone


def references_one_hot(references: References) -> list[np.ndarray]:
    """One-hot maps ``(K, *spatial)`` of the training references."""
    place = FitToGridd(references.spatial_size)
    labels = [place({LABEL: references.stored.label(case)})[LABEL] for case in references.used_for("train")]
    return [encode_labels(label[None], references.scheme.num_classes)[0][0].numpy() for label in labels]


@pytest.mark.parametrize("part", [0.3, 0.5, 0.8])
def test_a_limit_holds_within_a_step_and_is_shared_out_over_the_references(
    references: References, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, part: float
) -> None:
    cases = references.used_for("calibration")
    whole = EACH * (len(cases) * (COPIES + 1) + 1)
    with caplog.at_level("INFO", logger="gnsm_monai"):
        statistics, seconds, _ = scored(references, part * whole, monkeypatch)
    assert seconds <= part * whole + EACH
    assert sorted(statistics.cases) == sorted(case["case"] for case in cases)  # references come first
    counts = failures_of(statistics)
    assert LEAST <= counts.sum() < len(cases) * COPIES
    assert np.ptp(counts) <= 3
    assert f"{counts.sum()} failures made from them: time allowed no more" in caplog.text
    assert len(set(statistics.kinds)) > 3


def test_with_no_time_at_all_just_enough_is_scored_to_fit_to(
    references: References, monkeypatch: pytest.MonkeyPatch
) -> None:
    statistics, seconds, _ = scored(references, 0, monkeypatch)
    assert len(statistics.cases) == LEAST and failures_of(statistics).sum() >= LEAST
    assert seconds <= EACH * 3 * LEAST
    assert statistics.cases != [case["case"] for case in references.used_for("calibration")][:LEAST]
