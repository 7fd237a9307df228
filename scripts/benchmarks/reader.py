"""How well an image model reads: Dice to held-out references, by the noise and the steps that it was trained at.

    python scripts/benchmarks/reader.py --dataset nnUNet_raw/DatasetXXX_Name [--epochs 4] [--work DIR]

An image model is a second reader: at the strongest noise it must read the image, because the mask tells it nothing. One
is trained by train.yaml in each way, without the fit of a score; then each reads the images of the references that it
has not
seen: as they are, and made poor. Beside it stands what it makes of the reference itself at a weaker level of about the
same strength in both noises: there it may read the mask, too. Models are kept in --work, by number of epochs.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path

import gnsm_methods
import numpy as np
import torch
from bench import ROOT, Benchmark, Content, table
from monai.bundle import ConfigParser
from monai.metrics import DiceMetric
from monai.utils import set_determinism
from torch import Tensor

from gnsm_monai.data.augmentation import RandPoorImaged
from gnsm_monai.data.constants import IMAGE, LABEL
from gnsm_monai.data.references import References
from gnsm_monai.data.transforms import FitToGridd, encode_labels
from gnsm_monai.model.files import WEIGHTS, load_weights
from gnsm_monai.networks import ScoreUNet
from gnsm_monai.paths import bundle_root

WAYS: dict[str, Mapping[str, object]] = {
    "8 levels, beta 0.3 to 0.997, 120 steps of 4": gnsm_methods.EIGHT,
    "6 levels, beta 0.9 to 0.997, 120 steps of 4": gnsm_methods.FEWER,
    "6 levels, beta 0.9 to 0.997, 240 steps of 2": gnsm_methods.SHORTER,
    "6 levels, beta 0.9 to 0.997, 360 steps of 2": gnsm_methods.IMAGE,
}
"""The noise of a model without images, that of one with them, more steps of fewer maps, and the default."""

MIDDLE = 0.97
"""The level next to this beta is compared, besides the strongest of each noise."""


def measure(options: argparse.Namespace, earlier: Content) -> Iterator[Content]:
    content: Content = {"command": options.command, "dataset": options.dataset.name, "ways": []}
    for number, (name, settings) in enumerate(WAYS.items()):
        model = options.work / f"{number}-{options.epochs}"
        network, references = trained(options.dataset.resolve(), model, settings, options.epochs)
        content["ways"].append([name, *read(network, references)])
        yield content


def trained(dataset: Path, model: Path, settings: Mapping[str, object], epochs: int) -> tuple[ScoreUNet, References]:
    """The network that train.yaml trains, and the references; kept in ``model``."""
    parser = ConfigParser()
    parser.read_config(bundle_root() / "configs" / "train.yaml")
    fixed = {"bundle_root": str(bundle_root()), "model_dir": str(model), "epochs": epochs, "device": "cpu"}
    for key, value in {"dataset_dir": str(dataset), **settings, **fixed}.items():
        parser[key] = value
    set_determinism(0)
    if not (model / WEIGHTS).is_file():
        parser.get_parsed_content("train#trainer").run()
    network: ScoreUNet = load_weights(parser.get_parsed_content("network"), model).eval()  # type: ignore[assignment]
    return network, parser.get_parsed_content("references")


@torch.inference_mode()
def read(network: ScoreUNet, references: References) -> tuple[int, float, float, float, float]:
    """Held-out references; Dice of the image alone, of a poor one alone, of the reference under noise; that beta."""
    betas = network.schedule.betas
    strongest, middle = len(betas) - 1, int(np.abs(np.array(betas) - MIDDLE).argmin())
    dices, place = [], FitToGridd(references.spatial_size, keys=references.keys)
    for use in ("selection", "calibration"):
        for number, case in enumerate(map(place, references.maps(use))):
            poor = RandPoorImaged(IMAGE, prob=1.0)
            poor.set_random_state(number)
            images = [torch.as_tensor(np.asarray(seen[IMAGE]))[None].float() for seen in (case, poor(case))]
            reference, _ = encode_labels(torch.as_tensor(np.asarray(case[LABEL]))[None], network.num_classes)
            nothing = torch.zeros_like(reference)
            nothing[:, 0] = 1
            asked = [(nothing, images[0], strongest), (nothing, images[1], strongest), (reference, images[0], middle)]
            dices.append([dice(network, mask, image, level, reference) for mask, image, level in asked])
    clean, poorly, denoised = np.mean(dices, axis=0)
    return len(dices), float(clean), float(poorly), float(denoised), betas[middle]


def dice(network: ScoreUNet, mask: Tensor, image: Tensor, level: int, reference: Tensor) -> float:
    """Mean Dice of what the network makes of a mask ``(1, K, *spatial)`` and an image at a level."""
    levels = torch.tensor([level])
    logits = network(network.schedule.noise_free(mask, levels), levels, image)
    likeliest, _ = encode_labels(logits.argmax(1, keepdim=True), network.num_classes)
    return float(DiceMetric(include_background=False)(likeliest, reference).nanmean())


def lines(content: Content) -> list[str]:
    under = ["reference under noise, and image", "its beta"]
    head = ["levels, and steps of an epoch", "references", "image alone", "poor image alone", *under]
    rows = [(name, count, *(f"{value:.3f}" for value in values)) for name, count, *values in content["ways"]]
    return [
        f"Dice to held-out references of {content['dataset']}, higher = better, after as many epochs of the same",
        "training. *Image alone*: at the strongest level, of an empty mask. *Reference under noise*: at the level next",
        f"to a beta of {MIDDLE}, where the mask still says something.",
        "",
        *table(head, rows),
    ]


BENCHMARK = Benchmark(
    "reader",
    "How well an image model reads",
    measure,
    lines,
    {
        "--dataset": {"type": Path, "required": True, "help": "nnU-Net raw data set with images"},
        "--epochs": {"type": int, "default": 4},
        "--work": {"type": Path, "default": ROOT / "runs" / "reader"},
    },
    __doc__,
)

if __name__ == "__main__":
    BENCHMARK.run()
