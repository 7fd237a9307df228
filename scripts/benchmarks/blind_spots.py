"""What labels alone cannot see: masks that look like references, and are wrong for their image.

    python scripts/benchmarks/blind_spots.py --data DATA

Of the hippocampus masks that segmentation_qc.py scored, those of a low Dice that the model of labels alone places
furthest towards the sound ones, one per case, if the image can be read; beside them, where the model that sees the
image places them. Writes docs/benchmarks/blind_spots.md and its picture; nothing is trained.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from damaged_images import overflowed
from markdown import table
from qc_data import Dataset, Mask, load_dataset
from scipy.stats import rankdata
from scores import Scores, load_all
from steps import ROOT

from gnsm_monai.data.datalist import find_images

mpl.use("Agg")
from matplotlib import pyplot as plt

PAGE = ROOT / "docs" / "benchmarks" / "blind_spots.md"
PICTURE = PAGE.parent / "segmentation_qc" / "blind_spots.png"
DATASET, LABELS, IMAGES = "hippocampus", "gnsm", "gnsm_image"
LOW_DICE = 0.75
EXAMPLES = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    arguments = parser.parse_args()
    dataset = load_dataset(DATASET, arguments.data.resolve(), Path())
    scores = load_all(PAGE.parent / "segmentation_qc", DATASET)
    by_dice, by_labels, by_images = (
        places([-scores[LABELS][0].dice]),
        places([s.score for s in scores[LABELS]]),
        places([_like(s, scores[LABELS][0]) for s in scores[IMAGES]]),
    )
    names = scores[LABELS][0]
    readable = np.array(
        [
            not any(map(overflowed, find_images(dataset.images[str(folder)], str(case))))
            for folder, case in zip(names.folder, names.case, strict=True)
        ]
    )
    chosen = unseen(names, by_dice, by_labels, readable)
    masks = {(mask.folder, mask.case): mask for mask in dataset.masks}
    shown = [masks[str(names.folder[i]), str(names.case[i])] for i in chosen]
    rows = [
        [mask.folder, mask.case, f"{mask.dice:.3f}", *(f"{by[i]:.0f}" for by in (by_dice, by_labels, by_images))]
        + [f"{ratio:.2f}" for ratio in volume_ratios(mask, dataset.scheme.num_classes)]
        for i, mask in zip(chosen, shown, strict=True)
    ]
    draw(dataset, shown)
    text = page(rows, list(dataset.scheme.structures), len(by_dice))
    print(text)
    PAGE.write_text(text)


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
    """Indices of masks of low Dice, those first that stand furthest behind their place by Dice; one per case."""
    found: list[int] = []
    for i in np.argsort(by_dice - by_labels):
        if readable[i] and scores.dice[i] < LOW_DICE and scores.case[i] not in scores.case[found]:
            found.append(int(i))
    return found[:most]


def _like(scores: Scores, other: Scores) -> npt.NDArray[np.float64]:
    """Scores in the order of another method's masks."""
    index = {
        key: value for *key, value in zip(scores.folder, scores.case, scores.score, strict=True) for key in [tuple(key)]
    }
    return np.array([index[key] for key in zip(other.folder, other.case, strict=True)])


def volume_ratios(mask: Mask, num_classes: int) -> list[float]:
    """Size of each structure over that of the reference's."""
    return [float((mask.label == c).sum() / (mask.reference == c).sum()) for c in range(1, num_classes)]


def draw(dataset: Dataset, masks: Sequence[Mask]) -> None:
    """Each mask and its reference on the image, in the plane of each kind in which they differ most."""
    figure, axes = plt.subplots(len(masks), 3, figsize=(9, 2.6 * len(masks)), layout="constrained")
    for row, mask in zip(axes, masks, strict=True):
        image = dataset.read_map(find_images(dataset.images[mask.folder], mask.case)[0])
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
    figure.savefig(PICTURE, dpi=90, metadata={"Software": None})
    plt.close(figure)


def page(rows: Sequence[Sequence[str]], structures: Sequence[str], count: int) -> str:
    head = ["folder", "case", "Dice", "place by Dice", "by labels alone", "by labels and image"]
    lines = [
        "# What labels alone cannot see",
        "",
        "`python scripts/benchmarks/blind_spots.py --data DATA`",
        "",
        f"Masks with a Dice below {LOW_DICE} that the model of labels alone places furthest towards the sound ones,",
        f"one per case. Places among {count}, 1 = worst, mean over trainings. Volumes: mask over reference.",
        "",
        *table([*head, *(f"volume, {name}" for name in structures)], rows),
        "",
        f"![Reference (green) and mask (red)]({PICTURE.relative_to(PAGE.parent)})",
        "",
        "Green: the reference, red: the mask. Where both models place a mask alike, the image did not help: the model",
        "reads it as the segmenter did.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
