"""Why a mask is flagged, in words: how it differs from what the network makes of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from gnsm_monai.explain.displacement import align, directions, joint_counts, length, move, structure_dice
from gnsm_monai.explain.findings import Finding, Structure, UsualVolume, unnamed
from gnsm_monai.explain.parts import describe
from gnsm_monai.explain.relabelling import RELABELLED, best_relabelling, relabelling_findings
from gnsm_monai.explain.sentences import NO_REASON, Words

__all__ = ["NO_REASON", "explain"]

MAX_REASONS = 3
MARGIN = 2  # voxels around both maps: room for surroundings and distances
HARM = 0.05  # Dice that a displacement of the whole may cost a structure
WHOLE = 0.1  # Dice that some structure must have lost before the whole mask is moved about
EXCHANGED = 0.7  # share of two structures that must lie in each other's place
GAIN = 0.5  # share of the Dice lost that one displacement must explain
MERGED = ("missing", "unexpected", "cut", "larger", "smaller", "boundary", "everywhere")
"""Kinds that several structures share in one sentence."""


def explain(
    label: npt.NDArray[np.integer[Any]],
    denoised: npt.NDArray[np.integer[Any]],
    structures: Sequence[tuple[str, Sequence[int]]],
    spacing: Sequence[float],
    orientation: str = "RAS",
    usual: Mapping[str, UsualVolume] | None = None,
    needed: Collection[str] = (),
) -> str:
    """What differs most between a mask, flagged or not, and its denoised version.

    Args:
        label: classes of the mask, (*spatial) in 2D or 3D; 0 = background, -1 = ignored.
        denoised: what the mask would be if it were like the references, likewise.
        structures: name and classes of each foreground structure; structures may share classes.
        spacing: mm per axis.
        orientation: what the index of each axis of a 3D map grows towards; left and right are the patient's. Pictures
            are described as the viewer sees them, axis 0 = x to the right, axis 1 = y downwards.
        usual: size of each structure in the references. A structure that is missing is given that size; without it
            none, because the denoised version of a mask that lacks a structure lacks most of it too.
        needed: structures that every reference has. They are missing also where the denoised version lacks them.

    Returns:
        At most three findings, each with its size, joined by "; ", those that cost most Dice first; `NO_REASON` where
        the two nearly agree.

    Raises:
        ValueError: shapes that differ or are neither 2D nor 3D, a spacing that is not one positive number per axis, or
            an orientation that is not one.
    """
    if label.shape != denoised.shape or label.ndim not in (2, 3):
        raise ValueError(f"label and denoised must be 2D or 3D of one shape, got {label.shape} and {denoised.shape}.")
    mm = np.asarray(spacing, dtype=np.float64)
    if mm.shape != (label.ndim,) or not (mm > 0).all():
        raise ValueError(f"spacing must be {label.ndim} positive numbers, got {list(spacing)}.")
    words = Words(label.ndim, orientation)
    ignored = (label < 0) | (denoised < 0)
    given, expected = (np.where(ignored, 0, m).astype(np.intp) for m in (label, denoised))
    if not given.any():
        apart = sum(len(classes) for _, classes in structures) == len({c for _, classes in structures for c in classes})
        volume = sum(size.median for size in (usual or {}).values()) if apart else 0.0
        return words.sentence(Finding("empty", volume=volume))
    (box,) = ndimage.find_objects(((given > 0) | (expected > 0)).astype(np.int8))
    maps = _Maps(np.pad(given[box], MARGIN), np.pad(expected[box], MARGIN), tuple(structures), mm)
    findings, maps = _displaced(maps)
    present = list(_structures(maps))
    exchanged = {frozenset(pair) for f in findings if f.kind in RELABELLED for pair in f.pairs}
    rest = [finding for structure in present for finding in describe(structure)]
    absent = [name for name, classes in structures if name in needed and not np.isin(given, list(classes)).any()]
    rest = [_sized(finding, usual or {}) for finding in [*rest, *unnamed(absent, [*findings, *rest])]]
    findings += [f for f in rest if not (f.other and frozenset((*f.names, f.other)) in exchanged)]
    worst = sorted(_merged(findings, [s.name for s in present]), key=lambda f: -f.weight)[:MAX_REASONS]
    return "; ".join(words.sentence(finding) for finding in worst) or NO_REASON


def _sized(finding: Finding, usual: Mapping[str, UsualVolume]) -> Finding:
    """A missing structure with its size in the references."""
    if finding.kind != "missing":
        return finding
    size = usual.get(finding.names[0])
    if size is None:
        return replace(finding, volume=0.0)
    return replace(finding, volume=size.median, ends=(size.smallest, size.largest))


@dataclass(frozen=True)
class _Maps:
    """Mask and denoised version, cut to their foreground, with what is known of both."""

    label: npt.NDArray[np.intp]
    denoised: npt.NDArray[np.intp]
    structures: tuple[tuple[str, Sequence[int]], ...]
    spacing: npt.NDArray[np.float64]

    @property
    def num_classes(self) -> int:
        named = max((int(c) for _, classes in self.structures for c in classes), default=0)
        return max(named, int(self.label.max()), int(self.denoised.max())) + 1

    @property
    def members(self) -> npt.NDArray[np.bool_]:
        """Classes of each structure, (S, K)."""
        members = np.zeros((len(self.structures), self.num_classes), dtype=bool)
        for row, (_, classes) in zip(members, self.structures, strict=True):
            row[list(classes)] = True
        return members

    @cached_property
    def from_body(self) -> npt.NDArray[np.float64] | None:
        """mm to the nearest voxel that is labelled in both maps."""
        body = (self.label > 0) & (self.denoised > 0)
        return np.asarray(ndimage.distance_transform_edt(~body, sampling=self.spacing)) if body.any() else None

    def joint(self) -> npt.NDArray[np.int64]:
        return joint_counts(self.label, self.denoised, self.num_classes)

    def dice(self) -> npt.NDArray[np.float64]:
        return structure_dice(self.joint(), self.members)


def _displaced(maps: _Maps) -> tuple[list[Finding], _Maps]:
    """What exchanged labels, a shift or a mirror image of the whole explain, and the maps without it."""
    before = maps.dice()
    lost = float((1 - before).sum())
    if not maps.denoised.any() or (1 - before).max(initial=0) < WHOLE:
        return [], maps
    best, findings, corrected = 0.0, [], maps
    for explanations, after in (
        _relabelled(maps),
        _shift(maps),
        *(_mirror(maps, axis) for axis in range(maps.label.ndim)),
    ):
        gains = after.dice() - before
        gain = float(gains.sum())
        # What is nearly symmetric can be mirrored or shifted: the simpler explanation comes first, and wins if near.
        if gain <= best + 0.05 * lost:
            continue
        # What moves the whole must harm no structure; exchanged labels concern some of them, however bad the others.
        if explanations[0].kind in RELABELLED or (gain >= GAIN * lost and gains.min() > -HARM):
            of = {name: float(g) for (name, _), g in zip(maps.structures, gains, strict=True)}
            concerned = [{name for pair in f.pairs for name in pair} if f.names else of for f in explanations]
            weights = [sum(of[name] for name in names) for names in concerned]
            findings = [replace(f, weight=weight) for f, weight in zip(explanations, weights, strict=True)]
            best, corrected = gain, after
    return findings, corrected


def _relabelled(maps: _Maps) -> tuple[list[Finding], _Maps]:
    """Structures of which each lies mostly where another one should."""
    joint = maps.joint()
    single = {int(classes[0]): name for name, classes in maps.structures if len(classes) == 1}
    sizes = np.maximum(joint.sum(axis=1)[:, None], joint.sum(axis=0)[None])
    present = [c for c in sorted(single) if c > 0 and joint[c].any()]
    shares = joint / np.maximum(sizes, 1)
    shares[:, [c not in single for c in range(len(joint))]] = 0
    moves = best_relabelling(shares, present, EXCHANGED)
    table = np.arange(len(joint))
    table[list(moves)] = list(moves.values())
    return relabelling_findings(moves, single), replace(maps, label=table[maps.label])


def _shift(maps: _Maps) -> tuple[list[Finding], _Maps]:
    """The shift by which the mask agrees best."""
    offset = align(maps.label, maps.denoised)
    shifted = [Finding("shifted", mm=length(offset, maps.spacing), places=directions(-offset, maps.spacing))]
    if np.abs(offset).max() < 2:  # a boundary that differs
        return shifted, maps
    return shifted, replace(maps, label=move(maps.label, offset))


def _mirror(maps: _Maps, axis: int) -> tuple[list[Finding], _Maps]:
    """The mirror image along an axis, shifted to where it agrees best."""
    mirrored = np.flip(maps.label, axis)
    mirrored = move(mirrored, align(mirrored, maps.denoised))
    return [Finding("mirrored", places=((axis, 1),))], replace(maps, label=mirrored)


def _structures(maps: _Maps) -> Iterator[Structure]:
    """Every structure that is in either map, in its own box."""
    count = maps.num_classes - 1
    boxes = [ndimage.find_objects(m, count) for m in (maps.label, maps.denoised)]
    for (name, classes), member in zip(maps.structures, maps.members, strict=True):
        parts = [extents[c - 1] for extents in boxes for c in classes if c > 0 and extents[c - 1] is not None]
        if not parts:
            continue
        box = tuple(
            slice(max(min(s.start for s in axis) - MARGIN, 0), max(s.stop for s in axis) + MARGIN)
            for axis in zip(*parts, strict=True)
        )
        others = [(n, members) for n, members in maps.structures if not set(members) & set(classes)]
        neighbours = {int(c): n for n, members in sorted(others, key=lambda o: -len(o[1])) for c in members}
        label, denoised = maps.label[box], maps.denoised[box]

        def from_body(box: tuple[slice, ...] = box) -> npt.NDArray[np.float64] | None:
            return None if maps.from_body is None else maps.from_body[box]

        yield Structure(name, member[label], member[denoised], label, denoised, maps.spacing, neighbours, from_body)


def _together(findings: Sequence[Finding]) -> Finding:
    """One finding for several of one kind."""
    weight, expected = sum(f.weight for f in findings), sum(f.expected for f in findings)
    return replace(
        findings[0],
        names=tuple(dict.fromkeys(name for f in findings for name in f.names)),
        weight=weight,
        volume=sum(f.volume for f in findings),
        expected=expected,
        mm=sum(f.mm * f.weight for f in findings) / weight if weight else 0.0,
        ratio=sum(f.ratio * f.expected for f in findings) / expected if expected else 1.0,
        count=sum(f.count for f in findings),
        ends=findings[0].ends if len(findings) == 1 else None,
    )


def _grouped(findings: Sequence[Finding], key: Callable[[Finding], Hashable]) -> list[list[Finding]]:
    groups: dict[Hashable, list[Finding]] = {}
    for finding in findings:
        groups.setdefault(key(finding), []).append(finding)
    return list(groups.values())


def _merged(findings: Sequence[Finding], present: Sequence[str]) -> list[Finding]:
    """Findings of one kind and place made one: parts of a structure, then structures that share a sentence."""
    parts = []
    for group in _grouped(findings, lambda f: (f.kind, f.names, f.other, f.places)):
        one = _together(group)
        parts.append(replace(one, expected=group[0].expected, mm=max(f.mm for f in group)))
    swapped = []
    for group in _grouped(parts, lambda f: frozenset((*f.names, f.other)) if f.kind == "labelled" else id(f)):
        one = _together(group)
        swapped.append(replace(one, kind="swapped_in_part", names=group[0].names) if len(group) > 1 else one)
    merged = []
    for group in _grouped(swapped, lambda f: (f.kind, f.places) if f.kind in MERGED else id(f)):
        one = _together(group)
        everything = one.kind in ("boundary", "everywhere") and set(one.names) == set(present)
        merged.append(replace(one, names=() if everything else one.names))
    return merged
