"""nnU-Net's conventions: dataset.json and file names."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gnsm_monai.errors import InputError

__all__ = ["LabelScheme", "read_dataset_json", "read_label_scheme"]


@dataclass(frozen=True)
class LabelScheme:
    """The classes of a label map, in the order of their indices.

    Args:
        names: foreground structures, class 1 first.
        values: value in the files of every class, background (0) first.
        ignore_value: value of voxels that count nowhere, if there is one.
    """

    names: tuple[str, ...]
    values: tuple[int, ...]
    ignore_value: int | None = None

    @property
    def num_classes(self) -> int:
        """Classes ``K``, background included."""
        return len(self.values)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> LabelScheme:
        return cls(tuple(values["names"]), tuple(values["values"]), values["ignore_value"])

    @classmethod
    def from_values(cls, values: Iterable[int]) -> LabelScheme:
        """Classes of label maps that came without a dataset.json, from the values that occur in them."""
        foreground = sorted(set(values) - {0})
        return cls(tuple(f"label_{value}" for value in foreground), (0, *foreground))


def read_dataset_json(folder: Path) -> dict[str, Any] | None:
    """The content of ``folder/dataset.json``; ``None`` where there is no such file.

    Raises:
        InputError: the file is no JSON object.
    """
    path = folder / "dataset.json"
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not readable as JSON: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: a JSON object is needed, found {type(content).__name__}")
    return content


def read_label_scheme(folder: Path) -> LabelScheme | None:
    """The classes that ``folder/dataset.json`` declares; ``None`` without that file.

    Raises:
        InputError: labels missing, malformed or of a kind that is not supported.
    """
    content = read_dataset_json(folder)
    if content is None:
        return None
    path = folder / "dataset.json"
    labels = content.get("labels")
    if not isinstance(labels, dict) or not labels:
        raise InputError(f"{path}: no labels are declared")
    ignore_value = None
    values: dict[int, str] = {}
    for name, value in labels.items():
        if isinstance(value, list) or content.get("regions_class_order"):
            raise InputError(f"{path}: region labels ('{name}') are not supported yet")
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise InputError(f"{path}: the value of label '{name}' must be a whole number, got {value!r}")
        if name == "ignore":
            ignore_value = value
        elif value in values:
            raise InputError(f"{path}: labels '{values[value]}' and '{name}' share the value {value}")
        else:
            values[value] = name
    if ignore_value is not None and ignore_value in values:
        raise InputError(f"{path}: labels '{values[ignore_value]}' and 'ignore' share the value {ignore_value}")
    if 0 not in values or len(values) < 2:
        raise InputError(f"{path}: background (0) and at least one structure must be declared")
    ordered = sorted(values)
    return LabelScheme(tuple(values[value] for value in ordered[1:]), tuple(ordered), ignore_value)
