"""nnU-Net's conventions: dataset.json and file names."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gnsm_monai.errors import InputError

__all__ = ["LabelScheme", "Region", "check_same_labels", "read_dataset_json", "read_label_scheme"]


@dataclass(frozen=True)
class Region:
    """A structure that is a union of classes, as nnU-Net's region-based training declares it.

    Args:
        name: of the structure.
        classes: indices of the classes that it consists of, in order.
        written: index of the class that nnU-Net writes where it predicts the region; a later region overwrites it.
    """

    name: str
    classes: tuple[int, ...]
    written: int


@dataclass(frozen=True)
class LabelScheme:
    """The classes of a label map, in the order of their indices, and the structures that results name.

    Classes exclude one another: they are what files hold and the network sees. Structures are the foreground classes,
    or, where regions are declared, the regions, which may overlap.

    Args:
        names: foreground classes, class 1 first.
        values: value in the files of every class, background (0) first.
        ignore_value: value of voxels that count nowhere, if there is one.
        regions: in the order in which nnU-Net writes them, and of the channels of its probabilities.
        colours: of the foreground classes, ``#rrggbb`` or empty, where headers or tables give any.
    """

    names: tuple[str, ...]
    values: tuple[int, ...]
    ignore_value: int | None = None
    regions: tuple[Region, ...] = ()
    colours: tuple[str, ...] = ()

    @property
    def num_classes(self) -> int:
        """Classes ``K``, background included."""
        return len(self.values)

    @property
    def structure_names(self) -> tuple[str, ...]:
        """Names of the structures."""
        return tuple(region.name for region in self.regions) or self.names

    @property
    def structure_classes(self) -> tuple[tuple[int, ...], ...]:
        """Indices of the classes that each structure consists of."""
        return tuple(region.classes for region in self.regions) or tuple((c,) for c in range(1, self.num_classes))

    def to_values(self, index: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.int64]:
        """Values in the files of class indices, `IGNORE_INDEX` among them, of any shape."""
        table = np.array([*self.values, self.ignore_value or 0], dtype=np.int64)
        values: npt.NDArray[np.int64] = table[index]  # IGNORE_INDEX, -1, is the last one
        return values

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> LabelScheme:
        regions = tuple(Region(r["name"], tuple(r["classes"]), r["written"]) for r in values["regions"])
        named = tuple(values["names"]), tuple(values["values"]), values["ignore_value"]
        return cls(
            *named, regions, tuple(values.get("colours", ()))
        )  # models of version 0.3 and before have no colours

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
        content = json.loads(path.read_text(encoding="utf-8-sig"))  # some editors put a BOM in front
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not readable as JSON: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: a JSON object is needed, found {type(content).__name__}")
    return content


def preferred_ending(folder: Path) -> str | None:
    """``file_ending`` of the dataset.json of a folder of label maps or predictions: beside them or one folder up."""
    for place in [*_declaring_folders(folder), folder.parent]:
        content = read_dataset_json(place)
        if content is not None:
            ending = content.get("file_ending")
            return ending.lower() if isinstance(ending, str) else None
    return None


def check_same_labels(folder: Path, scheme: LabelScheme) -> None:
    """Checks that the dataset.json of a folder of predictions, if there is one, declares the labels of a model.

    A model that was trained without dataset.json has no names to compare. Then every file's values are checked instead.

    Args:
        folder: of predictions; for ``fold_0/validation`` the dataset.json lies two folders up.
        scheme: of the model.

    Raises:
        InputError: other values, names, regions or ignore label.
    """
    if scheme == LabelScheme.from_values(scheme.values):
        return
    for place in _declaring_folders(folder):
        other = read_label_scheme(place)
        if other is not None and _comparable(other) != _comparable(scheme):
            raise InputError(
                f"{place / 'dataset.json'}: the model was trained for other labels: "
                f"{_described(scheme)}; here are {_described(other)}"
            )


def _declaring_folders(folder: Path) -> list[Path]:
    """Where nnU-Net leaves the dataset.json of a folder of predictions."""
    folder = folder.resolve()
    return [folder, folder.parent.parent] if folder.name == "validation" else [folder]


def _comparable(scheme: LabelScheme) -> tuple[Any, ...]:
    names = tuple(name.strip().casefold() for name in scheme.structure_names)
    return names, scheme.values, scheme.structure_classes, scheme.ignore_value, [r.written for r in scheme.regions]


def _described(scheme: LabelScheme) -> str:
    values = [[scheme.values[c] for c in classes] for classes in scheme.structure_classes]
    named = [f"{name} {'+'.join(map(str, v))}" for name, v in zip(scheme.structure_names, values, strict=True)]
    return ", ".join(named + ([] if scheme.ignore_value is None else [f"ignore {scheme.ignore_value}"]))


def read_label_scheme(folder: Path) -> LabelScheme | None:
    """The classes and structures that ``folder/dataset.json`` declares; ``None`` without that file.

    Raises:
        InputError: labels missing or malformed, or regions without a usable ``regions_class_order``.
    """
    content = read_dataset_json(folder)
    if content is None:
        return None
    path = folder / "dataset.json"
    labels = content.get("labels")
    if not isinstance(labels, dict) or not labels:
        raise InputError(f"{path}: no labels are declared")
    if all(str(name).isdigit() and isinstance(value, str) for name, value in labels.items()):
        raise InputError(
            f"{path}: its labels are written as value: name, as by nnU-Net v1; write them as nnU-Net v2 does, "
            '{"background": 0, ...}'
        )
    declared = {name: _label_values(name, value, path) for name, value in labels.items()}
    ignored = declared.pop("ignore", None)
    if ignored is not None and len(ignored) > 1:
        raise InputError(f"{path}: the value of label 'ignore' must be a whole number, got {labels['ignore']!r}")
    ignore_value = None if ignored is None else ignored[0]
    for name, values in declared.items():
        if ignore_value in values:
            raise InputError(f"{path}: labels '{name}' and 'ignore' share the value {ignore_value}")
    foreground = {name: values for name, values in declared.items() if values != (0,)}
    if len(foreground) == len(declared) or not foreground:
        raise InputError(f"{path}: background (0) and at least one structure must be declared")
    if len(declared) - len(foreground) > 1:
        first, second = [name for name in declared if name not in foreground][:2]
        raise InputError(f"{path}: labels '{first}' and '{second}' share the value 0")
    if any(len(values) > 1 for values in foreground.values()):
        return _region_scheme(foreground, content.get("regions_class_order"), ignore_value, path)
    names: dict[int, str] = {}
    for name, (value,) in foreground.items():
        if value in names:
            raise InputError(f"{path}: labels '{names[value]}' and '{name}' share the value {value}")
        names[value] = name
    ordered = sorted(names)
    return LabelScheme(tuple(names[value] for value in ordered), (0, *ordered), ignore_value)


def _label_values(name: str, declared: Any, path: Path) -> tuple[int, ...]:
    """The values of one label, in order; a region has a list of them."""
    values = declared if isinstance(declared, list) and declared else [declared]
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise InputError(f"{path}: the value of label '{name}' must be a whole number, got {value!r}")
    return tuple(sorted(set(values)))


def _region_scheme(
    regions: Mapping[str, tuple[int, ...]], order: Any, ignore_value: int | None, path: Path
) -> LabelScheme:
    values = (0, *sorted({value for members in regions.values() for value in members} - {0}))
    for name, members in regions.items():
        if 0 in members:
            raise InputError(f"{path}: region '{name}' holds the background (0)")
    if not isinstance(order, list) or len(order) != len(regions):
        raise InputError(f"{path}: regions_class_order must name one value per region ({', '.join(regions)})")
    for written in order:
        if isinstance(written, bool) or not isinstance(written, int) or written not in values[1:]:
            raise InputError(f"{path}: regions_class_order: {written!r} is in no region")
    index = {value: i for i, value in enumerate(values)}
    structures = (
        Region(name, tuple(index[value] for value in members), index[written])
        for (name, members), written in zip(regions.items(), order, strict=True)
    )
    return LabelScheme(_class_names(values[1:], regions), values, ignore_value, tuple(structures))


def _class_names(values: Sequence[int], regions: Mapping[str, tuple[int, ...]]) -> tuple[str, ...]:
    """Names of classes that are only named as parts of regions: the smallest such region, without those inside it."""
    names: list[str] = []
    for value in values:
        name, members = min(((n, set(m)) for n, m in regions.items() if value in m), key=lambda region: len(region[1]))
        inside = {n: set(m) for n, m in regions.items() if value not in m and set(m) < members}
        largest = [n for n, m in inside.items() if not any(m < other for other in inside.values())]
        name += f" without {', '.join(largest)}" if largest else ""
        names.append(name if name not in names else f"{name} ({value})")
    return tuple(names)
