"""Time of a training step and of scoring a case, against the network a MONAI user would build; share of the peak.

    python scripts/benchmarks/speed.py [--device cuda:0] [--threads 1] [--size 48 56 48] [--patch 128 128 128]

The rival is MONAI's DiffusionModelUNet of equal width, its mandatory attention in the middle included: it scores a case
by the norm of its output at 20 noise levels, one at a time, in fp32. Both are timed in turns in the same run. The peak
is the best of a listed set of matrix products and convolutions in the same run, for the same numbers and threads.
Writes docs/benchmarks/speed.md, a section for each device that was measured.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from markdown import table
from monai.networks.nets import DiffusionModelUNet
from published_unet import CHANNELS, LEVELS, diffusion_unet
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from gnsm_monai.data.constants import LABEL
from gnsm_monai.engines import NoisyLabelPrepareBatch
from gnsm_monai.losses import ScoreMatchingLoss
from gnsm_monai.networks import ScoreUNet
from gnsm_monai.networks.bottleneck import BottleneckNetwork
from gnsm_monai.noise import NoiseSchedule, build_schedule, relax
from gnsm_monai.scoring.reference_shapes import ReferenceShapes
from gnsm_monai.scoring.scorer import Scorer
from gnsm_monai.scoring.shape import ShapeModel, coarse_maps
from gnsm_monai.scoring.sizes import ReferenceSizes

PAGE = Path(__file__).resolve().parents[2] / "docs" / "benchmarks" / "speed.md"
CLASSES = 3
MATMULS = (1024, 2048, 4096, 8192)
CONVOLUTIONS = ((16, 48), (32, 48), (64, 32), (96, 32), (128, 32), (256, 32))  # channels in and out, voxels per axis
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="of the CPU")
    parser.add_argument("--size", type=int, nargs=3, default=[48, 56, 48], help="voxels of a case")
    parser.add_argument("--patch", type=int, nargs=3, help="voxels of a training map; those of a case by default")
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=9)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    device, on_gpu = torch.device(arguments.device), arguments.device.startswith("cuda")
    name = torch.cuda.get_device_name(device) if on_gpu else f"CPU ({platform.machine()}), {arguments.threads} thread"
    dtypes = ("fp32", "bf16") if on_gpu else ("fp32",)
    command = " ".join(["python scripts/benchmarks/speed.py", *sys.argv[1:]])
    found: dict[str, Any] = {
        "command": command,
        "torch": torch.__version__,
        "size": arguments.size,
        "batch": arguments.batch_size,
    }
    found["patch"] = arguments.patch or arguments.size
    found["peak"] = {dtype: peak(device, DTYPES[dtype]) for dtype in dtypes}
    found["training"] = training(found["patch"], arguments.batch_size, device, dtypes, arguments.repeats)
    found["forward"] = forward(found["patch"], arguments.batch_size, device, dtypes, arguments.repeats)
    found["scoring"] = scoring(arguments.size, device, dtypes, arguments.repeats)
    kept = PAGE.with_suffix(".json")
    sections = json.loads(kept.read_text()) if kept.is_file() else {}
    sections[name] = found
    kept.write_text(json.dumps(sections, indent=1) + "\n")
    PAGE.write_text(page(sections))
    print(page({name: found}))


def ours(schedule: NoiseSchedule, size: Sequence[int]) -> ScoreUNet:
    return ScoreUNet(3, CLASSES, noise=schedule, channels=CHANNELS, position_size=size)


def rival(device: torch.device) -> DiffusionModelUNet:
    return diffusion_unet(3, CLASSES, device)


def peak(device: torch.device, dtype: torch.dtype) -> dict[str, float]:
    """FLOP/s of each listed shape."""
    found = {}
    for n in MATMULS[: None if device.type == "cuda" else 2]:
        a, b = torch.randn(n, n, device=device, dtype=dtype), torch.randn(n, n, device=device, dtype=dtype)
        found[f"matmul {n}"] = 2 * n**3 / seconds({"": lambda a=a, b=b: a @ b}, device, 5)[""]  # type: ignore[misc]
    for c, n in CONVOLUTIONS:
        x = torch.randn(1, c, n, n, n, device=device, dtype=dtype).contiguous(memory_format=torch.channels_last_3d)
        layer = nn.Conv3d(c, c, 3, padding=1, device=device, dtype=dtype).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        with torch.inference_mode():
            time_taken = seconds({"": lambda x=x, layer=layer: layer(x)}, device, 5)[""]  # type: ignore[misc]
        found[f"conv {c}, {n}^3"] = 2 * 27 * c * c * n**3 / time_taken
    return found


def training(
    size: Sequence[int], batch: int, device: torch.device, dtypes: Sequence[str], repeats: int
) -> dict[str, dict[str, float]]:
    """Seconds and FLOP of one step: noise, forward, loss, backward, AdamW."""
    schedule = build_schedule("mixing")
    steps = {}
    for dtype in dtypes:
        steps[f"ours, {dtype}"] = _step(ours(schedule, size), schedule, size, batch, device, dtype)
        steps[f"DiffusionModelUNet, {dtype}"] = _step(rival(device), schedule, size, batch, device, dtype)
    return _timed(steps, device, repeats)


def forward(
    size: Sequence[int], batch: int, device: torch.device, dtypes: Sequence[str], repeats: int
) -> dict[str, dict[str, float]]:
    """Seconds and FLOP of the networks alone, without gradients."""
    schedule = build_schedule("mixing")
    networks = {"ours": ours(schedule, size), "DiffusionModelUNet": rival(device)}
    calls = {}
    for dtype in dtypes:
        for name, network in networks.items():
            network = network.to(device).eval()
            x = torch.softmax(torch.randn(batch, CLASSES, *size, device=device), 1).log()
            level = torch.zeros(batch, dtype=torch.long, device=device)

            def call(network: nn.Module = network, dtype: str = dtype, x: Tensor = x, level: Tensor = level) -> None:
                with torch.inference_mode(), autocast(device, dtype):
                    network(x, level)

            calls[f"{name}, {dtype}"] = call
    return _timed(calls, device, repeats)


def scoring(
    size: Sequence[int], device: torch.device, dtypes: Sequence[str], repeats: int
) -> dict[str, dict[str, float]]:
    """Seconds and FLOP of one case: ours with all statistics and maps of all levels, the rival's with its norms."""
    schedule, published = build_schedule("mixing"), build_schedule({"name": "temperature", "num_levels": LEVELS})
    probabilities = torch.nn.functional.one_hot(_ball(size), CLASSES).movedim(-1, 0)[None].float().to(device)
    network, other = ours(schedule, size).to(device).eval(), rival(device).to(device).eval()
    scorer, models = Scorer(schedule, chunk_size=2 if device.type == "cpu" else 16), shapes(schedule, size)

    def rivals() -> None:
        with torch.inference_mode():
            for number in range(LEVELS):
                level = torch.tensor([number], device=device)
                x = relax(published.log_alpha(probabilities, level), published.temperature(level), None)
                other(x, level).square().sum().sqrt().item()

    def own(dtype: str) -> None:
        with autocast(device, dtype):
            scorer(network, probabilities, shapes=models)

    calls: dict[str, Callable[[], Any]] = {f"ours, {dtype}": lambda dtype=dtype: own(dtype) for dtype in dtypes}  # type: ignore[misc]
    return _timed({**calls, "DiffusionModelUNet, fp32": rivals}, device, repeats)


