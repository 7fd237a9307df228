"""Slices of a mask as small pictures that a page holds in itself.

A slice is three pictures of the same extent, one above the other, so that a page can hide one of them: what is
underneath (the image, or the structures dimly on a dark ground), the anomaly as a heat map, and the outlines of the
structures with a scale bar. The first two have one pixel per voxel and are enlarged by the browser.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from gnsm_monai.explain.planes import CasePicture, Plane
from gnsm_monai.report.colours import HEAT_MAP, class_colours, num_tones

__all__ = ["DARK", "PlaneLayers", "data_uri", "draw_plane", "heat_legend", "heat_range", "stripes_meaning"]

DARK = (21, 23, 27)
"""Ground of pictures without an image, RGB."""
LONG_SIDE = 420
"""Pixels along the longer side of the outlines."""
OUTLINE = 3
"""Pixels that an outline is thick, inside its structure: neighbours never hide each other's."""
MARGIN = 0.15
"""Surroundings that are kept at every side of what is worth seeing, as a share of its size."""
MIN_MARGIN = 3
"""Voxels that are kept at least."""
_CLEAR, _SHADE, _IGNORED, _BAR, _FIRST_CLASS = range(5)


@dataclass(frozen=True)
class PlaneLayers:
    """One slice as data URIs of PNG pictures, bottom to top.

    Attributes:
        ground: the image in grey, or the structures dimly.
        heat: the anomaly, transparent where there is none.
        outlines: outlines and scale bar on nothing.
        width: of the outlines, in pixels.
        height: of the outlines, in pixels.
        bar_mm: length of the scale bar in mm.
        has_image: whether the ground is the image.
    """

    ground: str
    heat: str
    outlines: str
    width: int
    height: int
    bar_mm: float
    has_image: bool


def heat_range(pictures: Iterable[CasePicture]) -> tuple[float, float]:
    """Anomalies that get no and the full colour, the same in every picture of a report: median and 99.5 % quantile."""
    values = [plane.anomaly[np.isfinite(plane.anomaly)] for picture in pictures for plane in picture]
    pooled = np.concatenate([v.ravel() for v in values]) if values else np.zeros(0)
    if pooled.size == 0:
        return 0.0, 1.0
    low, high = (float(v) for v in np.quantile(pooled.astype(np.float64), [0.5, 0.995]))
    return (low, high) if high > low else (low, low + 1.0)


def draw_plane(plane: Plane, heat: tuple[float, float], colours: Sequence[str] = ()) -> PlaneLayers:
    """Layers of one slice, cut to where the mask and its anomalies lie.

    Args:
        plane: the slice. A class has the same colour whatever else is in it.
        heat: anomalies that get no and the full colour.
        colours: given ones of the structures, see :func:`gnsm_monai.report.colours.class_colours`.
    """
    plane = _cut(plane, heat)
    height_mm, width_mm = (n * step for n, step in zip(plane.label.shape, plane.spacing, strict=True))
    scale = LONG_SIDE / max(height_mm, width_mm)
    height, width = max(round(height_mm * scale), 1), max(round(width_mm * scale), 1)
    bar_mm = _round_length(width_mm / 3)
    outlines = _outlines(_enlarged(plane.label, height, width))
    _draw_bar(outlines, max(round(bar_mm * scale), 1))
    return PlaneLayers(
        ground=_dim_structures(plane.label, colours) if plane.image is None else _grey(plane.image),
        heat=_heat(plane.anomaly, heat),
        outlines=_indexed(outlines, colours),
        width=width,
        height=height,
        bar_mm=bar_mm,
        has_image=plane.image is not None,
    )


def heat_legend() -> str:
    """The colours of the heat map from none to full, left to right."""
    return _heat(np.linspace(0, 1, 128)[None].repeat(8, axis=0), (0.0, 1.0))


def stripes_meaning(pictures: Iterable[CasePicture]) -> str:
    """What the stripes of some pictures stand for, in words; empty where there are none.

    A file ends at straight edges: what lies beyond the rows and columns that hold labels is outside its field of view.
    Voxels between them have the label that is to be ignored.
    """
    outside = ignored = False
    for plane in (plane for picture in pictures for plane in picture):
        seen = plane.label >= 0
        within = np.logical_and.outer(seen.any(axis=1), seen.any(axis=0))
        outside |= not within.all()
        ignored |= bool((within & ~seen).any())
    return " or ".join(name for name, there in (("outside the field of view", outside), ("ignored", ignored)) if there)


