"""A bad mask of known Dice that was made from a reference, and how many of them are made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gnsm_monai.data.compare import mean_dice
from gnsm_monai.data.constants import LABEL
from gnsm_monai.data.degradations import KINDS

__all__ = ["Failure", "FailurePlan", "kinds_in_turn"]


@dataclass(frozen=True)
class Failure:
    """A bad mask made from a reference.

    Args:
        kind: in what way it is bad.
        case: with the mask as ``label``, and the image that the network saw.
        structure_dice: of each structure to the reference, ``(S,)``; NaN where neither has it.
        distances: mean surface distance of each structure in mm, ``(S,)``; NaN where not both have it.
        of_network: whether it is a mask of a network.
    """

    kind: str
    case: dict[str, Any]
    structure_dice: np.ndarray
    distances: np.ndarray
    of_network: bool = False

    @property
    def maker(self) -> str:
        """What made it: degraded copies are of one maker, masks of a network's stages as well."""
        return "copy" if self.kind in KINDS else self.kind.rstrip("_0123456789")

    @property
    def dice(self) -> float:
        """Mean over the structures that are in either map; NaN where none is."""
        return mean_dice(self.structure_dice)

    @property
    def empty(self) -> bool:
        """Whether it has no structure."""
        return not bool((self.case[LABEL] > 0).any())


@dataclass(frozen=True)
class FailurePlan:
    """Which failures are made from each reference of one use.

    Args:
        stream: of the random numbers, one per use.
        copies: degraded copies, half as many where there are masks of a network too.
        masks: of the small network; None for all that it can make.
        empty: whether to add an empty mask.
        others: maps of other references, each as it is, where every reference has a structure.
    """

    stream: int
    copies: int
    masks: int | None
    empty: bool = True
    others: int = 0


def kinds_in_turn(kinds: Sequence[str], number: int, count: int) -> list[str]:
    """``count`` kinds of masks for the reference of that ``number``, so that all kinds have their turn.

    Masks of sound and of poor images alternate in the list, a pair for each copy of the small network. The step of 5 is
    odd, so that a reference gets both sorts, and prime to lengths that are no multiple of 5, so that it gets no kind
    twice before all have come. The next reference begins ``count`` kinds further on.
    """
    return [kinds[(number * count + 5 * i) % len(kinds)] for i in range(count)]
