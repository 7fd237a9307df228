"""The worst masks as correction tools take them: 3D Slicer, its extension SegmentationReview, Spinal Cord Toolbox."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

from gnsm_monai.data.rewriting import place_of_copy
from gnsm_monai.files import write_atomically
from gnsm_monai.report.marks import Mark
from gnsm_monai.scoring.result import CaseResult

__all__ = ["ListedCase", "needs_correction", "write_lists"]

QC_FAIL, MAPPING, SLICER = "qc_fail.yml", "segmentation_review/mapping.csv", "open_in_slicer.py"
LISTS = (QC_FAIL, MAPPING, SLICER)
MAX_OPENED = 100  # worst cases that the script for 3D Slicer steps through
TEMPLATE = Path(__file__).parent / "templates" / "open_in_slicer.py.txt"
REVIEWED = (".nii", ".nii.gz", ".nrrd")  # endings that SegmentationReview accepts
NIFTI = ".nii.gz"
SCT_SUFFIX = "_seg"  # which SCT's manual_correction.py puts after the name of an image to find its mask


@dataclass(frozen=True)
class ListedCase:
    """A mask and what lies beside it, as absolute paths; empty where there is none.

    Args:
        case: id.
        mask: the predicted mask.
        image: its first image.
        map: anomaly of every voxel.
        proposed: a corrected copy.
        reason: what is wrong, in words.
    """

    case: str
    mask: str
    image: str = ""
    map: str = ""
    proposed: str = ""
    reason: str = ""


def needs_correction(result: CaseResult, mark: Mark | None) -> bool:
    """A mask that is marked bad, or that is flagged and not marked ok."""
    word = "" if mark is None else mark.mark
    return word == "bad" or (result.decision.flagged and word != "ok")


def write_lists(folder: Path, listed: Sequence[ListedCase], wrong: Sequence[ListedCase]) -> list[str]:
    """Writes the lists, in place of earlier ones, and gives the names of those that were written.

    ``qc_fail.yml`` names the images of the masks that need correction, for manual_correction.py of Spinal Cord Toolbox.
    ``segmentation_review/mapping.csv`` pairs every image with its mask, for the 3D Slicer extension SegmentationReview;
    it is written only where images are known. ``open_in_slicer.py`` opens the worst cases in 3D Slicer one after
    another.

    Args:
        folder: of the lists.
        listed: all cases that were scored, worst first.
        wrong: those that need correction, worst first.
    """
    pairs = [(entry.image, entry.mask) for entry in listed if entry.image.endswith(REVIEWED)]
    texts = {QC_FAIL: _qc_fail(wrong), MAPPING: _mapping(pairs) if pairs else "", SLICER: _script(listed[:MAX_OPENED])}
    for name, text in texts.items():
        if text:
            write_atomically(folder / name, text.encode("utf-8", errors="surrogateescape"))
        else:
            (folder / name).unlink(missing_ok=True)
    return [name for name, text in texts.items() if text]


def remove_lists(folder: Path) -> None:
    """Removes the lists of an earlier ranking, and folders that are then empty."""
    for name in LISTS:
        path = folder / name
        path.unlink(missing_ok=True)
        for parent in (path.parent, folder):
            if parent.is_dir() and not any(parent.iterdir()):
                parent.rmdir()


def _qc_fail(wrong: Sequence[ListedCase]) -> str:
    names = [_image_name(entry) for entry in wrong]
    names = [name for name in names if "*" not in name]  # which the script would take for a pattern
    text: str = yaml.safe_dump({"FILES_SEG": names}, allow_unicode=True, sort_keys=False, width=10_000)
    return text


def _image_name(entry: ListedCase) -> str:
    """Name of the image that a mask belongs to."""
    if entry.image:
        return Path(entry.image).name
    name = Path(entry.mask).name
    stem = name.removesuffix(NIFTI) if name.endswith(NIFTI) else Path(name).stem
    return stem.removesuffix(SCT_SUFFIX) + NIFTI


def _mapping(pairs: Sequence[tuple[str, str]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerows([("img_path", "mask_path"), *pairs])
    return buffer.getvalue()


def _script(listed: Sequence[ListedCase]) -> str:
    """The script with its cases as literals in ASCII, so that no name can be anything else than text."""
    lines = [f"    {asdict(entry)!a},\n" for entry in listed]
    return TEMPLATE.read_text(encoding="utf-8").replace("CASES: list = []\n", f"CASES = [\n{''.join(lines)}]\n", 1)


def listed_cases(
    results: Sequence[CaseResult], masks: Mapping[str, Path], images: Mapping[str, Path], output: Path
) -> list[ListedCase]:
    """The cases of a ranking with the files that there are.

    Args:
        results: worst first.
        masks: path of each case's mask.
        images: of each case's first image, where it is known.
        output: folder of the results.
    """
    listed = []
    for result in results:
        mask = masks[result.case]
        proposed = output / "proposed" / place_of_copy(result.case, mask)
        beside = {"map": output / "maps" / f"{result.case}.nii.gz", "proposed": proposed}
        if result.correction is None:
            del beside["proposed"]
        paths = {key: str(path.absolute()) for key, path in beside.items() if path.is_file()}
        if result.case in images:
            paths["image"] = str(images[result.case].absolute())
        listed.append(ListedCase(result.case, str(mask.absolute()), reason=result.reason, **paths))
    return listed
