"""What a ranking says of a segmentation as DICOM: a structured report (TID 1500), and the anomaly of every voxel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import highdicom
import numpy as np
import pydicom
from highdicom import sr
from highdicom.pm import ParametricMap, RealWorldValueMapping
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

import gnsm_monai
from gnsm_monai.data.dicom_grid import referenced_series
from gnsm_monai.data.label_names import name_key
from gnsm_monai.dicomweb.source import complete, frame_of_reference, is_structure_set, referenced_image

__all__ = ["Reporter"]

SCHEME = "99GNSM"
"""Our own codes, see docs/dicomweb.md; DICOM has none for these measurements."""

MEASUREMENTS = {
    "anomaly_score": ("ANOMALY", "Anomaly score"),
    "p_value": ("PVALUE", "P-value"),
    "predicted_dice": ("DICE", "Predicted Dice"),
    "predicted_dice_low": ("DICE_LOW", "Predicted Dice, lower end of 90 % interval"),
    "predicted_dice_high": ("DICE_HIGH", "Predicted Dice, upper end of 90 % interval"),
}
FLAGGED, WORST, MAP = (
    sr.CodedConcept(value, SCHEME, meaning)
    for value, meaning in (
        ("FLAGGED", "Flagged for review"),
        ("WORST", "Worst structure"),
        ("MAP", "Anomaly of a voxel"),
    )
)
MANUFACTURER = "gnsm_monai"
SERIES_NUMBERS = {"report": 9901, "map": 9902}
UTF_8 = "ISO_IR 192"
"""Of the report, whatever that of the SEG is: names of structures come from the model."""

LONGEST_NAME = 64
"""Characters of the meaning of a code."""


@dataclass(frozen=True)
class Reporter:
    """Makes reports of one model.

    Args:
        identity: of the model: the same one gives the same SOP Instance UIDs, so that no report is stored twice.
    """

    identity: str

    def uid(self, kind: str, segmentation: str) -> str:
        """UID of what is reported of a segmentation, the same in every run.

        Args:
            kind: such as ``report`` or ``map``.
            segmentation: SOPInstanceUID of the SEG.
        """
        return str(generate_uid(entropy_srcs=["gnsm_monai", kind, segmentation, self.identity]))

    def report(self, segmentation: pydicom.Dataset, case: Mapping[str, Any]) -> pydicom.Dataset:
        """A structured report of a case (TID 1500).

        One group (TID 1501) is of the SEG as a whole. One per structure refers to the segment of its name (TID 1411),
        where the SEG says of which series it was made. The reason in words is a comment.

        Args:
            segmentation: the SEG, or an RTSTRUCT, which has no segments to refer to.
            case: as in results.json.

        Raises:
            Exception: of many kinds, where the SEG lacks what a report needs.
        """
        segmentation = complete(segmentation)
        uid = str(segmentation.SOPInstanceUID)
        groups = [self._whole(segmentation, case)]
        segments = {} if is_structure_set(segmentation) else _segments(segmentation)
        # A reference to a segment names the series, too.
        segments = segments if referenced_series(segmentation) else {}
        for entry in case["structures"]:
            numbers = segments.get(name_key(entry["structure"]), [])
            if len(numbers) == 1 and entry["anomaly_score"] is not None:
                groups.append(self._structure(segmentation, entry, numbers[0], case["worst_structure"]))
        device = sr.DeviceObserverIdentifyingAttributes(
            uid=self.uid("device", ""), name=MANUFACTURER, manufacturer_name=MANUFACTURER, model_name=self.identity[:16]
        )
        content = sr.MeasurementReport(
            sr.ObservationContext(sr.ObserverContext(codes.DCM.Device, device)), codes.DCM.QualityControl, groups
        )
        return sr.EnhancedSR(
            [segmentation],
            content[0],
            **self._instance("report", uid),
            is_complete=True,
            specific_character_set=UTF_8,
            series_description="Quality of a segmentation (gnsm_monai)",
        )

    def map(self, segmentation: pydicom.Dataset, values: np.ndarray, affine: np.ndarray) -> pydicom.Dataset:
        """The anomaly of every voxel as a parametric map.

        Args:
            segmentation: the SEG or RTSTRUCT.
            values: float, higher = worse, ``(z, y, x)``.
            affine: voxel index to mm in LPS, ``(4, 4)``.
        """
        segmentation = complete(segmentation)
        uid = str(segmentation.SOPInstanceUID)
        frame = str(frame_of_reference(segmentation))
        volume = highdicom.Volume(np.asarray(values, np.float32), affine, "PATIENT", frame_of_reference_uid=frame)
        low, high = float(volume.array.min()), float(volume.array.max())
        window = highdicom.VOILUTTransformation(window_center=(low + high) / 2, window_width=max(high - low, 1e-6))
        mapping = RealWorldValueMapping(
            lut_label="anomaly",
            lut_explanation="anomaly of a voxel, higher is worse",
            unit=codes.UCUM.NoUnits,
            value_range=(low, high),
            slope=1.0,
            intercept=0.0,
            quantity_definition=MAP,
        )
        return ParametricMap(
            [referenced_image(segmentation, volume) if is_structure_set(segmentation) else segmentation],
            volume,
            **self._instance("map", uid),
            manufacturer_model_name=MANUFACTURER,
            software_versions=gnsm_monai.__version__,
            device_serial_number=self.identity[:16],
            contains_recognizable_visual_features=False,
            real_world_value_mappings=[mapping],
            voi_lut_transformations=[window],
            content_label="ANOMALY",
            series_description="Anomaly of a segmentation (gnsm_monai)",
        )

    def _instance(self, kind: str, segmentation: str) -> dict[str, Any]:
        """Series and instance of what is stored; arguments as of :meth:`uid`."""
        return {
            "series_instance_uid": self.uid(f"{kind} series", segmentation),
            "series_number": SERIES_NUMBERS[kind],
            "sop_instance_uid": self.uid(kind, segmentation),
            "instance_number": 1,
            "manufacturer": MANUFACTURER,
        }

    def _whole(self, segmentation: pydicom.Dataset, case: Mapping[str, Any]) -> Any:
        evaluations = [sr.QualitativeEvaluation(FLAGGED, codes.SCT.Yes if case["flag"] else codes.SCT.No)]
        names = [entry["structure"] for entry in case["structures"]]
        if case["worst_structure"] in names:
            place = names.index(case["worst_structure"]) + 1
            worst = sr.CodedConcept(f"STRUCTURE_{place}", SCHEME, _meaning(case["worst_structure"]))
            evaluations.append(sr.QualitativeEvaluation(WORST, worst))
        reference = segmentation.SOPClassUID, segmentation.SOPInstanceUID
        group = sr.MeasurementsAndQualitativeEvaluations(
            self._tracking(segmentation, "segmentation as a whole"),
            algorithm_id=self._algorithm(),
            measurements=_measurements(case),
            qualitative_evaluations=evaluations,
            source_images=None if is_structure_set(segmentation) else [sr.SourceImageForMeasurementGroup(*reference)],
        )
        if is_structure_set(segmentation):
            group[0].ContentSequence.append(
                sr.CompositeContentItem(
                    codes.DCM.SourceOfMeasurement, *reference, relationship_type=sr.RelationshipTypeValues.CONTAINS
                )
            )
        if case["reason"]:
            comment = sr.TextContentItem(codes.DCM.Comment, case["reason"], sr.RelationshipTypeValues.CONTAINS)
            group[0].ContentSequence.append(comment)
        return group

    def _structure(self, segmentation: pydicom.Dataset, entry: Mapping[str, Any], number: int, worst: str) -> Any:
        name = entry["structure"]
        segment = next(item for item in segmentation.SegmentSequence if int(item.SegmentNumber) == number)
        return sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
            self._tracking(segmentation, name),
            referenced_segment=_reference(segmentation, number),
            finding_type=sr.CodedConcept.from_dataset(segment.SegmentedPropertyTypeCodeSequence[0]),
            algorithm_id=self._algorithm(),
            measurements=_measurements(entry),
            qualitative_evaluations=[sr.QualitativeEvaluation(WORST, codes.SCT.Yes)] if name == worst else None,
        )

    def _tracking(self, segmentation: pydicom.Dataset, name: str) -> sr.TrackingIdentifier:
        return sr.TrackingIdentifier(uid=self.uid(f"group {name}", str(segmentation.SOPInstanceUID)), identifier=name)

    def _algorithm(self) -> sr.AlgorithmIdentification:
        return sr.AlgorithmIdentification(MANUFACTURER, gnsm_monai.__version__, [f"model {self.identity}"])


def _segments(segmentation: pydicom.Dataset) -> dict[Any, list[int]]:
    """Numbers of the segments by the words of their label."""
    numbers: dict[Any, list[int]] = {}
    for item in segmentation.SegmentSequence:
        numbers.setdefault(name_key(str(item.SegmentLabel)), []).append(int(item.SegmentNumber))
    return numbers


def _reference(segmentation: pydicom.Dataset, number: int) -> sr.ReferencedSegment:
    # The series as a whole: the images of every slice would have to be listed as evidence.
    source = sr.SourceSeriesForSegmentation(referenced_series(segmentation)[0])
    return sr.ReferencedSegment(segmentation.SOPClassUID, segmentation.SOPInstanceUID, number, source_series=source)


def _measurements(fields: Mapping[str, Any]) -> list[sr.Measurement]:
    return [
        sr.Measurement(sr.CodedConcept(code, SCHEME, _meaning(meaning)), float(fields[name]), codes.UCUM.NoUnits)
        for name, (code, meaning) in MEASUREMENTS.items()
        if fields[name] is not None
    ]


def _meaning(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 3] + "..."
