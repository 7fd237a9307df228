"""How one structure of a mask differs from its denoised version: parts that are missing, misplaced or too much."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import ndimage

from gnsm_monai.explain.displacement import align, directions, length, move, overlap_dice
from gnsm_monai.explain.findings import Classes, Finding, Floats, Mask, Structure

__all__ = ["describe"]

NAMED = 0.02  # Dice that a part must cost to be named; less is the network's own blur
SMALL = 0.005  # the same for islands and holes, which no blur makes
ENCLOSED = 0.8  # share of a hole's surroundings that is labelled
GAPING, ONE_SIDED = 0.2, 0.45  # the same for a hole with an opening, and how much the labels may lie on one side of it
BITE = 0.6  # share of a structure that a hole with an opening may take: more is most of it missing
FLAT = 0.7  # share of the cross-section that a flat end fills
UNCLEAR = 0.1  # Dice that thin differences must cost to be a reason
MAX_PARTS = 6  # of one structure: more are no explanation


def describe(structure: Structure) -> list[Finding]:
    """Findings about one structure, in no order; none where the mask and its denoised version nearly agree."""
    s = structure
    size, expected_size = s.sizes
    if not size or not expected_size:
        return [s.finding("unexpected" if size else "missing", size + expected_size)] if size + expected_size else []
    missing, extra = s.expected & ~s.mask, s.mask & ~s.expected
    if np.count_nonzero(missing) + np.count_nonzero(extra) < SMALL * (size + expected_size):
        return []
    if moved := _moved(s):
        return [moved]
    findings = [*_islands(s, extra)]
    rim, expected_rim = _rim(s.mask), _rim(s.expected)
    to_mask, to_expected = s.distance(rim), s.distance(expected_rim)
    # Where a part is missing (or added), the other map's rim, or this one's, still lies where it should.
    typical = float(min(np.median(to_mask[expected_rim]), np.median(to_expected[rim])))
    scale = 0.5 * (expected_size * s.voxel) ** (1 / s.mask.ndim)
    thick = max(1.5 * float(s.spacing.min()), min(2 * typical, scale), 0.2 * scale)
    findings += _holes(s, missing)
    for part in _thick_parts(missing, s.mask, to_mask, thick, s):
        missing &= ~part
        findings.append(_missing_part(s, part))
    for part in _thick_parts(extra, s.expected, to_expected, thick, s):
        extra &= ~part
        if not _is_neighbour(s, s.denoised[part]):  # which else names it as its own missing part
            mm = float(to_expected[part].max())
            findings.append(s.finding("spread", int(np.count_nonzero(part)), mm=mm, places=s.places(part)))
    findings = [f for f in findings if f.weight >= (SMALL if f.kind in ("islands", "holes") else NAMED)]
    margin = float(min(to_mask[expected_rim].mean(), to_expected[rim].mean()))
    return [*findings, *_boundary(s, int(np.count_nonzero(missing)), int(np.count_nonzero(extra)), typical, margin)]


def _moved(s: Structure) -> Finding | None:
    """A displacement, where it explains most of the difference."""
    before = overlap_dice(s.mask, s.expected)
    alike = 0.6 < s.sizes[0] / s.sizes[1] < 1.6
    if before > 0.8 or (before and not alike) or _is_neighbour(s, s.label[s.expected]):
        return None
    offset = align(s.mask, s.expected)
    gain = overlap_dice(move(s.mask, offset), s.expected) - before
    if before and (np.abs(offset).max() < 2 or gain < 0.5 * (1 - before)):
        return None
    places, mm = directions(-offset, s.spacing), length(offset, s.spacing)
    return Finding("shifted", (s.name,), gain if before else 1.0, s.sizes[0] * s.voxel, mm=mm, places=places)


def _islands(s: Structure, extra: Mask) -> Iterator[Finding]:
    """Pieces apart from the structure, where background is expected; they are taken out of `extra`."""
    pieces, count = ndimage.label(s.mask, _full(s.mask.ndim))
    if count < 2:
        return
    overlap = np.bincount(pieces[s.expected], minlength=count + 1)[1:]
    sizes = np.bincount(pieces.ravel(), minlength=count + 1)[1:].astype(float)
    astray = np.bincount(pieces[extra & (s.denoised == 0)], minlength=count + 1)[1:]
    body = int(np.lexsort((sizes, overlap))[-1])
    islands = [i for i in range(count) if i != body and 2 * astray[i] > sizes[i]]
    total = float(sum(sizes[islands]))
    if not islands or total < SMALL * sum(s.sizes):
        return
    astray_pieces = np.zeros(count + 1, dtype=bool)
    astray_pieces[np.array(islands) + 1] = True
    inside = astray_pieces[pieces]
    extra &= ~inside
    away = s.from_body()
    away = s.distance(pieces == body + 1) if away is None else away
    gaps = ndimage.minimum(away[inside], pieces[inside], np.array(islands) + 1)
    seen = [float(gap) for gap, i in zip(gaps, islands, strict=True) if 20 * sizes[i] > total]  # not single voxels
    yield s.finding("islands", total, mm=max(seen, default=float(max(gaps))), count=max(len(seen), 1))


def _holes(s: Structure, missing: Mask) -> Iterator[Finding]:
    """Background in the midst of labels; it is taken out of `missing`."""
    pieces, count = ndimage.label(missing & (s.label == 0))
    if not count:
        return
    sizes = np.bincount(pieces.ravel())[1:]
    holes = []
    for i in np.argsort(-sizes)[:MAX_PARTS]:
        if sizes[i] >= max(2, SMALL * s.sizes[1]) and _enclosed(s, pieces == i + 1)[0] >= ENCLOSED:
            holes.append(int(i))
    if holes:
        missing &= ~np.isin(pieces, np.array(holes) + 1)
        yield s.finding("holes", float(sizes[holes].sum()), count=len(holes))


def _missing_part(s: Structure, part: Mask) -> Finding:
    """Says in what way a thick part is missing."""
    wrong = int(np.count_nonzero(part))
    if _is_neighbour(s, s.label[part]):
        other = s.neighbours[int(np.argmax(np.bincount(s.label[part])))]
        return s.finding("labelled", wrong, other=other)
    if flat := _flat_end(s, part):
        return s.finding("cut", wrong, places=flat)
    share, one_sided = _enclosed(s, part)
    if share >= ENCLOSED or (share >= GAPING and one_sided < ONE_SIDED and wrong <= BITE * s.sizes[1]):
        return s.finding("holes", wrong)
    return s.finding("part", wrong, places=s.places(part))


def _is_neighbour(s: Structure, classes: Classes) -> bool:
    """Whether most of these voxels belong to another structure."""
    return int(np.argmax(np.bincount(classes))) in s.neighbours


def _enclosed(s: Structure, part: Mask) -> tuple[float, float]:
    """Share of a part's surroundings that is labelled, and how far that lies on one side: 0 around, 1 on one side."""
    box = tuple(slice(max(i.start - 1, 0), i.stop + 1) for i in ndimage.find_objects(part.astype(np.int8))[0])
    near = ndimage.binary_dilation(part[box], _full(part.ndim)) & ~part[box]
    labelled = near & (s.label[box] > 0)
    if not labelled.any():
        return 0.0, 1.0
    away = (np.argwhere(labelled) - np.argwhere(part[box]).mean(axis=0)) * s.spacing
    away /= np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-9)
    return float(labelled.sum() / near.sum()), float(np.linalg.norm(away.mean(axis=0)))


