"""Time of a training step and of scoring a case, against the network a MONAI user would build; share of the peak.

    python scripts/benchmarks/speed.py [--device cuda:0] [--threads 1] [--size 48 56 48] [--patch 128 128 128]

The rival is MONAI's DiffusionModelUNet of equal width, its mandatory attention in the middle included: it scores a case
by the norm of its output at 20 noise levels, one at a time, in fp32. Both are timed in turns in the same run. The peak
is the best of a listed set of matrix products and convolutions in the same run, for the same numbers and threads.
In bf16 ours computes as by the option `amp`, and the rival by autocast. On a GPU a case is also scored as by the option
`cuda_graphs`. The page has a section for each device that was measured.
"""

from __future__ import annotations

import argparse
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch
from bench import Benchmark, Content, table
from monai.networks.nets import DiffusionModelUNet
from published_unet import CHANNELS, LEVELS, diffusion_unet
from roofline import peak, seconds
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from gnsm_monai.data.constants import LABEL
from gnsm_monai.engines import GraphInferer, NoisyLabelPrepareBatch
from gnsm_monai.losses import ScoreMatchingLoss
from gnsm_monai.networks import ScoreUNet
from gnsm_monai.networks.bottleneck import BottleneckNetwork
from gnsm_monai.noise import NoiseSchedule, build_schedule, relax
from gnsm_monai.scoring.reference_shapes import ReferenceShapes
from gnsm_monai.scoring.scorer import Scorer
from gnsm_monai.scoring.shape import ShapeModel, coarse_maps
from gnsm_monai.scoring.shape_network import ShapeNetwork
from gnsm_monai.scoring.sizes import ReferenceSizes

CLASSES = 3
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def measure(options: argparse.Namespace, earlier: Content) -> Iterator[Content]:
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    device, on_gpu = torch.device(options.device), options.device.startswith("cuda")
    name = torch.cuda.get_device_name(device) if on_gpu else f"CPU ({platform.machine()}), {options.threads} thread"
    dtypes = ("fp32", "bf16") if on_gpu else ("fp32",)
    patch = options.patch or options.size
    section = {
        "command": options.command,
        "torch": torch.__version__,
        "size": options.size,
        "batch": options.batch_size,
        "patch": patch,
        "peak": {dtype: peak(device, DTYPES[dtype]) for dtype in dtypes},
        "training": training(patch, options.batch_size, device, dtypes, options.repeats),
        "forward": forward(patch, options.batch_size, device, dtypes, options.repeats),
        "scoring": scoring(options.size, device, dtypes, options.repeats),
    }
    yield {**earlier, name: section}


def ours(schedule: NoiseSchedule, size: Sequence[int]) -> ScoreUNet:
    return ScoreUNet(3, CLASSES, noise=schedule, channels=CHANNELS, position_size=size)


def rival(device: torch.device) -> DiffusionModelUNet:
    return diffusion_unet(3, CLASSES, device)


def training(
    size: Sequence[int], batch: int, device: torch.device, dtypes: Sequence[str], repeats: int
) -> dict[str, dict[str, float]]:
    """Seconds and FLOP of one step: noise, forward, loss, backward, AdamW."""
    schedule = build_schedule("mixing")
    steps = {}
    for dtype in dtypes:
        steps[f"ours, {dtype}"] = training_step(ours(schedule, size), schedule, size, batch, device, dtype)
        steps[f"DiffusionModelUNet, {dtype}"] = training_step(rival(device), schedule, size, batch, device, dtype)
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
                with torch.inference_mode(), precision(network, device, dtype):
                    network(x, level)

            calls[f"{name}, {dtype}"] = call
    return _timed(calls, device, repeats)


def scoring(
    size: Sequence[int], device: torch.device, dtypes: Sequence[str], repeats: int
) -> dict[str, dict[str, float]]:
    """Seconds and FLOP of one case: ours with all statistics and maps of all levels, the rival's with its norms."""
    schedule, published = build_schedule("mixing"), build_schedule({"name": "temperature", "num_levels": LEVELS})
    probabilities = torch.nn.functional.one_hot(ball(size), CLASSES).movedim(-1, 0)[None].float().to(device)
    network, other = ours(schedule, size).to(device).eval(), rival(device).to(device).eval()
    chunk, models = 2 if device.type == "cpu" else 16, shapes(schedule, size)
    scorers = {"ours": Scorer(schedule, chunk_size=chunk)}
    if device.type == "cuda":
        scorers["ours by CUDA graphs"] = Scorer(schedule, inferer=GraphInferer(chunk), chunk_size=chunk)

    def rivals() -> None:
        with torch.inference_mode():
            for number in range(LEVELS):
                level = torch.tensor([number], device=device)
                x = relax(published.log_alpha(probabilities, level), published.temperature(level), None)
                other(x, level).square().sum().sqrt().item()

    def own(scorer: Scorer, dtype: str) -> None:
        with precision(network, device, dtype):
            scorer(network, probabilities, shapes=models)

    calls: dict[str, Callable[[], Any]] = {
        f"{name}, {dtype}": partial(own, scorer, dtype) for name, scorer in scorers.items() for dtype in dtypes
    }
    timed = _timed({**calls, "DiffusionModelUNet, fp32": rivals}, device, repeats)
    for name in calls:  # a graph's work is not counted
        timed[name]["flop"] = timed[f"ours, {name.rsplit(', ', 1)[1]}"]["flop"]
    return timed


