"""Contacts of held-out references, each judged by references of other folds."""

from __future__ import annotations

import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from gnsm_monai.data.references import References, read_references
from gnsm_monai.fitting.held_out_contacts import FOLDS, HeldOutContacts
from gnsm_monai.scoring.contacts import ReferenceContacts, structure_weights
from tests.builders import boxes


@pytest.fixture(scope="module")
def references(tmp_path_factory: pytest.TempPathFactory) -> References:
    folder, rng = tmp_path_factory.mktemp("boxes"), np.random.default_rng(0)
    (folder / "labelsTr").mkdir()
    for i in range(15):
        nib.save(nib.Nifti1Image(boxes(rng)[..., None], np.eye(4)), folder / "labelsTr" / f"b{i:02d}.nii.gz")
    labels = {"background": 0, **{f"box_{i}": i for i in range(1, 10)}}
    content = {"labels": labels, "numTraining": 15, "file_ending": ".nii.gz", "channel_names": {"0": "CT"}}
    (folder / "dataset.json").write_text(json.dumps(content))
    return read_references(folder, spatial_dims=2)


def test_a_reference_is_judged_by_those_of_other_folds(references: References) -> None:
    held_out = [case["case"] for case in references.cases if case["use"] != "train"]
    areas, contacts = references.stored.contacts, HeldOutContacts(references)
    assert len(held_out) > FOLDS
    for fold in range(FOLDS):
        left_out = held_out[fold::FOLDS]
        others = [areas[case["case"]] for case in references.cases if case["case"] not in left_out]
        judge = ReferenceContacts.fit(np.stack(others))
        assert judge is not None
        for case in left_out:
            deviations = judge.deviations(areas[case], references.scheme.structure_classes)
            np.testing.assert_allclose(contacts.of_reference(case), structure_weights(deviations))


def test_a_failure_is_judged_on_the_grid(references: References) -> None:
    case = next(case for case in references.cases if case["use"] == "calibration")
    contacts, label = HeldOutContacts(references), references.stored.label(case)[0].numpy()
    sound = contacts.of_failure(case["case"], label)
    worse = contacts.of_failure(case["case"], np.where(label == 1, 9, label))
    assert sound is not None and worse is not None
    # The grid is that of the files here.
    np.testing.assert_allclose(sound, contacts.of_reference(case["case"]), rtol=1e-4)
    assert set(np.argsort(worse)[-2:]) == {0, 8} and worse.max() > 4 + sound.max()


def test_masks_are_judged_by_all_references(references: References) -> None:
    whole = HeldOutContacts(references).whole
    every = ReferenceContacts.fit(np.stack([references.stored.contacts[case["case"]] for case in references.cases]))
    assert whole is not None and every is not None
    np.testing.assert_array_equal(whole.centre, every.centre)


def test_beside_images_and_few_references_contacts_do_not_count(references: References) -> None:
    few = replace(references, cases=references.cases[:4])
    for without in (replace(references, image_channels=1), few):
        contacts = HeldOutContacts(without)
        assert contacts.whole is None
        assert contacts.of_reference(references.cases[0]["case"]) is None
