from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import tifffile
from PIL import Image

from gnsm_monai.data.readers import read_file
from gnsm_monai.data.rewriting import files_of_copy, save_changed, save_moved_structures

AFFINE = np.array([[0, 0, -2.0, 11], [0, 1, 0, -3], [-1.5, 0, 0, 7], [0, 0, 0, 1]])
LABEL = np.arange(24).reshape(4, 3, 2) % 4


def exchanged(values: np.ndarray) -> np.ndarray:
    """1 and 2 exchanged, and the first axis turned round."""
    table = np.array([0, 2, 1, 3])
    return np.flip(table[np.rint(values).astype(int)].astype(values.dtype), 0)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, ">i2"])
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("slope", [None, 0.5])
def test_only_the_voxels_of_a_nifti_file_change(tmp_path: Path, dtype: Any, ending: str, slope: float | None) -> None:
    kind = np.dtype(dtype)
    header = nib.Nifti1Header(endianness=">" if kind.byteorder == ">" else "<")
    header.set_data_dtype(kind)
    header.set_qform(AFFINE, 1)
    header["descrip"] = b"kept"
    image = nib.Nifti1Image(LABEL.astype(kind), AFFINE, header)
    image.header.extensions.append(nib.nifti1.Nifti1Extension(6, b"names"))
    if slope is not None:
        image.header.set_slope_inter(slope, 1.0)
    source, target = tmp_path / f"m{ending}", tmp_path / "out" / f"m{ending}"
    nib.save(image, source)
    before = source.read_bytes()
    save_changed(source, target, exchanged)
    assert source.read_bytes() == before
    read, copy = nib.load(source), nib.load(target)
    np.testing.assert_array_equal(np.asarray(copy.dataobj), exchanged(np.asarray(read.dataobj)))
    unpack = gzip.decompress if ending == ".nii.gz" else bytes
    offset = read.dataobj.offset
    assert unpack(target.read_bytes())[:offset] == unpack(before)[:offset]
    assert len(unpack(target.read_bytes())) == len(unpack(before))
    assert (target.stat().st_mode & 0o777) == 0o644
    assert [path.name for path in target.parent.iterdir()] == [target.name]


@pytest.mark.parametrize("ending", [".mha", ".mhd", ".nrrd", ".png", ".tif"])
def test_other_formats_keep_geometry_and_type(tmp_path: Path, ending: str) -> None:
    flat = ending in (".png", ".tif")
    label = LABEL[..., 0] if flat else LABEL
    image = sitk.GetImageFromArray(label.T.astype(np.uint8))
    if not flat:
        image.SetSpacing((1.5, 2.0, 0.5))
        image.SetOrigin((3, -4, 5))
        image.SetDirection((0, 1, 0, 1, 0, 0, 0, 0, 1))
    if ending == ".nrrd":
        image.SetMetaData("names", "a b")
    source, target = tmp_path / f"m{ending}", tmp_path / "out" / f"m{ending}"
    sitk.WriteImage(image, str(source))
    save_changed(source, target, exchanged)
    read, copy = sitk.ReadImage(str(source)), sitk.ReadImage(str(target))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(copy), exchanged(label).T)
    for part in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection", "GetPixelIDValue"):
        np.testing.assert_allclose(getattr(copy, part)(), getattr(read, part)(), atol=1e-6)
    data = {".mhd": ["m.zraw"]}.get(ending, [])
    assert sorted(path.name for path in target.parent.iterdir()) == [target.name, *data]
    assert [path.name for path in files_of_copy(target)] == [*data, target.name]
    if ending == ".nrrd":
        assert copy.GetMetaData("names") == "a b"


def test_a_slice_stored_as_a_volume_is_changed_as_a_picture(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(LABEL[..., :1].astype(np.uint8), np.eye(4)), tmp_path / "m.nii.gz")
    shapes = []
    save_changed(tmp_path / "m.nii.gz", tmp_path / "c.nii.gz", lambda v: (shapes.append(v.shape), exchanged(v))[1])
    assert shapes == [(4, 3)]
    assert nib.load(tmp_path / "c.nii.gz").shape == (4, 3, 1)


def test_a_mask_is_never_replaced(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(LABEL.astype(np.uint8), np.eye(4)), tmp_path / "m.nii.gz")
    (tmp_path / "link.nii.gz").symlink_to(tmp_path / "m.nii.gz")
    with pytest.raises(ValueError, match="not replaced"):
        save_changed(tmp_path / "m.nii.gz", tmp_path / "link.nii.gz", exchanged)


