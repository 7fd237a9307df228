"""The network in the formats that others run, each loaded again and compared with the original."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.data import load_net_with_metadata, save_net_with_metadata

from bundle_checks.files import read_metadata
from bundle_checks.outcome import CheckFailedError, CheckSkippedError
from bundle_checks.workflows import example_inputs

TOLERANCE = 1e-3
"""Largest difference of logits: classes differ by whole numbers, and float32 sums in another order by some 1e-5."""


def torchscript(network: torch.nn.Module, model: Path, work: Path) -> str:
    """What MONAI's ckpt_export writes, by tracing.

    ckpt_export itself gives a network one input, and this one also takes the noise level. The grid is fixed by tracing.
    """
    inputs = example_inputs(model, network)
    path = work / "model.ts"
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a trace holds constants, as it should: the schedule's, and the grid's size
        traced = torch.jit.trace(network, inputs, check_trace=False)
        config = ConfigParser.load_config_file(str(model / "configs" / "inference.yaml"))
        save_net_with_metadata(
            traced,
            str(path),
            meta_values=read_metadata(model),
            more_extra_files={"inference.json": json.dumps(config).encode()},
        )
        loaded, metadata, _ = load_net_with_metadata(str(path))
        if metadata.get("version") != read_metadata(model)["version"]:
            raise CheckFailedError("the metadata were lost on the way")
        return _compared(network, [(given, loaded(*given)) for given in (inputs, _one_more(inputs))], path)


def exported_program(network: torch.nn.Module, model: Path, work: Path) -> str:
    """torch.export for the model's own grid and any number of samples."""
    inputs = example_inputs(model, network)
    path = work / "model.pt2"
    program = torch.export.export(network, inputs, dynamic_shapes=tuple({0: torch.export.Dim.AUTO} for _ in inputs))
    torch.export.save(program, path)
    loaded = torch.export.load(path).module()
    with torch.no_grad():
        return _compared(network, [(given, loaded(*given)) for given in (inputs, _one_more(inputs))], path)


def onnx(network: torch.nn.Module, model: Path, work: Path) -> str:
    """ONNX for the model's own grid, run by onnxruntime."""
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401  (what torch exports with)
    except ImportError as error:
        raise CheckSkippedError(f"{error}; the extra `onnx` installs it") from None
    inputs = example_inputs(model, network)
    path = work / "model.onnx"
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(network, inputs, path, dynamo=True, verbose=False, external_data=False)
    onnx.checker.check_model(str(path))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    named = {given.name: value.numpy() for given, value in zip(session.get_inputs(), inputs, strict=True)}
    with torch.no_grad():
        return _compared(network, [(inputs, torch.from_numpy(session.run(None, named)[0]))], path)


def _one_more(inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    """The inputs with one sample more: the batch size of the example must not have been written into the file."""
    return tuple(torch.cat([value, value[:1]]) for value in inputs)


def _compared(network: torch.nn.Module, results: Sequence[tuple[tuple[Any, ...], torch.Tensor]], path: Path) -> str:
    """What was found, in words; raises CheckFailedError where an exported network says otherwise than the original."""
    largest, sizes = 0.0, []
    for inputs, found in results:
        expected = network(*inputs)
        if found.shape != expected.shape:
            raise CheckFailedError(f"shape {tuple(found.shape)} in place of {tuple(expected.shape)}")
        largest = max(largest, float((found - expected).detach().abs().max()))
        sizes.append(" x ".join(map(str, expected.shape)))
    if not largest <= TOLERANCE:
        raise CheckFailedError(f"logits differ by up to {largest:.2g}, more than {TOLERANCE:g}")
    return f"logits of {' and '.join(sizes)} within {largest:.1g}, {path.stat().st_size / 1e6:.2f} MB"
