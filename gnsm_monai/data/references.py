"""What a model must know of its reference label maps before training: classes, grid, geometry, splits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from gnsm_monai.data.datalist import Case, find_images, find_label_maps, split_references
from gnsm_monai.data.nnunet import LabelScheme, read_dataset_json, read_label_scheme
from gnsm_monai.data.transforms import LABEL, centred_extent, load_case, one_line
from gnsm_monai.errors import InputError

__all__ = ["References", "read_references"]

SIZE_MULTIPLE = 8
"""Grids are rounded up to it, so that three halvings leave nothing to pad."""


MARGIN = 2
"""Voxels of background kept on each side of the outermost structure."""


@dataclass(frozen=True)
class References:
    """Reference label maps, checked and measured.

    Args:
        cases: every case with ``case``, ``label``, ``use`` and, where asked for, ``image``.
        labels: the classes.
        spacing: mm per axis that all cases are resampled to; ``None`` where they share one already.
        voxel_size: mm per axis of the model's grid.
        spatial_size: voxels per axis that hold the structures of every reference, centred on its field of view.
        always_present: per structure, whether every reference has it.
        flip_axes: axes along which mirrored references look like references.
        image_channels: channels of the images, 0 without.
    """

    cases: list[Case]
    labels: LabelScheme
    spacing: list[float] | None
    voxel_size: list[float]
    spatial_size: list[int]
    always_present: list[bool]
    flip_axes: list[int]
    image_channels: int = 0

    @property
    def band_voxels(self) -> list[int]:
        """Half-width per axis of the band around structures: two of the finest voxels, and one voxel at least."""
        return [max(1, round(2 * min(self.voxel_size) / mm)) for mm in self.voxel_size]

    def used_for(self, use: str) -> list[Case]:
        """The cases of one ``use``: ``train``, ``fit`` or ``calibration``."""
        return [case for case in self.cases if case["use"] == use]


def read_references(
    dataset_dir: str | Path,
    spatial_dims: int = 3,
    with_images: bool = False,
    max_voxels: int = 300_000,
    seed: int = 0,
    flip_axes: Sequence[int] | str = "auto",
) -> References:
    """Finds, reads and measures the reference label maps of an nnU-Net dataset.

    Args:
        dataset_dir: folder with ``labelsTr`` and, if there is one, ``dataset.json``.
        spatial_dims: 2 or 3.
        with_images: also find each case's image in ``imagesTr``.
        max_voxels: the grid is made coarser until it holds no more voxels, so that the network sees a map as a whole.
        seed: of the split.
        flip_axes: axes to mirror in augmentation, or ``auto``.

    Raises:
        InputError: no labels, an unreadable file, or a value outside the declared labels; the message names the file.
    """
    folder = Path(dataset_dir)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    if not (folder / "labelsTr").is_dir():
        raise InputError(f"{folder}: no folder labelsTr with reference label maps")
    scheme = read_label_scheme(folder)
    cases: list[Case] = [{"case": k, LABEL: v} for k, v in find_label_maps(folder / "labelsTr").items()]
    if with_images:
        cases = [{**case, "image": find_images(folder / "imagesTr", case["case"])} for case in cases]
    maps, spacings = _read_all(cases, scheme, spatial_dims)
    scheme = scheme or LabelScheme.from_values({int(v) for m in maps for v in np.unique(m)})
    if scheme.num_classes < 2:
        raise InputError(f"{folder / 'labelsTr'}: the label maps hold no structure, only background")

    voxel_size = _common_spacing(maps, spacings, max_voxels)
    scales = spacings / voxel_size
    extents = np.array([centred_extent(m) for m in maps]) * scales + 2 * MARGIN
    spatial_size = np.ceil(np.round(extents.max(0), 3) / SIZE_MULTIPLE).astype(int) * SIZE_MULTIPLE
    present = np.array([[(m == c).any() for c in range(1, scheme.num_classes)] for m in maps])
    channels = len((read_dataset_json(folder) or {}).get("channel_names", {})) or len(cases[0].get("image", []))
    return References(
        cases=split_references(cases, seed),
        labels=scheme,
        spacing=None if np.allclose(scales, 1, rtol=0.01) else voxel_size.tolist(),
        voxel_size=voxel_size.tolist(),
        spatial_size=spatial_size.tolist(),
        always_present=present.all(0).tolist(),
        flip_axes=_symmetric_axes(maps, scheme.num_classes) if flip_axes == "auto" else [int(a) for a in flip_axes],
        image_channels=channels if with_images else 0,
    )


def _read_all(cases: list[Case], scheme: LabelScheme | None, spatial_dims: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Label maps as int16 arrays, and their spacings ``(cases, axes)`` in mm."""
    load = load_case(scheme, spatial_dims)
    maps, spacings = [], []
    for case in cases:
        try:
            label = load({LABEL: case[LABEL]})[LABEL]
        except Exception as error:  # each reader raises its own kinds
            raise InputError(one_line(error, case[LABEL])) from error
        maps.append(label.as_tensor()[0].numpy())
        spacings.append(label.pixdim[:spatial_dims].numpy())
    return maps, np.array(spacings, dtype=np.float64)


def _common_spacing(maps: list[np.ndarray], spacings: np.ndarray, max_voxels: int) -> np.ndarray:
    """Median spacing (nnU-Net's rule), made coarser by one factor where the largest map would exceed the budget."""
    spacing = np.median(spacings, axis=0)
    largest = np.max(np.array([centred_extent(m) for m in maps]) * spacings, axis=0)
    voxels = float(np.prod(largest / spacing))
    return spacing * max(1.0, voxels / max_voxels) ** (1 / len(spacing))  # type: ignore[no-any-return]


def _symmetric_axes(maps: list[np.ndarray], num_classes: int, size: int = 24) -> list[int]:
    """Axes along which mirrored maps fit the voxelwise frequencies of the maps no worse than the maps themselves.

    Frequencies come from one half of the maps, the comparison from the other: a mirrored map must be within half a
    standard deviation of the usual log-likelihood. Left and right structures with labels of their own fail at once.
    """
    grid = (size,) * maps[0].ndim
    coarse = (
        torch.stack(
            [torch.nn.functional.interpolate(torch.from_numpy(m)[None, None].float(), grid)[0, 0] for m in maps]
        )
        .long()
        .clamp_min(0)
    )
    one_hot = torch.nn.functional.one_hot(coarse, num_classes).float()
    log_prior = (one_hot[::2].mean(0) * 0.999 + 0.001 / num_classes).log()

    def log_likelihood(sample: torch.Tensor) -> torch.Tensor:
        return (sample * log_prior).sum(-1).flatten(1).mean(1)

    usual = log_likelihood(one_hot[1::2])
    spread = usual.std().item()
    mirrored = [log_likelihood(one_hot[1::2].flip(axis + 1)).mean().item() for axis in range(len(grid))]
    return [axis for axis, value in enumerate(mirrored) if value >= usual.mean().item() - 0.5 * spread]