@pytest.mark.parametrize("slices", [2, 3, 4])
def test_a_tiff_stack_keeps_its_slices_and_the_spacing_beside_it(tmp_path: Path, slices: int) -> None:
    label = np.arange(5 * 4 * slices).reshape(5, 4, slices) % 4
    tifffile.imwrite(tmp_path / "m.tif", label.T.astype(np.uint8), compression="zlib")
    (tmp_path / "m.json").write_text('{"spacing": [3, 2, 1]}')
    target = tmp_path / "out" / "m.tif"
    save_changed(tmp_path / "m.tif", target, exchanged)
    values, meta = read_file(str(target), 3)
    np.testing.assert_array_equal(values, exchanged(label))
    assert values.dtype == np.uint8 and np.abs(np.diag(meta["affine"]))[:3].tolist() == [1, 2, 3]
    assert [path.name for path in files_of_copy(target)] == ["m.json", "m.tif"]


@pytest.mark.parametrize("mode", ["1", "P", "L", "I;16"])
@pytest.mark.parametrize("ending", [".png", ".bmp"])
def test_a_picture_keeps_its_kind_of_pixel(tmp_path: Path, mode: str, ending: str) -> None:
    if (mode, ending) == ("I;16", ".bmp"):
        pytest.skip("a BMP has 8 bits")
    label = LABEL[..., 0] if mode != "1" else LABEL[..., 0] % 2
    kind = {"1": bool, "I;16": np.uint16}.get(mode, np.uint8)
    picture = Image.fromarray(label.T.astype(kind))
    if mode == "P":
        picture.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255])
    picture.save(tmp_path / f"m{ending}")
    save_changed(tmp_path / f"m{ending}", tmp_path / "out" / f"m{ending}", lambda v: np.flip(v, 0))
    with Image.open(tmp_path / "out" / f"m{ending}") as copy, Image.open(tmp_path / f"m{ending}") as source:
        assert (copy.mode, copy.getpalette()) == (source.mode, source.getpalette())
        np.testing.assert_array_equal(np.asarray(copy), np.flip(label.T, 1))


def test_a_freesurfer_volume_keeps_its_place(tmp_path: Path) -> None:
    nib.save(nib.MGHImage(LABEL.astype(np.int32), AFFINE), tmp_path / "m.mgz")
    save_changed(tmp_path / "m.mgz", tmp_path / "out" / "m.mgz", exchanged)
    copy = nib.load(tmp_path / "out" / "m.mgz")
    np.testing.assert_array_equal(np.asarray(copy.dataobj), exchanged(LABEL))
    np.testing.assert_allclose(copy.affine, AFFINE, atol=1e-5)


@pytest.mark.parametrize("ending", [".nii.gz", ".mhd", ".tif", ".png"])
def test_structures_change_files_and_keep_what_they_share(tmp_path: Path, ending: str) -> None:
    """a, b, c: a and b are exchanged, c goes to d, whose file is empty; b and c overlap."""
    shape = (5, 4, 3) if ending != ".png" else (5, 4)
    places = {name: np.zeros(shape, np.uint8) for name in "abcd"}
    places["a"][0], places["b"][2:4], places["c"][3:] = 1, 1, 1
    source = tmp_path / "case"
    source.mkdir()
    for name, place in places.items():
        write(source / f"{name}{ending}", place)
    before = {path.name: path.read_bytes() for path in source.iterdir()}
    target = tmp_path / "out" / "case"
    save_moved_structures(source, target, ((1, 2), (2, 1), (3, 4)), 0)
    nothing = np.zeros_like(places["a"])
    expected = {"a": places["b"], "b": places["a"], "c": nothing, "d": places["c"]}
    for name, place in expected.items():
        np.testing.assert_array_equal(read_file(str(target / f"{name}{ending}"), 3)[0], np.flip(place, 0))
    assert {path.name: path.read_bytes() for path in source.iterdir()} == before
    assert [path.name for path in target.parent.iterdir()] == ["case"]
    assert sorted(files_of_copy(target)) == sorted(target.iterdir())


def write(path: Path, label: np.ndarray) -> None:
    if path.suffix == ".tif":
        tifffile.imwrite(path, label.T, compression="zlib")
        path.with_suffix(".json").write_text('{"spacing": [3, 2, 1]}')
    else:
        sitk.WriteImage(sitk.GetImageFromArray(label.T), str(path))


def test_what_is_no_single_map_of_numbers_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    layers = sitk.GetImageFromArray(np.zeros((2, 3, 4, 2), np.uint8), isVector=True)
    sitk.WriteImage(layers, str(tmp_path / "m.seg.nrrd"))
    Image.fromarray(np.zeros((4, 3, 3), np.uint8)).save(tmp_path / "m.png")
    for name, message in (("m.seg.nrrd", "several layers"), ("m.png", "colours")):
        with pytest.raises(ValueError, match=message):
            save_changed(tmp_path / name, tmp_path / "out" / name, exchanged)
    assert not (tmp_path / "out").exists() or list((tmp_path / "out").iterdir()) == []
