"""DICOM as tests make it: a CT series, and structure sets whose contours are the edges of voxels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import pydicom
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, RTStructureSetStorage, generate_uid

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)

Contour = tuple[int, Sequence[tuple[float, float]]]
"""Its slice, and its corners: row and column, where whole numbers are centres of voxels."""


def ct_series(
    pixels: np.ndarray,
    spacing: Sequence[float],
    origin: Sequence[float],
    orientation: Sequence[float] = AXIAL,
    patient: str = "phantom",
    name: str = "",
) -> list[pydicom.Dataset]:
    """Slices of grey values ``(z, y, x)``, uint16; spacing (x, y, z) in mm; place of the first voxel in LPS."""
    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    across, down = np.reshape(np.array(orientation, float), (2, 3))
    images = []
    for z, values in enumerate(pixels):
        image = pydicom.Dataset()
        image.file_meta = pydicom.dataset.FileMetaDataset()
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        image.SpecificCharacterSet = "ISO_IR 100"
        image.SOPClassUID, image.SOPInstanceUID = CTImageStorage, generate_uid()
        image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
        image.StudyInstanceUID, image.SeriesInstanceUID, image.FrameOfReferenceUID = study, series, frame
        image.PatientID, image.PatientName, image.Modality, image.InstanceNumber = patient, name, "CT", z + 1
        image.PatientBirthDate = image.PatientSex = image.AccessionNumber = image.StudyID = ""
        image.ReferringPhysicianName, image.StudyDate, image.StudyTime = "", "20260102", "120000"
        image.Rows, image.Columns = values.shape
        image.PixelSpacing, image.SliceThickness = [spacing[1], spacing[0]], spacing[2]
        image.ImageOrientationPatient = list(map(float, orientation))
        image.ImagePositionPatient = list(map(float, np.array(origin) + np.cross(across, down) * spacing[2] * z))
        image.BitsAllocated = image.BitsStored = 16
        image.HighBit, image.PixelRepresentation, image.SamplesPerPixel = 15, 0, 1
        image.PhotometricInterpretation = "MONOCHROME2"
        image.RescaleSlope, image.RescaleIntercept = 1, -1024
        image.PixelData = values.astype(np.uint16).tobytes()
        images.append(image)
    return images


def contours_of(mask: np.ndarray) -> list[Contour]:
    """A mask ``(z, y, x)`` as contours that hold its voxels and no others: a rectangle for every run of a row."""
    contours: list[Contour] = []
    for z, y in np.ndindex(*mask.shape[:2]):
        edges = np.flatnonzero(np.diff(np.pad(mask[z, y].astype(np.int8), 1)))
        contours += [(z, box(y, y, first, last - 1)) for first, last in list(pairwise(edges))[::2]]
    return contours


def box(top: int, bottom: int, left: int, right: int) -> list[tuple[float, float]]:
    """Corners around the voxels of rows ``top`` to ``bottom`` and columns ``left`` to ``right``."""
    rows, columns = (top - 0.5, bottom + 0.5), (left - 0.5, right + 0.5)
    return [(rows[0], columns[0]), (rows[0], columns[1]), (rows[1], columns[1]), (rows[1], columns[0])]


def structure_set(images: Sequence[pydicom.Dataset], structures: Mapping[str, Sequence[Contour]]) -> pydicom.Dataset:
    """An RTSTRUCT of a series that :func:`ct_series` has made."""
    first = images[0]
    made = pydicom.Dataset()
    made.file_meta = pydicom.dataset.FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SpecificCharacterSet = "ISO_IR 100"
    made.SOPClassUID, made.SOPInstanceUID, made.Modality = RTStructureSetStorage, generate_uid(), "RTSTRUCT"
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    made.StudyInstanceUID, made.SeriesInstanceUID = first.StudyInstanceUID, generate_uid()
    made.PatientID, made.PatientName, made.StructureSetLabel = first.PatientID, first.PatientName, "plan"
    references = [_reference(image.SOPClassUID, image.SOPInstanceUID) for image in images]
    series = _item(SeriesInstanceUID=first.SeriesInstanceUID, ContourImageSequence=references)
    study = _reference("1.2.840.10008.3.1.2.3.1", first.StudyInstanceUID)
    study.RTReferencedSeriesSequence = [series]
    frame = _item(FrameOfReferenceUID=first.FrameOfReferenceUID, RTReferencedStudySequence=[study])
    made.ReferencedFrameOfReferenceSequence = [frame]
    made.StructureSetROISequence = [
        _item(
            ROINumber=number,
            ROIName=name,
            ReferencedFrameOfReferenceUID=first.FrameOfReferenceUID,
            ROIGenerationAlgorithm="MANUAL",
        )
        for number, name in enumerate(structures, start=1)
    ]
    made.ROIContourSequence = [
        _item(
            ReferencedROINumber=number,
            ROIDisplayColor=[255, 0, 0],
            ContourSequence=[_contour(images[z], references[z], corners) for z, corners in contours],
        )
        for number, contours in enumerate(structures.values(), start=1)
    ]
    made.RTROIObservationsSequence = [
        _item(ObservationNumber=number, ReferencedROINumber=number, RTROIInterpretedType="ORGAN", ROIInterpreter="")
        for number in range(1, len(structures) + 1)
    ]
    return made


def _contour(image: pydicom.Dataset, reference: pydicom.Dataset, corners: Sequence[tuple[float, float]]) -> object:
    across, down = np.reshape(np.array(image.ImageOrientationPatient, float), (2, 3))
    row_mm, column_mm = map(float, image.PixelSpacing)
    origin = np.array(image.ImagePositionPatient, float)
    points = [origin + across * column * column_mm + down * row * row_mm for row, column in corners]
    return _item(
        ContourGeometricType="CLOSED_PLANAR",
        NumberOfContourPoints=len(points),
        ContourData=[f"{mm:.4f}" for point in points for mm in point],
        ContourImageSequence=[reference],
    )


def _reference(sop_class: str, uid: str) -> pydicom.Dataset:
    return _item(ReferencedSOPClassUID=sop_class, ReferencedSOPInstanceUID=uid)


def _item(**elements: object) -> pydicom.Dataset:
    item = pydicom.Dataset()
    for name, value in elements.items():
        setattr(item, name, value)
    return item
