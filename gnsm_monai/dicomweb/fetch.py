"""Segmentations from a server to a folder that is ranked as any other: SEG files, their grids, images if needed."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom

from gnsm_monai.data.dicom_grid import referenced_series, save_grid, series_grid
from gnsm_monai.data.dicom_seg import TO_RAS
from gnsm_monai.data.label_names import name_key
from gnsm_monai.data.nifti import save_nifti
from gnsm_monai.data.structure_set import MODALITY, can_read_structure_sets, structure_names
from gnsm_monai.dicomweb.server import Place, Segmentations, Server
from gnsm_monai.dicomweb.session import ServerError
from gnsm_monai.errors import InputError
from gnsm_monai.files import load_json, one_line_of, save_json, write_atomically
from gnsm_monai.locks import lock_folder

__all__ = ["Fetched", "dicom_bytes"]

logger = logging.getLogger(__name__)

HEADER = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")


class Fetched:
    """The segmentations of a server that lie in a folder; each is a case, called by its SOPInstanceUID.

    Args:
        folder: made with the first of them.
        structures: names of the model's structures. A segmentation that has none of them is of something else, and is
            passed over; without names every one counts.
        with_images: whether to fetch their image series as well, for a model that sees images.
    """

    def __init__(self, folder: Path, structures: Iterable[str] = (), with_images: bool = False) -> None:
        self.masks, self.images, self.with_images = folder / "segmentations", folder / "images", with_images
        self.folder, self.structures = folder, sorted(set(structures))
        self._note = folder / "passed_over.json"
        self.passed_over: dict[str, list[str]] = self._read_passed_over()
        """Labels of the segments of each segmentation that is of something else, by its UID."""
        self.places: dict[str, Place] = {}
        """Where each case lies on the server."""
        self.failed: dict[str, str] = {}
        """Why a segmentation could not be fetched, by its UID."""
        self._said_unreadable = False
        for path in sorted(self.masks.glob("*.dcm")):
            try:
                header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(HEADER))
                self.places[path.stem] = Place(*(str(header[name].value) for name in HEADER))
            except Exception:  # damaged since: it is fetched again
                continue

    def look(self, server: Server, studies: Sequence[str] = ()) -> list[str]:
        """Fetches what is new on a server. A segmentation that cannot be fetched costs one line of the log.

        Returns:
            The new cases.

        Raises:
            ServerError: the server cannot be searched, or refuses every request.
            InputError: another run works in this folder.
        """
        fetched: list[str] = []
        before = len(self.passed_over)
        listed = self._readable(server, server.segmentation_series(studies))
        lock_folder(self.folder)  # only now: where there is no server, nothing is written
        for series in listed:
            present = sum(place.series == series.series for place in self.places.values())
            if series.count is not None and present >= series.count:
                continue
            fetched += self._fetch_new(server, server.instances(series))
        if len(self.passed_over) > before:
            text = "%s: %d segmentations without a structure of this model are passed over: %s"
            logger.info(text, server.url, len(self.passed_over), self._note)
            save_json(self._note, {"structures": self.structures, "passed_over": self.passed_over})
        return fetched

    def _readable(self, server: Server, listed: list[Segmentations]) -> list[Segmentations]:
        """All, or those that are no structure sets where these cannot be read, which is said once."""
        if can_read_structure_sets():
            return listed
        readable = [series for series in listed if series.modality != MODALITY]
        if len(readable) < len(listed) and not self._said_unreadable:
            text = "%s: passes over %d series of structure sets (RTSTRUCT): plastimatch is not installed"
            logger.warning(text, server.url, len(listed) - len(readable))
            self._said_unreadable = True
        return readable

    def _fetch_new(self, server: Server, places: Iterable[Place]) -> list[str]:
        fetched: list[str] = []
        for place in places:
            if place.instance in self.places or place.instance in self.passed_over:
                continue
            try:
                if not self._fetch(server, place):
                    continue
            except InputError as error:
                if isinstance(error, ServerError) and error.ends_run:
                    raise
                if self.failed.get(place.instance) != str(error):
                    logger.warning("%s", error)
                self.failed[place.instance] = str(error)
                continue
            self.failed.pop(place.instance, None)
            self.places[place.instance] = place
            fetched.append(place.instance)
        return fetched

    def _fetch(self, server: Server, place: Place) -> bool:
        """Whether a segmentation is one to rank. Its file is written last, after all that belongs to it."""
        segmentation = server.instance(place)
        path = self.masks / f"{place.instance}.dcm"
        try:
            content = dicom_bytes(segmentation)
            series = referenced_series(segmentation)
            if segmentation.Modality == MODALITY:
                labels = structure_names(segmentation)
            else:
                labels = [str(item.SegmentLabel) for item in segmentation.SegmentSequence]
        except Exception as error:  # pydicom raises many kinds
            raise InputError(f"{server.url}: instance {place.instance}: is damaged: {one_line_of(error)}") from error
        if self.structures and not set(map(name_key, self.structures)) & set(map(name_key, labels)):
            self.passed_over[place.instance] = labels
            return False
        self._fetch_grid(server, place, series, path, needed=segmentation.Modality == MODALITY)
        write_atomically(path, content)
        return True

    def _read_passed_over(self) -> dict[str, list[str]]:
        """Of an earlier run with the same structures."""
        content = load_json(self._note) if self._note.is_file() else {}
        return dict(content["passed_over"]) if content.get("structures") == self.structures else {}

    def _fetch_grid(self, server: Server, place: Place, series: Sequence[str], path: Path, needed: bool) -> None:
        """The grid of the image series; without it only the slices count that a SEG stores, and an RTSTRUCT fails."""
        try:
            if not series:
                raise InputError("it names no image series")
            headers = server.headers(place.study, series[0])
            if not headers:
                raise InputError(f"its image series {series[0]} is not on the server")
            grid = series_grid(headers)
            if self.with_images:
                self._fetch_image(server, place, series[0], grid)
        except Exception as error:  # what is missing or damaged in headers of images raises many kinds
            if isinstance(error, ServerError) and error.ends_run:
                raise
            if needed:
                raise InputError(f"{server.url}: instance {place.instance}: {one_line_of(error)}") from error
            text = "%s: instance %s: ranked without its image series, with the slices that it stores: %s"
            logger.warning(text, server.url, place.instance, one_line_of(error))
            return
        save_grid(path, grid, self.structures)

    def _fetch_image(self, server: Server, place: Place, series: str, grid: Any) -> None:
        volume = highdicom.get_volume_from_series(server.series(place.study, series)).match_geometry(grid)
        values = np.asarray(volume.array, dtype=np.float32)
        save_nifti(self.images / f"{place.instance}.nii.gz", values, TO_RAS @ np.asarray(volume.affine))


def dicom_bytes(dataset: pydicom.Dataset) -> bytes:
    """A dataset as a DICOM file."""
    with io.BytesIO() as file:
        dataset.save_as(file, enforce_file_format=True)
        return file.getvalue()
