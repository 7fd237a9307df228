"""Reading: one array and one affine whatever the format, and one line for a file that cannot be read."""

from __future__ import annotations

import gzip
import os
import re
import resource
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from PIL import Image
from scipy.spatial.transform import Rotation

from gnsm_monai.data.file_checks import check_claimed_size, check_spacing
from gnsm_monai.data.loading import LoadMapsd
from gnsm_monai.data.readers import read_file
from gnsm_monai.errors import InputError

LABEL_3D = np.random.default_rng(0).integers(0, 4, (5, 6, 7)).astype(np.uint8)
LABEL_2D = LABEL_3D[:, :, 0]
VOLUME_FORMATS = [".nii", ".nii.gz", ".mha", ".mhd", ".nrrd"]
PICTURE_FORMATS = [".png", ".tif", ".bmp"]


def oblique_3d() -> sitk.Image:
    image = sitk.GetImageFromArray(LABEL_3D.T)
    image.SetSpacing((1.5, 2.0, 3.0))
    image.SetOrigin((10.0, -20.0, 30.0))
    image.SetDirection(Rotation.from_euler("xyz", [0.1, 0.2, 0.3]).as_matrix().ravel().tolist())
    return image


def placed_2d() -> sitk.Image:
    image = sitk.GetImageFromArray(LABEL_2D.T)
    image.SetSpacing((1.5, 2.0))
    image.SetOrigin((10.0, -20.0))
    return image


def nifti(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> Path:
    nib.save(nib.Nifti1Image(array, np.eye(4) if affine is None else affine), path)
    return path


@pytest.mark.parametrize("ending", VOLUME_FORMATS)
def test_a_volume_has_the_array_and_affine_that_nibabel_gives_its_nifti(tmp_path: Path, ending: str) -> None:
    sitk.WriteImage(oblique_3d(), str(tmp_path / "like.nii.gz"))
    sitk.WriteImage(oblique_3d(), str(tmp_path / f"case{ending}"))
    expected = nib.load(tmp_path / "like.nii.gz")
    found = LoadMapsd("label", 3)({"label": tmp_path / f"case{ending}"})["label"]
    np.testing.assert_array_equal(found.numpy()[0], np.asarray(expected.dataobj))
    np.testing.assert_allclose(found.affine.numpy(), expected.affine, atol=1e-5)
    np.testing.assert_allclose(found.pixdim.numpy(), [1.5, 2, 3], atol=1e-5)


@pytest.mark.parametrize("ending", [".mha", ".mhd", ".nrrd"])
def test_the_reader_alone_gives_nibabels_affine(tmp_path: Path, ending: str) -> None:
    sitk.WriteImage(oblique_3d(), str(tmp_path / "like.nii.gz"))
    sitk.WriteImage(oblique_3d(), str(tmp_path / f"case{ending}"))
    array, meta = read_file(str(tmp_path / f"case{ending}"), 3)
    np.testing.assert_array_equal(array, LABEL_3D)
    np.testing.assert_allclose(meta["affine"], nib.load(tmp_path / "like.nii.gz").affine, atol=1e-5)


@pytest.mark.parametrize("ending", VOLUME_FORMATS)
def test_a_2d_map_has_one_array_and_affine_in_all_formats(tmp_path: Path, ending: str) -> None:
    sitk.WriteImage(placed_2d(), str(tmp_path / f"case{ending}"))
    found = LoadMapsd("label", 2)({"label": tmp_path / f"case{ending}"})["label"]
    np.testing.assert_array_equal(found.numpy()[0], LABEL_2D)
    np.testing.assert_allclose(found.affine.numpy(), [[-1.5, 0, -10], [0, -2, 20], [0, 0, 1]], atol=1e-5)


@pytest.mark.parametrize("ending", PICTURE_FORMATS)
def test_a_picture_has_one_mm_per_pixel_whatever_its_printing_resolution(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"case{ending}"
    Image.fromarray(LABEL_2D.T.copy()).save(path, dpi=(72, 72))
    found = LoadMapsd("label", 2)({"label": path})["label"]
    np.testing.assert_array_equal(found.numpy()[0], LABEL_2D)
    assert found.pixdim.tolist() == [1, 1]


def test_a_slice_stored_as_a_volume_is_a_2d_map(tmp_path: Path) -> None:
    path = nifti(tmp_path / "axial.nii.gz", LABEL_2D[..., None], np.diag([1.5, 2, 8, 1]))
    found = LoadMapsd("label", 2)({"label": path})["label"]
    np.testing.assert_array_equal(found.numpy()[0], LABEL_2D)
    assert found.pixdim.tolist() == [1.5, 2]


def test_a_sagittal_slice_keeps_its_voxel_size(tmp_path: Path) -> None:
    sagittal = np.array([[0, 0, 8, 0], [1.5, 0, 0, 0], [0, 2.0, 0, 0], [0, 0, 0, 1]])
    path = nifti(tmp_path / "sagittal.nii.gz", LABEL_2D[..., None], sagittal)
    assert LoadMapsd("label", 2)({"label": path})["label"].pixdim.tolist() == [1.5, 2]


@pytest.mark.parametrize("ending", [".nii.gz", ".mha"])
def test_files_of_a_list_are_the_channels_of_an_image(tmp_path: Path, ending: str) -> None:
    paths = []
    for channel in range(2):
        paths.append(tmp_path / f"case_000{channel}{ending}")
        sitk.WriteImage(sitk.Cast(oblique_3d(), sitk.sitkFloat32) + 10 * channel, str(paths[-1]))
    image = LoadMapsd("image", 3)({"image": paths})["image"]
    assert image.shape == (2, 5, 6, 7) and str(image.dtype) == "torch.float32"
    np.testing.assert_array_equal(image.numpy()[1], LABEL_3D + 10.0)


def test_a_colour_picture_has_three_channels(tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 255, (6, 5, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "case_0000.png")
    image = LoadMapsd("image", 2)({"image": [tmp_path / "case_0000.png"]})["image"]
    np.testing.assert_array_equal(image.numpy(), pixels.transpose(2, 1, 0))


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.float32, np.float64])
def test_label_values_survive_every_pixel_type(tmp_path: Path, kind: type) -> None:
    path = nifti(tmp_path / "case.nii.gz", LABEL_3D.astype(kind) * 60)
    np.testing.assert_array_equal(LoadMapsd("label", 3)({"label": path})["label"].numpy()[0], LABEL_3D * 60.0)


def truncated(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) - 60])


