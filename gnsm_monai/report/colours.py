"""Colours that a structure keeps in every picture, told apart with any kind of colour vision."""

from __future__ import annotations

import matplotlib
import numpy as np

__all__ = ["HEAT_MAP", "NUM_TONES", "class_colours", "class_hex"]

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
