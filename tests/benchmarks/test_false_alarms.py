from __future__ import annotations

from pathlib import Path

import false_alarms
import numpy as np
import pytest


@pytest.mark.parametrize("seed", range(5))
def test_no_patient_is_both_learnt_from_and_ranked(seed: int) -> None:
    maps = [Path(f"heart_{patient:03}_{phase}.nii.gz") for patient in range(30) for phase in (1, 2)]
    drawn, unseen = false_alarms.parts(maps, 21, 25, np.random.default_rng(seed))
    assert len(drawn) == 22 and len(unseen) == 25  # the last patient is whole
    patients = [{path.name.split("_")[1] for path in paths} for paths in (drawn, unseen)]
    assert not patients[0] & patients[1] and len(patients[0]) == 11


def test_maps_of_one_number_are_of_a_patient_each() -> None:
    maps = [Path(f"cell_{number:03}.png") for number in range(50)]
    drawn, unseen = false_alarms.parts(maps, 20, 100, np.random.default_rng(0))
    assert sorted(drawn + unseen) == maps and len(drawn) == 20


def test_the_page_has_the_mean_of_the_splits_and_whether_it_lies_where_it_should() -> None:
    splits = [
        {"set": "heart", "size": size, "seed": seed, "rule": "shape", "masks": 50, "flagged": flagged}
        for size, each in ((40, (1, 2, 3)), (80, (6, 7, 8)))
        for seed, flagged in enumerate(each)
    ]
    text = "\n".join(false_alarms.lines({"splits": splits}))
    assert "| heart | 40 | 3 | 150 | 0.040 ± 0.012 | 0.02 to 0.06 | yes | `shape` |" in text
    assert "| heart | 80 | 3 | 150 | 0.140 ± 0.012 | 0.12 to 0.16 | no | `shape` |" in text