@pytest.mark.parametrize("ending", [*VOLUME_FORMATS, ".png"])
@pytest.mark.parametrize(
    "damage", [truncated, lambda path: path.write_bytes(b""), lambda path: path.write_bytes(b"hello"), Path.unlink]
)
def test_a_damaged_file_is_named_with_the_reason_in_one_line(
    tmp_path: Path, ending: str, damage: Callable[[Path], object]
) -> None:
    two_dimensional = ending == ".png"
    path = tmp_path / f"case{ending}"
    noise = np.random.default_rng(0).integers(0, 255, (12, 13, 14)).astype(np.uint8)  # which compresses badly
    sitk.WriteImage(sitk.GetImageFromArray(noise[0] if two_dimensional else noise), str(path))
    damage(path)
    with pytest.raises(InputError) as caught:
        LoadMapsd("label", 2 if two_dimensional else 3)({"label": path})
    message = str(caught.value)
    assert message.startswith(f"{path}: cannot be read: ") and "\n" not in message
    assert "0x" not in message and "registered" not in message and len(message) < 700


def claim(path: Path, size: tuple[int, int, int]) -> None:
    """A small file whose header says that it is of another size."""
    sitk.WriteImage(oblique_3d(), str(path), useCompression=path.suffix not in (".nii", ".nrrd"))
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    if ".nii" in path.name:
        content = content[:42] + np.array(size, "<i2").tobytes() + content[48:]
    else:
        text = " ".join(str(n) for n in size).encode()
        content = re.sub(rb"(DimSize = |sizes: )5 6 7", rb"\g<1>" + text, content)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


