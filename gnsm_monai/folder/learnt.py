"""What a folder has taught, as one file of plain arrays and JSON, so that masks that come later are judged alike."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from gnsm_monai.data.nnunet import LabelScheme
from gnsm_monai.data.patients import patients_of
from gnsm_monai.errors import InputError
from gnsm_monai.folder.consensus import Consensus
from gnsm_monai.folder.few_references import FewReferences
from gnsm_monai.folder.image_sampling import Sample, SampledImages
from gnsm_monai.folder.images import LearntImages
from gnsm_monai.records import load_record, save_record
from gnsm_monai.report.earlier import LEARNT
from gnsm_monai.rules.statistics import STATISTICS
from gnsm_monai.scoring.linear_shape import CoarseGrid, CoarseMap
from gnsm_monai.scoring.result import CaseResult, Result

__all__ = ["Learnt", "load_learnt", "save_learnt"]

VERSION, VERSIONS = 3, (1, 2, 3)
"""Of the file as it is written, and those that are read: the first had no images, and both called names patients."""


@dataclass(frozen=True)
class Learnt:
    """The masks of a ranking on coarse grids, what they were dealt into, and the results.

    Args:
        scheme: classes of the masks.
        voxel_size: mm per axis.
        seed: of the folds.
        groups: of each mask: those of one group never judge each other.
        names: of each mask, see :attr:`gnsm_monai.folder.reading.FolderMask.name`.
        digests: of each mask; equal where masks are.
        consensus: of the masks; its judgements hold scores alone.
        few: references; None without any.
        results: of all cases, those that were added later included.
        settings: of the results: what was compared with what, and what is said of the folder.
        images: what images of later masks are read by; None where images have no part in the scores.
    """

    scheme: LabelScheme
    voxel_size: Sequence[float]
    seed: int
    groups: Sequence[str]
    names: Sequence[str]
    digests: Sequence[str]
    consensus: Consensus
    few: FewReferences | None
    results: Sequence[Result]
    settings: Mapping[str, Any]
    images: LearntImages | None = None

    def folds(self, names: Sequence[str], digests: Sequence[str]) -> np.ndarray:
        """The fold of masks that come later, ``(N,)``: that of their patient, of an equal mask, or one by the patient.

        A mask's score does not depend on what is added together with it.
        """
        earlier: list[int] = self.consensus.folds.tolist()
        of_equal = dict(zip(self.digests, earlier, strict=True))

        def fold(name: str, digest: str) -> int:
            *patients, patient = patients_of([*self.names, name])
            of_patient = dict(zip(patients, earlier, strict=True))
            text = f"{self.seed}/{patient}".encode(errors="surrogateescape")
            drawn = int(hashlib.sha256(text).hexdigest(), 16) % (max(earlier) + 1)
            return of_patient.get(patient, of_equal.get(digest, drawn))

        return np.array([fold(*one) for one in zip(names, digests, strict=True)], dtype=np.int64)


def save_learnt(folder: Path, learnt: Learnt) -> None:
    """Writes what was learnt beside the results. Shares of cells are counts of voxels, and stored as those."""
    consensus, few = learnt.consensus, learnt.few
    save_record(
        folder / LEARNT,
        {
            "version": VERSION,
            **{name: getattr(learnt, name) for name in ("scheme", "seed", "settings")},
            **{name: list(getattr(learnt, name)) for name in ("voxel_size", "groups", "names", "digests")},
            "grids": list(consensus.grids),
            "maps": [_counts(grid, maps) for grid, maps in zip(consensus.grids, consensus.maps, strict=True)],
            "folds": consensus.folds,
            "usual": consensus.usual,
            "rounds": consensus.rounds,
            "few": None if few is None else [_shares(maps) for maps in few.maps],
            "copies": None if few is None else [[_shares(some) for some in frame] for frame in few.copies],
            "few_patients": [] if few is None else list(few.patients),
            "images": None if learnt.images is None else _images(learnt.images),
            "results": [_short(result) for result in learnt.results],
        },
    )


def load_learnt(folder: Path) -> Learnt:
    """What :func:`save_learnt` wrote. Nothing is unpickled.

    Raises:
        InputError: there is none, it is damaged, or another version's.
    """
    path = folder / LEARNT
    if not path.is_file():
        raise InputError(f"{folder}: holds no ranking without a model, to which masks could be added")
    record = load_record(path)
    if record.get("version") not in VERSIONS:
        raise InputError(f"{path}: was written by another version: rank all masks anew, without --add")
    try:
        grids, few = record["grids"], record["few"]
        maps = [_uncounted(grid, stored) for grid, stored in zip(grids, record["maps"], strict=True)]
        nothing = np.zeros(len(record["folds"]))
        consensus = Consensus(grids, maps, record["folds"], record["usual"], (), nothing, record["rounds"])
        references = (
            few
            if few is None
            else FewReferences(
                [_maps(stored) for stored in few],
                [[_maps(some) for some in frame] for frame in record["copies"]],
                record.get("few_patients", ()),
            )
        )
        plain = {name: record[name] for name in ("scheme", "voxel_size", "seed", "groups", "digests", "settings")}
        names = record["names" if record["version"] == VERSION else "patients"]
        results = [_long(result) for result in record["results"]]
        images = _stored_images(record["images"], consensus, record["seed"]) if record.get("images") else None
        return Learnt(**plain, names=names, consensus=consensus, few=references, results=results, images=images)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: is no record of a ranking: {error!r}") from error


def _counts(grid: CoarseGrid, maps: Sequence[CoarseMap]) -> list[np.ndarray]:
    voxels = int(np.prod(grid.stride))
    counts = np.round(np.stack([one.shares for one in maps]) * voxels)
    return [counts.astype(np.uint16 if voxels < 1 << 16 else np.uint32), np.stack([one.size for one in maps])]


def _uncounted(grid: CoarseGrid, stored: Sequence[np.ndarray]) -> list[CoarseMap]:
    counts, sizes = stored
    return [CoarseMap(one / np.prod(grid.stride), size) for one, size in zip(counts, sizes, strict=True)]


def _shares(maps: Sequence[CoarseMap]) -> list[np.ndarray]:
    """Of deformed copies, whose shares are no counts."""
    return [np.stack([one.shares for one in maps]).astype(np.float32), np.stack([one.size for one in maps])]


def _maps(stored: Sequence[np.ndarray]) -> list[CoarseMap]:
    shares, sizes = stored
    return [CoarseMap(one.astype(np.float64), size) for one, size in zip(shares, sizes, strict=True)]


def _images(images: LearntImages) -> dict[str, Any]:
    """Samples one behind the other, with their lengths; what the consensus has is not stored twice."""
    samples = images.sampled.samples
    some = [one for one in samples if one is not None]
    return {
        "lengths": np.array([-1 if one is None else len(one.cells) for one in samples]),
        **{name: np.concatenate([getattr(one, name) for one in some]) for name in ("cells", "features", "classes")},
        "scores": images.scores,
        "read": images.read,
    }


def _stored_images(stored: Mapping[str, Any], consensus: Consensus, seed: int) -> LearntImages:
    """Raises ValueError where the parts do not fit each other."""
    lengths, cells = np.asarray(stored["lengths"]), np.asarray(stored["cells"])
    features, classes, maps = np.asarray(stored["features"]), np.asarray(stored["classes"]), consensus.maps[0]
    total, number = int(lengths[lengths > 0].sum()), len(consensus.folds)
    if (len(lengths), len(cells), len(classes), features.shape[:1]) != (number, total, total, (total,)):
        raise ValueError("images: voxels that do not fit the masks")
    if features.ndim != 2 or not ((cells >= 0) & (cells < np.prod(maps[0].shares.shape[1:]))).all():
        raise ValueError("images: voxels outside of the grid")
    if not len(stored["scores"]) == len(stored["read"]) > 0:
        raise ValueError("images: no scores to compare with")
    samples: list[Sample | None] = []
    begin = 0
    for length in lengths.tolist():
        part = slice(begin, begin + max(0, length))
        begin = part.stop
        samples.append(None if length < 0 else Sample("", cells[part], features[part], classes[part]))
    sampled = SampledImages(samples, consensus.grids[0], maps, consensus.folds, consensus.usual, seed)
    return LearntImages(sampled, stored["scores"], stored["read"])


def _short(result: Result) -> Result:
    """Without the statistics of score networks, of which there are none."""
    if not isinstance(result, CaseResult):
        return result
    return replace(result, levels={name: value for name, value in result.levels.items() if np.isfinite(value).any()})


def _long(result: Result) -> Result:
    if not isinstance(result, CaseResult):
        return result
    length = max((len(value) for value in result.levels.values()), default=0)
    return replace(result, levels={**{name: np.full(length, np.nan) for name in STATISTICS}, **result.levels})
