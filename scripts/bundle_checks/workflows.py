"""A bundle's configs, run as MONAI runs them."""

from __future__ import annotations

import contextlib
import inspect
import io
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser, ConfigWorkflow, verify_net_in_out

from bundle_checks.files import read_metadata
from bundle_checks.outcome import CheckFailedError

QUICK: dict[str, Any] = {
    "epochs": 1,
    "steps_per_epoch": 2,
    "batch_size": 2,
    "max_voxels": 6000,
    "noise": {"name": "mixing", "num_levels": 3},
    "network_def::channels": [8, 16],
    "failures": "copies",  # a small network that fails would train longer than the bundle's own
    "fit::failures::copies": 1,
    "fit::failures::calibration_copies": 1,
    "device": "cpu",
}
"""Overrides that make training a matter of seconds; a bundle is given those that its config knows."""


def train(root: Path, model: Path, data: Path) -> str:
    config = ConfigParser.load_config_file(str(root / "configs" / "train.yaml"))
    known = {key: value for key, value in QUICK.items() if _has(config, key)}
    _run(root, ["train.yaml"], "train", model_dir=str(model), data_dir=str(data), **known)
    return f"check_properties is empty, {sum(path.is_file() for path in model.rglob('*'))} files written"


def scoring_configs(root: Path) -> list[str]:
    """Names of the configs that a trained model is to be tried with."""
    return [name for name in ("inference.yaml", "evaluate.yaml") if (root / "configs" / name).is_file()]


def score(root: Path, name: str, model: Path, data: Path, output: Path) -> str:
    """Scores the built-in data; the model was trained for two steps, so that only the running is judged."""
    files = [name] if name == "inference.yaml" else ["inference.yaml", name]
    config = ConfigParser.load_config_files([str(root / "configs" / file) for file in files])
    given = {"model_dir": str(model), "output_dir": str(output), "device": "cpu"}
    if "predictions_dir" in config:
        labels = sorted(data.rglob("labelsTs"))[0]
        given |= {"predictions_dir": str(labels), "references_dir": str(labels)}
    else:
        given["dataset_dir"] = str(sorted(data.rglob("*.csv"))[0])
    _run(root, files, "infer", **given)
    ranking = output / "ranking.csv"
    if not ranking.is_file():
        raise CheckFailedError("no ranking.csv was written")
    return f"check_properties is empty, {len(ranking.read_text().splitlines()) - 1} cases ranked"


def _run(root: Path, files: list[str], workflow_type: str, **overrides: Any) -> None:
    paths = [str(root / "configs" / file) for file in files]
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        workflow = ConfigWorkflow(
            config_file=paths if len(paths) > 1 else paths[0],
            workflow_type=workflow_type,
            logging_file=False,
            meta_file=str(root / "configs" / "metadata.json"),
            **overrides,
        )
        try:
            workflow.initialize()
            missing = workflow.check_properties()
            workflow.run()
            workflow.finalize()
        except SystemExit as stop:
            if stop.code:
                raise CheckFailedError(f"exit code {stop.code}: {output.getvalue()[-500:]}") from stop
    if missing:
        raise CheckFailedError(f"properties that MONAI's tools look for are missing: {', '.join(missing)}")


def verify_network(model: Path) -> str:
    """MONAI's verify_net_in_out, with the inputs beside the first one from the metadata."""
    network = load_network(model)
    arguments = example_inputs(model, network)
    names = list(inspect.signature(network.forward).parameters)
    verify_net_in_out(
        net_id=network_id(model),
        meta_file=str(model / "configs" / "metadata.json"),
        config_file=str(model / "configs" / "inference.yaml"),
        device="cpu",
        any=16,
        extra_forward_args={name: value[:1] for name, value in zip(names[1:], arguments[1:], strict=False)},
        bundle_root=str(model),
        model_dir=str(model),
    )
    return ", ".join(f"{name} {tuple(value.shape)}" for name, value in zip(names, arguments, strict=False))


def network_id(model: Path) -> str:
    """Id of the network with its weights, in inference.yaml."""
    config = ConfigParser.load_config_file(str(model / "configs" / "inference.yaml"))
    return "network" if "network" in config else "network_def"


def load_network(model: Path) -> torch.nn.Module:
    """The network of a trained model, in evaluation mode."""
    parser = ConfigParser()
    parser.read_config(str(model / "configs" / "inference.yaml"))
    for key, value in {"bundle_root": str(model), "model_dir": str(model), "device": "cpu"}.items():
        parser[key] = value
    network: torch.nn.Module = parser.get_parsed_content(network_id(model))
    return network.eval()


def example_inputs(model: Path, network: torch.nn.Module, batch: int = 2) -> tuple[torch.Tensor, ...]:
    """Tensors of the kinds that the metadata describe, in the order of the network's arguments.

    A tensor has the shape ``(batch, num_channels, *spatial_shape)``; a number per sample (one channel, no spatial axis,
    after the first input) has the shape ``(batch,)``.

    Raises:
        CheckFailedError: the network takes an argument that the metadata do not describe.
    """
    formats = read_metadata(model)["network_data_format"]
    described, classes = list(formats["inputs"].values()), formats["outputs"]["pred"]["num_channels"]
    # An image comes as further channels of the first input.
    parameters = [name for name in inspect.signature(network.forward).parameters if name != "image"]
    if len(described) != len(parameters):
        raise CheckFailedError(
            f"the network takes {', '.join(parameters)}; the metadata describe {len(described)} inputs"
        )
    generator = torch.Generator().manual_seed(0)
    tensors = []
    for number, tensor in enumerate(described):
        shape = (batch, tensor["num_channels"], *tensor["spatial_shape"])
        if any(isinstance(size, str) for size in shape):
            raise CheckFailedError("a trained model's metadata have the sizes of its grid in numbers")
        if number and shape[1:] == (1,):
            low, high = tensor["value_range"]
            tensors.append(torch.linspace(low, high, batch).to(getattr(torch, tensor["dtype"])))
        else:  # the first begins with a relaxed label map in the log domain: the network has seen nothing else
            values = torch.randn(shape, generator=generator)
            if not number:
                values[:, :classes] = torch.log_softmax(3 * values[:, :classes], 1)
            tensors.append(values)
    return tuple(tensors)


def _has(config: dict[str, Any], key: str) -> bool:
    node: Any = config
    for part in key.split("::"):
        if not isinstance(node, dict) or part not in node:
            return False
        node = node[part]
    return True
