#!/usr/bin/env bash
# MONAI: SpatialResample(align_corners=True) to a grid of one voxel along an axis samples half a voxel too far.
#
# The affine says that the output's only slice lies at index 3 of the source. The values written are those of index 3.5.
# With two slices, or with align_corners=False, the first slice has the values of index 3, as the affine says.
# Who resamples one slice of a volume by its affine gets a blend with the next slice; PyTorch warns of unit-size grids.
#
# Exits with 1 if that changes. Needs network access for pip; writes to a temporary folder alone.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install -q "monai==1.6.1" "torch==2.13.0" "numpy==2.4.6" >/dev/null

"$folder/env/bin/python" - <<'PY'
import warnings

import monai
import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import SpatialResample

warnings.filterwarnings("ignore")
print(f"monai {monai.__version__}, torch {torch.__version__}")
# Five slices whose values are their index; 1 mm voxels.
volume = torch.arange(5.0)[None, :, None, None].expand(1, 5, 4, 4).contiguous()
source = MetaTensor(volume, affine=torch.eye(4))
target = torch.eye(4)
target[0, 3] = 3.0  # the output begins at slice 3

first = {}
for align_corners in (True, False):
    for slices in (1, 2):
        resample = SpatialResample(mode="bilinear", padding_mode="border", align_corners=align_corners, dtype=np.float64)
        out = resample(source, dst_affine=target, spatial_size=(slices, 4, 4))
        first[align_corners, slices] = float(out[0, 0, 0, 0])
        where = float(out.affine[0, 3])
        value = first[align_corners, slices]
        print(f"align_corners={align_corners}, {slices} slice(s): affine says slice {where:g}, value {value:g}")

expected = {(True, 1): 3.5, (True, 2): 3.0, (False, 1): 3.0, (False, 2): 3.0}
if first != expected:
    raise SystemExit(f"changed: expected {expected}, got {first}")
print("as described: one slice with align_corners=True holds the values half a voxel further on")
PY
