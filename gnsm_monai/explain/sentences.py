"""Findings in words."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gnsm_monai.data.geometry import Cropped
from gnsm_monai.explain.findings import Finding

__all__ = [
    "NOT_UNUSUAL", "NO_REASON", "STANDS_OUT", "Words", "contact_sentence", "cropped_sentence", "empty_sentence",
    "joined", "unusual_sentence",
]  # fmt: skip

NO_REASON = "no clear reason: the mask is close to what the references suggest"

STANDS_OUT = "stands out by its"

NOT_UNUSUAL = "not unusual beside the references, and looked at no further"
"""Of a mask of which only the score was measured."""


def joined(*reasons: str) -> str:
    """Those that say something, with a semicolon between them; the last one where none does."""
    return "; ".join(reason for reason in reasons if reason not in ("", NO_REASON)) or reasons[-1]


def contact_sentence(structure: str, partner: str, areas: tuple[float, float, float], spatial_dims: int) -> str:
    """Areas (mm², in 2D mm) on which a structure touches another one: here, usually (0: hardly ever) and at most."""
    unit, large, times = ("mm", "cm", 10) if spatial_dims == 2 else ("mm²", "cm²", 100)
    here, usual, most = (f"{_number(x / times)} {large}" if x >= times else f"{_number(x)} {unit}" for x in areas)
    touches = f"touches {partner} on {here}" if areas[0] else f"does not touch {partner}"
    there = usual if areas[1] else f"at most {most}" if areas[2] else "never"
    return f"{structure} {touches} ({there} in references)"


def unusual_sentence(words: str, deviations: float) -> str:
    """By which statistic, in words, a mask stands out, and by how many deviations from the usual."""
    return f"{STANDS_OUT} {words} ({deviations:.1f} deviations from the usual)"


_ANATOMY = {"R": ("left", "right"), "L": ("right", "left"), "A": ("back", "front"), "P": ("front", "back")}
_ANATOMY |= {"S": ("bottom", "top"), "I": ("top", "bottom")}
_PICTURE = (("left", "right"), ("top", "bottom"))
MAX_PAIRS = 2  # labels off by one number that are named
_WORDS = {1: "one", 2: "two", 3: "three"}
_END = {"top": "upper", "bottom": "lower"}
_TOWARDS = {"top": "upwards", "bottom": "downwards"}


class Words:
    """Turns findings into English for maps of one orientation.

    Args:
        spatial_dims: 3, or 2 for pictures (x to the right, y downwards).
        orientation: what the index grows towards along each axis, such as "RAS"; not used for pictures.

    Raises:
        ValueError: an orientation that is not one of R or L, A or P, S or I per axis.
    """

    def __init__(self, spatial_dims: int, orientation: str = "RAS") -> None:
        axes = ["RLAPSI".find(letter) // 2 for letter in orientation]
        if spatial_dims == 3 and sorted(axes) != [0, 1, 2]:
            raise ValueError(f"orientation must name three directions, such as RAS, got {orientation!r}.")
        self.ends = _PICTURE if spatial_dims == 2 else tuple(_ANATOMY[letter] for letter in orientation)
        self.spatial_dims = spatial_dims

    def sentence(self, finding: Finding) -> str:
        return _SENTENCES[finding.kind](self, finding)

    def volume(self, finding: Finding) -> str:
        small, large, times = ("mm²", "cm²", 100) if self.spatial_dims == 2 else ("mm³", "ml", 1000)
        if finding.volume < 10:
            return f"{_number(finding.volume)} {small}"
        return f"{_number(finding.volume / times)} {large}"

    def usual(self, finding: Finding) -> str:
        """What the references hold of something that is missing, in brackets; empty where that is not known."""
        if not finding.volume:
            return ""
        ends = ""
        if finding.ends is not None and finding.ends[0] < finding.ends[1]:
            ends = ", {} to {}".format(*(self.volume(Finding("", volume=end)) for end in finding.ends))
        return f" (references hold {self.volume(finding)}{ends})"

    def share(self, finding: Finding) -> str:
        """The share of the expected size that is wrong, and its size."""
        return f"{max(round(100 * finding.volume / finding.expected), 1)} %, {self.volume(finding)}"

    def end(self, finding: Finding) -> str:
        """The end where a finding lies; empty in the middle."""
        if not finding.places:
            return ""
        side = self._side(finding.places[0])
        return f"{_END.get(side, side)} end"

    def towards(self, finding: Finding) -> str:
        sides = [self._side(place) for place in finding.places[:2]]
        return " and ".join(_TOWARDS.get(side, f"to the {side}") for side in sides)

    def _side(self, place: tuple[int, int]) -> str:
        axis, direction = place
        return self.ends[axis][direction > 0]


def _number(value: float) -> str:
    """Two digits are enough, and all a ranking can vouch for."""
    return f"{value:.0f}" if value >= 10 else f"{float(f'{value:.2g}'):g}"


def _listed(names: Sequence[str], most: int = 3) -> str:
    """Some names, and how many more."""
    shown, more = list(names[:most]), len(names) - most
    if more == 1:
        shown.append(names[most])
    elif more > 1:
        shown.append(f"{more} more")
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


def _are(f: Finding) -> str:
    return "is" if len(f.names) == 1 else "are"


def _its(f: Finding) -> str:
    return "its" if len(f.names) == 1 else "their"


def _of(f: Finding) -> str:
    return f" of {_listed(f.names)}" if f.names else ""


def _numbered(w: Words, f: Finding) -> str:
    """Labels that are off by one or more numbers: too low where the label stands before the right one."""
    pairs = [f"{name} is labelled {label}" for name, label in f.pairs]
    shown = pairs if len(pairs) <= MAX_PAIRS + 1 else [*pairs[:MAX_PAIRS], f"{len(pairs) - MAX_PAIRS} more"]
    number = _WORDS.get(abs(f.count), str(abs(f.count)))
    subject = "labels" if f.other.lower() in ("", "label") else f"{f.other} labels"
    return f"{subject} are {number} too {'low' if f.count < 0 else 'high'}: {_listed(shown, len(shown))}"


def _shifted(w: Words, f: Finding) -> str:
    subject = f"{_listed(f.names)} {_are(f)} " if f.names else ""
    return f"{subject}shifted {_number(f.mm)} mm {w.towards(f)}"


def _part(w: Words, f: Finding) -> str:
    share = f.volume / f.expected
    if share > 0.85:
        return f"{f.names[0]} is missing almost wholly ({w.share(f)})"
    if not f.places:
        return f"{f.names[0]} is missing {'most' if share > 0.5 else 'a part'} of its middle ({w.share(f)})"
    return f"{f.names[0]} is missing its {w.end(f)} ({w.share(f)})"


def _cut(w: Words, f: Finding) -> str:
    return f"{_listed(f.names)} {_are(f)} cut off flat at {_its(f)} {w.end(f)} ({w.share(f)} missing)"


def _holes(w: Words, f: Finding) -> str:
    who = f.names[0]
    return f"hole of {w.volume(f)} in {who}" if f.count == 1 else f"{f.count} holes in {who} ({w.volume(f)})"


def _islands(w: Words, f: Finding) -> str:
    where, up_to = (f"{_number(f.mm)} mm from the body", "up to ") if f.mm else ("at the edge of the body", "")
    if f.count == 1:
        return f"island of {f.names[0]} {where} ({w.volume(f)})"
    return f"{f.count} islands of {f.names[0]} {up_to}{where} ({w.volume(f)})"


def _spread(w: Words, f: Finding) -> str:
    where = f" {w.towards(f)}" if f.places else ""
    return f"{f.names[0]} spreads {_number(f.mm)} mm too far{where} ({w.volume(f)})"


def _resized(w: Words, f: Finding) -> str:
    much = "much " if not 1 / 1.5 < f.ratio < 1.5 else ""
    margin = f", about {_number(f.mm)} mm all round" if f.mm else ""
    return f"{_listed(f.names)} {_are(f)} {much}{f.kind} than expected ({_number(f.ratio)} x{margin})"


def _missing(w: Words, f: Finding) -> str:
    return f"{_listed(f.names)} {_are(f)} missing{w.usual(f)}"


def _unexpected(w: Words, f: Finding) -> str:
    return f"{_listed(f.names)} {_are(f)} not expected here ({w.volume(f)})"


def _mirrored(w: Words, f: Finding) -> str:
    low, high = w.ends[f.places[0][0]]
    return f"mirrored from {low} to {high}"


_SENTENCES: dict[str, Callable[[Words, Finding], str]] = {
    "empty": lambda w, f: f"empty mask{w.usual(f)}",
    "missing": _missing,
    "unexpected": _unexpected,
    "swapped": lambda w, f: f"{f.names[0]} and {f.other} are swapped",
    "numbered": _numbered,
    "relabelled": lambda w, f: f"{f.names[0]} is labelled {f.other}",
    "swapped_in_part": lambda w, f: f"{f.names[0]} and {f.other} are swapped in part ({w.share(f)})",
    "labelled": lambda w, f: f"part of {f.names[0]} is labelled {f.other} ({w.share(f)})",
    "shifted": _shifted,
    "mirrored": _mirrored,
    "part": _part,
    "cut": _cut,
    "holes": _holes,
    "islands": _islands,
    "spread": _spread,
    "larger": _resized,
    "smaller": _resized,
    "everywhere": lambda w, f: f"boundary{_of(f)} differs by about {_number(f.mm)} mm everywhere",
    "boundary": lambda w, f: f"boundary{_of(f)} differs by about {_number(f.mm)} mm",
}


_UNITS = {2: ("row of pixels", "rows of pixels"), 3: ("slice", "slices")}


def empty_sentence(sees_image: bool, expects: bool) -> str:
    """What can be said of an empty mask where some references are empty.

    Args:
        sees_image: whether the network saw the image.
        expects: whether it expects a structure there.
    """
    if not sees_image:
        return "empty mask, as some references are: whether a structure was missed cannot be told from labels"
    return "empty mask, where the image lets expect a structure" if expects else "empty mask, as the image lets expect"


def cropped_sentence(cropped: Cropped | None) -> str:
    """What a mask lacks of the field of view of its image or reference; empty where it lacks nothing."""
    if cropped is None:
        return ""
    dims = len(cropped.missing)
    words, units = Words(dims, cropped.orientation), _UNITS[dims]
    ends = []
    for axis, sides in enumerate(cropped.missing):
        for direction, count in zip((-1, 1), sides, strict=True):
            if count:
                where = f"missing at its {words.end(Finding('', places=((axis, direction),)))}"
                ends.append(f"{count} {units[count > 1]} {where if cropped.located else 'fewer'}")
    beside = f"beside its {cropped.beside}" if cropped.located else f"than its {cropped.beside}"
    return f"{_listed(ends, most=6)} {beside}"
