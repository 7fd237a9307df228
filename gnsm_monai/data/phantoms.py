"""The built-in data: heart-like phantoms, alike enough to be one family and varied enough to be told apart.

A ventricle (cavity), the myocardium around it (a shell of varying thickness, open at the base in 3D) and a right
ventricle (a crescent that touches the myocardium on one side); random size, aspect, rotation, position and bending.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial.transform import Rotation

from gnsm_monai.data._scene import smooth_field
from gnsm_monai.data.degradations import KINDS, degrade_folder
from gnsm_monai.errors import InputError
from gnsm_monai.files import save_json

__all__ = ["LABELS", "make_phantom", "write_phantom_dataset"]

LABELS = {"background": 0, "ventricle": 1, "myocardium": 2, "right_ventricle": 3}
"""Structures of a phantom and their label indices."""

SIZES = {2: (64, 64), 3: (32, 32, 24)}
SPACINGS = {2: (1.0, 1.0), 3: (1.5, 1.5, 2.0)}
NAMES = {2: "Dataset902_Phantom2D", 3: "Dataset901_Phantom3D"}
ENDINGS = {2: ".png", 3: ".nii.gz"}
TISSUES = (60.0, 200.0, 105.0, 175.0)  # mean grey value per label
VERSION = 1  # of the generator: raise it when phantoms of the same seed change, so that stored ones are made again


def make_phantom(
    rng: np.random.Generator, spatial_dims: int = 3, size: Sequence[int] | None = None
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """One phantom, wholly inside a cubic (square) field of view.

    Args:
        rng: the same state gives the same phantom.
        spatial_dims: 2 or 3.
        size: voxels per axis, at least 16 each; default (32, 32, 24) or (64, 64). Voxels need not be cubic: the field
            of view is a cube whatever the size.

    Returns:
        Label map and image, both of shape `size`: uint8 indices of `LABELS`, and grey values of about 0..255.

    Raises:
        InputError: spatial_dims or size outside the above.
    """
    if spatial_dims not in SIZES:
        raise InputError(f"spatial_dims: must be 2 or 3, got {spatial_dims}")
    shape = tuple(int(n) for n in (size or SIZES[spatial_dims]))
    if len(shape) != spatial_dims or min(shape) < 16:
        raise InputError(f"size: must be {spatial_dims} numbers of at least 16, got {shape}")
    steps = [2 / n for n in shape]  # the field of view is [-1, 1] along every axis
    axes = [(np.arange(n) + 0.5) * step - 1 for n, step in zip(shape, steps, strict=True)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    bend = np.stack([smooth_field(shape, steps, 0.35, rng) for _ in shape], axis=-1)
    position = grid + 0.05 * bend - rng.uniform(-0.12, 0.12, spatial_dims)
    angle = rng.uniform(-0.5, 0.5)  # rad, in the plane of the first two axes
    tilt = rng.uniform(-0.3, 0.3, 2)
    turn = Rotation.from_euler("zyx", [angle, tilt[0], tilt[1]]).as_matrix()
    if spatial_dims == 2:
        turn = Rotation.from_euler("z", angle).as_matrix()[:2, :2]
    scale = rng.uniform(0.85, 1.2)
    shape_of_heart = _Heart(rng, smooth_field(shape, steps, 0.3, rng))
    label = shape_of_heart.label(position @ turn.T / scale)
    while _touches_border(label):  # same heart, smaller: keeps it inside without cutting it
        scale *= 0.93
        label = shape_of_heart.label(position @ turn.T / scale)
    return label, _image(label, steps, rng)


class _Heart:
    """Proportions of one heart, drawn once; lengths in half fields of view, long axis along the third axis."""

    def __init__(self, rng: np.random.Generator, thickness_noise: npt.NDArray[np.float32]) -> None:
        self.cavity = rng.uniform(0.2, 0.32)
        self.aspect = rng.uniform(0.85, 1.15)
        self.length = rng.uniform(1.5, 2.1)  # of the long axis against the short ones
        self.wall = rng.uniform(0.15, 0.2) * np.clip(1 + 0.2 * thickness_noise, 0.7, 1.4)
        self.base = rng.uniform(0.3, 0.6)  # where the base cuts the long axis, as a share of it
        self.right = rng.uniform(0.85, 1.1)
        self.width = rng.uniform(0.9, 1.25)

    def label(self, position: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
        """Label map at positions (*spatial, 2 or 3); the right ventricle lies towards the first axis."""
        x, y = position[..., 0] + 0.18, position[..., 1]  # the pair of ventricles is centred, not the left one
        z = position[..., 2] if position.shape[-1] == 3 else np.zeros_like(x)
        a, b, c = self.cavity, self.cavity * self.aspect, self.cavity * self.length
        wall = self.wall
        cavity = (x / a) ** 2 + (y / b) ** 2 + (z / c) ** 2 < 1
        outer = (x / (a + wall)) ** 2 + (y / (b + wall)) ** 2 + (z / (c + wall)) ** 2 < 1
        reach = a + 0.1  # the crescent is what the left heart leaves of an ellipsoid centred on its wall
        right = ((x - reach) / (0.37 * self.right)) ** 2 + (y / (0.46 * self.width)) ** 2
        crescent = right + ((z - 0.1 * c) / (0.85 * c)) ** 2 < 1
        label = np.zeros(x.shape, dtype=np.uint8)
        for structure, inside in ((3, crescent), (2, outer), (1, cavity), (0, z > self.base * c)):
            label[inside] = structure  # the later covers the earlier
        return label


def _touches_border(label: npt.NDArray[np.uint8]) -> bool:
    inner = np.zeros(label.shape, dtype=bool)
    inner[(slice(1, -1),) * label.ndim] = True
    return bool(label[~inner].any())


def _image(label: npt.NDArray[np.uint8], steps: list[float], rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Grey values: tissue means, uneven surroundings, blur, bias field, noise."""
    means = np.array(TISSUES) * rng.uniform(0.9, 1.1, len(TISSUES))
    image = means[label] + np.where(label == 0, 20 * smooth_field(label.shape, steps, 0.2, rng), 0)
    image = ndimage.gaussian_filter(image, 0.7)
    image = image * np.exp(0.12 * smooth_field(label.shape, steps, 0.8, rng))
    noisy = image + rng.uniform(4, 10) * rng.standard_normal(label.shape)
    return np.asarray(np.clip(noisy, 0, None), dtype=np.float32)


