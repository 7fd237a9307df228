"""Where the time of a training step and of scoring a case goes, and what operations of one axis at a time save.

    OMP_NUM_THREADS=1 python scripts/benchmarks/time_shares.py [--threads 1] [--size 48 56 48] [--repeats 5] [--compile]

The operations of torch's profiler that take most of the time; torch's and MONAI's kernels for whole neighbourhoods
beside those of gnsm_monai.networks.separable that stand in for them, timed in turns, with the greatest difference of
what they give; the least time that the network's operations could take (roofline.py), beside the time they took; and
what bf16 and, with ``--compile``, torch.compile make of them, which needs a C++ compiler and some minutes.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from bench import MISSING, Benchmark, Content, table
from monai.networks.layers import GaussianFilter
from roofline import Roofline, bandwidth, peak, seconds
from speed import CLASSES, ball, ours, shapes, training_step
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from gnsm_monai.networks.separable import dilate, smooth, upsample
from gnsm_monai.noise import build_schedule, gumbel_noise
from gnsm_monai.scoring.scorer import Scorer

CPU, SHOWN = torch.device("cpu"), 14


def measure(options: argparse.Namespace, earlier: Content) -> Iterator[Content]:
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    size, repeats = options.size, options.repeats
    schedule = build_schedule("mixing")
    network = ours(schedule, size)
    probabilities = F.one_hot(ball(size), CLASSES).movedim(-1, 0)[None].float()
    scorer, models = Scorer(schedule, chunk_size=2), shapes(schedule, size)
    operations_of = {
        "a training step, batch 4": operations(training_step(network, schedule, size, 4, CPU, "fp32")),
        "scoring a case": operations(lambda: scorer(network.eval(), probabilities, shapes=models)),
    }
    x = torch.softmax(torch.randn(2, CLASSES, *size), 1).log()
    level = torch.zeros(2, dtype=torch.long)

    def forward() -> None:
        with torch.no_grad():  # in inference_mode torch shows what operations are made of to nobody
            network(x, level)

    yield {
        "command": options.command,
        "setting": f"torch {torch.__version__}, maps of {'x'.join(map(str, size))} voxels, {CLASSES} classes",
        "kernels": kernels(size, repeats),
        "roofline": roofline(forward, x.numel(), repeats),
        "forward": alternatives(network, x, level, repeats, options.compile),
        "operations": operations_of,
    }


def operations(call: Callable[[], object], repeats: int = 3) -> dict[str, Any]:
    """``longest``: name, milliseconds per call and share of the time of operations; ``ms`` of all together."""
    call()
    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        for _ in range(repeats):
            call()
    events = sorted(recorded.key_averages(), key=lambda event: -event.self_cpu_time_total)
    total = sum(event.self_cpu_time_total for event in events)
    times = [(e.key, e.self_cpu_time_total / 1e3 / repeats, e.self_cpu_time_total / total) for e in events]
    return {"longest": times[:SHOWN], "ms": total / 1e3 / repeats}


def kernels(size: Sequence[int], repeats: int) -> list[list[Any]]:
    """Name of an operation, ms by a library's kernel and by ours, and the greatest difference (None where random)."""
    half = [n // 2 for n in size]
    seen = torch.rand(2, 4 * CLASSES, *half).contiguous(memory_format=torch.channels_last_3d)
    part, mask = seen[:, :CLASSES], (torch.rand(2, 1, *size) > 0.9).float()
    blur, like = GaussianFilter(3, 1.5), torch.empty(4, CLASSES, *size)
    noise = "Gumbel noise of 4 maps"
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
        noise: (lambda: -torch.empty_like(like).exponential_().log(), lambda: gumbel_noise(like)),
    }
    rows: list[list[Any]] = []
    for name, (library, own) in pairs.items():
        taken = seconds({"library": library, "own": own}, CPU, repeats)
        difference = None if name == noise else float((library() - own()).abs().max())
        rows.append([name, 1e3 * taken["library"], 1e3 * taken["own"], difference])
    return rows


