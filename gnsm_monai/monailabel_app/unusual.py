"""An anomaly map as a label map."""

from __future__ import annotations

from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

__all__ = ["UNUSUAL", "unusual_voxels", "write_unusual"]

UNUSUAL = {"unusual": 1}
QUANTILE = 0.995
"""Of the anomaly in a map: what the report gives the full colour. The maximum may be that of a single voxel."""


def unusual_voxels(anomaly: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.uint8]:
    """1 where the anomaly is at least half of the map's own highest values, so where this mask is worst; else 0."""
    finite = np.nan_to_num(anomaly.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    limit = 0.5 * float(np.quantile(finite, QUANTILE))
    return ((finite >= limit) & (finite > 0)).astype(np.uint8)


def write_unusual(source: str, target: str) -> None:
    """Writes :func:`unusual_voxels` of a NIfTI file, in its geometry."""
    image: Any = nib.load(source)
    labels = unusual_voxels(np.asarray(image.dataobj))
    nib.save(nib.Nifti1Image(labels, image.affine), target)
