"""The label map of a case whose structures lie in files of their own, as TotalSegmentator and BodyMaps write them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from gnsm_monai.data.case_names import OTHER_WORDS, PICTURE_ENDINGS, base_and_word, files_by_case
from gnsm_monai.data.constants import LABEL_NAMES, LOST_CLAIMS
from gnsm_monai.data.notes import add_note
from gnsm_monai.data.segments import say_overlap
from gnsm_monai.errors import InputError

__all__ = ["read_structures", "structure_files"]

TOLERANCE_MM = 1e-2
"""How far the places of the files may lie apart."""


def structure_files(folder: Path) -> dict[str, Path]:
    """The file of each structure, by its name; among volumes pictures are previews (``preview_total.png``)."""
    paths_by_name = [
        (name, path) for name, paths in files_by_case(folder).items() for path in paths if not path.is_dir()
    ]
    volumes = {name: path for name, path in paths_by_name if not path.name.lower().endswith(PICTURE_ENDINGS)}
    files = volumes or dict(paths_by_name)
    return {name: path for name, path in files.items() if name and base_and_word(name)[1] not in OTHER_WORDS}


def read_structures(folder: Path, read: Callable[[Path], tuple[np.ndarray, dict[str, Any]]]) -> Any:
    """One label map of all files of a folder.

    Structures are numbered from 1 in the order of their names, which ``meta`` of the map tells. A voxel that several
    claim goes to the smallest of them, as in :func:`gnsm_monai.data.segments.join_segments`; ``meta`` has the claims of
    the others, for a model may not know the smallest. Only the voxels of structures are kept until all are known: a
    hundred files fit where a hundred maps would not.

    Args:
        folder: of the files.
        read: a file to its array and metadata.

    Returns:
        Array, int32, and the metadata of the first file with the names of the numbers.

    Raises:
        InputError: no file, several values in one, or files that differ in size or place.
    """
    places: list[tuple[int, np.ndarray]] = []
    files = structure_files(folder)
    if not files:
        raise InputError(f"{folder}: no file of a structure")
    first: tuple[np.ndarray, dict[str, Any]] | None = None
    for number, path in enumerate(files.values(), start=1):
        array, meta = read(path)
        first = first or (np.zeros(array.shape, np.int32), meta)
        if array.shape != first[0].shape or not np.allclose(meta["affine"], first[1]["affine"], atol=TOLERANCE_MM):
            raise InputError(f"{path}: differs in size or place from {next(iter(files.values())).name} beside it")
        inside = np.flatnonzero(array)
        if inside.size and not (array.flat[inside] == array.flat[inside[0]]).all():
            raise InputError(f"{path}: holds several values, where the file of one structure holds one")
        places.append((number, inside))
    assert first is not None
    values, meta = first
    lost = []
    for number, inside in sorted(places, key=lambda item: -item[1].size):
        before = values.flat[inside]
        lost.append((inside[before > 0], before[before > 0]))
        values.flat[inside] = number
    meta = {**meta, LABEL_NAMES: dict(enumerate(files, start=1)), LOST_CLAIMS: lost}
    add_note(meta, say_overlap(folder, sum(len(claimed) for claimed, _ in lost)))
    return values, meta
