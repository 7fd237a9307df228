"""What a report or a map refers to: a SEG, or an RTSTRUCT, which is no image and has no segments."""

from __future__ import annotations

from typing import Any

import numpy as np
import pydicom

from gnsm_monai.data.structure_set import MODALITY

__all__ = ["complete", "frame_of_reference", "is_structure_set", "referenced_image"]

NEEDED = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate",
    "StudyTime", "ReferringPhysicianName",
)  # fmt: skip
"""Attributes that may be empty but must be there; anonymised files lack some."""


def complete(segmentation: pydicom.Dataset) -> pydicom.Dataset:
    """The same dataset with all attributes that a report copies."""
    for name in NEEDED:
        if name not in segmentation:
            setattr(segmentation, name, "")
    return segmentation


def is_structure_set(segmentation: pydicom.Dataset) -> bool:
    """Whether it is an RTSTRUCT."""
    return bool(segmentation.Modality == MODALITY)


def frame_of_reference(segmentation: pydicom.Dataset) -> str:
    """FrameOfReferenceUID; an RTSTRUCT names it at its references."""
    if "FrameOfReferenceUID" in segmentation:
        return str(segmentation.FrameOfReferenceUID)
    return str(segmentation.ReferencedFrameOfReferenceSequence[0].FrameOfReferenceUID)


def referenced_image(structures: pydicom.Dataset, volume: Any) -> pydicom.Dataset:
    """The first image that an RTSTRUCT was drawn on, as far as a map of its voxels needs it.

    Args:
        structures: the RTSTRUCT.
        volume: of the map, a ``highdicom.Volume``.
    """
    study = structures.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0]
    series = study.RTReferencedSeriesSequence[0]
    reference = series.ContourImageSequence[0]
    image = pydicom.Dataset()
    for name in (*NEEDED, "SpecificCharacterSet", "StudyInstanceUID"):
        if name in structures:
            setattr(image, name, structures[name].value)
    image.SOPClassUID, image.SOPInstanceUID = reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID
    image.SeriesInstanceUID, image.FrameOfReferenceUID = series.SeriesInstanceUID, frame_of_reference(structures)
    image.Rows, image.Columns = map(int, volume.shape[-2:])
    steps = np.asarray(volume.affine)[:3, :3]  # along z, y, x
    image.ImagePositionPatient = np.asarray(volume.affine)[:3, 3].tolist()
    image.ImageOrientationPatient = np.concatenate([steps[:, i] / np.linalg.norm(steps[:, i]) for i in (2, 1)]).tolist()
    image.SliceThickness, *image.PixelSpacing = np.linalg.norm(steps, axis=0).tolist()
    return image
