"""Memory and time of ranking one mask against its number of voxels and of classes.

    python scripts/benchmarks/volumes.py [--work runs/volumes] [--sizes 64 128 256 512] [--classes 3 25 104]

Masks are bodies cut into as many parts as there are structures, 512 x 512 x 400 mm whatever their voxels. The model is
trained for a moment, on small references; what is measured is ``gnsm rank`` of one mask with its reference, and of the
same with ``--maps``, each in a process of its own: peak memory as the operating system counts it, and time from the
start of the interpreter on. Beside it stands what a MONAI user would build, in the same run: one noise level of a
DiffusionModelUNet of equal width in sliding windows over the one-hot map, for masks of up to ``--rival-voxels``.
Rows of other sizes and classes that stand in volumes.json are kept.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from bench import MISSING, ROOT, Benchmark, Content, table
from package_commands import train, watched

EXTENT = np.array([512, 512, 400])
"""Extent of the field of view, in mm."""

REFERENCES, SMALL = 14, 64
RIVAL = """
import sys, nibabel, numpy as np, torch
from monai.inferers import SlidingWindowInferer
from monai.networks.nets import DiffusionModelUNet
from monai.transforms import AsDiscrete
path, classes = sys.argv[1], int(sys.argv[2])
network = DiffusionModelUNet(spatial_dims=3, in_channels=classes, out_channels=classes, channels=(16, 64, 96),
    num_res_blocks=1, attention_levels=(False,) * 3, norm_num_groups=16, num_head_channels=32).eval()
label = torch.from_numpy(np.asarray(nibabel.load(path).dataobj))[None]
one_hot = AsDiscrete(to_onehot=classes)(label)[None].float()
with torch.inference_mode():
    level = torch.zeros(1, dtype=torch.long)
    out = SlidingWindowInferer((48, 48, 48), overlap=0.25)(one_hot, lambda x: network(x, level.expand(len(x))))
    print(float(out.square().sum().sqrt()))
"""


def measure(options: argparse.Namespace, earlier: Content) -> Iterator[Content]:
    for classes in options.classes:
        model = trained(options.work, classes)
        for size in options.sizes:
            row = measured(options.work, model, classes, size, options.rival_voxels)
            earlier = with_row(earlier, {**row, "command": options.command})
            yield earlier


def with_row(content: Content, row: dict[str, Any]) -> Content:
    """The content with a row more, in place of one of the same classes and voxels."""
    others = [
        other
        for other in content.get("rows", [])
        if (other["classes"], other["shape"]) != (row["classes"], row["shape"])
    ]
    return {"rows": sorted([*others, row], key=lambda own: (own["classes"], own["shape"]))}


def body(size: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A label map whose first axis has ``size`` voxels, uint8, and its affine: an ellipsoid, each of whose voxels
    belongs to the nearest of ``classes - 1`` seeds, all moved and stretched a little by the random seed."""
    shape = EXTENT * size // EXTENT[0]
    spacing = EXTENT / shape
    rng, place = np.random.default_rng(seed), np.random.default_rng(0)
    stretch, shift = rng.uniform(0.92, 1.08, 3), rng.uniform(-8, 8, 3)
    centres = place.uniform(-0.7, 0.7, (classes - 1, 3)) + rng.normal(0, 0.01, (classes - 1, 3))
    axes = [((np.arange(n) + 0.5) * s - e / 2 - d) / (0.4 * e * k)
            for n, s, e, d, k in zip(shape, spacing, EXTENT, shift, stretch, strict=True)]  # fmt: skip
    label = np.zeros(shape, dtype=np.uint8)
    y, z = (a.astype(np.float32) for a in np.meshgrid(axes[1], axes[2], indexing="ij"))
    for slab, x in zip(label, axes[0], strict=True):  # slab by slab: no array of all classes and voxels here either
        inside = x**2 + y**2 + z**2 < 1
        points = np.stack([np.full(inside.sum(), x, dtype=np.float32), y[inside], z[inside]], axis=1)
        nearest = np.zeros(len(points), dtype=np.uint8)
        least = np.full(len(points), np.inf, dtype=np.float32)
        for number, centre in enumerate(centres.astype(np.float32), start=1):
            distance = ((points - centre) ** 2).sum(1)
            nearest[distance < least] = number
            least = np.minimum(least, distance)
        slab[inside] = nearest
    return label, np.diag([*spacing, 1.0])


