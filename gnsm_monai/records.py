"""A result as one file: plain values, arrays and the package's own dataclasses, and back, bit by bit."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gnsm_monai.errors import InputError
from gnsm_monai.files import load_arrays, save_arrays

__all__ = ["load_record", "save_record"]

_TEXT = "record"
_ARRAY, _SCALAR, _TUPLE, _CLASS = "array", "scalar", "tuple", "class"
_TAG = "__kind__"
_PACKAGE = __name__.split(".")[0]


def save_record(path: str | Path, record: Mapping[str, Any]) -> None:
    """Writes a mapping to an npz file, whole or not at all.

    Args:
        path: of the file.
        record: its values are None, bool, int, float, str, lists, tuples and mappings with keys of text, numpy arrays
            and scalars, and dataclasses of this package, nested as deep as they like.

    Raises:
        TypeError: a value of another kind.
    """
    arrays: dict[str, np.ndarray] = {}
    text = json.dumps(_encode(dict(record), arrays))
    save_arrays(path, {_TEXT: np.frombuffer(text.encode(), dtype=np.uint8), **arrays})


def load_record(path: str | Path) -> dict[str, Any]:
    """What :func:`save_record` wrote, equal in value and type. Nothing is unpickled.

    Raises:
        InputError: the file is missing, damaged or no such record.
    """
    arrays = load_arrays(path)
    try:
        record = _decode(json.loads(arrays[_TEXT].tobytes()), arrays)
    except (KeyError, ValueError, TypeError, AttributeError, ImportError, RecursionError) as error:
        raise InputError(f"{path}: is no record of results: {error}") from error
    if not isinstance(record, dict):
        raise InputError(f"{path}: is no record of results")
    return record


def _encode(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    """JSON values, with a tagged mapping in place of what JSON does not know; arrays are put aside by number."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    if type(value) is list:
        return [_encode(item, arrays) for item in value]
    if type(value) is tuple:
        return {_TAG: _TUPLE, "items": [_encode(item, arrays) for item in value]}
    if isinstance(value, Mapping):
        if not all(type(key) is str and key != _TAG for key in value):
            raise TypeError(f"keys of a record must be text, got {list(value)}")
        return {key: _encode(item, arrays) for key, item in value.items()}
    if isinstance(value, (np.ndarray, np.generic)):
        name = str(len(arrays))
        arrays[name] = np.asarray(value)
        return {_TAG: _SCALAR if isinstance(value, np.generic) else _ARRAY, "name": name}
    if is_dataclass(value) and type(value).__module__.split(".")[0] == _PACKAGE:
        content = {field.name: _encode(getattr(value, field.name), arrays) for field in fields(value)}
        return {_TAG: _CLASS, "module": type(value).__module__, "class": type(value).__qualname__, "fields": content}
    raise TypeError(f"a record cannot hold a {type(value).__name__}")


def _decode(value: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    if isinstance(value, list):
        return [_decode(item, arrays) for item in value]
    if not isinstance(value, dict):
        return value
    kind = value.get(_TAG)
    if kind is None:
        return {key: _decode(item, arrays) for key, item in value.items()}
    if kind == _TUPLE:
        return tuple(_decode(item, arrays) for item in value["items"])
    if kind == _CLASS:
        content = {name: _decode(item, arrays) for name, item in value["fields"].items()}
        return _dataclass(value["module"], value["class"])(**content)
    array = arrays[value["name"]]
    return array[()] if kind == _SCALAR else array


def _dataclass(module: str, name: str) -> type:
    """The class that a file names. Only plain data containers of this package are accepted."""
    kind = getattr(importlib.import_module(module), name) if module.split(".")[0] == _PACKAGE else None
    if not (isinstance(kind, type) and is_dataclass(kind) and kind.__module__ == module):
        raise ValueError(f"{module}.{name} is no dataclass of {_PACKAGE}")
    return kind
