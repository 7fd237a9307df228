"""Which references are of one patient: they are like each other, and are all held out together."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from gnsm_monai.data.datalist import Case
from gnsm_monai.errors import InputError

__all__ = ["EACH", "FROM_NAMES", "numbered", "patients_of", "with_patients"]

logger = logging.getLogger(__name__)

FROM_NAMES, EACH = "auto", "each"
"""Patients are found by the names of the references, or each reference is a patient of its own."""

MIN_PATIENTS = 8
"""Fewest patients, as fewest references: fewer leave nothing to learn from once some are held out."""

WORD = re.compile(r"[^_\-\s]+")
"""What stands between separators; a point is none of them, so that a DICOM UID is one word."""


def patients_of(names: Sequence[str], how: str = FROM_NAMES) -> list[str]:
    """The patient of each reference, by its name.

    ``heart_002_1`` and ``heart_002_2`` are of ``heart_002``, and ``sub-03_ses-1`` is of ``sub-03``: a patient is a name
    up to its first word with a digit. Where so few beginnings differ that these would be sites, scanners or years
    (fewer than :data:`MIN_PATIENTS`, or one of more than a quarter of the references), the next such word counts.

    Args:
        names: of the references, or of masks of several folders: equal names are of one patient.
        how: ``auto`` as above; ``each`` for a patient of its own each; else a regular expression that is looked for in
            each name: the patient is what its first group matches, or all of it where there is no group.

    Raises:
        InputError: no regular expression, a name that it does not match, or fewer than 8 patients by it.
    """
    if not isinstance(how, str):  # on MONAI's command line 7 is a number
        raise InputError(f"patients: auto, each or a regular expression is needed, got {how!r}")
    if how == EACH:
        return list(names)
    if how != FROM_NAMES:
        return _matched(names, how)
    beginnings = {name: list(_beginnings(name)) for name in names}
    for depth in range(max(map(len, beginnings.values()), default=0)):
        patient = {name: each[depth] if depth < len(each) else name for name, each in beginnings.items()}
        counts = Counter(patient.values())
        if len(counts) >= MIN_PATIENTS and max(counts.values()) <= len(beginnings) / 4:
            return [patient[name] for name in names]
    return list(names)


def with_patients(cases: Sequence[Case], how: str = FROM_NAMES, every: Sequence[Case] | None = None) -> list[Case]:
    """Cases with the ``patient`` of each, by :func:`patients_of`; logged where one has several.

    Args:
        cases: references that are used.
        how: see :func:`patients_of`.
        every: all references, used or not: few that are left, as by an audit's folds, could not tell patients from
            sites. By default ``cases``.
    """
    names = [case["case"] for case in (cases if every is None else every)]
    patient_of = dict(zip(names, patients_of(names, how), strict=True))
    patients = [patient_of[case["case"]] for case in cases]
    counts = Counter(patients)
    if len(counts) < len(cases):
        patient, count = counts.most_common(1)[0]
        text = "the references are of %d patients, such as %s with %d: those of a patient are held out together"
        logger.info(text, len(counts), patient, count)
    return [{**case, "patient": patient} for case, patient in zip(cases, patients, strict=True)]


def numbered(patients: Sequence[str]) -> np.ndarray:
    """The number of each patient, ``(N,)``, in the order in which they come."""
    numbers = {patient: number for number, patient in enumerate(dict.fromkeys(patients))}
    return np.array([numbers[patient] for patient in patients])


def _beginnings(name: str) -> Iterator[str]:
    """The name up to each of its words with a digit."""
    return (name[: word.end()] for word in WORD.finditer(name) if re.search(r"\d", word[0]))


def _matched(names: Sequence[str], pattern: str) -> list[str]:
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise InputError(f"patients: '{pattern}' is no regular expression: {error}") from error
    patients = []
    for name in names:
        match = expression.search(name)
        patient = None if match is None else match[min(1, expression.groups)]
        if not patient:
            raise InputError(f"patients: '{pattern}' finds no patient in the name of case '{name}'")
        patients.append(patient)
    if (count := len(set(patients))) < MIN_PATIENTS:
        raise InputError(f"patients: at least {MIN_PATIENTS} are needed, '{pattern}' finds {count}")
    return patients
