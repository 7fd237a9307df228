"""File values to class indices."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.utils import convert_to_dst_type

from gnsm_monai.data.constants import IGNORE_INDEX, LABEL, LABEL_NAMES, LOST_CLAIMS, VALUE_STEP
from gnsm_monai.data.label_names import name_key
from gnsm_monai.data.nnunet import LabelScheme
from gnsm_monai.data.notes import NOTE, add_note, spared, warn_once
from gnsm_monai.data.segments import LostClaims, give_to_others
from gnsm_monai.errors import InputError

__all__ = ["ToClassIndexd", "class_index", "distinct_values", "label_values", "matched_values", "scheme_values"]

TABLE_SIZE = 1 << 16
"""Range of values up to which counting is used: many times faster on a scan than the sorting of np.unique."""

ROUNDING = 1e-3
"""Distance from a whole number up to which a float is that number; what is further away is a real fraction. Where a
file holds integers times a slope below 1, labels were rounded to half a slope, and so much more is allowed."""

MAX_FRACTIONS = 100
"""Most different fractions of a label map that was only scaled. Linear interpolation of real label maps leaves hundreds
to thousands, as images and probabilities have: fractions do not tell these three apart."""

MAX_STRAY_VALUES = 100
"""Most whole numbers of a label map that are not declared. Real images had 156 to 1001 of them, real label maps 2 to 41
in all."""

MAX_CHANGES = 4
"""Most changes of numbers that a line of the log lists."""

MAX_LISTED = 256
"""Most declared values that a message lists."""


class ToClassIndexd(MapTransform):
    """Turns the file values of label maps into class indices, and refuses wrong files.

    Args:
        keys: label maps ``(1, *spatial)``.
        scheme: the classes, which gives int16 indices; ``None`` keeps the values, checked to be whole numbers >= 0, as
            int32.
        spatial_dims: axes that the model works on.

    Raises:
        InputError: on call; no voxels, wrong number of axes, NaN, fractions, a value that is no known label, or one
            that its header calls otherwise than the scheme. A reference costs a note in its case instead.
    """

    def __init__(
        self, keys: KeysCollection, scheme: LabelScheme | None, spatial_dims: int, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.scheme, self.spatial_dims = scheme, spatial_dims

    def __call__(self, data: Mapping[Any, Any]) -> dict[Hashable, Any]:
        case = dict(data)
        for key in self.key_iterator(case):
            with spared(case, key):
                case[key] = self.convert(case[key])
                if (note := case[key].meta.pop(NOTE, "")) and key == LABEL:
                    add_note(case, note)
        return case

    def convert(self, label: MetaTensor) -> MetaTensor:
        path = label.meta.get("filename_or_obj", "label map")
        shape = tuple(label.shape[1:]) if label.shape[0] == 1 else (*label.shape[1:], label.shape[0])
        if label.numel() == 0:
            raise InputError(f"{path}: an axis without voxels, shape {shape}")
        if label.ndim != self.spatial_dims + 1 or label.shape[0] != 1:
            raise InputError(f"{path}: a label map of {self.spatial_dims} axes is needed, found shape {shape}")
        values = label_values(label, path)
        index = torch.from_numpy(values if self.scheme is None else self._index(values, label, path))
        if self.scheme is None and values.min() < 0:
            raise InputError(f"{path}: label values must not be negative, found {values.min()}")
        converted: MetaTensor = convert_to_dst_type(index, label, dtype=index.dtype)[0]
        for key in (VALUE_STEP, LOST_CLAIMS, *([] if self.scheme is None else [LABEL_NAMES])):
            converted.meta.pop(key, None)
        return converted

    def _index(self, values: np.ndarray, label: MetaTensor, path: str) -> np.ndarray:
        assert self.scheme is not None
        matched = matched_values(values, label.meta, self.scheme, path)
        if matched is not values and not Path(path).is_dir():
            add_note(label.meta, "its labels are matched to those of the model by their names")
        return class_index(matched, self.scheme, path)


def label_values(label: MetaTensor, path: str | Path) -> np.ndarray:
    """The whole numbers of a label map as it was read, int32. Raises InputError for NaN, fractions, too large ones."""
    step = label.meta.get(VALUE_STEP, 0.0)
    return _whole_numbers(np.asarray(label), path, ROUNDING + (step / 2 if step < 1 else 0))


def matched_values(values: np.ndarray, meta: Mapping[Any, Any], scheme: LabelScheme, path: str | Path) -> np.ndarray:
    """:func:`scheme_values` of a whole map as it was read, with the names and claims that its ``meta`` has."""
    return scheme_values(values, meta.get(LABEL_NAMES, {}), scheme, path, meta.get(LOST_CLAIMS, ()))


def scheme_values(
    values: np.ndarray, names: Mapping[int, str], scheme: LabelScheme, path: str | Path, lost: LostClaims = ()
) -> np.ndarray:
    """The numbers of a label map as a scheme has them: where its header names them otherwise, matched by names.

    What the scheme does not have becomes background, or what else claims its voxels. Both are said in the log. A scheme
    of regions, and one whose structures have no names, cannot be compared. If the header has no name of the scheme, the
    numbers stay: the structures may be called in another language.

    Args:
        values: of the file, integers of any shape.
        names: of numbers, from the header.
        scheme: the classes.
        path: of the file.
        lost: claims to voxels that other structures of the file have, see :data:`LOST_CLAIMS`.

    Raises:
        InputError: a number may mean another structure than in the scheme.
    """
    declared = {name_key(name): value for name, value in zip(scheme.names, scheme.values[1:], strict=True)}
    unnamed = scheme == LabelScheme.from_values(scheme.values)
    targets = {n: declared[name_key(name)] for n, name in names.items() if name_key(name) in declared}
    comparable = not (scheme.regions or unnamed or len(declared) < len(scheme.names))
    of_files = bool(names) and Path(path).is_dir()  # without names it has the scheme's numbers already
    if of_files:
        _check_structure_files(names, targets, scheme, comparable, path)
    if not targets or not comparable:
        return values
    # A folder of structures names each in full: what it calls otherwise is another one. So is what is left of a header
    # that names all of the scheme.
    complete = of_files or set(scheme.values[1:]) <= set(targets.values())
    left_out = names.keys() - targets.keys() - {scheme.ignore_value} if complete else set()
    numbers, places = distinct_values(values)
    new = np.array(
        [0 if n in left_out else _target(n, names, targets, scheme, path) for n in numbers.tolist()], dtype=np.int32
    )
    if (new == numbers).all():
        return values
    matched: np.ndarray = new[places]
    give_to_others(matched, lost, targets)
    if of_files:
        return matched
    changes = {int(n): int(t) for n, t in zip(numbers, new, strict=True) if n != t}
    shown = [f"{names[n]} {n} -> {t}" if t else f"{names[n]} left out" for n, t in changes.items()]
    _say_once(", ".join(shown[:MAX_CHANGES]) + (" ..." if len(shown) > MAX_CHANGES else ""), Path(path).parent)
    return matched


def _check_structure_files(
    names: Mapping[int, str], targets: Mapping[int, int], scheme: LabelScheme, comparable: bool, path: str | Path
) -> None:
    """Files of structures have no numbers of their own: without names in common nothing is known of them."""
    missing = [
        name for name, value in zip(scheme.names, scheme.values[1:], strict=True) if value not in targets.values()
    ]
    if not comparable or not targets:
        raise InputError(
            f"{path}: its files are matched to structures by name, and none is called like one of the model's: "
            f"{', '.join(scheme.names[:MAX_CHANGES])}; here are {', '.join(list(names.values())[:MAX_CHANGES])}"
        )
    others = [name for n, name in names.items() if n not in targets]
    for text, structures in (("no file of %s: taken as absent", missing), ("not of the model: %s", others)):
        if structures:
            more = f" and {len(structures) - MAX_CHANGES} more" if len(structures) > MAX_CHANGES else ""
            _say_once(text % (", ".join(structures[:MAX_CHANGES]) + more), Path(path).parent)


def _say_once(changes: str, folder: Path) -> None:
    """Logs a change of numbers once for all files that share it, each of which may lie in a folder of its own."""
    warn_once(changes, f"{folder}: labels are matched to those of the model by their names: {changes}")


def _target(n: int, names: Mapping[int, str], targets: Mapping[int, int], scheme: LabelScheme, path: str | Path) -> int:
    """What a number becomes that is of the scheme, or may be."""
    if n in (0, scheme.ignore_value) or n in targets:
        return targets.get(n, n)
    if n not in names and all(other == target for other, target in targets.items()):
        return n  # class_index says whether it is declared
    called = dict(zip(scheme.values[1:], scheme.names, strict=True)).get(n)
    here = f"'{names[n]}'" if n in names else "without a name"
    raise InputError(
        f"{path}: label {n} is {here} in its header and {f'{called!r}' if called else 'unknown'} in the model: "
        "a dataset.json beside the masks, with the model's labels, settles what the numbers mean"
    )


def class_index(label: np.ndarray, scheme: LabelScheme, path: str | Path) -> np.ndarray:
    """Class indices, int16, of the values of a file, ``IGNORE_INDEX`` where ignored.

    Raises:
        InputError: a value that is no known label; the message names ``path``.
    """
    values, places = distinct_values(label)
    index_of = {value: index for index, value in enumerate(scheme.values)}
    if scheme.ignore_value is not None:
        index_of[scheme.ignore_value] = IGNORE_INDEX
    unknown = [int(value) for value in values if int(value) not in index_of]
    if unknown:
        declared = sorted(index_of) if len(index_of) <= MAX_LISTED else f"{len(index_of)} values"
        raise InputError(f"{path}: label value {unknown[0]} is not among the declared {declared}{_image(len(unknown))}")
    indices: np.ndarray = np.array([index_of[int(value)] for value in values], dtype=np.int16)[places]
    return indices


def distinct_values(label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What ``np.unique(label, return_inverse=True)`` gives for integers, faster: sorted values, place of each voxel."""
    low = int(label.min())
    span = int(label.max()) - low + 1
    if span > TABLE_SIZE:
        values, places = np.unique(label, return_inverse=True)
        return values, places.reshape(label.shape)  # flat before numpy 2
    offsets = label - low
    present = np.bincount(offsets.ravel(), minlength=span) > 0
    return np.flatnonzero(present) + low, (np.cumsum(present, dtype=np.int32) - 1)[offsets]


def _whole_numbers(label: np.ndarray, path: str | Path, tolerance: float) -> np.ndarray:
    if label.dtype.kind == "f":
        if not np.isfinite(label).all():
            raise InputError(f"{path}: NaN or infinite values in a label map")
        whole = np.rint(label)
        broken = np.abs(label - whole) > tolerance
        if broken.any():
            fractions = label[broken]
            kind = _image(len(np.unique(whole)))
            if not kind and len(np.unique(fractions[:TABLE_SIZE])) > MAX_FRACTIONS:
                kind = ": probabilities, an image, or labels that interpolation mixed"
            raise InputError(f"{path}: label values must be whole numbers, found {float(fractions[0])!r}{kind}")
        label = whole
    limits = np.iinfo(np.int32)
    for value in (label.min(), label.max()):
        if not limits.min <= value <= limits.max:
            raise InputError(f"{path}: {value:g} is no label value")
    return label.astype(np.int32)


def _image(stray: int) -> str:
    """What a message adds for so many values that are no labels."""
    return f": an image, by its {stray} different values?" if stray > MAX_STRAY_VALUES else ""
