"""Colour tables, read by the rules of the two viewers."""

from __future__ import annotations

import re

from gnsm_monai.data.nnunet import LabelScheme
from gnsm_monai.report.colours import class_hex, itk_snap_labels, slicer_colours

LABELS = LabelScheme(("left  kidney", 'a "big"\ntumour'), (0, 2, 7), ignore_value=9)


def test_slicer_reads_six_fields_per_label() -> None:
    """vtkMRMLColorTableStorageNode: lines that begin with # are comments, fields are separated by white space."""
    rows = [line.split() for line in slicer_colours(LABELS).splitlines() if not line.startswith("#")]
    assert [len(row) for row in rows] == [6] * 4
    assert [(int(row[0]), row[1], int(row[5])) for row in rows] == [
        (0, "background", 0),
        (2, "left_kidney", 255),
        (7, 'a_"big"_tumour', 255),
        (9, "ignore", 255),
    ]
    assert "#" + "".join(f"{int(value):02x}" for value in rows[1][2:5]) == class_hex(3)[1]


def test_itk_snap_reads_eight_fields_per_label() -> None:
    """ColorLabelTable::LoadFromFile: seven numbers, of which alpha may be broken, and a name in quotation marks."""
    lines = [line for line in itk_snap_labels(LABELS).splitlines() if not line.startswith("#")]
    pattern = re.compile(r'\s*(\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s+([\d.]+)\s+([01])\s+([01])\s+"([^"]*)"')
    found = [pattern.fullmatch(line) for line in lines]
    assert all(found)
    rows = [match.groups() for match in found if match]
    assert [(row[0], row[4], row[5], row[7]) for row in rows] == [
        ("0", "0", "0", "background"),
        ("2", "1", "1", "left kidney"),
        ("7", "1", "1", "a 'big' tumour"),
        ("9", "1", "1", "ignore"),
    ]
    assert "#" + "".join(f"{int(value):02x}" for value in rows[2][1:4]) == class_hex(3)[2]
