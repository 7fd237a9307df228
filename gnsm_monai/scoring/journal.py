"""What a ranking has finished so far, on disk, so that a killed run continues where it stopped."""

from __future__ import annotations

import hashlib
import logging
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np

import gnsm_monai
from gnsm_monai.data.label_names import names_beside
from gnsm_monai.errors import InputError
from gnsm_monai.files import file_identity
from gnsm_monai.records import load_record, save_record
from gnsm_monai.rules.statistics import STATISTICS
from gnsm_monai.scoring.result import CaseResult

__all__ = ["PROGRESS", "Journal"]

PROGRESS = ".progress"
"""Folder of the journal, in that of the results."""

DIFFERENT = {
    "version": "another version",
    "level_statistics": "another version",
    "model": "another model",
    "options": "other options",
    "files": "other files",
    "names": "other names of labels",
    "values": "another Dice of summary.json",
}
"""In words, what a result was computed from."""

logger = logging.getLogger(__name__)


class Journal:
    """One small file per case that is done, in a folder that is removed when the ranking is complete.

    A result counts for the case it was made of only: same files (path, size, time of change), also those beside them
    that are read with them; same names of labels; same Dice of nnU-Net's summary.json; same model, options and version
    of this package. Any other is scored again, and one line says why. So is every case that failed, because what made
    it fail may have passed.

    Args:
        folder: of the files; made with the first of them.
        model: checksums of the files of the model that scores, see :class:`gnsm_monai.model.trained.TrainedModel`.
        options: plain values that decide what a result says.
        keep: leave the files where they are when the ranking is complete.
        kind: dataclass of the results, which have a ``case``.
        done: what is done to a mask, in words.
    """

    def __init__(
        self,
        folder: str | Path,
        model: Sequence[str],
        options: Mapping[str, Any],
        keep: bool = False,
        kind: type = CaseResult,
        done: str = "scored",
    ) -> None:
        self.folder, self.keep, self.kind, self.done = Path(folder), keep, kind, done
        self.results: list[Any] = []
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
        self.results, unfinished, differing = [], [], list[set[str]]()
        beside = _FilesBeside()
        for case in cases:
            self._identities[case["case"]] = {**self._run, **_inputs(case, beside)}
            result = self._read(case["case"], differing)
            if result is None:
                unfinished.append(case)
            else:
                self.results.append(result)
        if differing:
            text, what = (
                "%s: %d masks were %s before with %s, and are %s again",
                sorted(set().union(*differing)),
            )
            logger.info(text, self.folder.parent, len(differing), self.done, ", ".join(what), self.done)
        if self.results and not unfinished:
            self.results.pop()
            unfinished.append(cases[-1])
        if self.results:
            text = "%s: %d of %d masks were %s before, %d are left"
            logger.info(text, self.folder, len(self.results), len(cases), self.done, len(unfinished))
        idist.barrier()  # all must have read before the first one adds a result, or they would share out other cases
        return unfinished

    def add(self, result: Any) -> None:
        """Keeps the result of a case that is done."""
        save_record(self._path(result.case), {"identity": self._identities[result.case], "result": result})

    def clear(self) -> None:
        """Removes the files, unless they are to be kept."""
        if not self.keep:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _read(self, case: str, differing: list[set[str]]) -> Any:
        """A result that still holds. What differs for one that does not is added, in words, to ``differing``."""
        path = self._path(case)
        if not path.is_file():
            return None
        try:
            record = load_record(path)
        except InputError:  # of another version, or damaged: the case is scored again
            record = {}
        result, identity = record.get("result"), record.get("identity")
        if not isinstance(result, self.kind) or not isinstance(identity, Mapping):
            differing.append({DIFFERENT["version"]})
            return None
        due = self._identities[case]
        others = {DIFFERENT.get(key, key) for key in {*due, *identity} if due.get(key) != identity.get(key)}
        if others:
            differing.append(others)
            return None
        return result

    def _path(self, case: str) -> Path:
        """Case ids may be longer than a file name may be, and hold any character."""
        return self.folder / f"{hashlib.sha256(case.encode(errors='surrogateescape')).hexdigest()[:32]}.npz"


class _FilesBeside:
    """The files of a folder by the part of their name before its first dot; each folder is listed once."""

    def __init__(self) -> None:
        self.folders: dict[Path, dict[str, list[Path]]] = {}

    def of(self, path: Path) -> list[Path]:
        """What belongs to a file by its name, such as its header, its spacing or a table of its labels."""
        folder = path.parent
        if folder not in self.folders:
            names = self.folders.setdefault(folder, {})
            for other in sorted(folder.iterdir()) if folder.is_dir() else ():
                names.setdefault(other.name.split(".")[0], []).append(other)
        stem = path.name.split(".")[0]
        stems = dict.fromkeys((stem, re.sub("_[0-9]{4}$", "", stem)))
        return [other for name in stems for other in self.folders[folder].get(name, []) if other != path]


def _inputs(case: Mapping[str, Any], beside: _FilesBeside) -> dict[str, Any]:
    """What a case is computed from: whatever of it is a path or a list of paths, names of labels, and plain values."""
    lists = {key: value if isinstance(value, (list, tuple)) else [value] for key, value in case.items()}
    paths = [path for values in lists.values() for path in values if isinstance(path, Path)]
    named = [names_beside(path) for path in paths if path.is_file()]
    plain = {key: value for key, value in case.items() if not any(isinstance(each, Path) for each in lists[key])}
    return {
        "files": [file_identity(path) for path in dict.fromkeys(p for path in paths for p in (path, *beside.of(path)))],
        "names": [sorted((str(value), name) for value, name in (names or {}).items()) for names in named],
        "values": {key: repr(np.asarray(value).tolist()) for key, value in plain.items()},
    }