def shapes(schedule: NoiseSchedule, size: Sequence[int]) -> ReferenceShapes:
    """Models of shapes as large as trained ones."""
    strides = [[2, 2, 2]] * len(CHANNELS)
    generator = torch.Generator().manual_seed(0)
    maps = (torch.rand(CLASSES, *size, generator=generator) for _ in range(64))
    values, stride = coarse_maps(maps, strides)
    weak = NoiseSchedule(schedule.betas[:2], schedule.temperatures[:2], schedule.floor)
    sizes = ReferenceSizes.fit(np.random.default_rng(0).integers(100, 200, (64, CLASSES - 1)))
    network = ShapeNetwork(BottleneckNetwork(weak, CLASSES, size, strides), (1,) * len(size))
    return ReferenceShapes(ShapeModel.fit(values, stride), network, sizes)


def precision(network: nn.Module, device: torch.device, dtype: str) -> AbstractContextManager[Any]:
    """Ours computes in a type by itself; the rival needs autocast."""
    lower = None if dtype == "fp32" else DTYPES[dtype]
    if isinstance(network, ScoreUNet):
        network.compute_dtype = lower
        return nullcontext()
    return nullcontext() if lower is None else torch.autocast(device.type, lower)


def training_step(
    network: nn.Module, schedule: NoiseSchedule, size: Sequence[int], batch: int, device: torch.device, dtype: str
) -> Callable[[], None]:
    """One step of training: noise, forward, loss, backward, AdamW."""
    network = network.to(device).train()
    labels = {LABEL: ball(size).expand(batch, 1, *size)}
    prepare = NoisyLabelPrepareBatch(schedule, CLASSES)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
    loss = ScoreMatchingLoss("posterior", schedule)

    def step() -> None:
        x, target, (level,), _ = prepare(labels, device)
        with precision(network, device, dtype):
            logits = network(x, level)
        optimizer.zero_grad()
        loss(logits.float(), target).mean().backward()
        optimizer.step()

    return step


def ball(size: Sequence[int]) -> Tensor:
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


def lines(content: Content) -> list[str]:
    text = [
        f"Channels {list(CHANNELS)}, {CLASSES} classes. Ratio: how many times as long DiffusionModelUNet takes",
        "in fp32. Scoring a case: ours has all statistics and maps of its levels; DiffusionModelUNet's norms of",
        f"{LEVELS} levels, one at a time.",
        "",
    ]
    for name, section in content.items():
        text += [f"## {name}", "", f"`{section['command']}` (torch {section['torch']})", ""]
        text += [section["note"], ""] if "note" in section else []
        tops: dict[str, tuple[float, float]] = {}
        for dtype, rates in section["peak"].items():
            best = max(rates, key=rates.__getitem__)
            convolution = max((shape for shape in rates if shape.startswith("conv")), key=rates.__getitem__)
            tops[dtype] = rates[best], rates[convolution]
            text.append(
                f"Peak, {dtype}: {rates[best] / 1e12:.3g} TFLOP/s ({best}); of convolutions "
                f"{rates[convolution] / 1e12:.3g} ({convolution})."
            )
        rows = []
        for part, title in _TITLES.items():
            voxels = "x".join(map(str, section["size" if part == "scoring" else "patch"]))
            what = f"{title}, {voxels}" + ("" if part == "scoring" else f", batch {section['batch']}")
            slowest = section[part]["DiffusionModelUNet, fp32"]["seconds"]
            for network, values in section[part].items():
                rate = values["flop"] / values["seconds"]
                shares = [f"{rate / top:.0%}" for top in tops[network.rsplit(", ", 1)[1]]]
                times = [f"{values['seconds'] * 1e3:.1f}", f"{slowest / values['seconds']:.2f}"]
                rows.append([what, network, *times, f"{rate / 1e12:.3g}", *shares])
        head = ["what", "network", "ms", "ratio", "TFLOP/s", "share of the peak", "of the convolutions'"]
        text += ["", *table(head, rows), ""]
    return text


_TITLES = {"training": "training step", "forward": "forward pass", "scoring": "scoring a case"}

BENCHMARK = Benchmark(
    "speed",
    "Speed against MONAI's DiffusionModelUNet of equal width",
    measure,
    lines,
    {
        "--device": {"default": "cpu"},
        "--threads": {"type": int, "default": 1, "help": "of the CPU"},
        "--size": {"type": int, "nargs": 3, "default": [48, 56, 48], "help": "voxels of a case"},
        "--patch": {"type": int, "nargs": 3, "help": "voxels of a training map; those of a case by default"},
        "--batch-size": {"type": int, "default": 2},
        "--repeats": {"type": int, "default": 9},
    },
    __doc__,
)

if __name__ == "__main__":
    BENCHMARK.run()
