"""References of one patient are found by their names, and are held out together."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from gnsm_monai.data.patients import EACH, numbered, patients_of, with_patients
from gnsm_monai.data.splits import split_references
from gnsm_monai.errors import InputError


@pytest.mark.parametrize(
    ("name", "patient"),
    [
        ("heart_{:03d}_{}", "heart_{:03d}"),
        ("patient{:03d}_frame0{}", "patient{:03d}"),
        ("patient{:03d}_frame0{}_gt", "patient{:03d}"),
        ("sub-{:02d}_ses-{}_T1w", "sub-{:02d}"),
        ("BraTS-GLI-{:05d}-00{}", "BraTS-GLI-{:05d}"),
        ("T1_case_{:03d}_{}", "T1_case_{:03d}"),
        ("TCGA_CS_{}_19960909_{}", "TCGA_CS_{}"),
        ("site{0}a_{0:03d}_{1}", "site{0}a"),
        ("{}_{}", "{}"),
    ],
)
def test_maps_whose_names_begin_alike_are_of_one_patient(name: str, patient: str) -> None:
    numbers = [(n, k) for n in range(10) for k in range(1, 3)]
    assert patients_of([name.format(*each) for each in numbers]) == [patient.format(n) for n, _ in numbers]


@pytest.mark.parametrize(
    "names",
    [
        [f"hippocampus_{n:03d}" for n in range(20)],
        [f"site{n % 3}_{n:03d}" for n in range(30)],
        [f"2021_{n}" if n % 3 else f"2022_{n}" for n in range(30)],
        [f"1.2.840.{n // 2}.{n}" for n in range(30)],
        [chr(ord("a") + n) for n in range(12)],
        [f"p{n // 10}_{n}" for n in range(40)],  # of four patients: fewer than can be held out
        [],
    ],
)
def test_sites_years_and_numbers_are_no_patients(names: list[str]) -> None:
    assert patients_of(names) == names


def test_a_pattern_finds_patients_that_names_alone_do_not() -> None:
    names = [f"{side}-{name}" for name in "abcdefgh" for side in ("left", "right")]
    assert patients_of(names) == names
    assert patients_of(names, "-(.)$") == patients_of(names, "(?<=-).") == [name[-1] for name in names]


def test_maps_can_be_taken_as_unrelated() -> None:
    names = [f"heart_{n // 2:03d}_{n % 2}" for n in range(20)]
    assert len(set(patients_of(names))) == 10 and patients_of(names, EACH) == names


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("(", r"^patients: '\(' is no regular expression: "),
        ("x", "^patients: 'x' finds no patient in the name of case 'heart_0_a'$"),
        ("heart", "^patients: at least 8 are needed, 'heart' finds 1$"),
        (7, "^patients: auto, each or a regular expression is needed, got 7$"),
    ],
)
def test_what_finds_no_patients_is_refused(how: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        patients_of([f"heart_{n}_a" for n in range(10)], how)


@pytest.mark.parametrize("seed", range(5))
def test_all_maps_of_a_patient_have_one_use(seed: int, caplog: pytest.LogCaptureFixture) -> None:
    names = [f"p{n:02d}_{k}" for n in range(30) for k in range(1 + n % 3)]
    with caplog.at_level(logging.INFO):
        cases = with_patients([{"case": name, "label": Path(f"labelsTr/{name}.png")} for name in names])
    assert caplog.messages[-1].startswith("the references are of 30 patients, such as p02 with 3: ")
    split = split_references(cases, seed)
    assert [case["case"] for case in split] == names
    uses = {(case["patient"], case["use"]) for case in split}
    assert len(uses) == 30
    counts = [sum(use == name for _, use in uses) for name in ("train", "selection", "calibration")]
    assert counts == [18, 4, 8]


def test_names_that_are_not_used_still_tell_patients_from_sites() -> None:
    """Of nine patients an audit's training leaves out two: seven alone would be taken for sites."""
    names = [f"heart_{n:03d}_{k}" for n in range(9) for k in range(2)]
    every = [{"case": name, "label": Path(f"labelsTr/{name}.png")} for name in names]
    for how in ("auto", r"heart_\d+"):
        assert [case["patient"] for case in with_patients(every[4:], how, every)] == [name[:9] for name in names[4:]]


@pytest.mark.parametrize("maps", [3, 20])
@pytest.mark.parametrize("patients", range(3, 12))
def test_few_patients_have_every_use(patients: int, maps: int) -> None:
    names = [f"p{n}_{k}" for n in range(patients) for k in range(maps)]
    cases = [{"case": name, "label": Path(f"labelsTr/{name}.png"), "patient": name.split("_")[0]} for name in names]
    for filled in range(3, patients + 1):
        split = split_references(cases, structured=[n // maps < filled for n in range(len(names))])
        uses = {(case["patient"], case["use"]) for case in split}
        assert len(uses) == patients
        assert {use for patient, use in uses if int(patient[1:]) < filled} == {"train", "selection", "calibration"}


def test_half_of_the_patients_are_enough_to_flag_a_mask() -> None:
    cases = with_patients([{"case": f"p{n // 2}_{n % 2}", "label": Path(f"labelsTr/{n}.png")} for n in range(40)])
    for seed in range(5):
        uses = [case["use"] for case in split_references(cases, seed)]
        assert uses.count("train") == 20


def test_patients_with_structures_are_in_every_part() -> None:
    names = [f"p{n // 2}_{n % 2}" for n in range(40)]
    cases = with_patients([{"case": name, "label": Path(f"labelsTr/{name}.png")} for name in names])
    structured = [n in (0, 3, 5) for n in range(40)]  # one map of three patients each
    uses = {
        case["use"] for case, has in zip(split_references(cases, structured=structured), structured, strict=True) if has
    }
    assert uses == {"train", "selection", "calibration"}
    with pytest.raises(InputError, match=r"at least 3 patients, .* found them in 2$"):
        split_references(cases, structured=[n in (0, 1, 5) for n in range(40)])


def test_patients_have_numbers_in_the_order_in_which_they_come() -> None:
    assert numbered(["b", "a", "b", "c"]).tolist() == [0, 1, 0, 2]


def test_masks_of_several_folders_are_of_the_patients_of_one() -> None:
    names = [f"heart_{n // 2:03d}_{n % 2}" for n in range(20)]
    assert patients_of(names * 5) == patients_of(names) * 5
