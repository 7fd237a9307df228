"""Where the time of a training step and of scoring a case goes, and what operations of one axis at a time save.

    OMP_NUM_THREADS=1 python scripts/benchmarks/time_shares.py [--threads 1] [--size 48 56 48] [--repeats 5] [--compile]

The operations of torch's profiler that take most of the time; torch's and MONAI's kernels for whole neighbourhoods
beside those of gnsm_monai.networks.separable that stand in for them, timed in turns, with the greatest difference of
what they give; the least time that the network's operations could take (roofline.py), beside the time they took; and
what bf16 and, with ``--compile``, torch.compile make of them, which needs a C++ compiler and some minutes.
Writes docs/benchmarks/time_shares.md.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from markdown import MISSING, table
from monai.networks.layers import GaussianFilter
from roofline import Roofline, bandwidth
from speed import CLASSES, _ball, _step, ours, peak, seconds, shapes
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from gnsm_monai.networks.separable import dilate, smooth, upsample
from gnsm_monai.noise import build_schedule, gumbel_noise
from gnsm_monai.scoring.scorer import Scorer

PAGE = Path(__file__).resolve().parents[2] / "docs" / "benchmarks" / "time_shares.md"
CPU, SHOWN = torch.device("cpu"), 14


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--size", type=int, nargs=3, default=[48, 56, 48], help="voxels of a case")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--compile", action="store_true", help="time torch.compile, too")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    schedule = build_schedule("mixing")
    network = ours(schedule, arguments.size)
    probabilities = F.one_hot(_ball(arguments.size), CLASSES).movedim(-1, 0)[None].float()
    scorer, models = Scorer(schedule, chunk_size=2), shapes(schedule, arguments.size)
    parts = {
        "a training step, batch 4": operations(_step(network, schedule, arguments.size, 4, CPU, "fp32")),
        "scoring a case": operations(lambda: scorer(network.eval(), probabilities, shapes=models)),
    }
    x = torch.softmax(torch.randn(2, CLASSES, *arguments.size), 1).log()
    level = torch.zeros(2, dtype=torch.long)

    def forward() -> None:
        with torch.no_grad():  # in inference_mode torch shows what operations are made of to nobody
            network(x, level)

    bound = roof(forward, x.numel(), arguments.repeats)
    tried = alternatives(network, x, level, arguments.repeats, arguments.compile)
    command = " ".join(["OMP_NUM_THREADS=1 python scripts/benchmarks/time_shares.py", *sys.argv[1:]])
    PAGE.write_text(page(command, arguments.size, kernels(arguments.size, arguments.repeats), parts, bound, tried))
    print(PAGE.read_text())


def operations(call: Callable[[], object], repeats: int = 3) -> list[tuple[str, float, float]]:
    """Name, milliseconds per call and share of the time of each operation, the longest first."""
    call()
    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        for _ in range(repeats):
            call()
    averages = recorded.key_averages()
    total = sum(event.self_cpu_time_total for event in averages)
    found = sorted(averages, key=lambda event: -event.self_cpu_time_total)
    return [(e.key, e.self_cpu_time_total / 1e3 / repeats, e.self_cpu_time_total / total) for e in found]


def kernels(size: Sequence[int], repeats: int) -> list[list[str]]:
    """Milliseconds of each operation by a library's kernel and by ours, their ratio, and the greatest difference."""
    half = [n // 2 for n in size]
    seen = torch.rand(2, 4 * CLASSES, *half).contiguous(memory_format=torch.channels_last_3d)
    part, mask = seen[:, :CLASSES], (torch.rand(2, 1, *size) > 0.9).float()
    blur = GaussianFilter(3, 1.5)
    pairs: dict[str, tuple[Callable[[], Tensor], Callable[[], Tensor]]] = {
        "trilinear, by 2": (
            lambda: F.interpolate(part, size=list(size), mode="trilinear"),
            lambda: upsample(part, size),
        ),
        "trilinear, by 2, and its gradient": (
            lambda: _gradient(part, lambda maps: F.interpolate(maps, size=list(size), mode="trilinear")),
            lambda: _gradient(part, lambda maps: upsample(maps, size)),
        ),
        "greatest value within 2 voxels": (lambda: F.max_pool3d(mask, 5, 1, 2), lambda: dilate(mask, [2] * 3)),
        "Gaussian of 1.5 voxels": (lambda: blur(mask), lambda: smooth(mask, 1.5)),
    }
    rows = []
    for name, (library, own) in pairs.items():
        taken = seconds({"library": library, "own": own}, CPU, repeats)
        ms = [1e3 * taken[which] for which in ("library", "own")]
        apart = float((library() - own()).abs().max())
        rows.append([name, *(f"{value:.2f}" for value in ms), f"{ms[0] / ms[1]:.1f}", f"{apart:.1e}"])
    like = torch.empty(4, CLASSES, *size)
    taken = seconds(
        {"library": lambda: -torch.empty_like(like).exponential_().log(), "own": lambda: gumbel_noise(like)},
        CPU,
        repeats,
    )
    ms = [1e3 * taken[which] for which in ("library", "own")]
    rows.append(["Gumbel noise of 4 maps", *(f"{value:.2f}" for value in ms), f"{ms[0] / ms[1]:.1f}", "random"])
    return rows


def roof(call: Callable[[], None], values: int, repeats: int) -> list[str]:
    """Lines on a call: arithmetic, memory, the least time of all operations, and the time they took."""

    def timed(one: Callable[[], object]) -> float:
        return seconds({"": one}, CPU, repeats)[""]

    top = max(rate for name, rate in peak(CPU, torch.float32).items() if name.startswith("conv"))
    found = Roofline(top, bandwidth(values, timed)).run(call)
    flop, least, taken = sum(found.flop.values()), sum(found.seconds.values()), timed(call)
    kinds = sorted(found.seconds, key=lambda name: -found.seconds[name])[:SHOWN]
    rows = [
        [
            f"`{name}`",
            f"{found.flop[name] / 1e9:.2f}",
            f"{found.bytes[name] / 1e6:.0f}",
            f"{1e3 * found.seconds[name]:.1f}",
        ]
        for name in kinds
    ]
    rows.append(["everything", f"{flop / 1e9:.2f}", f"{sum(found.bytes.values()) / 1e6:.0f}", f"{1e3 * least:.1f}"])
    rates = f"{top / 1e9:.0f} GFLOP/s in this run, sums of arrays as large as a case {found.bandwidth / 1e9:.1f} GB/s"
    return [
        f"Convolutions reach {rates}.",
        f"If every operation reached one of these, the pass would take {1e3 * least:.0f} ms and use",
        f"{flop / top / least:.0%} of the convolutions' peak. It takes {1e3 * taken:.0f} ms: {flop / top / taken:.0%}.",
        "",
        *table(["operation", "GFLOP", "MB moved", "least ms"], rows), "",
    ]  # fmt: skip


def alternatives(network: nn.Module, x: Tensor, level: Tensor, repeats: int, with_compiler: bool) -> list[list[str]]:
    """Milliseconds of the forward pass as it is and otherwise, the ratio, and what had to be waited for."""
    compiled, start = torch.compile(network), time.perf_counter()
    calls: dict[str, Callable[[], object]] = {"fp32, as it is": lambda: network(x, level)}
    waited = {}
    if with_compiler:
        with torch.inference_mode():
            compiled(x, level)
        waited["torch.compile"] = f"{time.perf_counter() - start:.0f} s"
        calls["torch.compile"] = lambda: compiled(x, level)

    def blunt() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            network(x, level)

    calls["bf16 by autocast"] = blunt
    with torch.inference_mode():
        taken = seconds(calls, CPU, repeats)
    usual = taken["fp32, as it is"]
    return [[name, f"{1e3 * t:.0f}", f"{usual / t:.2f}", waited.get(name, MISSING)] for name, t in taken.items()]


def _gradient(maps: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    own = maps.detach().clone().requires_grad_()
    function(own).square().sum().backward()
    assert own.grad is not None
    return own.grad


def page(
    command: str,
    size: Sequence[int],
    pairs: list[list[str]],
    parts: dict[str, list[tuple[str, float, float]]],
    bound: list[str],
    tried: list[list[str]],
) -> str:
    text = [
        "# Where the time goes", "",
        f"`{command}` (torch {torch.__version__}), maps of {'x'.join(map(str, size))} voxels, {CLASSES} classes", "",
        "## One axis at a time", "",
        *table(["operation", "library, ms", "ours, ms", "ratio", "greatest difference"], pairs), "",
        "## The forward pass under its roof", "",
        *bound,
        "## The forward pass otherwise", "",
        *table(["how", "ms", "times as fast", "compiled once in"], tried), "",
    ]  # fmt: skip
    for title, found in parts.items():
        rows = [[f"`{name}`", f"{ms:.1f}", f"{share:.1%}"] for name, ms, share in found[:SHOWN]]
        rows.append(["everything", f"{sum(ms for _, ms, _ in found):.1f}", "100 %"])
        text += [f"## {title[0].upper()}{title[1:]}", "", *table(["operation", "ms", "share"], rows), ""]
    return "\n".join(text)


if __name__ == "__main__":
    main()
