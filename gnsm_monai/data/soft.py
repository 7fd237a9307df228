"""Soft masks: the probabilities that nnU-Net saves beside a mask (``CASE.npz``)."""

from __future__ import annotations

import zipfile
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Transform

from gnsm_monai.data.constants import LABEL, SOFT
from gnsm_monai.data.nnunet import LabelScheme
from gnsm_monai.errors import InputError
from gnsm_monai.files import one_line_of, read_npy_header

__all__ = ["LoadSoftd", "class_probabilities", "read_probabilities"]

KEY = "probabilities"

TOLERANCE = 1e-2
"""How far probabilities may lie outside [0, 1], and their sum off 1: they are rounded to half precision."""


class LoadSoftd(Transform):
    """Reads the soft map of a case that has one: class probabilities ``(K, *spatial)``, float32, placed as its label.

    Use it after the label map is checked and before it is turned: probabilities have the axes of the file.

    Args:
        scheme: the classes, and the regions that channels may stand for.

    Raises:
        InputError: on call; the file is damaged, of another shape than the mask, or holds no probabilities.
    """

    def __init__(self, scheme: LabelScheme) -> None:
        self.scheme = scheme

    def __call__(self, data: Mapping[Any, Any]) -> dict[Hashable, Any]:
        case = dict(data)
        if SOFT in case:
            label: MetaTensor = case[LABEL]
            channels = len(self.scheme.regions) or self.scheme.num_classes
            saved = read_probabilities(case[SOFT], channels, label.shape[1:])
            soft = class_probabilities(saved, self.scheme, case[SOFT])
            case[SOFT] = MetaTensor(torch.from_numpy(soft), affine=label.affine)
        return case


def read_probabilities(path: str | Path, channels: int, shape: Sequence[int]) -> np.ndarray:
    """The array ``probabilities`` of an npz file, ``(C, *shape)`` float32, never unpickled.

    Args:
        path: of the file, in which axes are (C, z, y, x), or (C, 1, y, x) beside a 2D mask.
        channels: that there must be, ``C``.
        shape: of the mask, (x, y, z) or (x, y).

    Raises:
        InputError: damaged, or of another type or shape; known from the header, before anything is allocated for it.
    """
    expected = (channels, *reversed([*shape, *[1] * (3 - len(shape))]))
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{KEY}.npy") as member:
            size = archive.getinfo(f"{KEY}.npy").file_size
            array = _read_array(member, size, expected, path)
    except InputError:
        raise
    except KeyError:
        raise InputError(
            f"{path}: holds no array '{KEY}', as nnU-Net v2 writes it (v1 wrote 'softmax'): --soft off scores the mask"
        ) from None
    except Exception as error:  # what is damaged, or made to do harm, raises errors of many kinds
        raise InputError(f"{path}: cannot be read: {one_line_of(error)}") from error
    return np.ascontiguousarray(array.transpose(0, 3, 2, 1)).reshape(channels, *shape).astype(np.float32, copy=False)


def _read_array(member: IO[bytes], size: int, expected: tuple[int, ...], path: str | Path) -> np.ndarray:
    """The array of an npy file of ``size`` bytes, if its header claims what is expected and the size agrees."""
    shape, fortran, kind = read_npy_header(member, f"{path}: '{KEY}'")
    if kind.kind != "f" or kind.itemsize not in (2, 4):
        raise InputError(f"{path}: '{KEY}' must be float16 or float32, found {kind}")
    if shape != expected:
        raise InputError(f"{path}: shape {shape} of '{KEY}' where its mask asks for {expected}")
    wanted = int(np.prod(expected)) * kind.itemsize
    if size - member.tell() != wanted:
        raise InputError(f"{path}: '{KEY}' holds {size - member.tell()} bytes where {wanted} are due")
    return np.frombuffer(member.read(wanted), kind).reshape(shape, order="F" if fortran else "C")


def class_probabilities(saved: np.ndarray, scheme: LabelScheme, path: str | Path = "probabilities") -> np.ndarray:
    """Probability of every class, ``(K, *spatial)`` float32, sums to 1.

    A region model's sigmoids are read as independent: nnU-Net writes the regions in their order, later ones over
    earlier ones, so class ``written_i`` is left with ``p_i prod_{j > i} (1 - p_j)``, and background with the rest.

    Args:
        saved: ``(C, *spatial)``; softmax over the classes, or for regions the sigmoid of each.
        scheme: the classes and regions.
        path: that messages name.

    Raises:
        InputError: not finite, outside [0, 1], or a softmax that does not sum to 1 within 1e-2.
    """
    if not np.isfinite(saved).all():
        raise InputError(f"{path}: NaN or infinite probabilities")
    for value in (saved.min(), saved.max()):
        if not -TOLERANCE <= value <= 1 + TOLERANCE:
            raise InputError(f"{path}: probabilities must lie in [0, 1], found {value:g}")
    soft = saved.clip(0, 1)
    if scheme.regions:
        probabilities = np.zeros((scheme.num_classes, *saved.shape[1:]), np.float32)
        left = np.ones(saved.shape[1:], np.float32)
        for region, probability in zip(reversed(scheme.regions), soft[::-1], strict=True):
            probabilities[region.written] += probability * left
            left *= 1 - probability
        probabilities[0] = left
        return probabilities
    total = soft.sum(0, dtype=np.float32)
    worst = total.flat[np.abs(total - 1).argmax()]
    if abs(worst - 1) > TOLERANCE:
        raise InputError(f"{path}: the probabilities of a voxel must sum to 1, found {worst:.4g}")
    return np.asarray(soft / total, dtype=np.float32)