def shapes(schedule: NoiseSchedule, size: Sequence[int]) -> ReferenceShapes:
    """Models of shapes as large as trained ones."""
    strides = [[2, 2, 2]] * len(CHANNELS)
    generator = torch.Generator().manual_seed(0)
    maps = (torch.rand(CLASSES, *size, generator=generator) for _ in range(64))
    values, stride = coarse_maps(maps, strides)
    weak = NoiseSchedule(schedule.betas[:2], schedule.temperatures[:2], schedule.floor)
    sizes = ReferenceSizes.fit(np.random.default_rng(0).integers(100, 200, (64, CLASSES - 1)))
    return ReferenceShapes(ShapeModel.fit(values, stride), BottleneckNetwork(weak, CLASSES, size, strides), sizes)


def autocast(device: torch.device, dtype: str) -> AbstractContextManager[Any]:
    return nullcontext() if dtype == "fp32" else torch.autocast(device.type, DTYPES[dtype])


def seconds(calls: Mapping[str, Callable[[], Any]], device: torch.device, repeats: int) -> dict[str, float]:
    """Median of each call; they take turns, so that a busy machine slows all of them."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(repeats + 2):  # the first two warm up
        for name, call in calls.items():
            _wait(device)
            start = time.perf_counter()
            call()
            _wait(device)
            if turn > 1:
                taken[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in taken.items()}


def _step(
    network: nn.Module, schedule: NoiseSchedule, size: Sequence[int], batch: int, device: torch.device, dtype: str
) -> Callable[[], None]:
    network = network.to(device).train()
    labels = {LABEL: _ball(size).expand(batch, 1, *size)}
    prepare = NoisyLabelPrepareBatch(schedule, CLASSES)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
    loss = ScoreMatchingLoss("posterior", schedule)

    def step() -> None:
        x, target, (level,), _ = prepare(labels, device)
        with autocast(device, dtype):
            logits = network(x, level)
        optimizer.zero_grad()
        loss(logits.float(), target).mean().backward()
        optimizer.step()

    return step


def _ball(size: Sequence[int]) -> Tensor:
    """A map with two structures, ``(*size)``."""
    axes = [torch.linspace(-1, 1, n) for n in size]
    radius = torch.stack(torch.meshgrid(*axes, indexing="ij")).square().sum(0).sqrt()
    return (radius < 0.6).long() + (radius < 0.3).long()


def _timed(calls: Mapping[str, Callable[[], Any]], device: torch.device, repeats: int) -> dict[str, dict[str, float]]:
    work = {}
    for name, call in calls.items():
        with FlopCounterMode(display=False) as counter:
            call()
        work[name] = float(counter.get_total_flops())
    return {name: {"seconds": s, "flop": work[name]} for name, s in seconds(calls, device, repeats).items()}


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def page(sections: Mapping[str, Mapping[str, Any]]) -> str:
    lines = ["# Speed against MONAI's DiffusionModelUNet of equal width", ""]
    lines += [
        f"Channels {list(CHANNELS)}, {CLASSES} classes. Ratio: how many times as long DiffusionModelUNet takes",
        "in fp32. Scoring a case: ours has all statistics and maps of its levels; DiffusionModelUNet's norms of",
        f"{LEVELS} levels, one at a time.",
        "",
    ]
    for name, found in sections.items():
        lines += [f"## {name}", "", f"`{found['command']}` (torch {found['torch']})", ""]
        lines += [found["note"], ""] if "note" in found else []
        tops: dict[str, tuple[float, float]] = {}
        for dtype, shapes in found["peak"].items():
            best = max(shapes, key=shapes.__getitem__)
            convolution = max((s for s in shapes if s.startswith("conv")), key=shapes.__getitem__)
            tops[dtype] = shapes[best], shapes[convolution]
            lines.append(
                f"Peak, {dtype}: {shapes[best] / 1e12:.3g} TFLOP/s ({best}); of convolutions "
                f"{shapes[convolution] / 1e12:.3g} ({convolution})."
            )
        rows = []
        for part, title in _TITLES.items():
            voxels = "x".join(map(str, found["size" if part == "scoring" else "patch"]))
            what = f"{title}, {voxels}" + ("" if part == "scoring" else f", batch {found['batch']}")
            slowest = found[part]["DiffusionModelUNet, fp32"]["seconds"]
            for network, values in found[part].items():
                rate = values["flop"] / values["seconds"]
                shares = [f"{rate / top:.0%}" for top in tops[network.rsplit(", ", 1)[1]]]
                times = [f"{values['seconds'] * 1e3:.1f}", f"{slowest / values['seconds']:.2f}"]
                rows.append([what, network, *times, f"{rate / 1e12:.3g}", *shares])
        head = ["what", "network", "ms", "ratio", "TFLOP/s", "share of the peak", "of the convolutions'"]
        lines += ["", *table(head, rows), ""]
    return "\n".join(lines)


_TITLES = {"training": "training step", "forward": "forward pass", "scoring": "scoring a case"}


if __name__ == "__main__":
    main()
