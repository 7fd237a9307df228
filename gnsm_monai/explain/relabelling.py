"""Labels that are exchanged, shifted along a chain or otherwise dealt out wrongly: which class should be which."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from gnsm_monai.explain.findings import Finding

__all__ = ["RELABELLED", "best_relabelling", "chain_shifts", "relabelling_findings"]

RELABELLED = ("swapped", "numbered", "relabelled")
"""Kinds of findings that a relabelling gives."""
MIN_CHAIN = 3  # structures that make a chain
MIN_SHIFTED = 2  # labels off by the same number that are called a shift

_NUMBERED = re.compile(r"(?P<stem>.*?)[\s_.-]*(?P<number>[ctls]?\d+)", re.IGNORECASE)
"""A name that ends in a number, or in a vertebra: rib_left_4, vertebrae_L1, T12."""


def best_relabelling(profit: npt.NDArray[np.float64], present: Sequence[int], least: float = 0.0) -> dict[int, int]:
    """The class that each class of a mask should be: the assignment of greatest profit, no two to one class.

    Swaps, cycles and chains of labels are all such assignments.

    Args:
        profit: how well each class of the mask would do as each class, (K, K); background, class 0, takes no part.
        present: classes of the mask, above 0.
        least: profit that a new class must bring.

    Returns:
        new class by class, of those that change.
    """
    if not present:
        return {}
    foreground = np.array(profit, dtype=np.float64)[np.asarray(present)][:, 1:]
    foreground[range(len(present)), np.asarray(present) - 1] += 1e-9  # what is as good as before stays
    rows, columns = linear_sum_assignment(foreground, maximize=True)
    pairs = zip(rows.tolist(), columns.tolist(), strict=True)
    moves = {present[i]: j + 1 for i, j in pairs if present[i] != j + 1 and foreground[i, j] > least}
    return _without_collisions(moves, present)


def _without_collisions(moves: Mapping[int, int], present: Sequence[int]) -> dict[int, int]:
    """The moves after which no two classes are one."""
    moves = dict(moves)
    while taken := [c for c, new in moves.items() if new in present and new not in moves]:
        for c in taken:
            del moves[c]
    return moves


def chain_shifts(names: Mapping[int, str], present: Sequence[int], num_classes: int) -> list[dict[int, int]]:
    """Relabellings by one along chains of structures, in the order of the classes.

    A chain is what shares a name but for a number at its end; all structures together are one, too. A shift needs room
    at the end of the chain.

    Args:
        names: of the classes that are structures of their own.
        present: classes of the mask, above 0.
        num_classes: background included.
    """
    stems: dict[str | None, list[int]] = {None: sorted(set(names) & set(range(1, num_classes)))}
    for c in stems[None]:
        if match := _NUMBERED.fullmatch(names[c]):
            stems.setdefault(match["stem"].lower(), []).append(c)
    shifts: list[dict[int, int]] = []
    for chain in stems.values():
        held = [c for c in chain if c in present]
        for step in (1, -1):
            places = {c: chain.index(c) + step for c in held}
            if len(held) >= MIN_CHAIN and all(0 <= place < len(chain) for place in places.values()):
                moves = {c: chain[place] for c, place in places.items()}
                shifts += [moves] if moves not in shifts else []
    return shifts


def relabelling_findings(moves: Mapping[int, int], names: Mapping[int, str]) -> list[Finding]:
    """A relabelling in findings: exchanged pairs, labels that are off by one number, and what is left one by one.

    Args:
        moves: new class by class.
        names: of the classes.
    """
    swapped = sorted(c for c, new in moves.items() if moves.get(new) == c and c < new)
    findings = [Finding("swapped", (names[c],), other=names[moves[c]]) for c in swapped]
    rest = {c: new for c, new in moves.items() if moves.get(new) != c}
    order = sorted(names)
    steps = {c: order.index(c) - order.index(new) for c, new in rest.items()}
    for step in sorted(set(steps.values()), key=lambda step: (-list(steps.values()).count(step), step)):
        together = sorted((c for c in rest if steps[c] == step), key=lambda c: rest[c])
        labels, right = tuple(names[c] for c in together), tuple(names[rest[c]] for c in together)
        if len(together) >= MIN_SHIFTED:
            findings.append(Finding("numbered", right, labels=labels, count=step, other=_stem(labels + right)))
        else:
            findings.append(Finding("relabelled", right, other=labels[0]))
    return findings


def _stem(names: Sequence[str]) -> str:
    """What all names say before their number; empty where they share nothing."""
    stems = {match["stem"] if (match := _NUMBERED.fullmatch(name)) else "" for name in names}
    return stems.pop() if len(stems) == 1 else ""
