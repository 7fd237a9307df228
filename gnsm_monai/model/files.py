"""A trained model's files, which are data alone: weights, plain settings, arrays."""

from __future__ import annotations

import hashlib
import inspect
import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from gnsm_monai.errors import InputError
from gnsm_monai.files import check_folder, load_arrays, load_json, one_line_of, sha256
from gnsm_monai.networks import ScoreUNet

__all__ = ["SETTINGS", "STATISTICS_FILE", "WEIGHTS", "ModelFiles", "identity_of", "load_weights"]

SETTINGS, STATISTICS_FILE, WEIGHTS = "settings.json", "reference_statistics.npz", "model.pt"

FORMAT = 4
"""The layout of settings.json; a file with another number cannot be read."""

Needed = Mapping[str, tuple[str, ...]]

LABEL_MAPS: Needed = {
    "labels": ("names", "values", "ignore_value", "regions"),
    "network": tuple(inspect.signature(ScoreUNet).parameters),
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
_Module = TypeVar("_Module", bound=nn.Module)


@dataclass(frozen=True)
class ModelFiles:
    """The three files of a finished model, each read once.

    Args:
        folder: the model's folder.
        settings: what ``settings.json`` holds.
        identity: sha256 of ``settings.json``, which holds that of the weights, and of ``reference_statistics.npz``.
        statistics: content of ``reference_statistics.npz``.
        weights: content of ``model.pt``.
    """

    folder: Path
    settings: dict[str, Any]
    identity: list[str]
    statistics: bytes
    weights: bytes

    @classmethod
    def read(cls, model_dir: str | Path, kind: str = "label map", needed: Needed = LABEL_MAPS) -> ModelFiles:
        """Reads the files of a model and checks that they belong together.

        Args:
            model_dir: the model's folder.
            kind: what it is a model of, ``"label map"`` or ``"table"``.
            needed: names that the settings must have, by the mapping in which they stand.

        Raises:
            InputError: no such model, training that was not finished, a file that is missing, settings of another
                version of this package, weights that belong to another run, or a model of the other kind.
        """
        folder = Path(model_dir)
        check_folder(folder, "no trained model here")
        missing = [name for name in (SETTINGS, WEIGHTS, STATISTICS_FILE) if not (folder / name).is_file()]
        if missing:
            # The settings are written last: with them the training was finished, and files were lost afterwards.
            stopped = SETTINGS in missing and (folder / "checkpoint.pt").is_file()
            how = f": its training was not finished: {CONTINUE}" if stopped else ""
            raise InputError(f"{folder}: no trained model here: {' and '.join(missing)} missing{how}")
        written, statistics, weights = (_content(folder / name) for name in (SETTINGS, STATISTICS_FILE, WEIGHTS))
        settings = load_json(folder / SETTINGS, written)
        _check_settings(settings, folder / SETTINGS, kind, needed)
        checksum = _checksum(statistics)
        if settings.get("weights_sha256") != _checksum(weights):
            raise InputError(
                f"{folder}: {WEIGHTS} is not the one that {SETTINGS} and {STATISTICS_FILE} were made for: "
                f"if its training was stopped, {CONTINUE}"
            )
        if settings.get("statistics_sha256") != checksum:
            raise InputError(f"{folder}: {STATISTICS_FILE} is not the one that {SETTINGS} was written with")
        return cls(folder, settings, [_checksum(written), checksum], statistics, weights)

    @cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        """Arrays of ``reference_statistics.npz``. Raises InputError where it is damaged."""
        return load_arrays(self.folder / STATISTICS_FILE, self.statistics)

    def fitted(self, read: Callable[[Mapping[str, np.ndarray]], _Fitted]) -> _Fitted:
        """What ``read`` makes of :attr:`arrays`. Raises InputError where one is missing, or of another kind or size."""
        with _reading(self.folder / STATISTICS_FILE, "array"):
            return read(self.arrays)

    def configured(self, read: Callable[[Mapping[str, Any]], _Fitted]) -> _Fitted:
        """What ``read`` makes of :attr:`settings`. Raises InputError where it can make nothing of them."""
        with _reading(self.folder / SETTINGS, "setting"):
            return read(self.settings)

    def load_weights(self, network: _Module) -> _Module:
        """Loads the weights into ``network`` and returns it, as :func:`load_weights` does."""
        return _load_weights(network, io.BytesIO(self.weights), self.folder / WEIGHTS)


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


def load_weights(network: _Module, model_dir: str | Path) -> _Module:
    """Loads ``model.pt`` into ``network``, never executing code from it, and returns the network.

    Raises:
        InputError: the file is missing, damaged, or of another network.
    """
    return _load_weights(network, Path(model_dir) / WEIGHTS, Path(model_dir) / WEIGHTS)


def _load_weights(network: _Module, source: Path | io.BytesIO, path: Path) -> _Module:
    try:
        network.load_state_dict(torch.load(source, map_location="cpu", weights_only=True)["model"])
    except Exception as error:  # pickle, zip and shape errors of many kinds
        reason = one_line_of(error)[:200]
        raise InputError(f"{path}: the weights cannot be loaded: {reason}") from error
    return network


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error


def _checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@contextmanager
def _reading(path: Path, item: str) -> Iterator[None]:
    """Errors of values that are missing, or of another kind or size, become one line that names the file."""
    try:
        yield
    except InputError:
        raise
    except KeyError as error:
        raise InputError(f"{path}: lacks the {item} {error}") from error
    except (AttributeError, TypeError, ValueError, IndexError, RuntimeError) as error:
        raise InputError(f"{path}: cannot be read: {one_line_of(error)[:200]}") from error
