"""How well an image model reads: Dice to held-out references, by the noise and the steps that it was trained at.

    python scripts/benchmarks/reader.py --dataset nnUNet_raw/DatasetXXX_Name [--epochs 4] [--work DIR]

An image model is a second reader by what it says of an image where the mask tells it nothing. One is trained by
train.yaml in each way, without the fit of a score; then each reads the images of the references that it has not
seen: as they are, and made poor. Beside it stands what it makes of the reference itself at a weaker level of about the
same strength in both noises: there it may read the mask, too. Models are kept in --work, by number of epochs. Writes
docs/benchmarks/reader.md.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from pathlib import Path

import gnsm_methods
import markdown
import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.metrics import DiceMetric
from monai.utils import set_determinism
from torch import Tensor

from gnsm_monai.data.augmentation import RandPoorImaged
from gnsm_monai.data.constants import IMAGE, LABEL
from gnsm_monai.data.references import References
from gnsm_monai.data.transforms import encode_labels
from gnsm_monai.model.files import WEIGHTS, load_weights
from gnsm_monai.networks import ScoreUNet
from gnsm_monai.paths import bundle_root
from gnsm_monai.workflow.training import reference_dataset

PAGE = Path(__file__).resolve().parents[2] / "docs" / "benchmarks" / "reader.md"

WAYS: dict[str, Mapping[str, object]] = {
    "8 levels, beta 0.3 to 0.997, 120 steps of 4": gnsm_methods.EIGHT,
    "6 levels, beta 0.9 to 0.997, 120 steps of 4": gnsm_methods.FEWER,
    "6 levels, beta 0.9 to 0.997, 240 steps of 2": gnsm_methods.SHORTER,
    "6 levels, beta 0.9 to 0.997, 360 steps of 2": gnsm_methods.IMAGE,
}
"""The noise of a model without images, that of one with them, more steps of fewer maps, and the default."""

MIDDLE = 0.97
"""Of each noise the level next to this beta is compared, besides the strongest."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--work", type=Path)
    arguments = parser.parse_args()
    work = arguments.work or Path(tempfile.mkdtemp())
    rows = []
    for number, (name, settings) in enumerate(WAYS.items()):
        model = work / f"{number}-{arguments.epochs}"
        network, references = trained(arguments.dataset.resolve(), model, settings, arguments.epochs)
        rows.append((name, *read(network, references)))
        print(*rows[-1], flush=True)
    text = page(rows, arguments)
    print(text)
    PAGE.write_text(text)


def trained(dataset: Path, model: Path, settings: Mapping[str, object], epochs: int) -> tuple[ScoreUNet, References]:
    """The network that train.yaml trains, and the references; kept in ``model``."""
    parser = ConfigParser()
    parser.read_config(bundle_root() / "configs" / "train.yaml")
    own = {"bundle_root": str(bundle_root()), "model_dir": str(model), "epochs": epochs, "device": "cpu"}
    for key, value in {"dataset_dir": str(dataset), **settings, **own}.items():
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
    found = []
    for use in ("fit", "calibration"):
        for number, case in enumerate(reference_dataset(references, use)):
            poor = RandPoorImaged(IMAGE, prob=1.0)
            poor.set_random_state(number)
            images = [torch.as_tensor(np.asarray(seen[IMAGE]))[None].float() for seen in (case, poor(case))]
            reference, _ = encode_labels(torch.as_tensor(np.asarray(case[LABEL]))[None], network.num_classes)
            nothing = torch.zeros_like(reference)
            nothing[:, 0] = 1
            asked = [(nothing, images[0], strongest), (nothing, images[1], strongest), (reference, images[0], middle)]
            found.append([dice(network, mask, image, level, reference) for mask, image, level in asked])
    clean, poorly, denoised = np.mean(found, axis=0)
    return len(found), float(clean), float(poorly), float(denoised), betas[middle]


def dice(network: ScoreUNet, mask: Tensor, image: Tensor, level: int, reference: Tensor) -> float:
    """Of what the network makes of a mask ``(1, K, *spatial)`` and an image at a level; mean over the structures."""
    levels = torch.tensor([level])
    logits = network(network.schedule.noise_free(mask, levels), levels, image)
    likeliest, _ = encode_labels(logits.argmax(1, keepdim=True), network.num_classes)
    return float(DiceMetric(include_background=False)(likeliest, reference).nanmean())


def page(rows: list[tuple[str, int, float, float, float, float]], arguments: argparse.Namespace) -> str:
    under = ["reference under noise, and image", "its beta"]
    head = ["levels, and steps of an epoch", "references", "image alone", "poor image alone", *under]
    lines = [
        "Dice to held-out references, higher = better, after as many epochs of the same training. *Image alone*: at",
        "the strongest level, of an empty mask. *Reference under noise*: at the level next to a beta of",
        f"{MIDDLE}, where the mask still says something.",
        "",
        *markdown.table(head, [(name, count, *(f"{value:.3f}" for value in values)) for name, count, *values in rows]),
    ]
    command = f"reader.py --dataset {arguments.dataset.name} --epochs {arguments.epochs}"
    return markdown.page("How well an image model reads", command, lines)


if __name__ == "__main__":
    main()
