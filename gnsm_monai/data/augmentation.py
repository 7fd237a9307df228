"""Random changes of reference cases that keep them realistic: pose, field of view, quality of the image."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from monai.config import KeysCollection
from monai.transforms import (
    CastToTyped,
    Compose,
    MapTransform,
    OneOf,
    RandAdjustContrast,
    RandAffined,
    RandBiasField,
    RandCoarseDropout,
    RandFlipd,
    RandGaussianNoise,
    RandGaussianSmooth,
    Randomizable,
    ScaleIntensity,
)

from gnsm_monai.data.constants import IGNORE_INDEX, IMAGE, LABEL
from gnsm_monai.data.transforms import label_keys, outside_value

__all__ = ["RandFieldOfViewd", "RandGhost", "RandLowResolution", "RandPoorImaged", "RandWrapAround", "augmentation"]


def augmentation(
    spatial_dims: int,
    flip_axes: Sequence[int] = (),
    rotate: float = 0.05,
    scale: float = 0.05,
    shear: float = 0.02,
    translate: float = 1.0,
    truncate: float = 0.25,
    poor_images: float = 0.25,
    overflow: bool = True,
    keys: Sequence[str] = (LABEL,),
) -> Compose:
    """Small affine changes that keep anatomy, flips along axes that the labels allow, fields of view that end early.

    Args:
        spatial_dims: 2 or 3.
        flip_axes: spatial axes whose mirror image is as good a label map.
        rotate: radians, per axis, either way. scale: share. shear: share. translate: voxels.
        truncate: share of an axis, at most, that a field of view may lack on either side.
        poor_images: how often an image is made poor, see :class:`RandPoorImaged`. 0.25 ranks failures of held-out
            references better than 0.5 does, also those of poor images.
        overflow: whether integers that overflowed are among the defects of poor images.
        keys: label maps and images.
    """
    affine = RandAffined(
        keys,
        prob=0.8,
        rotate_range=[rotate] * (1 if spatial_dims == 2 else 3),
        scale_range=[scale] * spatial_dims,
        shear_range=[shear] * (spatial_dims * (spatial_dims - 1)),
        translate_range=[translate] * spatial_dims,
        mode=["bilinear" if key == IMAGE else "nearest" for key in keys],
        padding_mode="border",
        allow_missing_keys=True,
    )
    flips = [RandFlipd(keys, prob=0.5, spatial_axis=axis, allow_missing_keys=True) for axis in flip_axes]
    maps = label_keys(keys)
    cast = [CastToTyped(maps, torch.int16, allow_missing_keys=True)] if maps else []
    poor = [RandPoorImaged(IMAGE, poor_images, overflow)] if IMAGE in keys else []
    return Compose([affine, *flips, *cast, *poor, RandFieldOfViewd(keys, prob=0.3, most=truncate)])


class RandFieldOfViewd(Randomizable, MapTransform):
    """Lets the field of view end early: what lies outside counts nowhere (``IGNORE_INDEX``; 0 in images).

    Args:
        keys: label maps and images of one grid, ``(C, *spatial)``.
        prob: how often.
        most: share of each axis that is lost on either side, uniform in [0, ``most``].
    """

    def __init__(self, keys: KeysCollection, prob: float = 0.3, most: float = 0.25) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys=True)
        self.prob, self.most = prob, most

    def _kept(self, size: Sequence[int]) -> tuple[slice, ...]:
        """The part of a grid of that size that stays."""
        lost = self.R.uniform(0, self.most, (len(size), 2)) * np.array(size)[:, None]
        return tuple(slice(int(low), n - int(high)) for n, (low, high) in zip(size, lost, strict=True))

    def __call__(self, data: Mapping[Any, Any]) -> dict[Hashable, Any]:
        case = dict(data)
        if self.R.uniform() >= self.prob:
            return case
        visible = (slice(None), *self._kept(case[self.first_key(case)].shape[1:]))
        for key in self.key_iterator(case):
            outside = torch.ones(case[key].shape, dtype=torch.bool)
            outside[visible] = False
            case[key] = case[key].masked_fill(outside, outside_value(key))
        return case


class RandGhost(Randomizable):
    """Ghosts: weaker copies of an image ``(C, *spatial)``, an even part of one axis apart, as breathing leaves in MRI.

    All copies together have up to 0.8 of the image's own strength.
    """

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        axis = self.R.randint(1, image.ndim)
        copies, strength = self.R.randint(2, 5), self.R.uniform(0, 0.8)
        size = image.shape[axis]
        ghosts = [torch.roll(image, round(n * size / copies), dims=axis) for n in range(1, copies)]
        return image + strength * torch.stack(ghosts).mean(0)


class RandLowResolution(Randomizable):
    """An image ``(C, *spatial)`` as a coarser scan would have it, on its own grid (MONAI's own one takes volumes only).

    An axis keeps between a quarter and four fifths of its voxels.
    """

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        size = list(image.shape[1:])
        coarse = [max(1, round(n * self.R.uniform(0.25, 0.8))) for n in size]
        small = F.interpolate(image[None], size=coarse, mode="area")
        return F.interpolate(small, size=size, mode="bilinear" if len(size) == 2 else "trilinear")[0]


class RandWrapAround(Randomizable):
    """An image ``(C, *spatial)`` that was stored as integers too narrow for it: they begin anew, again and again.

    Such files occur now and then (float images of large values, written as int16). The narrower the integers, the more
    false borders there are and the less can be read. The network learns when it must rely on the mask alone.

    Args:
        least, most: range of the integers, in standard deviations of the image.
    """

    def __init__(self, least: float = 0.25, most: float = 2.0) -> None:
        self.least, self.most = least, most

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        period = self.R.uniform(self.least, self.most) * float(image.std(correction=0).clamp_min(1e-6))
        return torch.remainder(image + self.R.uniform(0, period), period)


class RandPoorImaged(Randomizable, MapTransform):
    """Gives an image, now and then, one or two typical defects, and standardises its intensities again.

    Noise, blur, coarse resolution, a bias field, another contrast (gamma, inverted), ghosts, lost regions, integers
    that overflowed: a network that is shown them learns when not to trust an image. Intensities have zero mean and unit
    deviation per channel over what the field of view holds, before and after, as
    :func:`gnsm_monai.data.transforms.load_case` leaves them.

    Args:
        keys: images ``(C, *spatial)``.
        prob: how often there is a first defect; a second one half as often.
        overflow: whether :class:`RandWrapAround` is among the defects.
    """

    def __init__(self, keys: KeysCollection, prob: float = 0.5, overflow: bool = True) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys=True)
        self.prob = prob
        sigma = (0.5, 3.0)
        self.defects = OneOf(
            [
                RandGaussianNoise(prob=1.0, std=2.0),
                RandGaussianSmooth(sigma, sigma, sigma, prob=1.0),
                RandLowResolution(),
                RandBiasField(prob=1.0, degree=3, coeff_range=(-0.6, 0.6)),
                RandAdjustContrast(prob=1.0, gamma=(0.3, 3.0)),
                ScaleIntensity(minv=1.0, maxv=0.0),
                RandGhost(),
                *([RandWrapAround()] if overflow else []),
                RandCoarseDropout(prob=1.0, holes=1, max_holes=3, spatial_size=4, max_spatial_size=16, fill_value=None),
            ]
        )

    def set_random_state(self, seed: int | None = None, state: np.random.RandomState | None = None) -> RandPoorImaged:
        super().set_random_state(seed, state)
        self.defects.set_random_state(state=self.R)
        return self

    def __call__(self, data: Mapping[Any, Any]) -> dict[Hashable, Any]:
        case = dict(data)
        defects = int(self.R.uniform() < self.prob) * (1 + int(self.R.uniform() < 0.5))
        for key in self.key_iterator(case) if defects else ():
            inside = case[LABEL] != IGNORE_INDEX if LABEL in case else torch.ones_like(case[key][:1], dtype=torch.bool)
            image = case[key]
            for _ in range(defects):
                image = self.defects(image - image.min())  # some defects multiply: they need intensities from 0 on
            case[key] = _standardised(image, inside)
        return case


def _standardised(image: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """Zero mean and unit deviation per channel over ``inside`` ``(1, *spatial)``, 0 elsewhere."""
    weight = inside.to(image.dtype)
    axes = tuple(range(1, image.ndim))
    count = weight.sum().clamp_min(1)
    mean = (image * weight).sum(axes, keepdim=True) / count
    deviation = (((image - mean) * weight) ** 2).sum(axes, keepdim=True).div(count).sqrt()
    return (image - mean) / deviation.clamp_min(1e-6) * weight
