"""What is asked of a DICOMweb server: its segmentations, their image series, and to keep reports."""

from __future__ import annotations

import itertools
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pydicom
from dicomweb_client.api import DICOMwebClient
from pydicom.uid import RTStructureSetStorage, SegmentationStorage

from gnsm_monai.data.structure_set import MODALITY as STRUCTURE_SET
from gnsm_monai.dicomweb.session import TIMEOUT, ServerError, asking, check_url, open_session

__all__ = ["Place", "Segmentations", "Server"]

logger = logging.getLogger(__name__)

PAGE = 200
"""Most results of one search."""

LOOPBACK = ("localhost", "127.0.0.1", "::1")

UID = re.compile(r"[0-9]+(\.[0-9]+)*")
CLASSES = (str(SegmentationStorage), "1.2.840.10008.5.1.4.1.1.66.7", str(RTStructureSetStorage))
"""Segmentation, label map segmentation, and structure set."""

SEGMENTATIONS = ("SEG", STRUCTURE_SET)
"""Modalities that are searched for."""

AS_STORED = (("application/dicom", "*"),)
STUDY, SERIES, INSTANCE, CLASS, MODALITY, COUNT = "0020000D", "0020000E", "00080018", "00080016", "00080060", "00201209"


@dataclass(frozen=True)
class Place:
    """Where an instance lies: UIDs of its study, its series and itself."""

    study: str
    series: str
    instance: str


@dataclass(frozen=True)
class Segmentations:
    """A series of segmentations.

    Args:
        study: its UID.
        series: its UID.
        count: how many instances it has; None where the server does not tell.
        modality: ``SEG`` or ``RTSTRUCT``.
    """

    study: str
    series: str
    count: int | None
    modality: str = SEGMENTATIONS[0]


class Server:
    """A DICOMweb server. Every failure is a :class:`gnsm_monai.dicomweb.session.ServerError`.

    Args:
        url: root of its DICOMweb service.

    Raises:
        InputError: the URL is none, or has credentials in it, or those of the environment cannot be used.
    """

    def __init__(self, url: str) -> None:
        self.url = check_url(url)
        if urlsplit(self.url).scheme == "http" and urlsplit(self.url).hostname not in LOOPBACK:
            logger.warning("%s: is not encrypted: credentials and images can be read on the way", self.url)
        self._client = DICOMwebClient(self.url, session=open_session(), timeout=TIMEOUT, permissive_uid=True)
        # Its own way to try again swallows every exception, also those that say what to do.
        self._client.set_http_retry_params(retry=False)

    def segmentation_series(self, studies: Sequence[str] = ()) -> list[Segmentations]:
        """Every series of segmentations, or those of the studies that are named."""
        series: dict[str, Segmentations] = {}
        named: list[str | None] = [*studies] or [None]
        for study, modality in itertools.product(named, SEGMENTATIONS):
            what = "search for segmentations" + (f" in study {study}" if study else "")
            options = {"study_instance_uid": study, "search_filters": {"Modality": modality}}
            for item in self._pages(what, self._client.search_for_series, SERIES, **options):
                if _value(item, MODALITY, modality) != modality:  # a server may pass over a filter
                    continue
                place, count = self._uids(what, item, (STUDY, SERIES), study), _value(item, COUNT, None)
                one = Segmentations(place[0], place[1], None if count is None else int(count), modality)
                series.setdefault(one.series, one)  # without a modality it is in the answers to both searches
        return list(series.values())

    def instances(self, series: Segmentations) -> list[Place]:
        """The segmentations of a series."""
        what = f"search for the segmentations of series {series.series}"
        options = {"study_instance_uid": series.study, "series_instance_uid": series.series}
        return [
            Place(series.study, series.series, self._uids(what, item, (INSTANCE,))[0])
            for item in self._pages(what, self._client.search_for_instances, INSTANCE, **options)
            if _value(item, CLASS, CLASSES[0]) in CLASSES
        ]

    def instance(self, place: Place) -> pydicom.Dataset:
        """An instance as it is stored."""
        what = f"fetch instance {place.instance}"
        with asking(self.url, what):
            dataset: pydicom.Dataset = self._client.retrieve_instance(
                place.study, place.series, place.instance, media_types=AS_STORED
            )
            if dataset.SOPInstanceUID != place.instance:
                raise ServerError(f"{self.url}: {what}: the server sends another one", 200)
            return dataset

    def headers(self, study: str, series: str) -> list[pydicom.Dataset]:
        """Headers of the instances of a series, without their pixels."""
        with asking(self.url, f"fetch the headers of series {series}"):
            items = self._client.retrieve_series_metadata(study, series)
            return [pydicom.Dataset.from_json(item, lambda *_: None) for item in items]

    def series(self, study: str, series: str) -> list[pydicom.Dataset]:
        """The instances of a series."""
        with asking(self.url, f"fetch series {series}"):
            return list(self._client.retrieve_series(study, series, media_types=AS_STORED))

    def has(self, study: str, instance: str) -> bool:
        """Whether an instance is stored."""
        what = f"look for instance {instance}"
        with asking(self.url, what):
            items = self._client.search_for_instances(study, search_filters={"SOPInstanceUID": instance}, limit=1)
            return any(_value(item, INSTANCE, "") == instance for item in items)

    def store(self, dataset: pydicom.Dataset) -> None:
        """Stores an instance in its study."""
        uid = dataset.SOPInstanceUID
        what = f"store instance {uid}"
        with asking(self.url, what):
            answer = self._client.store_instances([dataset], study_instance_uid=dataset.StudyInstanceUID)
            if failed := answer.get("FailedSOPSequence"):
                reason = failed[0].get("FailureReason", "unknown")
                text = f"the server did not take it (reason {reason}): its log says why"
                raise ServerError(f"{self.url}: {what}: {text}", 200)

    def _pages(self, what: str, search: Callable[..., Any], key: str, **options: Any) -> Iterator[dict[str, Any]]:
        """All results of a search, however many come at once; a server without pages sends the same ones again."""
        seen: set[str] = set()
        offset = 0
        while True:
            with asking(self.url, what):
                page = search(**options, limit=PAGE, offset=offset)
                fresh = [item for item in page if str(_value(item, key, "")) not in seen]
            if not fresh:
                return
            seen |= {str(_value(item, key, "")) for item in fresh}
            offset += len(page)
            yield from fresh

    def _uids(self, what: str, item: dict[str, Any], keys: Sequence[str], study: str | None = None) -> list[str]:
        """UIDs of a result. They become names of files, so that anything else is refused."""
        uids = [str(_value(item, key, study if key == STUDY else "")) for key in keys]
        for uid in uids:
            if len(uid) > 64 or not UID.fullmatch(uid):
                raise ServerError(
                    f"{self.url}: {what}: the server names an instance '{uid[:64]}', which is no UID", 200
                )
        return uids


def _value(item: dict[str, Any], key: str, default: Any) -> Any:
    """The first value of an element in DICOM's JSON."""
    values = item.get(key, {}).get("Value") or [default]
    return values[0]