def save(path: Path, size: int, classes: int, seed: int) -> None:
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        label, affine = body(size, classes, seed)
        partial = path.with_name("partial.nii.gz")
        nibabel.save(nibabel.Nifti1Image(label, affine), partial)
        partial.replace(path)


def trained(work: Path, classes: int) -> Path:
    """A model of small references, which its grid holds as they are: about 200 000 voxels."""
    dataset, model = work / f"references_{classes}", work / f"model_{classes}"
    for number in range(REFERENCES):
        save(dataset / "labelsTr" / f"case_{number:02d}.nii.gz", SMALL, classes, number)
    names = {"background": 0, **{f"part_{c:03d}": c for c in range(1, classes)}}
    kept = {"labels": names, "file_ending": ".nii.gz", "numTraining": REFERENCES}
    (dataset / "dataset.json").write_text(json.dumps(kept))
    short = {"epochs": 1, "steps_per_epoch": 5, "batch_size": 1, "failures": "copies"}
    short |= {"fit#failures#copies": 1, "fit#failures#calibration_copies": 1, "fit#shapes#steps": 2}
    train(model, {"dataset_dir": dataset, **short})
    return model


def measured(work: Path, model: Path, classes: int, size: int, rival_voxels: int) -> dict[str, Any]:
    masks, references = work / f"mask_{classes}_{size}", work / f"reference_{classes}_{size}"
    save(masks / "case.nii.gz", size, classes, 100)
    save(references / "case.nii.gz", size, classes, 101)
    rank = [sys.executable, "-m", "gnsm_monai", "rank", "--model", model, "--predictions", masks]
    rank += ["--references", references, "--device", "cpu"]
    shape = nibabel.load(masks / "case.nii.gz").shape
    one_hot = float(np.prod(shape)) * classes * 4 / 2**30
    row = {
        "classes": classes,
        "shape": list(shape),
        "one_hot_gib": one_hot,
        "rank": watched([*rank, "--output", work / "out"]),
        "maps": watched([*rank, "--maps", "--output", work / "out_maps"]),
        "rival": None,
    }
    if np.prod(shape) <= rival_voxels:
        row["rival"] = watched([sys.executable, "-W", "ignore", "-c", RIVAL, masks / "case.nii.gz", classes])
    return row


def lines(content: Content) -> list[str]:
    head = ["classes", "voxels", "one-hot map", "rank: memory", "time", "rank --maps: memory", "time",
            "rival, one level: memory", "time", "its time / ours"]  # fmt: skip
    rows = []
    for row in content["rows"]:
        own, maps, rival = row["rank"], row["maps"], row["rival"]
        other = [MISSING] * 3
        if rival is not None:
            ratio = rival["seconds"] / own["seconds"]
            other = [f"{rival['gib']:.2f} GiB", f"{rival['seconds']:.1f} s", f"{ratio:.1f}"]
        rows.append([row["classes"], " x ".join(map(str, row["shape"])), f"{row['one_hot_gib']:.2f} GiB",
                     f"{own['gib']:.2f} GiB", f"{own['seconds']:.1f} s", f"{maps['gib']:.2f} GiB",
                     f"{maps['seconds']:.1f} s", *other])  # fmt: skip
    return [
        *(f"`{command}`  " for command in dict.fromkeys(row["command"] for row in content["rows"])), "",
        "One mask with its reference, ranked by `gnsm rank` in a process of its own: peak resident memory, and time",
        "from the start of the interpreter to the report. The network sees the mask on the model's grid, of about",
        "200 000 voxels here whatever the mask's own (`max_voxels`: 300 000); Dice and volumes are the file's. The",
        "one-hot map, all classes of all voxels in float32, never exists. Rival: one noise level of",
        "DiffusionModelUNet of equal width by MONAI's sliding windows over the one-hot map.", "",
        *table(head, rows),
    ]  # fmt: skip


BENCHMARK = Benchmark(
    "volumes",
    "Memory and time against the size of a mask",
    measure,
    lines,
    {
        "--work": {"type": Path, "default": ROOT / "runs" / "volumes"},
        "--sizes": {"type": int, "nargs": "+", "default": [64, 128, 256, 512], "help": "voxels of the first axis"},
        "--classes": {"type": int, "nargs": "+", "default": [3, 25, 104]},
        "--rival-voxels": {"type": int, "default": 2_000_000, "help": "the rival's largest mask"},
    },
    __doc__,
)

if __name__ == "__main__":
    BENCHMARK.run()
