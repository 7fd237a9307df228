"""Segmentations of a DICOMweb server: fetched, ranked as a folder is, and reported back. Needs the extra ``dicom``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gnsm_monai.errors import InputError

if TYPE_CHECKING:
    from gnsm_monai.dicomweb.rank import ServerRanking

__all__ = ["open_server"]


def open_server(*arguments: Any) -> ServerRanking:
    """A :class:`gnsm_monai.dicomweb.rank.ServerRanking`.

    Raises:
        InputError: also where the extra ``dicom`` is not installed, or several processes were started.
    """
    try:
        from gnsm_monai.dicomweb.rank import ServerRanking
    except ImportError as error:
        raise InputError("DICOMweb needs highdicom and dicomweb-client: pip install 'gnsm_monai[dicom]'") from error
    return ServerRanking(*arguments)
