"""What a network of shapes gains and loses where it sees label maps in cells of several voxels: time, and held-out fit.

    OMP_NUM_THREADS=1 python scripts/benchmarks/shape_cells.py --dataset nnUNet_raw/DatasetXXX_Name

Networks learn the shapes of the training references, in cells of one voxel and in those of the score network's first
coarser grid. Each then judges the references that it has not learnt from, and degraded copies of them. No mask of a
segmenter is looked at.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from bench import Benchmark, Content, table
from torch import Tensor

from gnsm_monai.data.degradations import KINDS, degrade
from gnsm_monai.data.references import References, read_references
from gnsm_monai.data.transforms import encode_labels
from gnsm_monai.evaluation.metrics import spearman
from gnsm_monai.fitting import ShapeLearner
from gnsm_monai.networks import plan_strides
from gnsm_monai.noise import build_schedule
from gnsm_monai.rules.reading import Reading
from gnsm_monai.scoring.reference_shapes import ReferenceShapes
from gnsm_monai.scoring.scorer import Scorer
from gnsm_monai.scoring.shape_network import ShapeNetwork
from gnsm_monai.scoring.structures import Structures

SEVERITIES = (0.1, 0.2, 0.4, 0.6)
"""Of the copies of each held-out reference; their kinds take turns."""


def measure(options: argparse.Namespace, earlier: Content) -> Iterator[Content]:
    references = read_references(options.dataset, spatial_dims=options.spatial_dims)
    strides = plan_strides(references.spatial_size, references.voxel_size, 3)
    judged = _judged(references, ShapeLearner(references, strides, build_schedule("mixing"), 1))
    content: Content = {"command": options.command, "dataset": options.dataset.name, "rows": []}
    values = references.scheme.num_classes * math.prod(references.spatial_size)
    for most in (values, values - 1):  # one less is the first coarser grid
        for steps in options.steps if most < values else options.steps[:1]:
            learner = ShapeLearner(references, strides, build_schedule("mixing"), steps, max_values=most)
            labels = learner._labels(references.used_for("train"))
            start = time.process_time()
            network = learner._train(labels, steps, say=False)
            seconds = (time.process_time() - start) / steps
            content["rows"].append(
                {"cell": list(learner.cell), "steps": steps, "seconds": seconds, **_fit(network, judged)}
            )
            yield content


def _judged(references: References, learner: ShapeLearner) -> list[tuple[Tensor, float]]:
    """Class indices of held-out references and of degraded copies, ``(1, *spatial)``, and their Dice."""
    cases = [case for case in references.cases if case["use"] != "train"]
    judged, count = list[tuple[Tensor, float]](), references.scheme.num_classes
    for number, label in enumerate(learner._labels(cases)):
        judged.append((label, 1.0))
        for turn, severity in enumerate(SEVERITIES):
            kind, rng = KINDS[(number + turn) % len(KINDS)], np.random.default_rng([number, turn])
            index = label[0].numpy()
            worse = degrade(index, kind, severity, rng, count, references.voxel_size)
            judged.append((torch.as_tensor(worse)[None], _dice(index, worse, count)))
    return judged


def _dice(reference: np.ndarray, mask: np.ndarray, num_classes: int) -> float:
    """Mean over the structures of the reference."""
    pairs = [(reference == k, mask == k) for k in range(1, num_classes) if (reference == k).any()]
    return float(np.mean([2 * (a & b).sum() / (a.sum() + b.sum()) for a, b in pairs]))


def _fit(network: ShapeNetwork, judged: Sequence[tuple[Tensor, float]]) -> dict[str, float]:
    """Disagreement with held-out references (lower = better), and how it follows Dice (-1 is best)."""
    scorer, shapes = Scorer(build_schedule("mixing"), structures=Structures()), ReferenceShapes(None, network)
    reading, scores = Reading(frozenset({"shape"}), (0,)), []
    for label, _ in judged:
        probabilities, observed = encode_labels(label[None], network.network.num_classes)
        levels, _ = scorer.read(torch.nn.Identity(), probabilities, reading, observed, shapes=shapes)
        scores.append(float(levels["shape"][0]))
    dice, found = np.array([d for _, d in judged]), np.array(scores)
    return {"disagreement": float(found[dice == 1].mean()), "spearman": spearman(found[dice < 1], dice[dice < 1])}


def lines(content: Content) -> list[str]:
    """The page."""
    rows = content["rows"]
    first = rows[0]["seconds"]
    return [
        f"References of {content['dataset']}: networks learn from those of training, and judge the held-out ones.",
        "",
        *table(
            ["voxels of a cell", "steps", "ms a step", "times as fast", "disagreement with held-out references",
             "Spearman with Dice on degraded copies"],
            [
                ["x".join(map(str, row["cell"])), row["steps"], f"{1000 * row['seconds']:.0f}",
                 f"{first / row['seconds']:.1f}", f"{row['disagreement']:.4f}", f"{row['spearman']:.3f}"]
                for row in rows
            ],
        ),
    ]  # fmt: skip


BENCHMARK = Benchmark(
    "shape_cells",
    "Shapes in cells of several voxels",
    measure,
    lines,
    {
        "--dataset": {"type": Path, "required": True, "help": "nnU-Net raw data set with labelsTr"},
        "--spatial-dims": {"type": int, "default": 3},
        "--steps": {"type": int, "nargs": "+", "default": [1600], "help": "the first also with voxels"},
    },
    __doc__,
)

if __name__ == "__main__":
    BENCHMARK.run()
