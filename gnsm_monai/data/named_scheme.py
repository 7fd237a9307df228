"""The classes of references that came without a dataset.json: from the values and the names that their files tell."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from gnsm_monai.data.constants import LABEL
from gnsm_monai.data.datalist import Case
from gnsm_monai.data.label_names import LabelTable, name_key
from gnsm_monai.data.nnunet import LabelScheme
from gnsm_monai.data.reference_measures import MapMeasures
from gnsm_monai.errors import InputError

__all__ = ["named_scheme"]

logger = logging.getLogger(__name__)

MAX_STRUCTURES = 255
"""Without dataset.json, files with more values than this are taken for images that were put in the wrong folder."""


def named_scheme(measured: Sequence[MapMeasures], cases: Sequence[Case], labels_dir: Path) -> LabelScheme:
    """The classes of label maps: the values that occur, and the names that headers or tables beside them give these.

    Colours come with the names; the first that a structure has counts.

    Where one number means two structures, or one structure has two numbers (3D Slicer numbers segments anew in every
    file), structures are numbered from 1, in the order in which they first occur.

    Args:
        measured: the maps, with the values of their files.
        cases: of the maps.
        labels_dir: their folder, for messages.

    Raises:
        InputError: more values than structures could have, or a number without a name where numbers differ.
    """
    numbers = {value for m in measured for value in m.values} - {0}
    if len(numbers) > MAX_STRUCTURES:
        raise InputError(
            f"{labels_dir}: the label maps hold {len(numbers) + 1} different values and no dataset.json "
            "declares them: are these images?"
        )
    named = [(n, m.names[n]) for m in measured for n in sorted(m.values - {0}) if n in m.names]
    if not named:
        return LabelScheme.from_values(numbers)
    first_names: dict[tuple[str, ...], str] = {}
    for _, name in named:
        first_names.setdefault(name_key(name), name)
    pairs = {(n, name_key(name)) for n, name in named}
    if len(pairs) == len({n for n, _ in pairs}) == len(first_names):  # everywhere the same
        names = {n: first_names[key] for n, key in pairs}
        ordered = sorted(numbers)
        scheme = LabelScheme(tuple(names.get(n, f"label_{n}") for n in ordered), (0, *ordered))
    else:
        _check_all_named(measured, cases)
        scheme = LabelScheme(tuple(first_names.values()), tuple(range(len(first_names) + 1)))
    logger.info("%s: structures are named by the headers of the label maps or a table beside them", labels_dir)
    colours: dict[tuple[str, ...], str] = {}
    for table in (m.names for m in measured if isinstance(m.names, LabelTable)):
        for n, colour in table.colours.items():
            colours.setdefault(name_key(table[n]), colour)
    return replace(scheme, colours=tuple(colours.get(name_key(n), "") for n in scheme.names)) if colours else scheme


def _check_all_named(measured: Sequence[MapMeasures], cases: Sequence[Case]) -> None:
    for m, case in zip(measured, cases, strict=True):
        for number in sorted(m.values - {0}):
            if number not in m.names:
                raise InputError(
                    f"{case[LABEL]}: label {number} has no name, and the files number their structures differently"
                )
