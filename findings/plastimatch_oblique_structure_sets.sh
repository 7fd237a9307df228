#!/usr/bin/env bash
# plastimatch: of a structure set on oblique slices, a part of the voxels is missing, without an error.
#
# The same boxes (6 x 20 voxels on three slices, 360 voxels) are drawn on axial slices and on oblique ones. Converted on
# the grid of their own series, the axial one has its 360 voxels; of the oblique one half is missing. Contours are
# filled in planes of constant z, whatever the slices are, and the result is then resampled. The program ends with 0.
# To live with it: convert structure sets of axial series alone, and check the orientation yourself.
#
# Exits with 1 if that changes. Needs network access for pip and plastimatch 1.9.4 (Debian 12: apt install plastimatch),
# which it installs with apt if it is root; writes to a temporary folder alone.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
command -v plastimatch >/dev/null || { apt-get update -qq && apt-get install -y -qq --no-install-recommends plastimatch; } >/dev/null
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install -q "pydicom==3.0.2" "numpy==2.4.6" "simpleitk==2.5.7" >/dev/null 2>&1

cd "$folder"
"$folder/env/bin/python" - <<'PY'
import subprocess

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, RTStructureSetStorage, generate_uid

SHAPE, SPACING, ORIGIN = (5, 40, 32), np.array([1.3, 0.8, 2.5]), np.array([-7.0, 11.0, 23.0])  # z, y, x; x, y, z; LPS
AXES = {
    "axial": np.eye(3),
    "oblique": np.array([[np.cos(0.3), np.sin(0.3), 0], [0, 0, -1], [-np.sin(0.3), np.cos(0.3), 0]]),
}


def item(**elements):
    made = pydicom.Dataset()
    for name, value in elements.items():
        setattr(made, name, value)
    return made


def write(path, axes):
    study, frame = generate_uid(), generate_uid()
    images = [item(ReferencedSOPClassUID=CTImageStorage, ReferencedSOPInstanceUID=generate_uid()) for _ in range(5)]
    contours = []
    for z in (1, 2, 3):
        corners = [(4.5, 29.5), (24.5, 29.5), (24.5, 35.5), (4.5, 35.5)]
        points = [ORIGIN + np.array([x, y, z]) * SPACING @ axes for x, y in corners]
        data = [f"{mm:.4f}" for point in points for mm in point]
        contours.append(
            item(ContourGeometricType="CLOSED_PLANAR", NumberOfContourPoints=4, ContourData=data,
                 ContourImageSequence=[images[z]])
        )
    plan = item(
        SOPClassUID=RTStructureSetStorage, SOPInstanceUID=generate_uid(), Modality="RTSTRUCT", StudyInstanceUID=study,
        SeriesInstanceUID=generate_uid(), PatientID="phantom", PatientName="Phantom", StructureSetLabel="plan",
    )
    plan.file_meta = pydicom.dataset.FileMetaDataset()
    plan.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    series = item(SeriesInstanceUID=generate_uid(), ContourImageSequence=images)
    of_study = item(ReferencedSOPClassUID="1.2.840.10008.3.1.2.3.1", ReferencedSOPInstanceUID=study)
    of_study.RTReferencedSeriesSequence = [series]
    plan.ReferencedFrameOfReferenceSequence = [item(FrameOfReferenceUID=frame, RTReferencedStudySequence=[of_study])]
    plan.StructureSetROISequence = [
        item(ROINumber=1, ROIName="box", ReferencedFrameOfReferenceUID=frame, ROIGenerationAlgorithm="MANUAL")
    ]
    plan.ROIContourSequence = [item(ReferencedROINumber=1, ROIDisplayColor=[255, 0, 0], ContourSequence=contours)]
    plan.RTROIObservationsSequence = [
        item(ObservationNumber=1, ReferencedROINumber=1, RTROIInterpretedType="ORGAN", ROIInterpreter="")
    ]
    plan.save_as(path, enforce_file_format=True)


seen = {}
for name, axes in AXES.items():
    write(f"{name}.dcm", axes)
    grid = sitk.Image(list(reversed(SHAPE)), sitk.sitkUInt8)
    grid.SetSpacing(SPACING.tolist())
    grid.SetOrigin(ORIGIN.tolist())
    grid.SetDirection(axes.T.ravel().tolist())
    sitk.WriteImage(grid, "grid.mha")
    words = ["plastimatch", "convert", "--input", f"{name}.dcm", "--fixed", "grid.mha", "--output-ss-img", "out.mha"]
    done = subprocess.run(words, capture_output=True)
    mask = sitk.GetArrayFromImage(sitk.ReadImage("out.mha"))
    mask = mask[..., 0] if mask.ndim == 4 else mask
    seen[name] = (done.returncode, int(np.count_nonzero(mask)))
version = subprocess.run(["plastimatch", "--version"], capture_output=True, text=True).stdout.strip()
print(version)
print(f"360 voxels are drawn; exit code and voxels of the mask: {seen}")
raise SystemExit(not (seen["axial"] == (0, 360) and seen["oblique"][0] == 0 and seen["oblique"][1] <= 240))
PY
echo "as described"
