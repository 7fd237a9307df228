"""A trained model's files, which are data alone: weights, plain settings, arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from gnsm_monai.errors import InputError
from gnsm_monai.files import check_folder, load_arrays, load_json, one_line_of, sha256
from gnsm_monai.rules.anomaly import AnomalyModel
from gnsm_monai.rules.calibration import Calibration
from gnsm_monai.scoring.reference_images import ReferenceImages
from gnsm_monai.scoring.reference_shapes import ReferenceShapes

__all__ = [
    "SETTINGS",
    "STATISTICS_FILE",
    "WEIGHTS",
    "identity_of",
    "load_anomaly_model",
    "load_calibration",
    "load_images",
    "load_settings",
    "load_shapes",
    "load_weights",
]

SETTINGS, STATISTICS_FILE, WEIGHTS = "settings.json", "reference_statistics.npz", "model.pt"

FORMAT = 4
"""Of settings.json; another number is another layout."""

Needed = Mapping[str, tuple[str, ...]]

LABEL_MAPS: Needed = {
    "labels": ("names", "values", "ignore_value", "regions"),
    "network": (
        "spatial_dims",
        "num_classes",
        "image_channels",
        "noise",
        "channels",
        "strides",
        "position_size",
        "posterior",
    ),
    "scoring": ("band_voxels", "num_draws", "seed"),
    "fields_of_view": ("lengths", "corners", "centre", "spread"),
    "": (
        "spatial_dims",
        "always_present",
        "never_empty",
        "voxel_size",
        "spatial_size",
        "parametrisation",
        "anomaly_score",
    ),
}
"""What scoring label maps reads of settings.json, by the mapping in which it stands."""

CONTINUE = "run it again with --resume (by monai.bundle: --resume True)"

_Fitted = TypeVar("_Fitted")


def load_settings(model_dir: str | Path, kind: str = "label map", needed: Needed = LABEL_MAPS) -> dict[str, Any]:
    """Plain settings of a finished model.

    Args:
        model_dir: folder of the model.
        kind: of what it is a model, ``"label map"`` or ``"table"``.
        needed: the names that must be there, by the mapping in which they stand.

    Raises:
        InputError: no such model, training that was not finished, a file that is missing, settings of another version
            of this package, or weights that belong to another run, a model of the other kind.
    """
    folder = Path(model_dir)
    check_folder(folder, "no trained model here")
    missing = [name for name in (SETTINGS, WEIGHTS, STATISTICS_FILE) if not (folder / name).is_file()]
    if missing and (folder / "checkpoint.pt").is_file():
        raise InputError(f"{folder}: no trained model here: its training was not finished: {CONTINUE}")
    if missing:
        raise InputError(f"{folder}: no trained model here: {' and '.join(missing)} missing")
    settings = load_json(folder / SETTINGS)
    _check_settings(settings, folder / SETTINGS, kind, needed)
    own = identity_of(folder)
    if settings.get("weights_sha256") != own["weights_sha256"]:
        raise InputError(
            f"{folder}: {WEIGHTS} is not the one that {SETTINGS} and {STATISTICS_FILE} were made for: "
            f"if its training was stopped, {CONTINUE}"
        )
    if settings.get("statistics_sha256") != own["statistics_sha256"]:
        raise InputError(f"{folder}: {STATISTICS_FILE} is not the one that {SETTINGS} was written with")
    return settings


def identity_of(model_dir: str | Path) -> dict[str, str]:
    """Checksums of the files that a model's settings.json belongs to, which is written after them."""
    folder = Path(model_dir)
    return {"weights_sha256": sha256(folder / WEIGHTS), "statistics_sha256": sha256(folder / STATISTICS_FILE)}


def _check_settings(settings: Mapping[str, Any], path: Path, kind: str, needed: Needed) -> None:
    """Raises InputError where scoring would miss something."""
    if settings.get("format") != FORMAT:
        raise InputError(
            f"{path}: format {settings.get('format')!r} is of another version of gnsm_monai, this one reads {FORMAT}: "
            "train the model again"
        )
    if settings.get("kind", "label map") != kind:
        raise InputError(f"{path.parent}: this is not a model of {kind}s")
    for part, names in needed.items():
        values = settings.get(part) if part else settings
        if not isinstance(values, Mapping):
            raise InputError(f"{path}: lacks '{part}'")
        if lacking := [name for name in names if name not in values]:
            raise InputError(f"{path}: lacks '{lacking[0]}'" + (f" in '{part}'" if part else ""))


def load_anomaly_model(model_dir: str | Path) -> AnomalyModel:
    """The fitted anomaly score of a finished model. Raises InputError where the file is missing or damaged."""
    return _fitted(model_dir, AnomalyModel.from_arrays)


def load_calibration(model_dir: str | Path) -> Calibration:
    """What a finished model decides by. Raises InputError where the file is missing or damaged."""
    return _fitted(model_dir, Calibration.from_arrays)


def load_images(model_dir: str | Path) -> ReferenceImages | None:
    """What a finished model knows of its references' images, None without. Raises InputError as the others do."""
    return _fitted(model_dir, ReferenceImages.from_arrays)


def load_shapes(model_dir: str | Path) -> ReferenceShapes:
    """The shapes of a finished model's references. Raises InputError as the others do, or of another network."""
    return _fitted(model_dir, ReferenceShapes.from_arrays)


def _fitted(model_dir: str | Path, read: Callable[[Mapping[str, np.ndarray]], _Fitted]) -> _Fitted:
    path = Path(model_dir) / STATISTICS_FILE
    try:
        return read(load_arrays(path))
    except KeyError as error:
        raise InputError(f"{path}: lacks the array {error}") from error
    except InputError:
        raise
    except (TypeError, ValueError, IndexError, RuntimeError) as error:  # arrays of another kind or size
        raise InputError(f"{path}: cannot be read: {one_line_of(error)[:200]}") from error


def load_weights(network: nn.Module, model_dir: str | Path) -> nn.Module:
    """Loads ``model.pt`` into ``network``, never executing code from it, and returns the network.

    Raises:
        InputError: the file is missing, damaged, or of another network.
    """
    path = Path(model_dir) / WEIGHTS
    try:
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True)["model"])
    except Exception as error:  # pickle, zip and shape errors of many kinds
        reason = one_line_of(error)[:200]
        raise InputError(f"{path}: the weights cannot be loaded: {reason}") from error
    return network
