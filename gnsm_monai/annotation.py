"""A folder that MONAI Label can serve: its app, and nnU-Net's images and predictions as a datastore."""

from __future__ import annotations

import logging
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gnsm_monai.data.case_names import case_id
from gnsm_monai.data.datalist import find_label_maps
from gnsm_monai.data.images import Images, find_images
from gnsm_monai.errors import InputError
from gnsm_monai.files import save_json, write_atomically
from gnsm_monai.model.trained import TrainedModel

__all__ = ["APP", "STUDIES", "write_app"]

APP, STUDIES = "main.py", "studies"
MODULES = "gnsm_label"
MAIN = f"""\
\"\"\"What MONAI Label looks for; the app is in {MODULES}.\"\"\"

from {MODULES}.app import App

__all__ = ["App"]
"""
LISTED = (".nii.gz", ".nii", ".nrrd", ".png", ".tif", ".jpg")
"""Endings of the images and labels that MONAI Label lists by itself."""

logger = logging.getLogger(__name__)


def write_app(output: Path, model: Path, predictions: Path, images: Path, link_images: bool = False) -> None:
    """Writes the app, and copies the cases into a datastore beside it. Final labels that lie there stay.

    The same command brings new predictions into a folder that exists. Nothing of the user's is written to: MONAI Label
    follows links, so that it would overwrite predictions that were only linked to.

    Args:
        output: folder of the app; its datastore is :data:`STUDIES` in it.
        model: folder that ``gnsm train`` has written.
        predictions: folder of masks, one file per case.
        images: folder of images. A case is given its first channel; cases without a mask are given, too.
        link_images: link to the images in place of copying them. To delete one in MONAI Label deletes the original.

    Raises:
        InputError: there is no such model or folder, or MONAI Label lists no files of this kind.
    """
    TrainedModel.load(model)
    masks = find_label_maps(predictions)
    shown = _shown(find_images(images, list(masks)), masks)
    for path in (*masks.values(), *shown.values()):
        _check_listed(path)
    alone = sorted(set(masks) - set(shown))
    if alone:
        logger.warning("%s: no image for %d masks, which MONAI Label will not list: %s", images, len(alone), alone[:5])
    _copy_modules(output)
    paths = {"gnsm": sys.executable, "model": str(model.resolve()), "images": str(images.resolve())}
    save_json(output / "settings.json", paths)
    labels = output / STUDIES / "labels" / "original"
    for case, path in shown.items():
        _place(path, output / STUDIES, case, link_images)
        if case in masks:
            _place(masks[case], labels, case)
    logger.info("%d cases with an image, %d of them with a predicted mask", len(shown), len(set(shown) & set(masks)))


def _shown(images: Images, masks: Mapping[str, Any]) -> dict[str, Path]:
    """The first channel of every image, by the name of its mask, or by its own where it has none."""
    case_of = {image: case for case, image in images.partner.items() if case in masks}
    return {case_of.get(name, name): files[0] for name, files in images.files.items()}


def _check_listed(path: Path) -> None:
    if path.is_dir():
        raise InputError(f"{path}: MONAI Label needs one file per case, and this is a folder")
    if not path.name.lower().endswith(LISTED):
        raise InputError(f"{path}: MONAI Label lists {' '.join(LISTED)}: convert the files of other kinds")


def _copy_modules(output: Path) -> None:
    source = Path(__file__).with_name("monailabel_app")
    for path in sorted(source.glob("*.py")):
        write_atomically(output / MODULES / path.name, path.read_bytes())
    write_atomically(output / APP, MAIN.encode())


def _place(source: Path, folder: Path, case: str, link: bool = False) -> None:
    """Brings a file into a folder under the name of its case, in place of an earlier one of other content."""
    name = case + source.name[len(case_id(source) or "") :]
    target = folder / name
    folder.mkdir(parents=True, exist_ok=True)
    for other in (folder / (case + ending) for ending in LISTED):
        if other != target:
            other.unlink(missing_ok=True)
    if link:
        target.unlink(missing_ok=True)
        target.symlink_to(source.resolve())
    elif target.is_symlink() or not target.is_file() or _content(target) != _content(source):
        target.unlink(missing_ok=True)
        shutil.copy2(source, target)


def _content(path: Path) -> tuple[int, int]:
    """Size and time of change, which a copy keeps."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns
