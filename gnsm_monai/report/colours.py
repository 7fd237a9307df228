"""Colours that a structure keeps in every picture, and tables of them as 3D Slicer and ITK-SNAP read them."""

from __future__ import annotations

import matplotlib
import numpy as np

from gnsm_monai.data.nnunet import LabelScheme

__all__ = ["COLOUR_TABLES", "HEAT_MAP", "NUM_TONES", "class_colours", "class_hex", "itk_snap_labels", "slicer_colours"]

HEAT_MAP = "inferno"
"""matplotlib's name of the colours of anomaly: dark to light, so that it reads in grey as well."""
_TONES = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7")
NUM_TONES = 3 * len(_TONES)
"""Structures that have a colour of their own."""


def class_colours(num_classes: int) -> np.ndarray:
    """RGB in [0, 1] per class, ``(K, 3)``: black for background, then colour-blind safe tones (Okabe and Ito 2008).

    After seven structures the tones come again, lighter, then darker, and from the 22nd structure on unchanged.
    """
    tones = np.array([matplotlib.colors.to_rgb(tone) for tone in _TONES])
    turns = np.concatenate([tones, 0.5 * tones + 0.5, 0.55 * tones])
    foreground = turns[np.arange(num_classes - 1) % NUM_TONES]
    return np.concatenate([np.zeros((1, 3)), foreground]).astype(np.float32)


def class_hex(num_classes: int) -> list[str]:
    """The same colours as ``#rrggbb``."""
    return [str(matplotlib.colors.to_hex(colour)) for colour in class_colours(num_classes)]


COLOUR_TABLES = ("labels.ctbl", "labels.label.txt")
"""Files that hold them, for 3D Slicer and for ITK-SNAP."""

IGNORE_COLOUR = (128, 128, 128)

ITK_SNAP_HEADER = """\
################################################
# ITK-SnAP Label Description File
# File format:
# IDX   -R-  -G-  -B-  -A--  VIS MSH  LABEL
################################################
"""


def slicer_colours(labels: LabelScheme) -> str:
    """Text of a ``.ctbl`` file of 3D Slicer: value, name without spaces, red, green, blue, alpha (0 to 255)."""
    lines = [
        f"{value} {'_'.join(name.split())} {' '.join(map(str, rgb))} {255 if value else 0}"
        for value, name, rgb in _table(labels)
    ]
    return "\n".join(["# 3D Slicer colour table: value name red green blue alpha", *lines, ""])


def itk_snap_labels(labels: LabelScheme) -> str:
    """Text of a label description file of ITK-SNAP: value, red, green, blue, alpha, visibility twice, name."""
    lines = []
    for value, name, (red, green, blue) in _table(labels):
        shown = int(value > 0)
        plain = " ".join(name.replace('"', "'").split())
        lines.append(f'{value:5d} {red:5d} {green:4d} {blue:4d} {shown:8d} {shown:2d} {shown:2d}    "{plain}"')
    return ITK_SNAP_HEADER + "\n".join([*lines, ""])


def _table(labels: LabelScheme) -> list[tuple[int, str, tuple[int, int, int]]]:
    """Value in the files, name and colour of every class, in the colours of the report; the ignore label is grey."""
    colours = (class_colours(labels.num_classes) * 255).round().astype(int).tolist()
    names = ["background", *labels.names]
    rows = [(v, n, (c[0], c[1], c[2])) for v, n, c in zip(labels.values, names, colours, strict=True)]
    return rows if labels.ignore_value is None else [*rows, (labels.ignore_value, "ignore", IGNORE_COLOUR)]
