"""What labels alone cannot see: masks that look like references, and are wrong for their image.

    python scripts/benchmarks/blind_spots.py --data DATA

Shown are hippocampus masks that segmentation_qc.py scored: those of a low Dice that the model of labels alone places
furthest towards the sound ones, one per case, if the image can be read; beside them, where the model that sees the
image places them. Nothing is trained.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from bench import DATA, PAGES, Benchmark, Content, table
from damaged_images import damaged_cases
from qc_data import Dataset, Mask, load_dataset
from qc_figures import save
from scipy.stats import rankdata
from scores import Scores, check_same_masks, load_all

from gnsm_monai.data.images import Images

PICTURE = "segmentation_qc/blind_spots.png"
LABELS, IMAGES = "gnsm", "gnsm_image"
LOW_DICE = 0.75
EXAMPLES = 4


def measure(options: argparse.Namespace, earlier: Content) -> Iterator[Content]:
    dataset = load_dataset("hippocampus", options.data.resolve(), Path())
    methods = load_all(PAGES / "segmentation_qc", dataset.name)
    check_same_masks([*methods[LABELS], *methods[IMAGES]])
    scores = methods[LABELS][0]
    by_dice = places([-scores.dice])
    by_labels, by_images = (places([s.score for s in methods[name]]) for name in (LABELS, IMAGES))
    chosen = unseen(scores, by_dice, by_labels, ~scores.among(damaged_cases(dataset)))
    masks = {(mask.folder, mask.case): mask for mask in dataset.masks}
    shown = [masks[str(scores.folder[i]), str(scores.case[i])] for i in chosen]
    draw(dataset, shown)
    yield {
        "command": options.command,
        "masks": len(by_dice),
        "structures": list(dataset.scheme.structure_names),
        "shown": [
            {
                "folder": mask.folder,
                "case": mask.case,
                "dice": mask.dice,
                "places": [float(by[i]) for by in (by_dice, by_labels, by_images)],
                "volume_ratios": volume_ratios(mask, dataset.scheme.num_classes),
            }
            for i, mask in zip(chosen, shown, strict=True)
        ],
    }


def places(scores: Sequence[npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
    """Place of each mask, 1 = worst, mean over trainings; equal scores share theirs."""
    mean: npt.NDArray[np.float64] = np.mean([rankdata(-score) for score in scores], axis=0)
    return mean


def unseen(
    scores: Scores,
    by_dice: npt.NDArray[np.float64],
    by_labels: npt.NDArray[np.float64],
    readable: npt.NDArray[np.bool_],
    most: int = EXAMPLES,
) -> list[int]:
    """Indices of masks of low Dice, one per case; first those whose rank is furthest behind their rank by Dice."""
    chosen: list[int] = []
    for i in np.argsort(by_dice - by_labels):
        if readable[i] and scores.dice[i] < LOW_DICE and scores.case[i] not in scores.case[chosen]:
            chosen.append(int(i))
    return chosen[:most]


def volume_ratios(mask: Mask, num_classes: int) -> list[float]:
    """Size of each structure over that of the reference's."""
    return [float((mask.label == c).sum() / (mask.reference == c).sum()) for c in range(1, num_classes)]


def draw(dataset: Dataset, masks: Sequence[Mask]) -> None:
    """Each mask and its reference on the image, in the plane of each kind in which they differ most."""
    figure, axes = plt.subplots(len(masks), 3, figsize=(10, 2.9 * len(masks)), layout="constrained")
    for row, mask in zip(axes, masks, strict=True):
        image = dataset.read_map(Images.of_folder(dataset.images[mask.folder], [mask.case]).of(mask.case)[0])
        wrong = (mask.label != mask.reference) & (mask.reference >= 0)
        for axis, (ax, name) in enumerate(zip(row, ("sagittal", "coronal", "axial"), strict=True)):
            worst = int(wrong.sum(tuple(a for a in range(3) if a != axis)).argmax())
            ax.imshow(np.take(image, worst, axis).T, cmap="gray", origin="lower")
            for labels, colour in ((mask.reference, "#35c46a"), (mask.label, "#ff5a4f")):
                plane = np.take(labels, worst, axis).T
                for structure in range(1, dataset.scheme.num_classes):
                    if (plane == structure).any():
                        ax.contour(plane == structure, [0.5], colors=colour, linewidths=1.3)
            ax.set_title(f"{mask.case}, {name}" if axis == 0 else name, fontsize=9)
            ax.set_axis_off()
    save(figure, PAGES / PICTURE)


def lines(content: Content) -> list[str]:
    rows = [
        [mask["folder"], mask["case"], f"{mask['dice']:.3f}", *(f"{place:.0f}" for place in mask["places"])]
        + [f"{ratio:.2f}" for ratio in mask["volume_ratios"]]
        for mask in content["shown"]
    ]
    head = ["folder", "case", "Dice", "place by Dice", "by labels alone", "by labels and image"]
    return [
        f"Masks with a Dice below {LOW_DICE} that the model of labels alone places furthest towards the sound ones,",
        f"one per case. Places among {content['masks']}, 1 = worst, mean over trainings. Volumes: mask over reference.",
        "",
        *table([*head, *(f"volume, {name}" for name in content["structures"])], rows),
        "",
        f"![Reference (green) and mask (red)]({PICTURE})",
        "",
        "Green: the reference, red: the mask. Where both models place a mask alike, the image did not help: the model",
        "reads it as the segmenter did.",
    ]


BENCHMARK = Benchmark("blind_spots", "What labels alone cannot see", measure, lines, DATA, __doc__)

if __name__ == "__main__":
    BENCHMARK.run()
