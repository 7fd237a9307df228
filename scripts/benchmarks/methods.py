"""The methods and data sets of the benchmark by name: how tables call them, what methods need, and their seeds."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ABLATED", "DATASETS", "METHODS", "OURS", "VARIED_FIELD_OF_VIEW", "Method"]


@dataclass(frozen=True)
class Method:
    """One row of the tables.

    Args:
        title: in tables.
        sees: what it needs of a case.
        seeds: of its trainings, where nobody asks for others; 0 alone for what draws nothing.
        trained: whether it draws anything at all.
        variant: whether it is what was tried on the way to the default: a row of the tables, no curve of the figures.
    """

    title: str
    sees: str
    seeds: tuple[int, ...] = (0,)
    trained: bool = False
    variant: bool = False


THREE = (0, 1, 2)
MASK, IMAGE = "mask", "mask, image"


def _variant(title: str, seeds: tuple[int, ...] = (0,)) -> Method:
    """A method that was tried with images."""
    return Method(title, IMAGE, seeds, trained=True, variant=True)


METHODS = {
    "gnsm": Method("gnsm", MASK, THREE, trained=True),
    "gnsm_soft": Method("gnsm, soft masks", "probabilities", THREE, trained=True),
    "gnsm_image": Method("gnsm, image-conditioned", IMAGE, THREE, trained=True),
    "gnsm_image_24": Method("gnsm, image-conditioned, the segmenter's 24 cases", IMAGE, THREE, trained=True),
    "gnsm_image_240_steps": _variant("images, 240 steps an epoch", THREE),
    "gnsm_image_nothing_excused": _variant("images, 240 steps, nothing excused", THREE),
    # Each of these with 120 steps of twice as many maps, and nothing excused: one training, unless seeds are asked for.
    "gnsm_image_eight_levels": _variant("images, eight levels"),
    "gnsm_image_no_overflow": _variant("images, no overflow shown"),
    "gnsm_image_eight_no_overflow": _variant("images, eight levels, no overflow"),
    "gnsm_image_half_poor": _variant("images, eight levels, no overflow, half poor"),
    "gnsm_image_full_resolution": _variant("images, eight levels, no overflow, half poor, full resolution"),
    "gnsm_image_25_epochs": _variant("images, eight levels, no overflow, half poor, 25 epochs"),
    # A baseline with a known fault: one training, unless seeds are asked for.
    "gnsm_published": Method("gnsm, published noise and score", MASK, trained=True),
    # Slow in training and scoring, see speed.py: one training, unless seeds are asked for.
    "published_unet": Method("DiffusionModelUNet, published noise and score", MASK, trained=True),
    "voxelwise_prior": Method("voxelwise prior", MASK),
    "centre_of_mass": Method("centre of mass z-score", MASK),
    "volume": Method("volume z-score", MASK),
    "linear_shape": Method("linear shape, fixed grid", MASK),
    "linear_shape_centred": Method("linear shape, centred", MASK),
    "vae": Method("VAE(seg), ELBO, fixed grid", MASK, THREE, trained=True),
    "vae_dice": Method("VAE(seg), 1 - Dice, fixed grid", MASK, THREE, trained=True),
    "vae_centred": Method("VAE(seg), ELBO, centred (published)", MASK, THREE, trained=True),
    "vae_centred_dice": Method("VAE(seg), 1 - Dice, centred", MASK, THREE, trained=True),
    "segmenter_entropy": Method("test-time entropy of a small segmenter", "image", trained=True),
    "segmenter_dice": Method("1 - Dice to a small segmenter's mask", IMAGE, trained=True),
    "entropy": Method("softmax entropy", "probabilities"),
    "max_probability": Method("1 - mean max probability", "probabilities"),
    "pairwise_dice": Method("pairwise Dice of two networks", "second network"),
}
"""In the order of the tables."""

OURS = "gnsm"
"""The method that figures and tables set against its best rival."""

ABLATED = (OURS, "gnsm_image", "gnsm_image_240_steps")
"""Methods whose every statistic, level and rule is shown."""

VARIED_FIELD_OF_VIEW = "hippocampus_fov"
"""The data set whose masks are those of another one, cropped and padded, and scored by its models."""

DATASETS = {
    "hippocampus": "Hippocampus MRI, five real nnU-Net runs",
    VARIED_FIELD_OF_VIEW: "Hippocampus MRI, varying field of view",
    "chest": "Chest X-ray, degraded references",
    "heart_unet": "Heart MRI, eight real U-Net runs",
    "heart_atlas": "Heart MRI, four atlases and an early U-Net",
    "pancreas": "Pancreas CT, ten real nnU-Nets",
    "liver_tumour": "Liver tumours CT, ten real nnU-Nets",
    "blood_cell": "Blood cells, ten epochs of a U-Net",
    "phantoms_3d": "Phantoms 3D, degraded references",
    "phantoms_2d": "Phantoms 2D, degraded references",
}
"""Data sets by name, in the order of the page."""
