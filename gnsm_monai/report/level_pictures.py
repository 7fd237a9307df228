"""Small pictures of label maps for TensorBoard."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import matplotlib
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor

from gnsm_monai.report.colours import HEAT_MAP, class_colours
from gnsm_monai.report.strips import small_font

__all__ = ["COLUMNS", "captioned", "level_pictures"]

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
    mixed: np.ndarray = np.einsum("kxy,kc->yxc", maps.cpu().numpy(), class_colours(len(maps)))
    return mixed


def _heat(values: Tensor) -> np.ndarray:
    shown = (values[0].T / MISFIT_NATS).clamp(0, 1).cpu().numpy()
    return np.asarray(matplotlib.colormaps[HEAT_MAP](shown)[..., :3], dtype=np.float32)


def _framed(picture: np.ndarray) -> np.ndarray:
    large = picture.repeat(ENLARGE, axis=0).repeat(ENLARGE, axis=1)
    return np.pad(large, ((0, GAP), (0, GAP), (0, 0)), constant_values=1.0).astype(np.float32)
