"""Results come back from their file as they were, and a file cannot make anything but data."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gnsm_monai.data.nnunet import LabelScheme
from gnsm_monai.errors import InputError
from gnsm_monai.files import load_arrays, save_arrays
from gnsm_monai.records import load_record, save_record

ROW: dict[str, Any] = {
    "case": "fold_0/ä\udcff,\n#$@",
    "anomaly_score": 0.1 + 0.2,
    "tiny": 5e-324,
    "flag": 1,
    "soft": True,
    "dice": None,
    "worst_slices": [3, 0, 7],
    "structures": [{"structure": "a", "dice": math.inf}, {}],
    "levels": np.arange(6, dtype=np.float32).reshape(2, 3) / 7,
    "empty": np.zeros((0, 2), dtype=bool),
    "scalar": np.float32(0.1),
    "names": np.array(["a", "bc"]),
    "nested": ((1, "x"), [(2.5,)]),
    "scheme": LabelScheme(("a", "b"), (0, 1, 4), None),
    "picture": (LabelScheme(("c",), (0, 1), 7),),
}


def equal(a: Any, b: Any) -> bool:
    if type(a) is not type(b):
        return False
    if isinstance(a, (np.ndarray, np.generic)):
        return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
    if isinstance(a, dict):
        return list(a) == list(b) and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(equal, a, b))
    return bool(a == b)


def test_a_row_comes_back_equal_in_value_and_type(tmp_path: Path) -> None:
    save_record(tmp_path / "row.npz", ROW)
    assert equal(load_record(tmp_path / "row.npz"), ROW)


def test_no_number_comes_back_as_no_number(tmp_path: Path) -> None:
    save_record(tmp_path / "row.npz", {"a": math.nan, "b": np.array([np.nan, 1.0])})
    found = load_record(tmp_path / "row.npz")
    assert math.isnan(found["a"]) and np.isnan(found["b"][0]) and found["b"][1] == 1


@pytest.mark.parametrize("value", [object(), {1: "a"}, {"__kind__": "tuple"}, {1, 2}, Path("a"), np.array([None])])
def test_other_values_are_refused(tmp_path: Path, value: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        save_record(tmp_path / "row.npz", {"value": value})
    assert not (tmp_path / "row.npz").exists()


@pytest.mark.parametrize(
    ("module", "name"), [("subprocess", "Popen"), ("gnsm_monai.files", "sha256"), ("gnsm_monai.records", "Path")]
)
def test_a_file_makes_no_object_but_the_packages_own_dataclasses(tmp_path: Path, module: str, name: str) -> None:
    text = json.dumps({"x": {"__kind__": "class", "module": module, "class": name, "fields": {}}})
    save_arrays(tmp_path / "row.npz", {"record": np.frombuffer(text.encode(), dtype=np.uint8)})
    with pytest.raises(InputError, match="no record of results"):
        load_record(tmp_path / "row.npz")


def test_a_damaged_file_is_refused_by_name(tmp_path: Path) -> None:
    save_record(tmp_path / "row.npz", ROW)
    content = (tmp_path / "row.npz").read_bytes()
    (tmp_path / "row.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"row\.npz"):
        load_record(tmp_path / "row.npz")
    arrays = {"other": np.zeros(2)}
    save_arrays(tmp_path / "row.npz", arrays)
    assert set(load_arrays(tmp_path / "row.npz")) == {"other"}
    with pytest.raises(InputError, match=r"row\.npz"):
        load_record(tmp_path / "row.npz")
