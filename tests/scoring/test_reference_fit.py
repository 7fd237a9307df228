"""Shapes of held-out references are judged by models that have not seen them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from gnsm_monai.data.phantoms import write_phantom_dataset
from gnsm_monai.data.references import References, read_references
from gnsm_monai.noise import build_schedule
from gnsm_monai.scoring import reference_fit
from gnsm_monai.scoring.reference_failures import ReferenceFailures
from gnsm_monai.scoring.reference_fit import FOLDS, ReferenceFit
from gnsm_monai.scoring.scorer import Scorer
from gnsm_monai.scoring.shape import ShapeModel, coarse_maps

STRIDES = [[2, 2], [2, 2]]


@pytest.fixture(scope="module")
def references(tmp_path_factory: pytest.TempPathFactory) -> References:
    folder = write_phantom_dataset(tmp_path_factory.mktemp("data"), spatial_dims=2, num_train=20, num_test=1)
    return read_references(folder, spatial_dims=2)


def fit_of(references: References, folder: Path, strides: list[list[int]] | None) -> ReferenceFit:
    scorer = Scorer(build_schedule("mixing"), band_voxels=(2, 2))
    return ReferenceFit(scorer, torch.nn.Identity(), references, folder, {}, failures="copies", strides=strides)


def test_no_held_out_reference_is_in_the_model_that_scores_it(references: References, tmp_path: Path) -> None:
    fit, makes = fit_of(references, tmp_path, STRIDES), ReferenceFailures(references, "copies")
    whole, own = fit._shapes(makes)
    train = references.used_for("train")
    held = [case for case in references.cases if case["use"] != "train"]
    assert list(own) == [case["case"] for case in held]
    for number, case in enumerate(held):
        others = [c for n, c in enumerate(held) if n % FOLDS != number % FOLDS]
        values, stride = coarse_maps((fit._one_hot(makes.load(c)) for c in train + others), STRIDES)
        expected, found = ShapeModel.fit(values, stride), own[case["case"]]
        assert expected is not None and found is not None
        np.testing.assert_allclose(found.mean, expected.mean, atol=1e-6)
        np.testing.assert_allclose(found.variance, expected.variance, rtol=1e-3)
    values, stride = coarse_maps((fit._one_hot(makes.load(c)) for c in train + held), STRIDES)
    assert whole is not None
    np.testing.assert_allclose(whole.mean, values.mean(0), atol=1e-6)


def test_training_references_are_enough_where_they_are_many(
    references: References, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reference_fit, "MOST_CASES", 10)
    fit, makes = fit_of(references, tmp_path, STRIDES), ReferenceFailures(references, "copies")
    whole, own = fit._shapes(makes)
    maps = (fit._one_hot(makes.load(c)) for c in references.used_for("train")[:10])
    values, _ = coarse_maps(maps, STRIDES)
    for model in [whole, *own.values()]:
        assert model is not None
        np.testing.assert_allclose(model.mean, values.mean(0), atol=1e-6)


def test_without_strides_no_shapes_are_learnt(references: References, tmp_path: Path) -> None:
    whole, own = fit_of(references, tmp_path, None)._shapes(ReferenceFailures(references, "copies"))
    assert whole is None and set(own.values()) == {None}
