"""What a ranking has finished so far, on disk, so that a killed run goes on where it stopped."""

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
from gnsm_monai.scoring.statistics import STATISTICS

__all__ = ["Journal"]


class Journal:
    """One small file per scored case, in a folder that goes when the ranking is complete.

    A row counts for the case it was made of only: same files (path, size, time of change), same model, same options,
    same version of this package. Any other is scored again, as is every case that failed, because what made it fail
    may have passed.

    Args:
        folder: of the files; made with the first of them.
        model: checksums of the files of the model that scores, see :class:`gnsm_monai.model.trained.TrainedModel`.
        options: plain values that decide what a row says.
        keep: leave the files where they are when the ranking is complete.
    """

    def __init__(
        self, folder: str | Path, model: Sequence[str], options: Mapping[str, Any], keep: bool = False
    ) -> None:
        self.folder, self.keep = Path(folder), keep
        self.rows: list[dict[str, Any]] = []
        """Rows of an earlier run that still hold; known after :meth:`unfinished`."""
        self._run = {
            "version": gnsm_monai.__version__,
            "model": list(model),
            "options": dict(options),
            "statistics": list(STATISTICS),
        }
        self._identities: dict[str, dict[str, Any]] = {}

    def unfinished(self, cases: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """The cases that have no valid row yet; the last one if all have, as engines do not run on no data at all."""
        self.rows, unfinished = [], []
        for case in cases:
            self._identities[case["case"]] = {**self._run, "files": _files(case)}
            row = self._read(case["case"])
            if row is None:
                unfinished.append(case)
            else:
                self.rows.append(row)
        if self.rows and not unfinished:
            self.rows.pop()
            unfinished.append(cases[-1])
        if self.rows:
            logging.getLogger(__name__).info(
                "%s: %d of %d masks were scored before, %d are left",
                self.folder,
                len(self.rows),
                len(cases),
                len(unfinished),
            )
        idist.barrier()  # all must have read before the first one adds a row, or they would share out other cases
        return unfinished

    def add(self, row: Mapping[str, Any]) -> None:
        """Keeps the row of a case that was scored."""
        save_record(self._path(row["case"]), {"identity": self._identities[row["case"]], "row": row})

    def clear(self) -> None:
        """Removes the files, unless they are to be kept."""
        if not self.keep:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _read(self, case: str) -> dict[str, Any] | None:
        path = self._path(case)
        if not path.is_file():
            return None
        try:
            record = load_record(path)
        except InputError:  # of another version, or damaged: the case is scored again
            return None
        row: dict[str, Any] | None = record.get("row")
        return row if record.get("identity") == self._identities[case] else None

    def _path(self, case: str) -> Path:
        """Case ids may be longer than a file name may be, and hold any character."""
        return self.folder / f"{hashlib.sha256(case.encode(errors='surrogateescape')).hexdigest()[:32]}.npz"


def _files(case: Mapping[str, Any]) -> list[list[Any]]:
    """Identity of every file of a case: whatever of it is a path, or a list of paths."""
    values = [value if isinstance(value, (list, tuple)) else [value] for value in case.values()]
    return [file_identity(path) for paths in values for path in paths if isinstance(path, Path)]
