"""How much the classes of a label map touch each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

__all__ = ["contact_areas"]


def contact_areas(label: np.ndarray, spacing: Sequence[float], num_classes: int) -> npt.NDArray[np.float32]:
    """Area at which voxels of one class lie beside voxels of another one.

    Args:
        label: class indices ``(*spatial)``, background 0; negative where ignored.
        spacing: mm per axis.
        num_classes: ``K``.

    Returns:
        ``(K, K)``, symmetric; in mm², of pictures a length in mm. On the diagonal stands the area at which a class
        reaches what is not observed: ignored voxels, and the edge of the field of view.
    """
    order = np.argsort([-abs(step) for step in label.strides], kind="stable")  # that of memory is the fastest
    label, spacing = label.transpose(order), [spacing[axis] for axis in order]
    areas = np.zeros((num_classes, num_classes))
    boxes = ndimage.find_objects((label != 0).astype(np.int8))
    # Nothing but background lies beyond the rim of the box.
    inner = label[tuple(slice(max(0, s.start - 1), s.stop + 1) for s in boxes[0])] if boxes else label
    for axis, mm in enumerate(spacing):
        face = float(np.prod(spacing)) / mm
        along = np.moveaxis(inner, axis, 0)
        here, beside = along[:-1], along[1:]
        differ = here != beside
        first, second = here[differ].astype(np.intp), beside[differ].astype(np.intp)
        pairs = (first * num_classes + second)[(first >= 0) & (second >= 0)]
        areas += face * np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)
        at_edge = [first[second < 0], second[first < 0]]
        if label.shape[axis] > 1:  # one slice alone is no field of view that could cut anything off
            at_edge.append(np.take(label, [0, -1], axis).ravel().astype(np.intp))
        reached = np.concatenate(at_edge)
        areas[range(num_classes), range(num_classes)] += (
            face / 2 * np.bincount(reached[reached >= 0], minlength=num_classes)
        )
    both: npt.NDArray[np.float32] = (areas + areas.T).astype(np.float32)
    return both