def data_uri(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _cut(plane: Plane, heat: tuple[float, float]) -> Plane:
    """Cut to the structures and their surroundings, so that a small organ is shown large."""
    hot = np.nan_to_num(plane.anomaly, nan=-np.inf) >= 0.5 * (heat[0] + heat[1])
    shown = (plane.label > 0) | hot
    if not shown.any():
        return plane
    cut = []
    for lines in (shown.any(axis=1), shown.any(axis=0)):
        first, last = np.flatnonzero(lines)[[0, -1]]
        margin = max(math.ceil(MARGIN * (last - first + 1)), MIN_MARGIN)
        cut.append(slice(max(first - margin, 0), last + margin + 1))
    place = tuple(cut)
    image = None if plane.image is None else plane.image[place]
    return Plane(plane.axis, plane.index, plane.label[place], plane.anomaly[place], image, plane.spacing)


def _enlarged(label: npt.NDArray[np.int16], height: int, width: int) -> npt.NDArray[np.int16]:
    rows, columns = (
        ((np.arange(size) + 0.5) * n / size).astype(np.intp)
        for size, n in zip((height, width), label.shape, strict=True)
    )
    return label[np.ix_(rows, columns)]


def _outlines(label: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
    """Palette index per pixel: outlines with a thin shade on both sides, and stripes where voxels count nowhere."""
    stripes = np.add.outer(*(np.arange(n) for n in label.shape)) % 8 < 2
    drawn = np.where((label < 0) & stripes, _IGNORED, _CLEAR).astype(np.int16)

    def near_edge(pixels: int) -> npt.NDArray[np.bool_]:
        reach = {"size": 2 * pixels + 1, "mode": "nearest"}
        return np.asarray(ndimage.maximum_filter(label, **reach) != ndimage.minimum_filter(label, **reach))

    drawn[near_edge(1) & (label <= 0)] = _SHADE
    drawn[near_edge(OUTLINE + 1) & (label > 0)] = _SHADE
    inside = near_edge(OUTLINE) & (label > 0)
    drawn[inside] = label[inside] - 1 + _FIRST_CLASS
    return drawn


def _draw_bar(drawn: npt.NDArray[np.int16], length: int) -> None:
    """A scale bar at the lower left."""
    height, width = drawn.shape
    left, top = min(8, width // 8), max(height - 12, 0)
    drawn[max(top - 1, 0) : top + 5, max(left - 1, 0) : left + length + 1] = _SHADE
    drawn[top : top + 4, left : left + length] = _BAR


def _round_length(limit: float) -> float:
    """The longest of 1, 2, 5, 10 ... mm that is no longer than the limit."""
    power = 10.0 ** math.floor(math.log10(limit))
    return max(step * power for step in (1, 2, 5) if step * power <= limit * (1 + 1e-9))


def _indexed(drawn: npt.NDArray[np.int16], given: Sequence[str]) -> str:
    count = num_tones(given)
    wrapped = np.where(drawn >= _FIRST_CLASS, _FIRST_CLASS + (drawn - _FIRST_CLASS) % count, drawn)
    picture = Image.fromarray(wrapped.astype(np.uint8))
    tones = np.rint(255 * class_colours(count + 1, given)[1:]).astype(np.uint8)
    fixed = np.array([[0, 0, 0], [0, 0, 0], [190, 190, 190], [255, 255, 255]], dtype=np.uint8)
    picture.putpalette(np.concatenate([fixed, tones]).tobytes())
    return _png(picture, transparency=bytes([0, 150, 170]))


def _grey(image: npt.NDArray[np.float32]) -> str:
    finite = image[np.isfinite(image)]
    low, high = np.quantile(finite, [0.01, 0.99]) if finite.size else (0.0, 1.0)
    grey = np.clip((np.nan_to_num(image, nan=low) - low) / max(float(high - low), 1e-12), 0, 1)
    return _png(Image.fromarray(np.rint(255 * grey).astype(np.uint8)))


def _dim_structures(label: npt.NDArray[np.int16], given: Sequence[str]) -> str:
    indices = np.maximum(label, 0)
    colours = 255 * class_colours(int(indices.max()) + 1, given)
    mixed = 0.25 * colours + 0.75 * np.array(DARK)
    mixed[0] = DARK
    return _png(Image.fromarray(np.rint(mixed[indices]).astype(np.uint8)))


def _heat(anomaly: npt.NDArray[np.floating], heat: tuple[float, float]) -> str:
    low, high = heat
    share = np.clip((np.nan_to_num(anomaly, nan=low).astype(np.float64) - low) / (high - low), 0, 1)
    coloured: npt.NDArray[np.uint8] = matplotlib.colormaps[HEAT_MAP](share, bytes=True)
    coloured[..., 3] = np.rint(255 * 0.7 * share**0.75)  # more than a linear rise: a middling anomaly is to be seen
    return _png(Image.fromarray(coloured))


def _png(picture: Image.Image, **options: bytes) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True, **options)
    return data_uri(buffer.getvalue(), "png")
