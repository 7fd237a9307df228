"""The image files of cases, found by the names of their masks."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from gnsm_monai.data.case_names import (
    CHANNEL,
    MASK_WORDS,
    base_and_word,
    case_id,
    files_by_case,
    match_cases,
    subfolders,
)
from gnsm_monai.data.dicom_seg import holds_dicom
from gnsm_monai.data.mask_files import SEGMENTS
from gnsm_monai.errors import InputError
from gnsm_monai.files import check_folder

__all__ = ["Images", "check_partners", "find_images"]

logger = logging.getLogger(__name__)

PREFERRED = ("orig", "t1w", "t1", "ct")
"""Of several images in the folder of a case the one with this name, or last word, counts; FreeSurfer has many."""

INNER = ("", "mri", "anat", "imaging")
"""Folders below that of a case in which its image lies."""


class Images:
    """The images of a folder: one file per case or channel (nnU-Net's ``CASE_0000``), or a folder per case.

    Args:
        files: of each image, one per channel, by case.
        folder: for messages.
        cases: of the masks. Their names need not equal those of the images:
            see :func:`gnsm_monai.data.case_names.match_cases`.
    """

    def __init__(self, files: Mapping[str, Sequence[Path]], folder: Path, cases: Iterable[str]) -> None:
        self.files, self.folder = files, folder
        self.partner = match_cases(cases, files)

    @classmethod
    def of_folder(cls, folder: str | Path, cases: Iterable[str], masks: Iterable[str | Path] = ()) -> Images:
        """Images in a folder, in which ``masks`` may lie, too. Raises InputError where there is no such folder."""
        folder = Path(folder)
        check_folder(folder)
        aside = {Path(mask).resolve() for mask in masks}
        return cls(_flat(folder, aside) or _nested(folder, aside), folder, cases)

    def of(self, case: str) -> list[Path]:
        """The files of a case, one per channel.

        Raises:
            InputError: the case has no image, several in one folder, or a channel or the file itself is missing.
        """
        files = list(self.files.get(self.partner.get(case, ""), ()))
        if not files:
            raise InputError(f"{self.folder}: no image for case '{case}'")
        words = [base_and_word(case_id(path) or "")[1] for path in files]
        channels = all(map(CHANNEL.fullmatch, words)) and case_id(files[0]) != case
        if channels and words != [f"{n:04d}" for n in range(len(files))]:
            raise InputError(f"{self.folder}: case '{case}' lacks a channel: found {[path.name for path in files]}")
        if len(files) > 1 and not channels:
            names = " and ".join(path.name for path in files[:3])
            raise InputError(f"{files[0].parent}: {len(files)} images for case '{case}': {names}")
        for path in files:
            if not path.exists():  # listed in a dataset.json, or a link
                raise InputError(f"{path}: is not there")
        return files


def _flat(folder: Path, masks: Collection[Path]) -> dict[str, list[Path]]:
    """Files of a folder, without the masks that lie among images."""
    names = {
        name: [path for path in paths if not path.is_dir() and path.resolve() not in masks]
        for name, paths in files_by_case(folder).items()
    }
    names = {name: paths for name, paths in names.items() if paths}
    images = {
        name: [path for path in paths if not path.name.lower().endswith(SEGMENTS)]
        for name, paths in names.items()
        if base_and_word(name)[1] not in MASK_WORDS and f"{name}_0000" not in names
    }
    return _channels({name: paths for name, paths in images.items() if paths} or names)


def _channels(names: Mapping[str, Sequence[Path]]) -> dict[str, list[Path]]:
    """The channels of a case together: ``CASE_0000`` makes ``CASE_0001`` another channel, and no other case."""
    files: dict[str, list[Path]] = {}
    for name, paths in names.items():
        base, word = base_and_word(name)
        is_channel = CHANNEL.fullmatch(word) and f"{base}_0000" in names
        files.setdefault(base if is_channel else name, []).extend(paths)
    return files


def _nested(folder: Path, masks: Collection[Path]) -> dict[str, list[Path]]:
    files = {}
    for sub in subfolders(folder):
        for session in (sub, *sorted(sub.glob("ses-*"))):  # of BIDS
            case = sub.name if session is sub else f"{sub.name}_{session.name}"
            places = [session / name for name in INNER if (session / name).is_dir()]
            inside = next((files_in for place in places if (files_in := _flat(place, masks))), {})
            images = {name: paths for name, paths in inside.items() if base_and_word(name)[1] not in MASK_WORDS}
            if images:
                files[case] = _preferred(images)
    return files


def _preferred(images: Mapping[str, list[Path]]) -> list[Path]:
    for word in PREFERRED:
        matching = [paths for name, paths in images.items() if base_and_word(name)[1] == word]
        if len(matching) == 1 and len(images) > 1:
            return matching[0]
    return [path for paths in images.values() for path in paths]


def find_images(images_dir: str | Path, cases: Sequence[str], masks: Iterable[str | Path] = ()) -> Images:
    """The images of these cases.

    Args:
        images_dir: their folder.
        cases: ids of the masks.
        masks: their files, which may lie in the same folder and are no images.

    Raises:
        InputError: no such folder, or no image in it of any of the cases.
    """
    images = Images.of_folder(images_dir, cases, masks)
    if not images.files and holds_dicom(images.folder):
        raise InputError(
            f"{images.folder}: DICOM image series are not read here: gnsm from-dicom --series {images.folder} lays "
            "segmentations on their grid"
        )
    check_partners(images.folder, "image", cases, images.partner, images.files)
    return images


def check_partners(
    folder: Path, what: str, cases: Sequence[str], partner: Mapping[str, str], others: Collection[str]
) -> None:
    """Logs that fewer than half of the masks have a partner in a folder; raises InputError where none has."""
    distinct = list(dict.fromkeys(cases))
    if 2 * len(partner) >= len(distinct):
        return
    lonely = next(case for case in distinct if case not in partner)
    if not partner:
        example = f"and here is '{next(iter(others))}'" if others else "and here is nothing"
        raise InputError(f"{folder}: no {what} of any mask: a mask is called '{lonely}', {example}")
    text = "%s: only %d of %d masks have their %s: '%s' has none"
    logger.warning(text, folder, len(partner), len(distinct), what, lonely)
