"""The rivals of the benchmark: each fitted to the references of a data set, then asked about every mask."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import confidence
import numpy as np
import rivals
from map_metrics import folder_metrics
from published_unet import PublishedUNet
from qc_data import Dataset, Mask
from scores import Scores
from segmenter_rival import SmallSegmenter
from vae import SegVAE

from gnsm_monai.data.nnunet import LabelScheme
from gnsm_monai.data.soft import class_probabilities, read_probabilities
from gnsm_monai.files import load_json, save_json

__all__ = ["MASK_ONLY", "TRAINED", "score_masks", "score_rival"]

MASK_ONLY: dict[str, Callable[[], Any]] = {
    "voxelwise_prior": rivals.VoxelwisePrior,
    "centre_of_mass": rivals.CentreOfMassZScore,
    "volume": rivals.VolumeZScore,
    "linear_shape": lambda: rivals.LinearShapeRival("volume"),
    "linear_shape_centred": lambda: rivals.LinearShapeRival("mask"),
}
"""Rivals that are fitted at once, by nothing but counting."""

TRAINED: dict[str, tuple[str, Callable[[int], Any], Callable[..., float]]] = {
    "vae": ("vae", lambda seed: SegVAE(seed=seed), SegVAE.score),
    "vae_dice": ("vae", lambda seed: SegVAE(seed=seed), SegVAE.reconstruction_error),
    "vae_centred": ("vae_centred", lambda seed: SegVAE(centred=True, seed=seed), SegVAE.score),
    "vae_centred_dice": (
        "vae_centred",
        lambda seed: SegVAE(centred=True, seed=seed),
        SegVAE.reconstruction_error,
    ),
    "published_unet": ("published_unet", lambda seed: PublishedUNet(seed), PublishedUNet.score),
}
"""Rivals with a training and a seed: the folder of their models, what is trained, and what it is asked."""

SOFTMAX = {"entropy": confidence.entropy, "max_probability": confidence.missing_confidence}
"""Rivals that read the segmenter's probabilities."""

SEGMENTER: dict[str, Callable[..., float]] = {
    "segmenter_entropy": lambda segmenter, image, mask: segmenter.entropy(image),
    "segmenter_dice": SmallSegmenter.disagreement,
}
"""Rivals that learn to segment the images, by what they are asked."""

Score = Callable[[Mask], float]


def score_rival(dataset: Dataset, method: str, seed: int, work: Path) -> Scores | None:
    """Scores of every mask that the rival can see; None where it can see none.

    Args:
        dataset: what is scored.
        method: name of the rival.
        seed: of its training, where it has one.
        work: where trained rivals are kept, by the data set that they were trained on.
    """
    minutes: float | None = None
    masks: Sequence[Mask] = dataset.masks
    more: dict[str, Any] = {}
    if method in MASK_ONLY:
        rival = MASK_ONLY[method]().fit(dataset.training_maps, dataset.scheme.num_classes)
        score: Score = lambda mask: rival.score(mask.label)  # noqa: E731
        if method == "voxelwise_prior":
            more = {"maps": folder_metrics(masks, lambda mask: rival.voxelwise_prior_map(mask.label))}
    elif method in TRAINED:
        folder, make, ask = TRAINED[method]
        network, minutes = _trained(dataset, make(seed), work / dataset.models / f"{folder}-{seed}")
        score = lambda mask: ask(network, mask.label)  # noqa: E731
    elif method in SEGMENTER:
        masks = [mask for mask in masks if mask.folder in dataset.images]
        if masks:
            segmenter, minutes = _segmenter(dataset, seed, work / dataset.models / f"segmenter-{seed}")
            images = {name: dataset.images_of(name) for name in {mask.folder for mask in masks}}
            score = lambda mask: SEGMENTER[method](segmenter, images[mask.folder][mask.case], mask.label)  # noqa: E731
    elif method in SOFTMAX:
        masks = [mask for mask in masks if mask.probabilities is not None]
        score = lambda mask: SOFTMAX[method](_probabilities(mask, dataset.scheme))  # noqa: E731
    elif method == "pairwise_dice":
        others = _partners(dataset)
        masks = [mask for mask in masks if (mask.folder, mask.case) in others]
        score = lambda mask: confidence.pairwise_disagreement(  # noqa: E731
            mask.label, others[mask.folder, mask.case].label, dataset.scheme.num_classes
        )
    else:
        raise ValueError(f"'{method}' is no rival.")
    if not masks:
        return None
    start = time.monotonic()
    values = [score(mask) for mask in masks]
    seconds = (time.monotonic() - start) / len(masks)
    return score_masks(dataset.name, method, seed, masks, values, minutes, seconds, more)


def score_masks(
    dataset: str,
    method: str,
    seed: int,
    masks: Sequence[Mask],
    values: Sequence[float],
    minutes: float | None = None,
    seconds: float | None = None,
    more: dict[str, Any] | None = None,
) -> Scores:
    """The scores of masks, with what is known of the masks."""
    columns = {name: np.array([getattr(mask, name) for mask in masks]) for name in ("folder", "case", "dice")}
    return Scores(
        dataset,
        method,
        seed,
        **columns,
        score=np.array(values, dtype=np.float64),
        training_minutes=minutes,
        seconds_per_case=seconds,
        more=more or {},
    )


def _trained(dataset: Dataset, network: Any, folder: Path) -> tuple[Any, float]:
    """The network fitted, and the minutes that it took; from an earlier sitting where there was one."""
    path, known = folder / "model.pt", folder / "minutes.json"
    arguments = (dataset.training_maps, dataset.scheme.num_classes)
    if known.is_file():
        return network.load(path, *arguments), load_json(known)["minutes"]
    start = time.monotonic()
    network.fit(*arguments)
    minutes = (time.monotonic() - start) / 60
    network.save(path)
    save_json(known, {"minutes": minutes})
    return network, minutes


def _segmenter(dataset: Dataset, seed: int, folder: Path) -> tuple[SmallSegmenter, float]:
    """As :func:`_trained`, of the images too."""
    path, minutes_path = folder / "model.pt", folder / "minutes.json"
    classes, images = dataset.scheme.num_classes, dataset.training_images
    if minutes_path.is_file():
        segmenter = SmallSegmenter(seed).load(path, dataset.spatial_dims, classes, len(images[0]))
        return segmenter, load_json(minutes_path)["minutes"]
    start = time.monotonic()
    segmenter = SmallSegmenter(seed).fit(list(zip(images, dataset.training_maps, strict=True)), classes)
    minutes = (time.monotonic() - start) / 60
    segmenter.save(path)
    save_json(minutes_path, {"minutes": minutes})
    return segmenter, minutes


def _probabilities(mask: Mask, scheme: LabelScheme) -> np.ndarray:
    """(K, *spatial) as in the file: means over voxels do not ask how it is turned."""
    path = mask.probabilities
    assert path is not None
    with np.load(path, allow_pickle=False) as arrays:
        channels, *reversed_shape = arrays["probabilities"].shape
    shape = reversed_shape[::-1][: mask.label.ndim]
    return class_probabilities(read_probabilities(path, channels, shape), scheme, path)


def _partners(dataset: Dataset) -> dict[tuple[str, str], Mask]:
    """By folder and case, what the other network made of the same image."""
    known = {(mask.folder, mask.case): mask for mask in dataset.masks}
    partners = {}
    for first, second in dataset.pairs:
        for folder, other in ((first, second), (second, first)):
            for name, case in known:
                if name == folder and (other, case) in known:
                    partners[folder, case] = known[other, case]
    return partners
