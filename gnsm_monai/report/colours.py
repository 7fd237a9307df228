"""Colours that a structure keeps in every picture, and tables of them as 3D Slicer and ITK-SNAP read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np

from gnsm_monai.data.nnunet import LabelScheme

__all__ = [
    "COLOUR_TABLES",
    "HEAT_MAP",
    "NUM_TONES",
    "class_colours",
    "class_hex",
    "given_colours",
    "itk_snap_labels",
    "num_tones",
    "slicer_colours",
]

HEAT_MAP = "inferno"
"""matplotlib's name of the colours of anomaly: dark to light, so that it reads in grey as well."""
_TONES = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7")
NUM_TONES = 3 * len(_TONES)
"""Structures that have a colour of their own."""
MAX_TONES = 250
"""What fits in the palette of a picture, beside those of what is no structure."""


def given_colours(summary: Mapping[str, Any]) -> Sequence[str]:
    """Colours that the references' own files give the structures of a ranking, ``#rrggbb`` or empty."""
    return [str(colour) for colour in summary.get("settings", {}).get("colours") or []]


def num_tones(given: Sequence[str]) -> int:
    """Colours of structures after which they come again."""
    return max(NUM_TONES, min(len(given), MAX_TONES))


def class_colours(num_classes: int, given: Sequence[str] = ()) -> np.ndarray:
    """RGB in [0, 1] per class, ``(K, 3)``: black for background, then colour-blind safe tones (Okabe and Ito 2008).

    After seven structures the tones come again, lighter, then darker, and from the 22nd structure on unchanged.

    Args:
        num_classes: ``K``, background included.
        given: colours of the foreground classes that stand in place of these tones, ``#rrggbb`` or empty.
    """
    tones = np.array([matplotlib.colors.to_rgb(tone) for tone in _TONES])
    turns = np.concatenate([tones, 0.5 * tones + 0.5, 0.55 * tones])
    foreground = turns[np.arange(num_classes - 1) % NUM_TONES]
    for place, colour in enumerate(given[: num_classes - 1]):
        if matplotlib.colors.is_color_like(colour):
            foreground[place] = matplotlib.colors.to_rgb(colour)
    return np.concatenate([np.zeros((1, 3)), foreground]).astype(np.float32)


def class_hex(num_classes: int, given: Sequence[str] = ()) -> list[str]:
    """The same colours as ``#rrggbb``."""
    return [str(matplotlib.colors.to_hex(colour)) for colour in class_colours(num_classes, given)]


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
    colours = (class_colours(labels.num_classes, labels.colours) * 255).round().astype(int).tolist()
    names = ["background", *labels.names]
    rows = [(v, n, (c[0], c[1], c[2])) for v, n, c in zip(labels.values, names, colours, strict=True)]
    return rows if labels.ignore_value is None else [*rows, (labels.ignore_value, "ignore", IGNORE_COLOUR)]
