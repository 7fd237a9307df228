"""``gnsm rank --dicomweb``: look, fetch, rank as any folder, store reports; once, or again and again."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom

from gnsm_monai.data.dicom_seg import TO_RAS
from gnsm_monai.data.label_names import usable_names
from gnsm_monai.data.nnunet import LabelScheme
from gnsm_monai.dicomweb.fetch import Fetched, dicom_bytes
from gnsm_monai.dicomweb.options import ServerOptions
from gnsm_monai.dicomweb.server import Server
from gnsm_monai.dicomweb.session import ServerError
from gnsm_monai.dicomweb.structured_report import Reporter
from gnsm_monai.errors import InputError
from gnsm_monai.evaluation.ranking import Ranking
from gnsm_monai.files import load_json, one_line_of, save_table, write_atomically
from gnsm_monai.locks import unlock_folder
from gnsm_monai.model.files import ModelFiles
from gnsm_monai.workflow import check_output_dir
from gnsm_monai.workflow.training import num_processes

__all__ = ["FOLDER", "ServerRanking"]

logger = logging.getLogger(__name__)

FOLDER = "dicomweb"
"""In that of the results: what was fetched, and what was stored."""

MAX_FAILED_LOOKS = 10
"""Looks in a row that may fail before a watch ends."""

COLUMNS = ("case", "patient_id", "study_uid", "series_uid", "series_description", "report_uid", "stored", "message")

Score = Callable[..., Ranking]
"""Ranks the folder ``predictions_dir`` as ``gnsm rank`` does."""


class ServerRanking:
    """The segmentations of a server, ranked in a folder.

    Everything in the folder is ranked together; the journal keeps the scores, so that a further look scores only what
    is new. A killed run goes on: what was fetched, scored and stored is not done again.

    Args:
        options: which server, and what to do with it.
        model: folder of the model.
        output: folder of the results.
        score: ranks a folder of masks.

    Raises:
        InputError: no such model or URL, or the folder cannot be written to.
    """

    def __init__(self, options: ServerOptions, model: Path, output: Path, score: Score) -> None:
        if num_processes() > 1:
            raise InputError("--dicomweb: runs in one process; torchrun is for folders")
        self.options, self.output, self.score = options, output, score
        self.server = Server(options.dicomweb)
        check_output_dir(output, model)
        files = ModelFiles.read(model)
        channels = files.settings["network"]["image_channels"]
        if channels > 1:
            raise InputError(f"{model}: reads {channels} images of a case, and a SEG names one image series")
        scheme = LabelScheme.from_dict(files.settings["labels"])
        # Regions of several labels cannot be told by names.
        names = {} if scheme.regions else usable_names(dict(enumerate(scheme.names, start=1)))
        self.fetched = Fetched(output / FOLDER, names.values(), with_images=channels == 1)
        self.reporter = Reporter(hashlib.sha256("".join(files.identity).encode()).hexdigest())
        self.unstored: dict[str, str] = {}
        """Why no report of a case could be stored."""
        self.ranking: Ranking | None = None

    def run(self) -> Ranking | None:
        """One look or, with ``watch``, many.

        Returns:
            The ranking; None where a watch met no segmentation.

        Raises:
            InputError: nothing can be ranked.
        """
        try:
            return self._run()
        finally:
            unlock_folder(self.fetched.folder)

    def _run(self) -> Ranking | None:
        new = self._look()
        if not self.options.watch:
            if self.ranking is None:
                reasons = list(self.fetched.failed.values())
                where = f" in study {', '.join(self.options.study)}" if self.options.study else ""
                what = "no segmentation (SEG)" + " of a structure of this model" * bool(self.fetched.passed_over)
                raise InputError(reasons[0] if reasons else f"{self.server.url}: {what}{where}")
            return self.ranking
        self._watch(new)
        if self.ranking is None:
            logger.info("%s: no segmentation came", self.server.url)
        return self.ranking

    @property
    def num_failed(self) -> int:
        """Segmentations that could not be fetched, and reports that could not be stored."""
        return len(self.fetched.failed) + len(self.unstored)

    def _watch(self, count: int) -> None:
        """Looks until time or number are reached. A failure that may pass costs a look."""
        options = self.options
        end = np.inf if options.watch_minutes is None else time.monotonic() + 60 * options.watch_minutes
        most = np.inf if options.watch_count is None else options.watch_count
        failed = 0
        while count < most and (left := end - time.monotonic()) > 0:
            time.sleep(min(options.watch_every, left))
            try:
                count += self._look()
                failed = 0
            except ServerError as error:
                failed += 1
                if not error.may_pass or failed == MAX_FAILED_LOOKS:
                    raise
                logger.warning("%s; looking again in %g s", error, options.watch_every)

    def _look(self) -> int:
        """Fetches, ranks and reports. Returns the number of new segmentations."""
        new = self.fetched.look(self.server, self.options.study)
        changed = bool(self.fetched.places) and (bool(new) or self.ranking is None)
        if changed:
            images = {"images_dir": self.fetched.images} if self.fetched.with_images else {}
            self.ranking = self.score(predictions_dir=self.fetched.masks, **images)
            logger.info("%s: %d new, %d ranked", self.server.url, len(new), len(self.fetched.places))
        if changed or self.unstored:
            self._report()
        return len(new)

    def _report(self) -> None:
        cases = load_json(self.output / "results.json")["cases"]
        rows = [self._row(case, self._store(case) if self.options.stores else "") for case in cases]
        save_table(self.output / FOLDER / "cases.csv", COLUMNS, rows)

    def _row(self, case: Mapping[str, Any], report: str) -> dict[str, Any]:
        uid = case["case"]
        place, header = self.fetched.places[uid], self._segmentation(uid, pixels=False)
        return {
            "case": uid,
            "patient_id": str(header.get("PatientID", "")),
            "study_uid": place.study,
            "series_uid": place.series,
            "series_description": str(header.get("SeriesDescription", "")),
            "report_uid": report,
            "stored": int(bool(report)) if self.options.stores else None,
            "message": self.unstored.get(uid),
        }

    def _segmentation(self, uid: str, pixels: bool) -> pydicom.Dataset:
        return pydicom.dcmread(self.fetched.masks / f"{uid}.dcm", stop_before_pixels=not pixels)

    def _store(self, case: Mapping[str, Any]) -> str:
        """Stores what is said of a case, if that is not stored yet. Returns the UID of the report, if there is one."""
        uid = case["case"]
        if case["status"] != "ok":
            return ""
        try:
            if self.options.store_maps:
                self._store_once(uid, "map", lambda seg: self.reporter.map(seg, *self._anomaly_map(uid)))
            report = self._store_once(uid, "report", lambda seg: self.reporter.report(seg, case))
            self.unstored.pop(uid, None)
            return report
        except Exception as error:  # highdicom raises many kinds, where a SEG lacks something
            if isinstance(error, ServerError) and (error.ends_run or error.status is None):
                raise
            message = str(error) if isinstance(error, InputError) else f"no report: {one_line_of(error)}"
            if self.unstored.get(uid) != message:
                logger.warning("%s: %s", uid, message)
            self.unstored[uid] = message
            return ""

    def _store_once(self, uid: str, kind: str, make: Callable[[pydicom.Dataset], pydicom.Dataset]) -> str:
        """Stores a file in the study of a SEG. A copy of it in the folder notes that it is there.

        The server is asked first: a run that was killed after it had stored has left no note. Should two runs meet,
        their files have the same UID, and a server keeps one.
        """
        stored_uid = self.reporter.uid(kind, uid)
        note = self.output / FOLDER / f"{kind}s" / f"{uid}_{stored_uid.rpartition('.')[2][:12]}.dcm"
        if not note.is_file():
            dataset = make(self._segmentation(uid, pixels=True))
            if self.server.has(self.fetched.places[uid].study, stored_uid):
                logger.info("%s: its %s is stored already", uid, kind)
            else:
                self.server.store(dataset)
            write_atomically(note, dicom_bytes(dataset))
        return stored_uid

    def _anomaly_map(self, uid: str) -> tuple[np.ndarray, np.ndarray]:
        """Values ``(z, y, x)`` and affine to LPS of the map that the ranking wrote, in the geometry of the SEG."""
        image: Any = nib.load(self.output / "maps" / f"{uid}.nii.gz")
        return np.asarray(image.dataobj, dtype=np.float32), TO_RAS @ np.asarray(image.affine)
