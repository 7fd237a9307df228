"""What the score network's view of neighbourhoods is worth: held-out loss after as many steps, with and without it.

    python scripts/benchmarks/network.py --dataset nnUNet_raw/DatasetXXX_Name [--steps 150] [--threads 1]

Three networks learn the same label maps from the same batches: this package's, one whose neighbourhoods are not
added to the logits (``_neighbourhood``), and one that is not shown them either (``_pooled``), a usual U-Net. The loss
that voxels without any context would have stands beside theirs. Writes docs/benchmarks/network.md.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import markdown
import torch
from monai.data import DataLoader
from monai.utils import set_determinism
from torch import Tensor

from gnsm_monai.data.augmentation import augmentation
from gnsm_monai.data.dimensions import find_spatial_dims
from gnsm_monai.data.references import References, read_references
from gnsm_monai.engines import NoisyLabelPrepareBatch
from gnsm_monai.losses import ScoreMatchingLoss
from gnsm_monai.networks import ScoreUNet, plan_strides
from gnsm_monai.noise import NoiseSchedule, build_schedule
from gnsm_monai.workflow.training import reference_dataset, with_prior

PAGE = Path(__file__).resolve().parents[2] / "docs" / "benchmarks" / "network.md"
HELD_OUT = 12


class NothingAdded(ScoreUNet):
    """Sees neighbourhoods; what they say reaches the logits through the layers alone."""

    def _neighbourhood(self, pooled: Sequence[Tensor], embedding: Tensor, size: Sequence[int]) -> Tensor:
        return pooled[0].new_zeros(1)


class NothingSeen(NothingAdded):
    """A usual U-Net: only its strided convolutions gather what voxels say."""

    def _pooled(self, seen: Tensor) -> list[Tensor]:
        return [torch.zeros_like(part) for part in super()._pooled(seen)]


NETWORKS: dict[str, type[ScoreUNet]] = {
    "as it is": ScoreUNet,
    "neighbourhoods seen, not added": NothingAdded,
    "neighbourhoods neither seen nor added": NothingSeen,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    dims = find_spatial_dims(arguments.dataset / "labelsTr")
    references = read_references(arguments.dataset, dims)
    schedule = build_schedule("mixing")
    rows: dict[str, tuple[list[float], float]] = {}
    for name, kind in NETWORKS.items():
        set_determinism(arguments.seed)
        network = with_prior(make(kind, references, schedule), references)
        seconds = train(network, references, schedule, arguments.steps, arguments.batch_size, arguments.seed)
        rows.setdefault("voxels without context", (losses(network.independent_logits, references, schedule), 0.0))
        rows[name] = (losses(network.eval(), references, schedule), seconds)
    text = page(rows, schedule, arguments)
    print(text)
    PAGE.write_text(text)


def make(kind: type[ScoreUNet], references: References, schedule: NoiseSchedule) -> ScoreUNet:
    """The network that train.yaml would make."""
    strides = plan_strides(references.spatial_size, references.voxel_size, 3)
    size = references.spatial_size
    return kind(len(size), references.labels.num_classes, noise=schedule, strides=strides, position_size=size)


def train(
    network: ScoreUNet, references: References, schedule: NoiseSchedule, steps: int, batch_size: int, seed: int
) -> float:
    """Returns seconds per step."""
    change = augmentation(len(references.spatial_size), references.flip_axes).set_random_state(seed)
    data = reference_dataset(references, "train", [change])
    prepare = NoisyLabelPrepareBatch(schedule, references.labels.num_classes)
    loss = ScoreMatchingLoss("posterior", schedule)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps, pct_start=0.1)
    loader, done, start = DataLoader(data, batch_size, shuffle=True, drop_last=True), 0, time.monotonic()
    while done < steps:
        for batch in loader:
            inputs, target, (level,), _ = prepare(batch)
            optimizer.zero_grad()
            loss(network(inputs, level), target).mean().backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            rate.step()
            done += 1
            if done == steps:
                break
    return (time.monotonic() - start) / steps


@torch.inference_mode()
def losses(logits: object, references: References, schedule: NoiseSchedule) -> list[float]:
    """Mean loss per level on held-out references, the same noise for every network."""
    prepare = NoisyLabelPrepareBatch(schedule, references.labels.num_classes, fixed_seed=0)
    loss = ScoreMatchingLoss("posterior", schedule)
    found = []
    for case in list(DataLoader(reference_dataset(references, "selection"), 1))[:HELD_OUT]:
        inputs, target, (level,), _ = prepare(case)
        found.append(loss(logits(inputs, level), target))  # type: ignore[operator]
    return torch.stack(found).mean(0).tolist()  # type: ignore[no-any-return]


def page(rows: dict[str, tuple[list[float], float]], schedule: NoiseSchedule, arguments: argparse.Namespace) -> str:
    steps, batch = arguments.steps, arguments.batch_size
    head = [f"level {level} (beta {beta:.3f})" for level, beta in enumerate(schedule.betas)]
    lines = [
        f"Cross-entropy on held-out references, nats per voxel, after {steps} steps of {batch} maps; lower = better.",
        "",
        f"| network | {' | '.join(head)} | s per step |",
        "|" + " --- |" * (len(head) + 2),
    ]
    for name, (values, seconds) in rows.items():
        cells = " | ".join(f"{value:.4f}" for value in values)
        lines.append(f"| {name} | {cells} | {f'{seconds:.2f}' if seconds else '–'} |")
    command = f"network.py --dataset {arguments.dataset.name} --steps {steps}"
    return markdown.page("The score network's view of neighbourhoods", command, lines)


if __name__ == "__main__":
    main()
