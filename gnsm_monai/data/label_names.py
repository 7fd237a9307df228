"""What the numbers of a label map are called, and how they are coloured, where no dataset.json says so.

By the header of the map, or by a table beside it.
"""

from __future__ import annotations

import csv
import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from xml.etree import ElementTree

from monai.data import MetaTensor

from gnsm_monai.data.constants import LABEL_NAMES

__all__ = [
    "LabelTable", "freesurfer_names", "hex_colour", "name_key", "name_label_map", "names_beside", "names_in_xml",
    "usable_names",
]  # fmt: skip


class LabelTable(dict[int, str]):
    """Name of each number; background is left out.

    Args:
        names: by number.
        colours: of some of the numbers, ``#rrggbb``.
    """

    def __init__(self, names: Mapping[int, str], colours: Mapping[int, str]) -> None:
        super().__init__(names)
        self.colours = {n: colour for n, colour in colours.items() if n in self and colour}

    @classmethod
    def of(cls, rows: Iterable[tuple[int, str, str]]) -> LabelTable:
        """From rows of number, name and colour; an empty colour is none."""
        rows = list(rows)
        return cls({n: name for n, name, _ in rows}, {n: colour for n, _, colour in rows})


MAX_TABLE = 1 << 20
"""Bytes of the largest table that is read; the longest in use, FreeSurfer's, has 90 kB."""

MAX_TABLES = 50
"""Files that may be tables up to which a folder is searched: more are notes on the cases."""

TABLE_ENDINGS = (".label.txt", ".txt", ".ctbl", ".ctab", ".tsv")

_SNAP = re.compile(r'(?P<n>\d+)\s+(?P<rgb>\d+\s+\d+\s+\d+)\s+[\d.]+\s+[01]\s+[01]\s+"(?P<name>.*)"')
_COLOURS = re.compile(r"(?P<n>\d+)\s+(?P<name>\S+)\s+(?P<rgb>\d+\s+\d+\s+\d+)(?:\s+\d+)?")
_NUMBERED = re.compile(r"((segment|label|class|structure|region)[ _-]?)?\d+|clear label|", re.IGNORECASE)
"""Names that programs give by themselves, such as ``Segment_1`` and ``Label 1``: they say no more than the number."""


def name_key(name: str) -> tuple[str, ...]:
    """What two names of one structure share: words in any order and case (``Left-Kidney``, ``kidney_left``)."""
    return tuple(sorted(re.split(r"[\s_.,-]+", name.strip().casefold())))


def hex_colour(values: Iterable[str | float], most: float) -> str:
    """Red, green and blue, from 0 to ``most``, as ``#rrggbb``; empty for nonsense and for black, which nobody sees."""
    try:
        shares = [float(value) / most for value in values]
    except ValueError:
        return ""
    if len(shares) != 3 or not all(0 <= share <= 1 for share in shares) or not any(shares):
        return ""
    return "#" + "".join(f"{round(255 * share):02x}" for share in shares)


def usable_names(names: Mapping[int, str]) -> LabelTable:
    """Names without background and without those that only repeat a number; none where two numbers share a name."""
    plain = {int(n): " ".join(name.split()) for n, name in names.items() if n != 0}
    plain = {n: name for n, name in plain.items() if not _NUMBERED.fullmatch(name)}
    colours = names.colours if isinstance(names, LabelTable) else {}
    return LabelTable(plain if len({name_key(name) for name in plain.values()}) == len(plain) else {}, colours)


def name_label_map(label: MetaTensor, path: Path) -> None:
    """Leaves in ``meta`` of a label map what its numbers are called, or nothing where that is not known.

    A dataset.json beside the map, or above a folder ``labelsTr`` or ``labelsTs``, is trusted more than a header, which
    may stem from another numbering: then there are no names. So it is for a header that says too little.
    """
    if path.is_dir():  # of a file per structure, which nothing but its name describes
        return
    names: Mapping[int, str] = label.meta.pop(LABEL_NAMES, {})
    folder = path.parent
    places = [folder, folder.parent] if folder.name.startswith("labels") else [folder]
    if any((place / "dataset.json").is_file() for place in places):
        return
    names = usable_names(names) or names_beside(path) or {}
    if not names and path.name.lower().endswith((".mgz", ".mgh")):
        names = freesurfer_names({int(value) for value in label.unique()})
    if names:
        label.meta[LABEL_NAMES] = names


def names_in_xml(content: bytes | str) -> LabelTable:
    """The label table in a NIfTI header extension, as TotalSegmentator and Connectome Workbench write it.

    Source: https://www.nitrc.org/projects/caret (CaretExtension).
    """
    text = content.decode(errors="replace") if isinstance(content, bytes) else content
    text = text.strip("\0 \r\n\t")
    if "<LabelTable" not in text or "<!DOCTYPE" in text or "<!ENTITY" in text:  # entities can grow without limit
        return LabelTable({}, {})
    try:
        labels = list(ElementTree.fromstring(text.encode()).iter("Label"))
        return LabelTable.of((int(label.get("Key", "")), label.text or "", _xml_colour(label)) for label in labels)
    except (ElementTree.ParseError, ValueError):
        return LabelTable({}, {})


def _xml_colour(label: ElementTree.Element) -> str:
    return hex_colour([label.get(name, "") for name in ("Red", "Green", "Blue")], 1)


