"""What a ranking has finished so far, on disk, so that a killed run continues where it stopped."""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist

import gnsm_monai
from gnsm_monai.errors import InputError
from gnsm_monai.files import file_identity
from gnsm_monai.records import load_record, save_record
from gnsm_monai.rules.statistics import STATISTICS
from gnsm_monai.scoring.result import CaseResult

__all__ = ["PROGRESS", "Journal"]

PROGRESS = ".progress"
"""Folder of the journal, in that of the results."""


class Journal:
    """One small file per scored case, in a folder that is removed when the ranking is complete.

    A result counts for the case it was made of only: same files (path, size, time of change), same model, same options,
    same version of this package. Any other is scored again, as is every case that failed, because what made it fail
    may have passed.

    Args:
        folder: of the files; made with the first of them.
        model: checksums of the files of the model that scores, see :class:`gnsm_monai.model.trained.TrainedModel`.
        options: plain values that decide what a result says.
        keep: leave the files where they are when the ranking is complete.
    """

    def __init__(
        self, folder: str | Path, model: Sequence[str], options: Mapping[str, Any], keep: bool = False
    ) -> None:
        self.folder, self.keep = Path(folder), keep
        self.results: list[CaseResult] = []
        """Results of an earlier run that still hold; known after :meth:`unfinished`."""
        self._run = {
            "version": gnsm_monai.__version__,
            "model": list(model),
            "options": dict(options),
            "level_statistics": list(STATISTICS),
        }
        self._identities: dict[str, dict[str, Any]] = {}

    def unfinished(self, cases: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """The cases that have no valid result yet; the last one if all have, as engines do not run on no data."""
        self.results, unfinished = [], []
        for case in cases:
            self._identities[case["case"]] = {**self._run, "files": _files(case)}
            result = self._read(case["case"])
            if result is None:
                unfinished.append(case)
            else:
                self.results.append(result)
        if self.results and not unfinished:
            self.results.pop()
            unfinished.append(cases[-1])
        if self.results:
            text = "%s: %d of %d masks were scored before, %d are left"
            counts = len(self.results), len(cases), len(unfinished)
            logging.getLogger(__name__).info(text, self.folder, *counts)
        idist.barrier()  # all must have read before the first one adds a result, or they would share out other cases
        return unfinished

    def add(self, result: CaseResult) -> None:
        """Keeps the result of a case that was scored."""
        save_record(self._path(result.case), {"identity": self._identities[result.case], "result": result})

    def clear(self) -> None:
        """Removes the files, unless they are to be kept."""
        if not self.keep:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _read(self, case: str) -> CaseResult | None:
        path = self._path(case)
        if not path.is_file():
            return None
        try:
            record = load_record(path)
        except InputError:  # of another version, or damaged: the case is scored again
            return None
        result = record.get("result")
        valid = isinstance(result, CaseResult) and record.get("identity") == self._identities[case]
        return result if valid else None

    def _path(self, case: str) -> Path:
        """Case ids may be longer than a file name may be, and hold any character."""
        return self.folder / f"{hashlib.sha256(case.encode(errors='surrogateescape')).hexdigest()[:32]}.npz"


def _files(case: Mapping[str, Any]) -> list[list[Any]]:
    """Identity of every file of a case: whatever of it is a path, or a list of paths."""
    values = [value if isinstance(value, (list, tuple)) else [value] for value in case.values()]
    return [file_identity(path) for paths in values for path in paths if isinstance(path, Path)]