def _flat_end(s: Structure, part: Mask) -> tuple[tuple[int, int], ...]:
    """The end where the mask stops at a plane across an axis, beyond which the part lies; none if there is none."""
    for axis in range(part.ndim):
        others = tuple(i for i in range(part.ndim) if i != axis)
        in_mask, in_part = s.mask.sum(axis=others), part.sum(axis=others)
        in_both = (s.mask & s.expected).sum(axis=others)
        in_expected = s.expected.sum(axis=others)
        for end in (-1, 1):
            last = int(np.flatnonzero(in_mask)[0 if end < 0 else -1])
            beyond = slice(0, last) if end < 0 else slice(last + 1, None)
            full = in_both[last] >= FLAT * in_expected[last]
            wide = in_expected[last] >= 0.3 * in_expected.max()
            if full and wide and in_part[beyond].sum() >= 0.8 * in_part.sum():
                return ((axis, end),)
    return ()


def _thick_parts(region: Mask, other: Mask, distance: Floats, thick: float, s: Structure) -> Iterator[Mask]:
    """Parts of a difference that reach far from the other map, the largest first, without the thin rest at its rim."""
    core = region & (distance > thick) & ~ndimage.binary_dilation(other, _full(other.ndim))
    if not core.any():
        return
    pieces, _ = ndimage.label(region & (s.distance(core) <= thick), _full(other.ndim))
    sizes = np.bincount(pieces.ravel())[1:]
    for i in np.argsort(-sizes)[:MAX_PARTS]:
        yield pieces == i + 1


def _boundary(s: Structure, missing: int, extra: int, typical: float, margin: float) -> list[Finding]:
    """What thin differences along the rim amount to."""
    everywhere = typical >= 0.9 * s.spacing.min()
    wrong = missing + extra
    if wrong < (NAMED if everywhere else UNCLEAR) * sum(s.sizes):
        return []
    ratio = (s.sizes[1] + extra - missing) / s.sizes[1]
    if max(missing, extra) >= 4 * min(missing, extra) and not 1 / 1.2 < ratio < 1.2:
        return [s.finding("larger" if ratio > 1 else "smaller", wrong, mm=margin if everywhere else 0.0, ratio=ratio)]
    return [s.finding("everywhere" if everywhere else "boundary", wrong, mm=margin)]


def _rim(mask: Mask) -> Mask:
    return np.asarray(mask & ~ndimage.binary_erosion(mask))


def _full(ndim: int) -> Mask:
    return np.ones((3,) * ndim, dtype=bool)