@pytest.mark.parametrize("ending", VOLUME_FORMATS)
def test_a_header_that_claims_a_huge_volume_is_refused_before_memory_is_set_aside(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"case{ending}"
    claim(path, (10_000, 10_000, 10_000))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(
        InputError, match="cannot be read: its header claims 10000 x 10000 x 10000 voxels, which a file"
    ):
        LoadMapsd("label", 3)({"label": path})
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**18  # KiB


def test_the_largest_volumes_are_refused_whatever_the_size_of_their_file(tmp_path: Path) -> None:
    path = tmp_path / "case.mha"
    path.touch()
    os.truncate(path, 2**30)  # a hole, not a file of that size on disk
    with pytest.raises(ValueError, match="4294967296 are the most that can be read"):
        check_claimed_size(str(path), (2**11, 2**11, 2**11))


def test_a_constant_volume_is_compressed_well_and_read_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "case.nii.gz"
    path.write_bytes(gzip.compress(nib.Nifti1Image(np.zeros((500, 500, 500), np.uint8), np.eye(4)).to_bytes(), 9))
    assert 1000 * path.stat().st_size < 500**3
    check_claimed_size(str(path), nib.load(path).shape)


@pytest.mark.parametrize("ending", VOLUME_FORMATS)
@pytest.mark.parametrize("dims", [2, 3])
def test_nan_in_an_affine_is_refused(tmp_path: Path, ending: str, dims: int) -> None:
    path = tmp_path / f"case{ending}"
    if ".nii" in ending:
        image = nib.Nifti1Image(LABEL_3D if dims == 3 else LABEL_2D[..., None], np.eye(4))
        image.header["srow_x"][1] = image.header["quatern_b"] = np.nan
        image.header["sform_code"] = image.header["qform_code"] = 1
        content = image.header.binaryblock + bytes(4) + np.asarray(image.dataobj).tobytes(order="F")
        path.write_bytes(gzip.compress(content) if ending == ".nii.gz" else content)
        assert np.isnan(nib.load(path).affine).any()
    else:
        sitk.WriteImage(oblique_3d() if dims == 3 else placed_2d(), str(path), useCompression=False)
        content = path.read_bytes()
        spoilt = re.sub(rb"(ElementSpacing = |space directions: \()[-\d.e]+", rb"\g<1>nan", content)
        assert spoilt != content
        path.write_bytes(spoilt)
    with pytest.raises(
        InputError, match=rf"case\{ending}: (spacing and orientation in its header|cannot be read)"
    ) as caught:
        LoadMapsd("label", dims)({"label": path})
    assert "\n" not in str(caught.value)


def test_nan_in_a_nifti_is_not_read_as_zero(tmp_path: Path) -> None:
    array = LABEL_3D.astype(np.float32)
    array[0, 0, 0] = np.nan
    assert (
        np.isnan(LoadMapsd("label", 3)({"label": nifti(tmp_path / "case.nii.gz", array)})["label"].numpy()).sum() == 1
    )


def test_nan_in_an_image_is_refused(tmp_path: Path) -> None:
    array = np.full((4, 4, 4), np.nan, dtype=np.float32)
    with pytest.raises(InputError, match=r"case\.nii\.gz: NaN or infinite values in an image"):
        LoadMapsd("image", 3)({"image": [nifti(tmp_path / "case.nii.gz", array)]})


def test_an_image_with_another_number_of_axes_is_refused(tmp_path: Path) -> None:
    path = nifti(tmp_path / "case.nii.gz", np.zeros((4, 5, 6), dtype=np.float32))
    with pytest.raises(InputError, match=r"an image of 2 axes is needed, found shape \(4, 5, 6\)"):
        LoadMapsd("image", 2)({"image": [path]})


def test_channels_of_different_size_are_refused(tmp_path: Path) -> None:
    for channel, size in enumerate((5, 6)):
        sitk.WriteImage(sitk.GetImageFromArray(np.zeros((size, 4), np.uint8)), str(tmp_path / f"a_000{channel}.png"))
    with pytest.raises(InputError, match=r"a_0000\.png: cannot be read: its channels differ in size"):
        LoadMapsd("image", 2)({"image": sorted(tmp_path.glob("*.png"))})


def test_a_sheared_affine_is_read(tmp_path: Path) -> None:
    sheared = np.eye(4)
    sheared[0, 1] = 0.5
    found = LoadMapsd("label", 3)({"label": nifti(tmp_path / "case.nii.gz", LABEL_3D, sheared)})["label"]
    np.testing.assert_allclose(found.affine.numpy(), sheared)


def test_an_affine_without_inverse_is_refused(tmp_path: Path) -> None:
    path = nifti(tmp_path / "case.nii", LABEL_3D)
    content = bytearray(path.read_bytes())
    content[280:328] = np.zeros(12, dtype="<f4").tobytes()  # the rows of the header's sform
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"case\.nii: spacing and orientation in its header are unusable"):
        LoadMapsd("label", 3)({"label": path})


def test_a_map_that_does_not_fit_in_memory_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "a.mha"
    path.write_bytes(bytes(10**5))
    check_claimed_size(str(path), (500, 500, 500))
    monkeypatch.setattr(os, "sysconf", {"SC_PHYS_PAGES": 1 << 18, "SC_PAGE_SIZE": 1 << 12}.get)
    check_claimed_size(str(path), (300, 300, 300))
    with pytest.raises(ValueError, match=r"500 x 500 x 500 voxels, which take 1\.9 GiB of memory, and there are 1\.0$"):
        check_claimed_size(str(path), (500, 500, 500))


@pytest.mark.parametrize(("kind", "place"), [(nib.Nifti1Image, 84), (nib.Nifti2Image, 120)])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("sform", [0, 1])
def test_a_spacing_of_zero_is_not_taken_for_a_millimetre(
    tmp_path: Path, kind: type, place: int, name: str, sform: int
) -> None:
    image = kind(np.zeros((3, 4, 5), np.uint8), np.diag([1, 2, 1, 1]))
    image.set_sform(np.diag([1, 2, 1, 1]) if sform else None, sform)
    content = bytearray(image.to_bytes())
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    check_spacing(str(tmp_path / name))
    size = 4 if kind is nib.Nifti1Image else 8  # of a float there
    assert np.frombuffer(bytes(content[place : place + size]), f"f{size}")[0] == 2
    content[place : place + size] = bytes(size)
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    if sform:  # the geometry goes by it
        check_spacing(str(tmp_path / name))
        return
    with pytest.raises(ValueError, match="its spacing is 1 x 0 x 1 mm"):
        check_spacing(str(tmp_path / name))


def test_grey_with_transparency_is_refused_in_words_that_say_what_to_do(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 4, 2), np.uint8), "LA").save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"a\.png: cannot be read: .* save it in grey, without transparency"):
        LoadMapsd("label", 2)({"label": tmp_path / "a.png"})
