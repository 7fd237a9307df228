"""Every layout in every format that its files can have: masks, references and label maps to learn from are one map."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import tifffile
from PIL import Image

from gnsm_monai.data.datalist import find_predictions
from gnsm_monai.data.nnunet import LabelScheme
from gnsm_monai.data.references import read_references
from gnsm_monai.data.transforms import load_case
from tests.data.test_layouts import NAMES, SCHEME, fill

SPACING = (1.0, 2.0, 3.0)  # x, y, z
AFFINE = np.diag([-1.0, -2.0, 3.0, 1.0])  # which ITK and a TIFF stack give to a map without a place
LAYOUTS = {
    "files": ["{c}", "{c}_seg", "pred_{c}"],
    "folders": ["{c}/{c}_trans", "{c}/seg"],
    "structures": ["{c}/{s}", "{c}/segmentations/{s}"],
    "freesurfer": ["{c}/mri/aparc+aseg"],
    "bids": ["sub-{c}/anat/sub-{c}_dseg", "sub-{c}/ses-1/anat/sub-{c}_ses-1_dseg"],
}
VOLUMES = [".nii.gz", ".nii", ".mgz", ".mha", ".mhd", ".nrrd", ".seg.nrrd", ".tif", ".tiff"]
ENDINGS = {"structures": [end for end in VOLUMES if end != ".seg.nrrd"], "freesurfer": [".mgz"], "bids": VOLUMES[:2]}
CELLS = [(layout, name, end) for layout in LAYOUTS for name in LAYOUTS[layout] for end in ENDINGS.get(layout, VOLUMES)]
CASES = ("01", "02")


def volume(case: str, slices: int = 4) -> np.ndarray:
    values = np.zeros((6, 7, slices), np.uint8)
    values[0, :2], values[2:4, 3:], values[5, 5:, slices - 1] = 1, 2, 3
    return np.roll(values, int(case), 1)


def save_volume(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.name.endswith((".nii", ".nii.gz")):
        nib.save(nib.Nifti1Image(values, AFFINE), path)
    elif path.suffix == ".mgz":
        nib.save(nib.MGHImage(values.astype(np.int32), AFFINE), path)
    elif path.suffix in (".tif", ".tiff"):  # as nnU-Net's Tiff3DIO does
        tifffile.imwrite(path, values.T, compression="zlib")
        path.with_suffix(".json").write_text(json.dumps({"spacing": SPACING[::-1]}))
    else:
        image = sitk.GetImageFromArray(values.T)
        image.SetSpacing(SPACING)
        for number, name in enumerate(NAMES, start=1) if path.name.endswith(".seg.nrrd") else ():
            for key, value in {"Name": name, "LabelValue": number}.items():
                image.SetMetaData(f"Segment{number}_{key}", str(value))
        sitk.WriteImage(image, str(path))


def lay_out(folder: Path, name: str, maps: dict[str, np.ndarray], save: Callable[[Path, np.ndarray], None]) -> Path:
    """``name`` ends as the format; with ``{s}`` it is that of a file per structure."""
    for case, values in maps.items():
        for number, structure in enumerate(NAMES, start=1) if "{s}" in name else [(0, "")]:
            save(folder / name.format(c=case, s=structure), (values == number).astype(np.uint8) if number else values)
    return folder


def label(case: dict[str, Any], key: str, dims: int) -> np.ndarray:
    return np.asarray(load_case(SCHEME, dims, [key])({key: case[key]})[key])[0]


def check_roles(
    masks: Path, references: Path, maps: dict[str, np.ndarray], turned: Callable[[np.ndarray], Any]
) -> None:
    for cases, keys in ((find_predictions(masks, references, structures=NAMES), ("label", "reference")),):
        assert len(cases) == len(maps)
        for case, values in zip(cases, maps.values(), strict=True):
            for key in keys:
                assert "message" not in case and "note" not in case
                np.testing.assert_array_equal(label(case, key, values.ndim), turned(values))


@pytest.mark.parametrize("slices", [3, 4])
@pytest.mark.parametrize(("layout", "name", "ending"), CELLS)
def test_a_volume_is_one_map_in_every_layout_and_format(
    layout: str, name: str, ending: str, slices: int, tmp_path: Path
) -> None:
    if slices == 3 and not ending.startswith(".tif"):
        pytest.skip("three slices are no more than four in formats without colours")
    maps = {case: volume(case, slices) for case in CASES}
    masks = lay_out(tmp_path / "masks", name + ending, maps, save_volume)
    flat = "sub-{c}_ses-1" if "ses-1" in name else "sub-{c}" if layout == "bids" else "{c}"
    references = lay_out(tmp_path / "references", f"{flat}.nii.gz", maps, save_volume)
    check_roles(masks, references, maps, lambda values: values[::-1, ::-1])
    check_roles(references, masks, maps, lambda values: values[::-1, ::-1])


@pytest.mark.parametrize(
    ("layout", "name", "ending"), [cell for cell in CELLS if cell[1] in {n[0] for n in LAYOUTS.values()}]
)
def test_training_reads_every_layout_and_format(layout: str, name: str, ending: str, tmp_path: Path) -> None:
    cases = [f"{n:02d}" for n in range(8)]
    lay_out(tmp_path, name + ending, {case: volume(case) for case in cases}, save_volume)
    references = read_references(tmp_path, bare=True)
    assert len(references.cases) == len(cases) and references.voxel_size == list(SPACING)
    named = layout == "structures" or ending == ".seg.nrrd"
    assert references.scheme == (SCHEME if named else LabelScheme.from_values({1, 2, 3}))
    for case, maps in zip(references.cases, references.maps_of(references.cases), strict=True):
        number = "".join(filter(str.isdigit, case["case"]))
        np.testing.assert_array_equal(np.asarray(maps["label"])[0], volume(number)[::-1, ::-1])


PICTURES = ["grey.png", "palette.png", "sixteen.png", "grey.bmp", "grey.tif", "one_bit.png"]


def save_picture(kind: str) -> Callable[[Path, np.ndarray], None]:
    def save(path: Path, values: np.ndarray) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".tif":
            tifffile.imwrite(path, values.T, compression="zlib")
            return
        picture = Image.fromarray(values.T.astype({"sixteen": np.uint16, "one_bit": bool}.get(kind, np.uint8)))
        if kind == "palette":
            picture.putpalette([0, 0, 0, 200, 30, 30, 30, 200, 30, 30, 30, 200])
        picture.save(path)

    return save


@pytest.mark.parametrize("preview", [False, True])
@pytest.mark.parametrize("picture", PICTURES)
@pytest.mark.parametrize("name", [name for layout in ("files", "folders", "structures") for name in LAYOUTS[layout]])
def test_a_picture_is_one_map_in_every_layout_and_format(
    name: str, picture: str, preview: bool, tmp_path: Path
) -> None:
    """A mask of one bit holds one structure; those of several lie in a file each."""
    kind, ending = picture.split(".")
    maps = {case: volume(case)[..., 3] for case in CASES}
    if kind == "one_bit" and "{s}" not in name:
        maps = {case: (values == 1).astype(np.uint8) for case, values in maps.items()}
    masks = lay_out(tmp_path / "masks", f"{name}.{ending}", maps, save_picture(kind))
    if preview:
        beside = "{c}_overlay.png" if "/" not in name else "{c}/overlay.png"
        fill(masks, [beside.format(c=case) for case in CASES])
    references = lay_out(tmp_path / "references", "{c}.png", maps, save_picture("grey"))
    check_roles(masks, references, maps, lambda values: values)
    check_roles(references, masks, maps, lambda values: values)
