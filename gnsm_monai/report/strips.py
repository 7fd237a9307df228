"""Pictures for TensorBoard: a case as slices side by side under a caption, and label maps at some noise levels."""

from __future__ import annotations

import base64
import functools
import io
import textwrap
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from gnsm_monai.explain.planes import CasePicture
from gnsm_monai.report.colours import HEAT_MAP, class_colours
from gnsm_monai.report.pictures import DARK, PlaneLayers, draw_plane

__all__ = ["COLUMNS", "THUMBNAIL", "captioned", "case_strip", "level_pictures", "small_font", "sprite", "thumbnail"]

HEIGHT, LINE, PAD = 230, 17, 8
"""Pixels: of the slices at most, of a line of the caption, around everything."""
WIDTH = 560
"""Pixels of every strip: TensorBoard shows all pictures as wide as each other, and captions would differ in size."""
THUMBNAIL = 24
"""Pixels of a side of the sprite that stands for a case."""
GROUND = (232, 232, 232)
"""Background colour of the thumbnails that TensorBoard's projector shows."""


@functools.cache
def small_font(size: int) -> ImageFont.FreeTypeFont:
    """matplotlib's own font: it is there on every machine, and knows the signs that names of cases hold."""
    return ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")), size)


def case_strip(
    picture: CasePicture, caption: Sequence[str], heat: tuple[float, float], colours: Sequence[str] = ()
) -> npt.NDArray[np.uint8]:
    """Slices of a case in a row under its caption, ``(height, WIDTH, 3)``.

    Args:
        picture: the slices; none leaves the caption alone.
        caption: lines of text, wrapped to the width.
        heat: anomalies that get no and the full colour.
        colours: given ones of the structures, see :func:`gnsm_monai.report.colours.class_colours`.
    """
    box = (WIDTH - PAD) // max(len(picture), 1) - PAD
    slices = [_flat(draw_plane(plane, heat, colours), (box, HEIGHT)) for plane in picture]
    lines = [part for text in caption for part in textwrap.wrap(_printable(text), WIDTH // 8) or [""]]
    top = PAD + LINE * len(lines)
    height = max((one.height + PAD for one in slices), default=0)
    sheet = Image.new("RGB", (WIDTH, top + height + PAD // 2), DARK)
    draw = ImageDraw.Draw(sheet)
    for number, text in enumerate(lines):
        draw.text((PAD, PAD // 2 + number * LINE), text, "white" if number == 0 else "#c8c8c8", small_font(13))
    left = PAD
    for one in slices:
        sheet.paste(one, (left, top))
        left += box + PAD
    return np.asarray(sheet)


def thumbnail(picture: CasePicture) -> npt.NDArray[np.uint8]:
    """The structures in the last slice of a case, small, square, and packed, as every case keeps one (:func:`sprite`).

    On a light ground: the projector multiplies sprites with the colour that a case has.

    Args:
        picture: at least one slice.
    """
    label = np.maximum(picture[-1].label, 0)
    rows, columns = (np.flatnonzero(label.any(axis)) for axis in (1, 0))
    if rows.size:
        label = label[max(rows[0] - 2, 0) : rows[-1] + 3, max(columns[0] - 2, 0) : columns[-1] + 3]
    colours = np.rint(255 * class_colours(int(label.max()) + 1)).astype(np.uint8)
    colours[0] = GROUND
    height, width = (n * mm for n, mm in zip(label.shape, picture[-1].spacing, strict=True))
    scale = THUMBNAIL / max(height, width)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    small = Image.fromarray(colours[label]).resize(size, Image.Resampling.BOX)
    sheet = Image.new("RGB", (THUMBNAIL, THUMBNAIL), GROUND)
    sheet.paste(small, ((THUMBNAIL - size[0]) // 2, (THUMBNAIL - size[1]) // 2))
    return np.frombuffer(zlib.compress(sheet.tobytes()), np.uint8)


def sprite(packed: npt.NDArray[np.uint8] | None) -> npt.NDArray[np.uint8]:
    """A :func:`thumbnail`, ``(THUMBNAIL, THUMBNAIL, 3)``; of a case that has none, the ground alone."""
    if packed is None:
        return np.full((THUMBNAIL, THUMBNAIL, 3), GROUND, np.uint8)
    return np.frombuffer(zlib.decompress(packed.tobytes()), np.uint8).reshape(THUMBNAIL, THUMBNAIL, 3)


def _flat(layers: PlaneLayers, most: tuple[int, int]) -> Image.Image:
    """The three layers of a slice as one picture, as large as fits ``most`` (width, height)."""
    scale = min(most[0] / layers.width, most[1] / layers.height)
    size = (max(round(layers.width * scale), 1), max(round(layers.height * scale), 1))
    ground, heat, outlines = (
        Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGBA")
        for uri in (layers.ground, layers.heat, layers.outlines)
    )
    flat = ground.resize(size, Image.Resampling.NEAREST)
    flat.alpha_composite(heat.resize(size, Image.Resampling.BILINEAR))
    flat.alpha_composite(outlines.resize(size, Image.Resampling.NEAREST))
    return flat.convert("RGB")


def _printable(text: str) -> str:
    """File names need not be valid text, nor fit in a line."""
    return " ".join(text.encode(errors="backslashreplace").decode().split())


ENLARGE = 3
"""Screen pixels per voxel."""
GAP = 4
"""Pixels between pictures."""
COLUMNS = ("mask", "noisy", "denoised", "posterior", "misfit")
"""What :func:`level_pictures` shows, left to right."""
HEAD, SIDE = 19, 62
"""Pixels that captions take above and to the left."""
MISFIT_NATS = 3.0
"""Misfit that is drawn in the strongest colour."""


def level_pictures(logits: Tensor, target: Mapping[str, Tensor], levels: Sequence[int]) -> np.ndarray:
    """One row of pictures per noise level: mask, noisy mask, denoised mask, posterior, misfit.

    Volumes are cut across their last axis, through the middle of the mask. The posterior is drawn as a mixture
    of the class colours, so that doubt shows as a mixed colour; misfit runs from black (0) to yellow (3 nats and more).

    Args:
        logits: posterior logits of one case at all levels, ``(L, K, *spatial)``.
        target: what :class:`gnsm_monai.engines.NoisyLabelPrepareBatch` made, with the same first axis.
        levels: which levels to draw.

    Returns:
        ``(height, width, 3)`` float32 in [0, 1].
    """
    probabilities = target["probabilities"][0]
    plane = _plane(probabilities)
    rows = []
    for level in levels:
        posterior = torch.softmax(logits[level].float(), 0)
        misfit = -(probabilities * posterior.clamp_min(1e-12).log()).sum(0)
        noisy = torch.softmax(target["x"][level].float(), 0)
        hard = F.one_hot(posterior.argmax(0), len(posterior)).movedim(-1, 0).float()
        rows.append(
            [_mixture(plane(m)) for m in (probabilities, noisy, hard, posterior)] + [_heat(plane(misfit[None]))]
        )
    return np.concatenate([np.concatenate([_framed(cell) for cell in row], axis=1) for row in rows], axis=0)


def captioned(strip: np.ndarray, columns: Sequence[str], rows: Sequence[str]) -> np.ndarray:
    """A grid of equal pictures ``(height, width, 3)`` in [0, 1] with a word above each column and before each row."""
    height, width = strip.shape[:2]
    sheet = Image.new("RGB", (width + SIDE, height + HEAD), "white")
    sheet.paste(Image.fromarray(np.rint(255 * strip).astype(np.uint8)), (SIDE, HEAD))
    draw, font = ImageDraw.Draw(sheet), small_font(13)
    for number, text in enumerate(columns):
        draw.text((SIDE + number * width // len(columns), 1), text, "black", font)
    for number, text in enumerate(rows):
        draw.text((2, HEAD + number * height // len(rows)), text, "black", font)
    return np.asarray(sheet)


def _plane(probabilities: Tensor) -> Callable[[Tensor], Tensor]:
    """Function that cuts ``(C, *spatial)`` through the middle of the foreground to ``(C, width, height)``."""
    if probabilities.ndim == 3:
        return lambda m: m
    places = probabilities[1:].sum(0).nonzero()
    index = int(places[:, -1].median()) if len(places) else probabilities.shape[-1] // 2
    return lambda m: m[..., index].flip(-1)  # front on top; a picture's second axis runs down as it is


def _mixture(maps: Tensor) -> np.ndarray:
    """Probabilities ``(K, width, height)`` as mixed class colours, ``(height, width, 3)``, first axis to the right."""
    return np.asarray(np.einsum("kxy,kc->yxc", maps.cpu().numpy(), class_colours(len(maps))))


def _heat(values: Tensor) -> np.ndarray:
    shown = (values[0].T / MISFIT_NATS).clamp(0, 1).cpu().numpy()
    return np.asarray(matplotlib.colormaps[HEAT_MAP](shown)[..., :3], dtype=np.float32)


def _framed(picture: np.ndarray) -> np.ndarray:
    large = picture.repeat(ENLARGE, axis=0).repeat(ENLARGE, axis=1)
    return np.pad(large, ((0, GAP), (0, GAP), (0, 0)), constant_values=1.0).astype(np.float32)
