#!/usr/bin/env bash
# rt-utils: a structure of images that are not square is read back cut off, without a word.
#
# A mask is written and read again by the same library, on slices of 40 rows and 32 columns. The contour in the file is
# right. The mask that get_roi_mask_by_name gives has 32 rows and 40 columns: it is drawn on a canvas whose sides are
# exchanged, at its right place there. So what lies below row 31 is lost (80 of 120 voxels here), no error is raised, and
# an array of that shape cannot be laid on the image. add_roi of the same library takes (rows, columns, slices).
# To live with it: pad images and masks to squares, or draw the contours by a library of your own choice.
#
# Issues of the project tell of masks that come back turned or cropped, without this cause.
# Exits with 1 if that changes. Needs network access for pip; writes to a temporary folder alone.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install -q "rt-utils==1.2.7" "pydicom==3.0.2" "numpy==2.4.6" >/dev/null 2>&1

cd "$folder"
"$folder/env/bin/python" - <<'PY'
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pydicom
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from rt_utils import RTStructBuilder

print(f"rt-utils {version('rt-utils')}, pydicom {pydicom.__version__}")
SLICES = 3
EMPTY = (
    "PatientBirthDate", "PatientSex", "PatientAge", "PatientSize", "PatientWeight", "AccessionNumber",
    "ReferringPhysicianName", "StudyDescription", "SeriesDescription",
)


def write_series(folder, rows, columns):
    """Empty CT slices of voxels of 1 mm, the first voxel at the origin."""
    folder.mkdir()
    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    for index in range(SLICES):
        ds = pydicom.Dataset()
        ds.file_meta = pydicom.dataset.FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.SOPClassUID, ds.SOPInstanceUID, ds.Modality = CTImageStorage, generate_uid(), "CT"
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = study, series, frame
        ds.PatientID, ds.PatientName = "phantom", "Phantom^"
        ds.StudyID, ds.StudyDate, ds.StudyTime = "1", "20200101", "000000"
        for name in EMPTY:
            setattr(ds, name, "")
        ds.SeriesNumber, ds.InstanceNumber = 1, index + 1
        ds.PixelSpacing, ds.SliceThickness = [1, 1], 1
        ds.ImageOrientationPatient, ds.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, index]
        ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PhotometricInterpretation = rows, columns, 1, "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
        ds.PixelData = bytes(2 * rows * columns)
        ds.save_as(folder / f"{index}.dcm", enforce_file_format=True)


def there_and_back(rows, columns):
    """Corners of the contour in the file (mm), shape of the mask that is read, and its voxels in rows and columns."""
    folder = Path(f"series_{rows}_{columns}")
    write_series(folder, rows, columns)
    mask = np.zeros((rows, columns, SLICES), bool)
    mask[30:36, 5:25, 1] = True
    written = RTStructBuilder.create_new(dicom_series_path=str(folder))
    written.add_roi(mask=mask, name="box")
    written.save(f"{folder}.dcm")
    contour = pydicom.dcmread(f"{folder}.dcm").ROIContourSequence[0].ContourSequence[0].ContourData
    points = np.array(contour, float).reshape(-1, 3)
    read = RTStructBuilder.create_from(dicom_series_path=str(folder), rt_struct_path=f"{folder}.dcm")
    back = read.get_roi_mask_by_name("box")
    inside = [(int(axis.min()), int(axis.max())) for axis in np.nonzero(back)[:2]]
    return {
        "contour x, y in mm": [(float(axis.min()), float(axis.max())) for axis in points.T[:2]],
        "shape": back.shape,
        "rows, columns": inside,
        "voxels": int(back.sum()),
    }


print("written: rows 30 to 35, columns 5 to 24, 120 voxels")
seen = {f"{rows} x {columns}": there_and_back(rows, columns) for rows, columns in ((40, 40), (40, 32))}
for size, result in seen.items():
    print(f"{size}: {result}")
right = {"contour x, y in mm": [(5.0, 24.0), (30.0, 35.0)], "rows, columns": [(30, 35), (5, 24)], "voxels": 120}
expected = {
    "40 x 40": {**right, "shape": (40, 40, SLICES)},
    "40 x 32": {**right, "shape": (32, 40, SLICES), "rows, columns": [(30, 31), (5, 24)], "voxels": 40},
}
if seen != expected:
    raise SystemExit(f"changed: expected {expected}, got {seen}")
print("as described: square images give the mask back, oblong ones give 40 of its 120 voxels in exchanged sides")
PY
