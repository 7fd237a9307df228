"""How much the classes of a label map touch each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

__all__ = ["contact_areas"]


def contact_areas(label: np.ndarray, spacing: Sequence[float], num_classes: int) -> npt.NDArray[np.float32]:
    """Area at which voxels of one class lie beside voxels of another one.

    Ignored voxels touch nothing.

    Args:
        label: class indices ``(*spatial)``, background 0; negative where ignored.
        spacing: mm per axis.
        num_classes: ``K``.

    Returns:
        ``(K, K)``, symmetric; in mm², of pictures a length in mm. The diagonal has the area at which a class reaches
        the edge of the field of view.
    """
    areas = np.zeros((num_classes, num_classes))
    boxes = ndimage.find_objects((label != 0).astype(np.int8))
    # Nothing but background lies beyond the rim of the box.
    inner = label[tuple(slice(max(0, s.start - 1), s.stop + 1) for s in boxes[0])] if boxes else label
    for axis, mm in enumerate(spacing):
        along = np.moveaxis(inner, axis, 0)
        here, beside = along[:-1], along[1:]
        touching = (here != beside) & (here >= 0) & (beside >= 0)
        pairs = here[touching].astype(np.intp) * num_classes + beside[touching]
        face = float(np.prod(spacing)) / mm
        areas += face * np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)
    areas += areas.T
    for axis, mm in enumerate(spacing):
        ends = np.take(label, [0, -1], axis)
        at_edge = np.bincount(ends[ends >= 0], minlength=num_classes)[:num_classes]
        areas[range(num_classes), range(num_classes)] += at_edge * float(np.prod(spacing)) / mm
    return np.asarray(areas.astype(np.float32))
