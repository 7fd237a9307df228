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
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform

from gnsm_monai.data.constants import IGNORE_INDEX, LABEL, SOFT
from gnsm_monai.data.geometry import Grid, turned
from gnsm_monai.data.nnunet import LabelScheme
from gnsm_monai.data.notes import add_note, spared
from gnsm_monai.errors import InputError
from gnsm_monai.files import one_line_of, read_npy_header

__all__ = ["LoadSoftd", "class_probabilities", "read_probabilities"]

KEY = "probabilities"

TOLERANCE = 1e-2
"""How far probabilities may lie outside [0, 1], and their sum off 1: they are rounded to half precision."""

MAX_AMISS = 0.01
"""Share of the structures' voxels in which a mask may differ from what its probabilities decide: nnU-Net may remove
small components from a mask after it has saved them."""


class LoadSoftd(Transform):
    """Reads the soft map of a case that has one: class probabilities ``(K, *spatial)``, float32, placed as its label.

    Use it after the label map is checked and before it is turned. What is scored is always the mask: probabilities
    count only if the mask is what they decide for. Those that agree once they are turned were saved in the axes in
    which a reader of nnU-Net shows images to its network (``...WithReorient``). If a file agrees in no order of axes,
    or cannot be read, the mask itself is scored. The case's ``note`` says so in either case.

    Args:
        scheme: the classes, and the regions that channels may stand for.
    """

    def __init__(self, scheme: LabelScheme) -> None:
        self.scheme = scheme

    def __call__(self, data: Mapping[Any, Any]) -> dict[Hashable, Any]:
        case: dict[Any, Any] = dict(data)
        if SOFT in case:
            label: MetaTensor = case[LABEL]
            with spared(case, SOFT):
                soft = self._agreeing(case, case[SOFT], label)
                case[SOFT] = MetaTensor(torch.from_numpy(soft), affine=label.affine)
        return case

    def _agreeing(self, case: dict[Any, Any], path: str | Path, label: MetaTensor) -> np.ndarray:
        """The probabilities ``(K, *spatial)`` in the axes of the mask; raises InputError where they are of another."""
        mask, grid = label.numpy()[0], Grid.of(label)
        turns = _turns(grid) if mask.ndim == 3 else {}
        channels = len(self.scheme.regions) or self.scheme.num_classes
        saved = read_probabilities(path, channels, mask.shape, [grid.turned(turn).shape for turn in turns.values()])
        soft = class_probabilities(saved, self.scheme, path)
        amiss = 1.0
        if saved.shape[1:] == mask.shape:
            amiss = self.amiss(saved, mask)
            if amiss <= MAX_AMISS:
                return soft
        for axes, turn in turns.items():
            back = io_orientation(inv_ornt_aff(turn, mask.shape))
            if grid.turned(turn).shape == saved.shape[1:] and self.amiss(turned(saved, back), mask) <= MAX_AMISS:
                add_note(case, f"probabilities turned to the axes of the mask: they were saved as {axes}")
                return turned(soft, back)
        raise InputError(f"{path}: decides otherwise than the mask in {amiss:.0%} of the structures' voxels")

    def amiss(self, saved: np.ndarray, mask: np.ndarray) -> float:
        """Share of the structures' voxels, in either map, where probabilities decide otherwise than a mask, in [0, 1].

        Args:
            saved: ``(C, *spatial)``, as :func:`read_probabilities` gives them.
            mask: class indices ``(*spatial)``, ``IGNORE_INDEX`` where ignored.
        """
        if self.scheme.regions:  # nnU-Net writes every region above one half, later ones over earlier ones
            decided = np.zeros(mask.shape, mask.dtype)
            for region, probability in zip(self.scheme.regions, saved, strict=True):
                decided[probability > 0.5] = region.written
            tied = np.abs(saved - 0.5).min(0) < TOLERANCE
        else:
            decided = saved.argmax(0)
            of_mask = np.take_along_axis(saved, np.maximum(mask, 0).astype(np.intp)[None], 0)[0]
            tied = saved.max(0) - of_mask < TOLERANCE
        structures = ((decided > 0) | (mask > 0)) & (mask != IGNORE_INDEX)
        return float(np.mean((decided != mask)[structures] & ~tied[structures])) if structures.any() else 0.0


def _turns(grid: Grid) -> dict[str, np.ndarray]:
    """Other axes than the mask's in which probabilities may be saved, and nibabel's orientation that leads there."""
    stored = io_orientation(grid.affine)
    turns = {axes: ornt_transform(stored, axcodes2ornt(axes)) for axes in ("RAS", "LPS")}
    return {axes: turn for axes, turn in turns.items() if axes != grid.orientation}


def read_probabilities(
    path: str | Path, channels: int, shape: Sequence[int], others: Sequence[Sequence[int]] = ()
) -> np.ndarray:
    """The array ``probabilities`` of an npz file, ``(C, *shape)`` float32, never unpickled.

    Args:
        path: of the file, in which axes are (C, z, y, x), or (C, 1, y, x) beside a 2D mask.
        channels: that there must be, ``C``.
        shape: of the mask, (x, y, z) or (x, y).
        others: shapes that will do as well.

    Raises:
        InputError: damaged, or of another type or shape; known from the header, before anything is allocated for it.
    """
    expected = [(channels, *reversed([*each, *[1] * (3 - len(each))])) for each in (shape, *others)]
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{KEY}.npy") as member:
            size = archive.getinfo(f"{KEY}.npy").file_size
            array = _read_array(member, size, expected, path)
    except InputError:
        raise
    except KeyError:
        raise InputError(f"{path}: holds no array '{KEY}', as nnU-Net v2 writes it (v1 wrote 'softmax')") from None
    except Exception as error:  # what is damaged, or made to do harm, raises errors of many kinds
        raise InputError(f"{path}: cannot be read: {one_line_of(error)}") from error
    axes = np.ascontiguousarray(array.transpose(0, 3, 2, 1))
    return (axes if len(shape) == 3 else axes[..., 0]).astype(np.float32, copy=False)


def _read_array(member: IO[bytes], size: int, expected: Sequence[tuple[int, ...]], path: str | Path) -> np.ndarray:
    """The array of an npy file of ``size`` bytes, if its header claims what is expected and the size agrees."""
    shape, fortran, kind = read_npy_header(member, f"{path}: '{KEY}'")
    if kind.kind != "f" or kind.itemsize not in (2, 4):
        raise InputError(f"{path}: '{KEY}' must be float16 or float32, found {kind}")
    if shape not in expected:
        raise InputError(f"{path}: shape {shape} of '{KEY}' where its mask asks for {expected[0]}")
    wanted = int(np.prod(shape)) * kind.itemsize
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
