"""dataset.json: what it declares, and what is wrong with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gnsm_monai.data.nnunet import LabelScheme, read_dataset_json, read_label_scheme
from gnsm_monai.errors import InputError


def declare(folder: Path, labels: Any, **more: Any) -> Path:
    (folder / "dataset.json").write_text(json.dumps({"labels": labels, **more}), encoding="utf-8")
    return folder


def test_classes_are_in_order_of_their_values(tmp_path: Path) -> None:
    scheme = read_label_scheme(declare(tmp_path, {"liver": 4, "background": 0, "spleen": 2}))
    assert scheme == LabelScheme(("spleen", "liver"), (0, 2, 4))
    assert scheme.num_classes == 3


def test_the_ignore_label_is_no_class(tmp_path: Path) -> None:
    scheme = read_label_scheme(declare(tmp_path, {"background": 0, "a": 1, "ignore": 2}))
    assert scheme == LabelScheme(("a",), (0, 1), ignore_value=2)


def test_no_dataset_json_is_no_error(tmp_path: Path) -> None:
    assert read_dataset_json(tmp_path) is None
    assert read_label_scheme(tmp_path) is None


def test_a_scheme_survives_json() -> None:
    scheme = LabelScheme(("a", "b"), (0, 100, 205), ignore_value=255)
    assert LabelScheme.from_dict(json.loads(json.dumps(scheme.to_dict()))) == scheme


def test_classes_without_declaration_are_the_values_that_occur() -> None:
    assert LabelScheme.from_values([205, 0, 100, 100]) == LabelScheme(("label_100", "label_205"), (0, 100, 205))
    assert LabelScheme.from_values([3]).values == (0, 3)


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        (None, "no labels are declared"),
        ({}, "no labels are declared"),
        ([0, 1], "no labels are declared"),
        ({"a": 1}, r"background \(0\) and at least one structure must be declared"),
        ({"background": 0}, r"background \(0\) and at least one structure must be declared"),
        ({"background": 0, "ignore": 1}, r"background \(0\) and at least one structure must be declared"),
        ({"background": 0, "a": 1, "b": 1}, "labels 'a' and 'b' share the value 1"),
        ({"background": 0, "a": 1, "ignore": 1}, "labels 'a' and 'ignore' share the value 1"),
        ({"background": 0, "ignore": 1, "a": 1}, "labels 'a' and 'ignore' share the value 1"),
        ({"background": 0, "a": -1}, "the value of label 'a' must be a whole number, got -1"),
        ({"background": 0, "a": 1.5}, "the value of label 'a' must be a whole number, got 1.5"),
        ({"background": 0, "a": True}, "the value of label 'a' must be a whole number, got True"),
        ({"0": "background", "1": "liver"}, "the value of label '0' must be a whole number, got 'background'"),
        ({"background": 0, "whole": [1, 2], "core": 2}, r"region labels \('whole'\) are not supported yet"),
    ],
)
def test_labels_that_cannot_be_used_are_refused(tmp_path: Path, labels: Any, reason: str) -> None:
    with pytest.raises(InputError, match=rf"dataset\.json: {reason}$"):
        read_label_scheme(declare(tmp_path, labels))


def test_regions_are_refused_even_where_values_are_numbers(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="region labels"):
        read_label_scheme(declare(tmp_path, {"background": 0, "a": 1}, regions_class_order=[1]))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{broken", "not readable as JSON"),
        (b"", "not readable as JSON"),
        (b"\xff\xfe", "not readable as JSON"),
        (b"[1]", "a JSON object is needed, found list"),
    ],
)
def test_a_broken_file_is_refused_in_one_line(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "dataset.json").write_bytes(content)
    with pytest.raises(InputError, match=rf"dataset\.json: {reason}") as caught:
        read_dataset_json(tmp_path)
    assert "\n" not in str(caught.value)
