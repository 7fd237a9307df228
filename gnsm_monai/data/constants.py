"""Names and values that all parts of the package share."""

from __future__ import annotations

__all__ = [
    "CONTACTS", "CONTACT_AREAS", "CROPPED", "EMPTY_LEFT_OUT", "FILE_AFFINE", "FILE_SHAPE", "IGNORE_INDEX", "IMAGE",
    "LABEL", "LABEL_NAMES", "LOST_CLAIMS", "REFERENCE", "SOFT", "UNSEEN_IMAGE", "VALUE_STEP",
]  # fmt: skip

IGNORE_INDEX = -1
"""Class index of voxels that are not observed: nnU-Net's ignore label, and padding around a case."""

IMAGE, LABEL, REFERENCE = "image", "label", "reference"
"""Keys of a case that hold maps."""

FILE_AFFINE, FILE_SHAPE = "file_affine", "file_shape"
"""Keys of a map's metadata: geometry of its file, before any transform; index to mm, and voxels per axis."""

LABEL_NAMES, VALUE_STEP = "label_names", "value_step"
"""Keys of a label map's metadata as long as it holds the numbers of its file: what these are called, where its header
or a table beside it says so; and the slope by which stored integers were multiplied, of which labels are off by half at
most."""

LOST_CLAIMS = "lost_claims"
"""Key of a label map's metadata as long as it holds the numbers of its file: claims of structures to voxels that others
have, as pairs of places (in the flat map) and numbers, those of the smallest structures last."""

EMPTY_LEFT_OUT = "empty_left_out"
"""Key of a label map's metadata: its file may leave out slices because they are empty, as a DICOM SEG does."""

SOFT = "probabilities"
"""Key of a case that holds the class probabilities of its label map, where a network saved them."""

UNSEEN_IMAGE = "unseen_image"
"""Key of a case that holds the path of an image that the network does not see: its size alone is looked at."""

CONTACT_AREAS, CONTACTS = "contact_areas", "contacts"
"""Keys of a case that hold on how large an area the classes of its mask touch, ``(K, K)``, and how unusual that is for
each structure, ``(S,)``."""

CROPPED = "cropped"
"""Key of a case whose mask lacks a part of the field of view of its image or reference: what it lacks."""
