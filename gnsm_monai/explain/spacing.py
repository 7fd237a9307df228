"""A mask's spacing beside that of the references, in words."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["field_of_view_sentence", "spacing_sentence"]

SPACING_MARGIN = 0.1
"""Share of a spacing up to which one that no reference has is not named."""


def spacing_sentence(spacing: Sequence[float], usual: tuple[Sequence[float], Sequence[float]]) -> str:
    """Names a spacing that no reference has; empty where it is usual.

    Args:
        spacing: of the mask's file, mm per axis.
        usual: finest and coarsest spacing of the references, likewise.
    """
    finest, coarsest = usual
    odd = [
        not low * (1 - SPACING_MARGIN) <= mm <= high * (1 + SPACING_MARGIN)
        for mm, low, high in zip(spacing, finest, coarsest, strict=True)
    ]
    if not any(odd):
        return ""
    here, there = _sizes(spacing, usual)
    return f"voxels of {here} mm, references have {there} mm"


def _sizes(mm: Sequence[float], usual: tuple[Sequence[float], Sequence[float]]) -> tuple[str, str]:
    """Lengths per axis and their usual ranges in words, each one once if all axes are alike."""
    ranges = [f"{a:.3g}" if f"{a:.3g}" == f"{b:.3g}" else f"{a:.3g} to {b:.3g}" for a, b in zip(*usual, strict=True)]
    here, there = ([*dict.fromkeys(texts)] for texts in ([f"{length:.3g}" for length in mm], ranges))
    if len(here) > 1 or len(there) > 1:
        here, there = [f"{length:.3g}" for length in mm], ranges
    return " x ".join(here), " x ".join(there)


def field_of_view_sentence(
    spacing: Sequence[float], lengths: Sequence[float], usual: tuple[Sequence[float], Sequence[float]]
) -> str:
    """Names a spacing that makes a mask smaller or larger than all references along every axis; else empty.

    For models of earlier versions, which do not know their references' spacings.

    Args:
        spacing: of the mask's file, mm per axis.
        lengths: of the mask's file, mm per axis.
        usual: shortest and longest lengths of the references, likewise.
    """
    shorter = all(mm < low * (1 - SPACING_MARGIN) for mm, low in zip(lengths, usual[0], strict=True))
    longer = all(mm > high * (1 + SPACING_MARGIN) for mm, high in zip(lengths, usual[1], strict=True))
    if not shorter and not longer:
        return ""
    here, there = _sizes(lengths, usual)
    voxels, _ = _sizes(spacing, (spacing, spacing))
    return f"voxels of {voxels} mm and a field of view of {here} mm, references have one of {there} mm"
