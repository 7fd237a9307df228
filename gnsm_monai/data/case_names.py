"""What the names of a folder's files say: case, kind, and which names of two folders mean the same case."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

__all__ = [
    "CHANNEL",
    "LABEL_ENDINGS",
    "MASK_WORDS",
    "OTHER_WORDS",
    "PICTURE_ENDINGS",
    "base_and_word",
    "beside_masks",
    "case_id",
    "files_by_case",
    "match_cases",
    "subfolders",
    "without_folder",
]

LABEL_ENDINGS = (
    ".nii.gz", ".nii", ".mgz", ".mgh", ".mha", ".mhd", ".seg.nrrd", ".nrrd", ".png", ".tif", ".tiff", ".bmp",
)  # fmt: skip

PICTURE_ENDINGS = (".png", ".bmp")
"""Among volumes, files of these kinds are previews."""

_MASKS = """
seg segmentation segmentations mask masks label labels labelmap pred preds prediction predictions trans dseg gt
groundtruth truth annotation annotations manual output outputs
"""
_OTHERS = """
image img im scan volume ct cta mr mri pet t1 t1w t1n t1c t1ce t1gd t1wce t2 t2w t2f flair adc dwi bold orig norm
prob probs probability probabilities probseg softmax logits uncertainty entropy confidence variance
preview overlay screenshot snapshot thumbnail montage
"""
MASK_WORDS = frozenset(_MASKS.split())
"""Last words of names by which programs and people mark label maps."""

OTHER_WORDS = frozenset(_OTHERS.split())
"""Last words of names of images, probabilities and previews."""

SEPARATORS = "_-. "

CHANNEL = re.compile(r"\d{4}")
"""The last word of an image's name in nnU-Net's folders."""


def case_id(path: Path) -> str | None:
    """File name without its ending, cut by length (``a.b.nii.gz`` -> ``a.b``); ``None`` for another kind of file."""
    ending = next((e for e in LABEL_ENDINGS if path.name.lower().endswith(e)), None)
    return None if ending is None or path.name.startswith(".") else path.name[: -len(ending)]


def without_folder(case: str) -> str:
    """The id of a case in its own folder, which masks of several models share (``FOLDER/CASE`` -> ``CASE``)."""
    return case.rsplit("/", 1)[-1]


def files_by_case(folder: Path) -> dict[str, list[Path]]:
    """All paths in a folder that are named like a label map. A dead link counts, too: its case must not be lost."""
    files: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if (case := case_id(path)) is not None:
            files.setdefault(case, []).append(path)
    return files


def subfolders(folder: Path) -> list[Path]:
    """Those that are not hidden, in order."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def base_and_word(name: str) -> tuple[str, str]:
    """A name without its last word, and that word in small letters (``CASE_Seg`` -> ``CASE``, ``seg``)."""
    place = max(name.rfind(separator) for separator in SEPARATORS)
    return name[: max(place, 0)], name[place + 1 :].casefold()


def beside_masks(names: Collection[str]) -> set[str]:
    """Those of names that are of an image, of probabilities or of a preview, beside a mask of the same case."""
    split = {name: base_and_word(name) for name in names}
    masks = {name for name, (_, word) in split.items() if word not in OTHER_WORDS}
    masks |= {base for base, word in split.values() if word in MASK_WORDS}
    # ``pred_CASE`` is a mask of ``CASE``, too.
    ends = {mask[n + 1 :] for mask in masks for n, letter in enumerate(mask) if letter in SEPARATORS}
    return {
        name
        for name, (base, word) in split.items()
        if (base in masks and CHANNEL.fullmatch(word)) or (base in masks | ends and word in OTHER_WORDS)
    }


def match_cases(names: Iterable[str], others: Iterable[str]) -> dict[str, str]:
    """Which name of another folder means the same case.

    Equal names do. If that leaves some without a partner, what all names of a folder share at an end (``_seg``,
    ``pred_``) is left out on the way that gives most pairs, and cuts least. Beginnings are cut on one side alone:
    otherwise ``heart_01`` would meet ``liver_01``.
    """
    mine, theirs = list(dict.fromkeys(names)), list(dict.fromkeys(others))
    best = {name: name for name in mine if name in set(theirs)}
    if len(best) == len(mine) or not theirs:
        return best
    least = 0
    for cut, other_cut in itertools.product(_cuts(mine), _cuts(theirs)):
        if cut[0] and other_cut[0]:
            continue
        partner = {_cut(other, other_cut): other for other in theirs}
        pairs = {name: partner[_cut(name, cut)] for name in mine if _cut(name, cut) in partner}
        clear = len(partner) == len(theirs) and len(set(pairs.values())) == len(pairs)
        if clear and (len(pairs), -sum(cut + other_cut)) > (len(best), -least):
            best, least = pairs, sum(cut + other_cut)
    return best


def _cuts(names: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Numbers of characters that can be left out at the beginning and the end of all names, at separators."""
    start, end = _common(names), _common([name[::-1] for name in names])
    shortest = min(map(len, names))
    starts = [0, *(n + 1 for n, letter in enumerate(start) if letter in SEPARATORS)]
    ends = [0, *(n + 1 for n, letter in enumerate(end) if letter in SEPARATORS)]
    return ((a, b) for a in starts for b in ends if a + b < shortest)


def _common(names: Sequence[str]) -> str:
    """What all names begin with."""
    alike = itertools.takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False))
    return "".join(letters[0] for letters in alike)


def _cut(name: str, cut: tuple[int, int]) -> str:
    return name[cut[0] : len(name) - cut[1]]
