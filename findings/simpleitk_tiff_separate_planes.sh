#!/usr/bin/env bash
# SimpleITK: a TIFF with samples in separate planes is read with other values than its twin with interleaved samples.
#
# The tag PlanarConfiguration says how samples are stored, so both files hold the same picture, and one would expect the
# same values (or an error: TIFF does not oblige a simple reader to know separate planes). Interleaved samples are read
# as they are. Separate planes are read as 8-bit RGBA:
#   3 planes of 8 bits: the values are right, a fourth component of 255 is added;
#   4 planes of 8 bits, the fourth tagged as unassociated alpha: the first three are multiplied by the fourth / 255;
#   3 planes of 16 bits: small labels become 0 (ITK warns of a loss of depth; in the 8-bit cases it prints nothing);
#   3 planes of 32-bit floats: an error, "can not handle images with 32-bit samples".
# It touches label volumes: tifffile.imwrite, called with an array of 3 or 4 slices and no photometric, stores exactly
# such files (tifffile warns of that). With 5 slices it writes pages, which SimpleITK reads as a volume.
# To live with it: write stacks with photometric="minisblack" (one page a slice), or read such files with tifffile.
#
# ITK takes its 8-bit RGBA fallback for separate planes; ITK issue 2959 (open) reports that fallback for another cause,
# the orientation tag. No report for separate planes was seen.
# Exits with 1 if that changes. Needs network access for pip; writes to a temporary folder alone.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install -q "SimpleITK==2.5.7" "tifffile==2026.3.3" "numpy==2.4.6" >/dev/null

cd "$folder"
"$folder/env/bin/python" - <<'PY'
import os
import tempfile
import warnings

import numpy as np
import SimpleITK as sitk
import tifffile

print(f"SimpleITK {sitk.__version__} (ITK {sitk.Version.ITKVersionString()}), tifffile {tifffile.__version__}")


def planes(count, dtype):
    """Slices of 16 x 20 pixels; slice k holds 10 (k + 1) everywhere."""
    return (np.arange(10, 10 * count + 1, 10)[:, None, None] + np.zeros((count, 16, 20))).astype(dtype)


def read(path):
    """What SimpleITK reads: size, components and the values at one place, or the error's last line; and a warning."""
    with tempfile.TemporaryFile() as log:
        stderr = os.dup(2)
        os.dup2(log.fileno(), 2)  # ITK warns from C++
        try:
            image = sitk.ReadImage(path)
            array = sitk.GetArrayFromImage(image)
            at = (2, 3) if image.GetDimension() == 2 else (slice(None), 2, 3)
            result = f"{image.GetSize()} {image.GetPixelIDTypeAsString()} {array[at].tolist()}"
        except RuntimeError as error:
            result = "error: " + str(error).strip().rsplit("): ", 1)[-1]
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
        log.seek(0)
        return result + (", with a warning" if log.read() else "")


seen = {}
for count, dtype in ((3, "uint8"), (4, "uint8"), (3, "uint16"), (3, "float32")):
    volume = planes(count, dtype)
    tifffile.imwrite("separate.tif", volume, photometric="rgb", planarconfig="separate")
    tifffile.imwrite("interleaved.tif", np.moveaxis(volume, 0, -1).copy(), photometric="rgb", planarconfig="contig")
    # The files hold what was meant: another reader gives the same samples for both.
    assert np.array_equal(tifffile.imread("separate.tif"), volume)
    assert np.array_equal(np.moveaxis(tifffile.imread("interleaved.tif"), -1, 0), volume)
    for name in ("interleaved", "separate"):
        seen[f"{count} x {dtype}, {name}"] = read(f"{name}.tif")
for count in (3, 4, 5):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tifffile.imwrite("stack.tif", planes(count, "uint8"))
    seen[f"{count} slices of uint8, tifffile's default"] = read("stack.tif")
    tifffile.imwrite("stack.tif", planes(count, "uint8"), photometric="minisblack")
    seen[f"{count} slices of uint8, minisblack"] = read("stack.tif")
for what, result in seen.items():
    print(f"{what}: {result}")

vector = "vector of 8-bit unsigned integer"
expected = {
    "3 x uint8, interleaved": f"(20, 16) {vector} [10, 20, 30]",
    "3 x uint8, separate": f"(20, 16) {vector} [10, 20, 30, 255]",
    "4 x uint8, interleaved": f"(20, 16) {vector} [10, 20, 30, 40]",
    "4 x uint8, separate": f"(20, 16) {vector} [2, 3, 5, 40]",
    "3 x uint16, interleaved": "(20, 16) vector of 16-bit unsigned integer [10, 20, 30]",
    "3 x uint16, separate": f"(20, 16) {vector} [0, 0, 0, 255], with a warning",
    "3 x float32, interleaved": "(20, 16) vector of 32-bit float [10.0, 20.0, 30.0]",
    "3 x float32, separate": "error: Unable to read tiff file: Sorry, can not handle images with 32-bit samples",
    "3 slices of uint8, tifffile's default": f"(20, 16) {vector} [10, 20, 30, 255]",
    "3 slices of uint8, minisblack": "(20, 16, 3) 8-bit unsigned integer [10, 20, 30]",
    "4 slices of uint8, tifffile's default": f"(20, 16) {vector} [2, 3, 5, 40]",
    "4 slices of uint8, minisblack": "(20, 16, 4) 8-bit unsigned integer [10, 20, 30, 40]",
    "5 slices of uint8, tifffile's default": "(20, 16, 5) 8-bit unsigned integer [10, 20, 30, 40, 50]",
    "5 slices of uint8, minisblack": "(20, 16, 5) 8-bit unsigned integer [10, 20, 30, 40, 50]",
}
if seen != expected:
    differing = {what: (expected.get(what), result) for what, result in seen.items() if expected.get(what) != result}
    raise SystemExit(f"changed (expected, got): {differing}")
print("as described: with separate planes SimpleITK adds alpha, multiplies by it, cuts to 8 bits or fails")
PY
