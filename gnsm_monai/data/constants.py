"""Names and values that all parts of the package share."""

from __future__ import annotations

__all__ = ["FILE_AFFINE", "FILE_SHAPE", "IGNORE_INDEX", "IMAGE", "LABEL", "REFERENCE", "SOFT"]

IGNORE_INDEX = -1
"""Class index of voxels that are not observed: nnU-Net's ignore label, and padding around a case."""

IMAGE, LABEL, REFERENCE = "image", "label", "reference"
"""Keys of a case that hold maps."""

FILE_AFFINE, FILE_SHAPE = "file_affine", "file_shape"
"""Keys of a map's metadata: geometry of its file, before any transform; index to mm, and voxels per axis."""

SOFT = "probabilities"
"""Key of a case that holds the class probabilities of its label map, where a network saved them."""
