"""What a CUDA device must give: the numbers of the CPU, and the same ranking from the same commands."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gnsm_monai.data.phantoms import write_phantom_dataset
from gnsm_monai.engines import ChunkedInferer, GraphInferer
from gnsm_monai.networks import ScoreUNet
from gnsm_monai.noise import mixing_schedule
from gnsm_monai.rules import to_array
from gnsm_monai.scoring import Scorer, Structures
from tests.networks.test_precision import in_bfloat16, inputs, unet

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
SCHEDULE = mixing_schedule(num_levels=3)


@pytest.mark.parametrize("dims", [2, 3])
def test_statistics_are_those_of_the_cpu(dims: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    network = ScoreUNet(dims, 3, noise=SCHEDULE, channels=(16, 32), position_size=(32,) * dims).eval()
    nn.init.normal_(network.head[-1].weight, std=0.1)
    label = torch.zeros(1, *(32,) * dims, dtype=torch.long)
    label[(0, *(slice(8, 20),) * dims)] = 1
    label[(0, *(slice(12, 16),) * dims)] = 2
    probabilities = F.one_hot(label, 3).movedim(-1, 1).float()
    scorer = Scorer(SCHEDULE, structures=Structures(band_voxels=(2,) * dims), num_draws=1)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    own = scorer(network, probabilities)
    other = scorer(network.cuda(), probabilities.cuda())
    np.testing.assert_allclose(to_array(other.levels), to_array(own.levels), rtol=1e-4)
    np.testing.assert_allclose(other.structures, own.structures, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(other.anomaly_map, own.anomaly_map, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_bfloat16_is_close_to_float32(spatial_dims: int) -> None:
    """By the tolerances of tests/networks/test_precision.py."""
    net = unet(spatial_dims, 1).cuda()
    lower, seen = in_bfloat16(net), [value.cuda() for value in inputs(net)]
    exact, logits = net(*seen), lower(*seen)
    said = exact - net.independent_logits(*seen[:2])
    assert logits.dtype == torch.float32
    assert 0 < (logits - exact).square().mean().sqrt() < 2**-5 * said.square().mean().sqrt()
    for each in (exact, logits):
        each.log_softmax(1)[:, 0].mean().backward()
    for (name, first), (_, other) in zip(net.named_parameters(), lower.named_parameters(), strict=True):
        assert first.grad is not None and other.grad is not None and other.grad.dtype == torch.float32, name
        assert F.cosine_similarity(first.grad.flatten(), other.grad.flatten(), dim=0) > 0.99, name


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
@pytest.mark.parametrize("max_graphs", [1, 4])
def test_a_graph_says_what_the_network_says(spatial_dims: int, dtype: torch.dtype | None, max_graphs: int) -> None:
    """Chunks of two shapes, other inputs each time, and weights that change in between."""
    net = unet(spatial_dims, 1).cuda().eval()
    net.compute_dtype = dtype
    inferer, eager = GraphInferer(3, max_graphs), ChunkedInferer(3)
    for mode in (torch.inference_mode, torch.no_grad, torch.inference_mode):
        with mode():
            x, level, image = (value.cuda() for value in inputs(net, batch=8))
            for _ in range(3):
                x, image = x.roll(1, 0), image + 0.1
                expected = eager(x, net, level, image=image)
                torch.testing.assert_close(inferer(x, net, level, image=image), expected, rtol=1e-4, atol=1e-4)
        with torch.no_grad():
            net.stem.weight.mul_(1.5)
            net.head[-1].bias.add_(1)


def test_a_case_has_the_same_statistics_by_graphs() -> None:
    net = unet(3, 0).cuda().eval()
    probabilities = F.one_hot(torch.randint(0, 3, (1, 9, 8, 7), device="cuda"), 3).movedim(-1, 1).float()
    usual, graphs = Scorer(net.schedule, chunk_size=3), Scorer(net.schedule, inferer=GraphInferer(3), chunk_size=3)
    for _ in range(2):
        expected, measured = (to_array(scorer(net, probabilities).levels) for scorer in (usual, graphs))
        np.testing.assert_allclose(measured, expected, rtol=1e-4)


def gnsm(*arguments: Any) -> None:
    subprocess.run([sys.executable, "-m", "gnsm_monai", *map(str, arguments)], check=True)


def test_a_model_trained_on_the_gpu_ranks_alike_on_both(tmp_path: Path) -> None:
    dataset = write_phantom_dataset(tmp_path / "data", 2)
    options = ["--device", "cuda:0", "--epochs", 2]
    gnsm("train", "--dataset", dataset, "--output", tmp_path / "model", *options)
    scores = {}
    for device in ("cuda:0", "cpu"):
        output = tmp_path / device.partition(":")[0]
        masks = ["--predictions", dataset / "labelsTs", "--output", output]
        gnsm("rank", "--model", tmp_path / "model", *masks, "--device", device)
        with open(output / "ranking.csv", newline="") as file:
            scores[device] = {row["case"]: float(row["anomaly_score"]) for row in csv.DictReader(file)}
    cpu = scores["cpu"]
    assert cpu and scores["cuda:0"] == pytest.approx(cpu, rel=1e-2)  # TF32 in cuDNN's convolutions