def roofline(call: Callable[[], None], values: int, repeats: int) -> dict[str, Any]:
    """What a call needs: FLOP, bytes and least ms per operation and in all, and the ms that it takes."""
    top = max(rate for name, rate in peak(CPU, torch.float32).items() if name.startswith("conv"))
    needed = Roofline(top, bandwidth(values, CPU, repeats)).run(call)
    kinds = sorted(needed.seconds, key=lambda name: -needed.seconds[name])[:SHOWN]
    return {
        "flop_per_second": top,
        "bytes_per_second": needed.bandwidth,
        "operations": [[n, needed.flop[n], needed.bytes[n], 1e3 * needed.seconds[n]] for n in kinds],
        "everything": [sum(needed.flop.values()), sum(needed.bytes.values()), 1e3 * sum(needed.seconds.values())],
        "ms": 1e3 * seconds({"": call}, CPU, repeats)[""],
    }


def alternatives(network: nn.Module, x: Tensor, level: Tensor, repeats: int, with_compiler: bool) -> list[list[Any]]:
    """How the forward pass is done, its milliseconds, and the seconds of compiling it."""
    calls: dict[str, Callable[[], object]] = {"fp32, as it is": lambda: network(x, level)}
    waited: dict[str, float] = {}
    if with_compiler:
        compiled, start = torch.compile(network), time.perf_counter()
        with torch.inference_mode():
            compiled(x, level)
        waited["torch.compile"] = time.perf_counter() - start
        calls["torch.compile"] = lambda: compiled(x, level)

    def in_bf16() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            network(x, level)

    calls["bf16 by autocast"] = in_bf16
    with torch.inference_mode():
        taken = seconds(calls, CPU, repeats)
    return [[name, 1e3 * t, waited.get(name)] for name, t in taken.items()]


def _gradient(maps: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    own = maps.detach().clone().requires_grad_()
    function(own).square().sum().backward()
    assert own.grad is not None
    return own.grad


def lines(content: Content) -> list[str]:
    pairs = [
        [name, f"{library:.2f}", f"{own:.2f}", f"{library / own:.1f}", "random" if apart is None else f"{apart:.1e}"]
        for name, library, own, apart in content["kernels"]
    ]
    usual = content["forward"][0][1]
    tried = [
        [name, f"{ms:.0f}", f"{usual / ms:.2f}", MISSING if compiling is None else f"{compiling:.0f} s"]
        for name, ms, compiling in content["forward"]
    ]
    text = [
        "## One axis at a time", "",
        *table(["operation", "library, ms", "ours, ms", "ratio", "greatest difference"], pairs), "",
        "## The forward pass under its roof", "",
        *_roofline_lines(content["roofline"]), "",
        "## The forward pass otherwise", "",
        *table(["how", "ms", "times as fast", "compiled once in"], tried), "",
    ]  # fmt: skip
    for title, measured in content["operations"].items():
        rows = [[f"`{name}`", f"{ms:.1f}", f"{share:.1%}"] for name, ms, share in measured["longest"]]
        rows.append(["everything", f"{measured['ms']:.1f}", "100 %"])
        text += [f"## {title[0].upper()}{title[1:]}", "", *table(["operation", "ms", "share"], rows), ""]
    return text


def _roofline_lines(roof: Content) -> list[str]:
    top, (flop, _, least) = roof["flop_per_second"], roof["everything"]
    rates = f"{top / 1e9:.0f} GFLOP/s in this run, sums of arrays as large as a case"
    named = [[f"`{name}`", *figures] for name, *figures in roof["operations"]]
    rows = [
        [name, f"{flop / 1e9:.2f}", f"{moved / 1e6:.0f}", f"{ms:.1f}"]
        for name, flop, moved, ms in [*named, ["everything", *roof["everything"]]]
    ]
    return [
        f"Convolutions reach {rates} {roof['bytes_per_second'] / 1e9:.1f} GB/s.",
        f"If every operation reached one of these, the pass would take {least:.0f} ms and use",
        f"{flop / top / least * 1e3:.0%} of the convolutions' peak. "
        f"It takes {roof['ms']:.0f} ms: {flop / top / roof['ms'] * 1e3:.0%}.",
        "",
        *table(["operation", "GFLOP", "MB moved", "least ms"], rows),
    ]


BENCHMARK = Benchmark(
    "time_shares",
    "Where the time goes",
    measure,
    lines,
    {
        "--threads": {"type": int, "default": 1},
        "--size": {"type": int, "nargs": 3, "default": [48, 56, 48], "help": "voxels of a case"},
        "--repeats": {"type": int, "default": 5},
        "--compile": {"action": "store_true", "help": "time torch.compile, too"},
    },
    __doc__,
)

if __name__ == "__main__":
    BENCHMARK.run()
