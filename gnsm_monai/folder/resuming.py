"""What a ranking without a model has read so far, on disk, so that a killed run continues where it stopped."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from gnsm_monai.data.constants import FILE_AFFINE, FILE_SHAPE, LABEL_NAMES
from gnsm_monai.data.reference_maps import PackedMap
from gnsm_monai.errors import InputError
from gnsm_monai.scoring.journal import PROGRESS, Journal
from gnsm_monai.scoring.result import FailedCase

__all__ = ["StoredMap", "each_once", "progress_in"]


@dataclass(frozen=True)
class StoredMap:
    """A packed label map of one case as plain values, and what else was read with it.

    Args:
        case: id.
        runs: bytes of :class:`PackedMap`, uint8.
        dtype: of the map.
        shape, axes: of :class:`PackedMap`.
        affine: index to mm, ``(D + 1, D + 1)``.
        file_affine, file_shape: of the file, before any transform.
        names: of its values, by their headers.
        path: of the file.
        values: measured of the case.
    """

    case: str
    runs: np.ndarray
    dtype: str
    shape: tuple[int, ...]
    axes: tuple[int, ...]
    affine: np.ndarray
    file_affine: np.ndarray
    file_shape: tuple[int, ...]
    names: tuple[tuple[int, str], ...]
    path: str
    values: Mapping[str, Any]

    @classmethod
    def of(cls, case: str, packed: PackedMap, values: Mapping[str, Any]) -> StoredMap:
        """Takes what is read of a header later on; formats put much more there."""
        meta = packed.meta
        return cls(
            case=case,
            runs=np.frombuffer(packed.runs, dtype=np.uint8),
            dtype=packed.dtype.str,
            shape=tuple(int(n) for n in packed.shape),
            axes=packed.axes,
            affine=np.asarray(meta["affine"], dtype=np.float64),
            file_affine=np.asarray(meta[FILE_AFFINE], dtype=np.float64),
            file_shape=tuple(int(n) for n in meta[FILE_SHAPE]),
            names=tuple((int(value), str(name)) for value, name in meta.get(LABEL_NAMES, {}).items()),
            path=str(meta.get("filename_or_obj", "label map")),
            values=dict(values),
        )

    @property
    def packed(self) -> PackedMap:
        """The map that was stored."""
        meta = {
            "affine": torch.from_numpy(self.affine),
            "filename_or_obj": self.path,
            FILE_AFFINE: torch.from_numpy(self.file_affine),
            FILE_SHAPE: self.file_shape,
            **({LABEL_NAMES: dict(self.names)} if self.names else {}),
        }
        return PackedMap(self.runs.tobytes(), np.dtype(self.dtype), self.shape, self.axes, meta)


_Stored = TypeVar("_Stored")


def each_once(
    cases: Sequence[Mapping[str, Any]],
    read: Callable[[Mapping[str, Any]], _Stored | FailedCase],
    journal: Journal | None = None,
) -> list[_Stored | FailedCase]:
    """What ``read`` makes of every case, in their order; what an earlier run has read is taken from the journal."""
    if not cases:
        return []
    unfinished = cases if journal is None else journal.unfinished(cases)
    results: dict[str, _Stored | FailedCase] = {} if journal is None else {one.case: one for one in journal.results}
    for case in unfinished:
        result = results[case["case"]] = read(case)
        if journal is not None and not isinstance(result, FailedCase):
            journal.add(result)
    return [results[case["case"]] for case in cases]


@contextmanager
def progress_in(output: Path) -> Iterator[Path]:
    """A folder in that of the results, for what is read so far.

    It goes at the end. After a user's mistake there is what there was before: what an earlier run has read stays.
    """
    new, continued = not output.exists(), (output / PROGRESS).exists()
    try:
        yield output / PROGRESS
    except InputError:
        if not continued:
            shutil.rmtree(output / PROGRESS, ignore_errors=True)
        if new:
            with suppress(OSError):
                output.rmdir()
        raise
    shutil.rmtree(output / PROGRESS, ignore_errors=True)