def names_beside(path: Path) -> LabelTable | None:
    """The names in a table beside a label map; None without one.

    A table of the same name counts first (``CASE.tsv``), then BIDS's tables (``desc-aseg_dseg.tsv``, here or in a
    folder above), then the one table in the folder: label descriptions of ITK-SNAP, a colour table of 3D Slicer or
    FreeSurfer, or columns ``index`` and ``name``. Tables of a folder that disagree say nothing.
    """
    folder, stem = path.absolute().parent, path.name.split(".")[0]
    tables = _tables(folder, folder.stat().st_mtime_ns)
    for table, names in tables:
        if table.name.split(".")[0] == stem:
            return names
    if stem.endswith("dseg"):
        return _inherited(folder, set(stem.split("_")))
    return tables[0][1] if tables and all(names == tables[0][1] for _, names in tables) else None


def _inherited(folder: Path, entities: set[str]) -> LabelTable | None:
    """BIDS: a table applies to all files below it that have its entities; the nearest and most particular counts."""
    for place in [folder, *folder.parents][:5]:
        fitting = [(t, n) for t, n in _tables(place, place.stat().st_mtime_ns) if t.name.endswith("dseg.tsv")]
        fitting = [(t, n) for t, n in fitting if set(t.name.split(".")[0].split("_")) <= entities]
        if fitting:
            return max(fitting, key=lambda item: item[0].name.count("_"))[1]
        if (place / "dataset_description.json").is_file():
            break
    return None


@functools.lru_cache(maxsize=256)
def _tables(folder: Path, changed_ns: int) -> tuple[tuple[Path, LabelTable], ...]:
    """The tables in a folder, read anew where the folder has changed; none where it may not be listed."""
    try:
        files = sorted(path for path in folder.iterdir() if path.name.lower().endswith(TABLE_ENDINGS))
    except OSError:
        return ()
    files = [path for path in files if not path.name.startswith(".") and path.is_file()]
    if len(files) > MAX_TABLES:
        files = [path for path in files if path.name.endswith("dseg.tsv")]
    tables = [(path, _read_table(path)) for path in files]
    return tuple((path, names) for path, names in tables if names)


def _read_table(path: Path) -> LabelTable:
    """The names in a file; none where a line of it is no line of a table."""
    if path.stat().st_size > MAX_TABLE:
        return LabelTable({}, {})
    text = path.read_bytes().decode("utf-8-sig", errors="replace")
    try:
        return usable_names(LabelTable.of(_tsv_rows(text) if path.suffix.lower() == ".tsv" else _rows(text)))
    except (ValueError, KeyError, csv.Error):
        return LabelTable({}, {})


def _tsv_rows(text: str) -> Iterator[tuple[int, str, str]]:
    """A row's colour is ``#rrggbb`` (BIDS)."""
    for row in csv.DictReader(text.splitlines(), delimiter="\t"):
        colour = (row.get("color") or "").strip().lower()
        yield int(row["index"]), row["name"], colour if re.fullmatch("#[0-9a-f]{6}", colour) else ""


def _rows(text: str) -> Iterator[tuple[int, str, str]]:
    for line in text.splitlines():
        line = line.strip()
        if line and not line.startswith("#"):
            row = _SNAP.fullmatch(line) or _COLOURS.fullmatch(line)
            if row is None:
                raise ValueError(line)
            yield int(row["n"]), row["name"], hex_colour(row["rgb"].split(), 255)


def freesurfer_names(values: set[int]) -> dict[int, str]:
    """FreeSurfer's names; none where one of these numbers is in no ``aseg`` or ``aparc+aseg``.

    Source: FreeSurferColorLUT.txt, subcortical structures and the Desikan-Killiany cortex.
    """
    names = _freesurfer_table()
    return names if values - {0} <= names.keys() else {}


@functools.cache
def _freesurfer_table() -> dict[int, str]:
    words = _BOTH_SIDES.split()
    names = {n: f"Left-{word}" for n, word in zip(_LEFT, words, strict=True)}
    names |= {n: f"Right-{word}" for n, word in zip(_RIGHT, words, strict=True)}
    names |= {14: "3rd-Ventricle", 15: "4th-Ventricle", 16: "Brain-Stem", 24: "CSF", 72: "5th-Ventricle"}
    names |= {77: "WM-hypointensities", 80: "non-WM-hypointensities", 85: "Optic-Chiasm"}
    parts = ("Posterior", "Mid_Posterior", "Central", "Mid_Anterior", "Anterior")
    names |= {n: f"CC_{part}" for n, part in enumerate(parts, start=251)}
    for first, side in ((1000, "lh"), (2000, "rh")):
        names |= {n: f"ctx-{side}-{name}" for n, name in enumerate(_CORTEX.split(), start=first)}
    return names


_BOTH_SIDES = """
    Cerebral-White-Matter Cerebral-Cortex Lateral-Ventricle Inf-Lat-Vent Cerebellum-White-Matter Cerebellum-Cortex
    Thalamus Caudate Putamen Pallidum Hippocampus Amygdala Accumbens-area VentralDC vessel choroid-plexus
"""
_LEFT = (2, 3, 4, 5, 7, 8, 10, 11, 12, 13, 17, 18, 26, 28, 30, 31)
_RIGHT = (41, 42, 43, 44, 46, 47, 49, 50, 51, 52, 53, 54, 58, 60, 62, 63)
_CORTEX = """
    unknown bankssts caudalanteriorcingulate caudalmiddlefrontal corpuscallosum cuneus entorhinal fusiform
    inferiorparietal inferiortemporal isthmuscingulate lateraloccipital lateralorbitofrontal lingual
    medialorbitofrontal middletemporal parahippocampal paracentral parsopercularis parsorbitalis parstriangularis
    pericalcarine postcentral posteriorcingulate precentral precuneus rostralanteriorcingulate rostralmiddlefrontal
    superiorfrontal superiorparietal superiortemporal supramarginal frontalpole temporalpole transversetemporal insula
"""
