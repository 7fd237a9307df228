"""dataset.json: what it declares, and what is wrong with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gnsm_monai.data.nnunet import LabelScheme, Region, check_same_labels, read_dataset_json, read_label_scheme
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


def test_a_byte_order_mark_is_read_over(tmp_path: Path) -> None:
    content = json.dumps({"labels": {"background": 0, "a": 1}})
    (tmp_path / "dataset.json").write_text(content, encoding="utf-8-sig")
    scheme = read_label_scheme(tmp_path)
    assert scheme is not None and scheme.names == ("a",)


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
        ({"0": "background", "1": "a"}, "its labels are written as value: name, as by nnU-Net v1; .*"),
        ({"0": "background", "a": 1}, "the value of label '0' must be a whole number, got 'background'"),
        ({"background": 0, "a": -1}, "the value of label 'a' must be a whole number, got -1"),
        ({"background": 0, "a": 1.5}, "the value of label 'a' must be a whole number, got 1.5"),
        ({"background": 0, "a": True}, "the value of label 'a' must be a whole number, got True"),
        ({"background": 0, "a": []}, r"the value of label 'a' must be a whole number, got \[\]"),
        ({"background": 0, "a": [1, "2"]}, "the value of label 'a' must be a whole number, got '2'"),
        ({"background": 0, "none": [0], "a": 1}, "labels 'background' and 'none' share the value 0"),
        (
            {"background": 0, "a": 1, "ignore": [2, 3]},
            r"the value of label 'ignore' must be a whole number, got \[2, 3\]",
        ),
        ({"background": 0, "a": [1, 2], "ignore": 2}, "labels 'a' and 'ignore' share the value 2"),
        ({"background": 0, "a": [1, 2]}, r"regions_class_order must name one value per region \(a\)"),
        ({"background": 0, "a": [0, 1]}, r"region 'a' holds the background \(0\)"),
    ],
)
def test_labels_that_cannot_be_used_are_refused(tmp_path: Path, labels: Any, reason: str) -> None:
    with pytest.raises(InputError, match=rf"dataset\.json: {reason}$"):
        read_label_scheme(declare(tmp_path, labels))


BRATS = {"background": 0, "whole_tumor": [1, 2, 3], "tumor_core": [2, 3], "enhancing_tumor": 3}


def test_regions_are_structures_made_of_the_classes_that_files_hold(tmp_path: Path) -> None:
    scheme = read_label_scheme(declare(tmp_path, {**BRATS, "ignore": 4}, regions_class_order=[1, 2, 3]))
    assert scheme is not None
    assert scheme.values == (0, 1, 2, 3) and scheme.num_classes == 4 and scheme.ignore_value == 4
    assert scheme.structure_names == ("whole_tumor", "tumor_core", "enhancing_tumor")
    assert scheme.structure_classes == ((1, 2, 3), (2, 3), (3,))
    assert [region.written for region in scheme.regions] == [1, 2, 3]
    assert scheme.names == ("whole_tumor without tumor_core", "tumor_core without enhancing_tumor", "enhancing_tumor")
    assert LabelScheme.from_dict(json.loads(json.dumps(scheme.to_dict()))) == scheme


def test_regions_keep_the_order_of_the_file_and_values_may_lie_apart(tmp_path: Path) -> None:
    labels = {"core": [20, 30], "background": 0, "whole": [30, 20, 7]}
    scheme = read_label_scheme(declare(tmp_path, labels, regions_class_order=[20, 7]))
    assert scheme is not None
    assert scheme.values == (0, 7, 20, 30)
    assert scheme.regions == (Region("core", (2, 3), 2), Region("whole", (1, 2, 3), 1))
    assert scheme.names == ("whole without core", "core", "core (30)")


def test_a_plain_class_is_its_own_structure(tmp_path: Path) -> None:
    scheme = read_label_scheme(declare(tmp_path, {"background": 0, "a": 3, "b": 7}))
    assert scheme is not None
    assert scheme.structure_names == ("a", "b") and scheme.structure_classes == ((1,), (2,))


def test_lists_of_one_value_are_plain_labels_and_need_no_order(tmp_path: Path) -> None:
    expected = LabelScheme(("a", "b"), (0, 1, 2))
    assert read_label_scheme(declare(tmp_path, {"background": [0], "a": [1], "b": 2})) == expected
    assert read_label_scheme(declare(tmp_path, {"background": 0, "a": 1, "b": 2}, regions_class_order=[1])) == expected


@pytest.mark.parametrize(
    ("order", "reason"),
    [
        ([1, 2], "regions_class_order must name one value per region"),
        ("123", "regions_class_order must name one value per region"),
        ([1, 2, 9], "regions_class_order: 9 is in no region"),
        ([0, 1, 2], "regions_class_order: 0 is in no region"),
        ([1, 2, "3"], "regions_class_order: '3' is in no region"),
    ],
)
def test_an_order_that_does_not_fit_the_regions_is_refused(tmp_path: Path, order: Any, reason: str) -> None:
    with pytest.raises(InputError, match=rf"dataset\.json: {reason}"):
        read_label_scheme(declare(tmp_path, BRATS, regions_class_order=order))


class TestSameLabels:
    scheme = LabelScheme(("liver", "spleen"), (0, 1, 2))

    def test_the_same_labels_pass_whatever_their_order_and_case(self, tmp_path: Path) -> None:
        check_same_labels(tmp_path, self.scheme)
        check_same_labels(declare(tmp_path, {"Spleen": 2, "background": 0, "Liver": 1}), self.scheme)

    @pytest.mark.parametrize(
        "labels",
        [
            {"background": 0, "spleen": 1, "liver": 2},
            {"background": 0, "liver": 1},
            {"background": 0, "liver": 1, "spleen": 3},
            {"background": 0, "liver": 1, "spleen": 2, "ignore": 3},
        ],
    )
    def test_other_labels_are_refused_with_both(self, tmp_path: Path, labels: dict[str, int]) -> None:
        with pytest.raises(
            InputError, match=r"dataset\.json: the model was trained for other labels: liver 1, spleen 2"
        ):
            check_same_labels(declare(tmp_path, labels), self.scheme)

    def test_regions_are_compared_too(self, tmp_path: Path) -> None:
        scheme = read_label_scheme(declare(tmp_path, BRATS, regions_class_order=[1, 2, 3]))
        assert scheme is not None
        check_same_labels(tmp_path, scheme)
        declare(tmp_path, BRATS, regions_class_order=[1, 3, 2])
        with pytest.raises(InputError, match=r"other labels: whole_tumor 1\+2\+3, tumor_core 2\+3, enhancing_tumor 3"):
            check_same_labels(tmp_path, scheme)

    def test_a_validation_folder_has_its_labels_two_folders_up(self, tmp_path: Path) -> None:
        declare(tmp_path, {"background": 0, "kidney": 1})
        (tmp_path / "fold_0" / "validation").mkdir(parents=True)
        (tmp_path / "fold_0" / "test").mkdir()
        check_same_labels(tmp_path / "fold_0" / "test", self.scheme)
        with pytest.raises(InputError, match="kidney 1"):
            check_same_labels(tmp_path / "fold_0" / "validation", self.scheme)

    def test_a_model_without_declared_names_has_none_to_compare(self, tmp_path: Path) -> None:
        check_same_labels(declare(tmp_path, {"background": 0, "liver": 1}), LabelScheme.from_values([0, 1, 2]))


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