def write_phantom_dataset(
    root: str | os.PathLike[str], spatial_dims: int = 3, num_train: int = 76, num_test: int = 16, seed: int = 0
) -> Path:
    """Write phantoms as an nnU-Net raw dataset below `root`, with degraded copies of labelsTs in `predictions/KIND`.

    A complete dataset of the same parameters is reused untouched; an interrupted one, or one of other parameters, is
    made again. dataset.json is written last, so its presence marks a finished dataset. Call it from one process only.

    Returns:
        `root/Dataset901_Phantom3D` (.nii.gz, 1.5 x 1.5 x 2 mm) or `root/Dataset902_Phantom2D` (8-bit .png).

    Raises:
        InputError: spatial_dims is neither 2 nor 3, no training or test case is asked for, or the folder holds a
            dataset that is not made of phantoms.
    """
    if spatial_dims not in SIZES:
        raise InputError(f"spatial_dims: must be 2 or 3, got {spatial_dims}")
    if num_train < 1 or num_test < 1:
        raise InputError(f"num_train and num_test: must be at least 1, got {num_train} and {num_test}")
    folder = Path(root) / NAMES[spatial_dims]
    parameters = {
        "spatial_dims": spatial_dims, "num_train": num_train, "num_test": num_test, "seed": seed, "version": VERSION
    }  # fmt: skip
    cases = {f"phantom_{i:03d}": "Tr" if i < num_train else "Ts" for i in range(num_train + num_test)}
    if _stored_parameters(folder) == parameters and _is_complete(folder, cases, ENDINGS[spatial_dims]):
        return folder
    (folder / "dataset.json").unlink(missing_ok=True)  # first: from here on the dataset counts as unfinished
    for name in ("imagesTr", "labelsTr", "imagesTs", "labelsTs", "predictions"):
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).mkdir(parents=True)
    for index, (case, part) in enumerate(cases.items()):
        label, image = make_phantom(np.random.default_rng([seed, spatial_dims, index]), spatial_dims)
        ending = ENDINGS[spatial_dims]
        _write(label, folder / f"labels{part}" / f"{case}{ending}")
        pixels = np.clip(np.rint(image), 0, 255).astype(np.uint8) if ending == ".png" else image
        _write(pixels, folder / f"images{part}" / f"{case}_0000{ending}")
    degrade_folder(folder / "labelsTs", folder / "predictions", seed=seed)
    description: dict[str, Any] = {
        "channel_names": {"0": "MRI"},
        "labels": LABELS,
        "numTraining": num_train,
        "file_ending": ENDINGS[spatial_dims],
        "phantom": parameters,
    }
    save_json(folder / "dataset.json", description)
    return folder


def _stored_parameters(folder: Path) -> Any:
    """Parameters of the phantom dataset in the folder; None if it is absent, unfinished or unreadable."""
    try:
        description = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    if "phantom" not in description:
        raise InputError(f"{folder}: holds a dataset that is not made of phantoms; choose another root")
    return description["phantom"]


def _is_complete(folder: Path, cases: dict[str, str], ending: str) -> bool:
    """Whether every file of the dataset is still there."""
    expected = [folder / "predictions" / "degradations.csv"]
    for case, part in cases.items():
        expected += [folder / f"labels{part}" / f"{case}{ending}", folder / f"images{part}" / f"{case}_0000{ending}"]
        if part == "Ts":
            expected += [folder / "predictions" / kind / f"{case}{ending}" for kind in KINDS]
    return all(path.is_file() for path in expected)


def _write(array: npt.NDArray[Any], path: Path) -> None:
    """Write an array with axes (x, y[, z]); SimpleITK wants them reversed."""
    import SimpleITK as sitk  # noqa: N813  # tens of megabytes, which tables and NIfTI do not need

    image: Any = sitk.GetImageFromArray(np.ascontiguousarray(array.T))
    image.SetSpacing(SPACINGS[array.ndim])
    sitk.WriteImage(image, str(path))
