"""A trained model as a MONAI bundle of its own: configs, metadata filled in from the data, model card, licence."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import monai
import numpy as np
import torch

import gnsm_monai
from gnsm_monai.files import load_json, save_json, write_atomically
from gnsm_monai.paths import bundle_root

__all__ = ["write_model_bundle"]

CONFIG_FILES = ("*.yaml", "*.conf")


def write_model_bundle(
    model_dir: str | Path,
    settings: Mapping[str, Any],
    rules: Mapping[str, float],
    levels: Mapping[str, Sequence[str]],
) -> None:
    """Completes the folder of a trained model, so that it can be moved, shared, and run by MONAI where it lies.

    Beside the weights and what was fitted come ``configs/`` (those of the package, which find the model around them,
    and ``metadata.json`` filled in), ``docs/README.md`` (the model card) and ``LICENSE``.

    Args:
        model_dir: the model's folder.
        settings: what its ``settings.json`` holds.
        rules: Spearman correlation with Dice of every rule that was considered, by its name.
        levels: the validation table, a column of texts per name, one text per noise level.
    """
    model_dir, source = Path(model_dir), bundle_root("segmentation_qc")
    for pattern in CONFIG_FILES:
        for path in sorted((source / "configs").glob(pattern)):
            write_atomically(model_dir / "configs" / path.name, path.read_bytes())
    write_atomically(model_dir / "LICENSE", (source / "LICENSE").read_bytes())
    metadata = filled_metadata(load_json(source / "configs" / "metadata.json"), settings)
    save_json(model_dir / "configs" / "metadata.json", metadata)
    card = model_card(settings, rules, levels, metadata)
    write_atomically(model_dir / "docs" / "README.md", card.encode(errors="backslashreplace"))


def filled_metadata(template: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The bundle's metadata with this model's classes, grid, numbers of cases, and the versions it was trained with."""
    filled: dict[str, Any] = json.loads(json.dumps(template))
    filled["monai_version"], filled["pytorch_version"] = monai.__version__, torch.__version__
    filled["numpy_version"] = np.__version__
    filled["required_packages_version"] = {
        name: _installed(name) or version for name, version in template["required_packages_version"].items()
    }
    cases = ", ".join(f"{number} to {use}" for use, number in _uses(settings).items())
    filled["data_source"] = f"label maps of {settings['dataset'] or 'an unnamed folder'}: {cases}"
    names = ["background", *settings["labels"]["names"]]
    inputs, outputs = (filled["network_data_format"][part] for part in ("inputs", "outputs"))
    for part in (inputs["image"], outputs["pred"]):
        part["num_channels"] = len(names)
        part["spatial_shape"] = settings["spatial_size"]
        part["channel_def"] = {str(channel): name for channel, name in enumerate(names)}
    inputs["level"]["value_range"] = [0, len(settings["network"]["noise"]["betas"]) - 1]
    if channels := settings["network"]["image_channels"]:
        # MONAI's verify_net_in_out and ckpt_export give a network one tensor: its image comes as further channels.
        image, classes = inputs["image"], len(names)
        image["num_channels"] = classes + channels
        image["modality"] += "; then the image that it belongs to, z-scored"
        image["channel_def"] |= {str(classes + n): f"channel {n} of the image" for n in range(channels)}
    return filled


def model_card(
    settings: Mapping[str, Any],
    rules: Mapping[str, float],
    levels: Mapping[str, Sequence[str]],
    metadata: Mapping[str, Any],
) -> str:
    """What the model was trained on, how it scores, and what it cannot do, as Markdown."""
    data = {
        "data set": settings["dataset"],
        "label maps": ", ".join(f"{number} to {use}" for use, number in _uses(settings).items()),
        "structures": ", ".join(settings["labels"]["names"]),
        "grid": _by(settings["spatial_size"])
        + " voxels of "
        + _by(f"{mm:.3g}" for mm in settings["voxel_size"])
        + " mm",
        "sees images": f"{settings['network']['image_channels']} channels"
        if settings["network"]["image_channels"]
        else "no",
        "parametrisation": settings["parametrisation"],
        "failures": "degraded copies of references"
        + (", masks of a small network that sees their images" if settings.get("failures") == "networks" else ""),
        "weights (sha256)": settings["weights_sha256"],
    }
    packages = {"monai": monai.__version__, "torch": torch.__version__, **metadata["required_packages_version"]}
    ordered = sorted(rules.items(), key=lambda item: item[1])
    return CARD.format(
        title=_cell(settings["dataset"] or "label maps"),
        data=_table(["trained on", ""], list(data.items())),
        rule=settings["anomaly_score"],
        rules=_table(["rule", "Spearman with Dice"], [(name, f"{value:.3f}") for name, value in ordered]),
        levels=_table(list(levels), list(zip(*levels.values(), strict=True))),
        versions=", ".join(f"{name} {number}" for name, number in packages.items()),
        own_version=gnsm_monai.__version__,
    )


CARD = """\
# Quality control of segmentations: {title}

Ranks predicted masks of these structures, worst first, without ground truth: a network has learned what reference label
maps look like, and a mask that it cannot explain is anomalous. Higher score = worse.

{data}

## Use

    gnsm rank --model THIS_FOLDER --predictions PREDICTIONS --output RESULTS

or, as this folder is a MONAI bundle (with `gnsm_monai` {own_version} installed):

    python -m monai.bundle run inference --config_file THIS_FOLDER/configs/inference.yaml \\
        --predictions_dir PREDICTIONS --output_dir RESULTS

Only the second runs the configs of this folder, and configs are code: run it on models whose origin you trust. `gnsm`
reads weights and plain data from the folder, nothing else.

## How it scores

The rule of the anomaly score is **{rule}**. All rules, on references kept out of training and failures made from them
(-1 is best):

{rules}

Noise levels, weakest first: loss on held-out references, and of voxels that know nothing of each other; what the level
counts in the score; correlation of each statistic with the Dice of failures made from references.

{levels}

## Limits

- Masks of other anatomy, another field of view or other labels than the references look anomalous, right or wrong.
- Without images, a plausible mask that is wrong for its very image looks right.
- A score is comparable with scores of this model alone.
- Research use; not for diagnosis.

Versions: {versions}.
"""


def _uses(settings: Mapping[str, Any]) -> dict[str, int]:
    cases = settings["cases"]
    return {"train": cases["train"], "fit the score": cases["fit"], "calibrate": cases["calibration"]}


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _by(values: Any) -> str:
    return " x ".join(map(str, values))


def _cell(value: Any) -> str:
    """Names come from files: they must not break the table."""
    return " ".join(str(value).split()).replace("|", "\\|")


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)
