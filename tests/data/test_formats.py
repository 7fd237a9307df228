"""One file of each format of the field: the right numbers, in the right place, whatever wrote it."""

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

from gnsm_monai.data import file_checks
from gnsm_monai.data.class_index import ToClassIndexd
from gnsm_monai.data.constants import LABEL_NAMES
from gnsm_monai.data.datalist import find_label_maps, find_spatial_dims
from gnsm_monai.data.loading import LoadMapsd
from gnsm_monai.errors import InputError

SHAPE = (5, 6, 7)  # x, y, z
LABEL = np.random.default_rng(0).integers(0, 4, SHAPE).astype(np.uint8)
AFFINE = np.array([[0, 0, -2.0, 10], [1.5, 0, 0, -20], [0, 3.0, 0, 30], [0, 0, 0, 1]])


def read(path: Path, dims: int = 3, key: str = "label") -> Any:
    return LoadMapsd(key, dims)({key: path})[key]


def numbers(path: Path, dims: int = 3) -> np.ndarray:
    """The whole numbers that a label map is taken for, ``(*spatial)``."""
    return np.asarray(ToClassIndexd("label", None, dims)({"label": read(path, dims)})["label"][0])


@pytest.mark.parametrize("ending", [".mgz", ".mgh"])
def test_a_freesurfer_volume_is_read_as_its_nifti(tmp_path: Path, ending: str) -> None:
    nib.save(nib.MGHImage(LABEL.astype(np.int32) + 1000, AFFINE), tmp_path / f"aseg{ending}")
    nib.save(nib.Nifti1Image(LABEL.astype(np.int32) + 1000, AFFINE), tmp_path / "like.nii")
    found, like = read(tmp_path / f"aseg{ending}"), read(tmp_path / "like.nii")
    np.testing.assert_array_equal(found.numpy(), like.numpy())
    np.testing.assert_allclose(found.affine.numpy(), AFFINE, atol=1e-5)
    assert find_spatial_dims(tmp_path, bare=True) == 3 and set(find_label_maps(tmp_path)) == {"aseg", "like"}


def test_a_damaged_freesurfer_volume_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.mgz"
    nib.save(nib.MGHImage(np.random.default_rng(0).integers(0, 9, (20, 20, 20)).astype(np.int32), AFFINE), path)
    content = bytearray(path.read_bytes())
    path.write_bytes(content[:-100])
    with pytest.raises(InputError, match=r"a\.mgz: cannot be read: "):
        read(path)
    content[-6] ^= 255  # in the checksum
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.mgz: cannot be read: damaged"):
        read(path)


def test_the_voxels_of_an_mhd_are_counted_in_the_file_that_holds_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = np.random.default_rng(0).integers(0, 3, (12, 13, 14)).astype(np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(volume), str(tmp_path / "a.mhd"))
    assert (tmp_path / "a.mhd").stat().st_size < volume.size
    monkeypatch.setattr(file_checks, "SMALL", 0)
    monkeypatch.setattr(file_checks, "MAX_COMPRESSION", 1)
    np.testing.assert_array_equal(numbers(tmp_path / "a.mhd"), volume.T)
    assert list(find_label_maps(tmp_path)) == ["a"]
    (tmp_path / "a.raw").unlink()
    with pytest.raises(InputError, match=r"a\.mhd: cannot be read: its voxels are in a file 'a\.raw', which is not"):
        read(tmp_path / "a.mhd")


def test_a_damaged_file_of_compressed_voxels_is_refused(tmp_path: Path) -> None:
    volume = np.random.default_rng(0).integers(0, 255, (12, 13, 14)).astype(np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(volume), str(tmp_path / "a.mhd"), useCompression=True)
    np.testing.assert_array_equal(numbers(tmp_path / "a.mhd"), volume.T)
    content = (tmp_path / "a.zraw").read_bytes()
    (tmp_path / "a.zraw").write_bytes(content[:-50])
    with pytest.raises(InputError, match=r"a\.mhd: cannot be read: damaged"):
        read(tmp_path / "a.mhd")


@pytest.mark.parametrize("slices", [1, 2, 3, 4, 5])
def test_a_tiff_stack_is_a_volume_with_the_spacing_beside_it(tmp_path: Path, slices: int) -> None:
    stack = np.random.default_rng(slices).integers(0, 3, (slices, 32, 40)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "case.tif", data=stack, compression="zlib")  # as nnU-Net's Tiff3DIO writes a mask
    (tmp_path / "case.json").write_text(json.dumps({"spacing": [5.0, 0.5, 0.25]}))
    found = read(tmp_path / "case.tif")
    np.testing.assert_array_equal(found.numpy()[0], stack.T)
    assert found.pixdim.tolist() == [0.25, 0.5, 5.0]
    assert find_spatial_dims(tmp_path, bare=True) == (3 if slices > 1 else 2)


def test_a_stack_without_spacing_has_a_millimetre_and_a_wrong_spacing_is_named(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "case_0000.tif", data=np.zeros((3, 8, 9), np.float32), compression="zlib")
    assert read(tmp_path / "case_0000.tif", key="image").pixdim.tolist() == [1, 1, 1]
    (tmp_path / "case.json").write_text('{"spacing": [2, 1.5, 1]}')
    assert read(tmp_path / "case_0000.tif", key="image").pixdim.tolist() == [1, 1.5, 2]
    for spacing in ("[1, 0, 1]", "[1, 1]", '"1 mm"', "[1, 1, NaN]"):
        (tmp_path / "case.json").write_text(f'{{"spacing": {spacing}}}')
        with pytest.raises(InputError, match=r"case\.json: spacing must be three lengths in mm"):
            read(tmp_path / "case_0000.tif", key="image")


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_a_colour_tiff_is_an_image_of_three_channels(tmp_path: Path, planar: str) -> None:
    pixels = np.random.default_rng(1).integers(0, 255, (6, 5, 3)).astype(np.uint8)
    data = pixels if planar == "contig" else np.moveaxis(pixels, -1, 0)
    tifffile.imwrite(tmp_path / "a.tif", data=data, photometric="rgb", planarconfig=planar)
    np.testing.assert_array_equal(read(tmp_path / "a.tif", 2, "image").numpy(), pixels.transpose(2, 1, 0))
    with pytest.raises(InputError, match="a label map of 2 axes is needed"):
        numbers(tmp_path / "a.tif", 2)


def test_a_compression_that_tifffile_lacks_is_read_by_itk_or_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = LABEL[..., 0].T.copy()
    Image.fromarray(picture).save(tmp_path / "a.tif", compression="tiff_lzw")
    tifffile.imwrite(tmp_path / "b.tif", data=LABEL.T[:3].copy(), photometric="rgb", planarconfig="separate")

    def lacking(self: Any, **options: Any) -> Any:
        raise ValueError("<COMPRESSION.LZW: 5> requires the 'imagecodecs' package")

    monkeypatch.setattr(tifffile.TiffPageSeries, "asarray", lacking)  # whether or not imagecodecs is there
    np.testing.assert_array_equal(numbers(tmp_path / "a.tif", 2), picture.T)
    with pytest.raises(InputError, match=r"b\.tif: cannot be read: .* pip install imagecodecs$"):
        read(tmp_path / "b.tif")


@pytest.mark.parametrize("ending", [".png", ".bmp", ".tif"])
def test_a_picture_of_one_bit_holds_0_and_1(tmp_path: Path, ending: str) -> None:
    inside = LABEL[..., 0].T > 1
    Image.fromarray(inside).save(tmp_path / f"a{ending}")
    np.testing.assert_array_equal(numbers(tmp_path / f"a{ending}", 2), inside.T)


@pytest.mark.parametrize("ending", [".png", ".bmp", ".tif"])
def test_a_palette_gives_numbers_to_a_label_map_and_colours_to_an_image(tmp_path: Path, ending: str) -> None:
    colours = np.array([[0, 0, 0], [200, 10, 20], [30, 180, 40], [50, 60, 160]], np.uint8)
    picture = Image.fromarray(LABEL[..., 0].T.copy(), mode="L")
    picture.putpalette(colours.tobytes())
    picture.save(tmp_path / f"a{ending}")
    np.testing.assert_array_equal(numbers(tmp_path / f"a{ending}", 2), LABEL[..., 0])
    if ending != ".tif":  # whose palettes tifffile leaves to others
        image = read(tmp_path / f"a{ending}", 2, "image")
        np.testing.assert_array_equal(image.numpy(), np.moveaxis(colours[LABEL[..., 0]], -1, 0))


@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_numbers_above_255_survive_in_pictures(tmp_path: Path, ending: str) -> None:
    many = LABEL[..., 0].astype(np.uint16) * 20000
    Image.fromarray(many.T.copy()).save(tmp_path / f"a{ending}")
    np.testing.assert_array_equal(numbers(tmp_path / f"a{ending}", 2), many)


@pytest.mark.parametrize("kind", ["<i8", ">i8", ">i2", ">u2", ">u4", ">f4", ">f8", "<u8", "|i1"])
def test_label_values_survive_64_bits_and_either_byte_order(tmp_path: Path, kind: str) -> None:
    values = LABEL.astype(kind) * (2000 if np.dtype(kind).itemsize > 1 else 30)
    order = ">" if kind.startswith(">") else "<"
    header = nib.Nifti1Header(endianness=order)
    header.set_data_dtype(np.dtype(kind))
    nib.save(nib.Nifti1Image(values, np.eye(4), header), tmp_path / "a.nii.gz")
    assert nib.load(tmp_path / "a.nii.gz").header.endianness == order
    np.testing.assert_array_equal(numbers(tmp_path / "a.nii.gz"), values.astype(int))


@pytest.mark.parametrize("most", [1, 3, 104, 117, 255])
def test_labels_that_a_slope_rounded_are_whole_again(tmp_path: Path, most: int) -> None:
    """nibabel stores float data under an 8-bit header as 255 steps; 104 of 117 comes back as 104.15."""
    values = np.random.default_rng(0).integers(0, most + 1, (20, 20, 20)).astype(np.float64)
    values[0, 0, 0] = most
    header = nib.Nifti1Header()
    header.set_data_dtype(np.uint8)
    nib.save(nib.Nifti1Image(values, np.eye(4), header), tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(numbers(tmp_path / "a.nii.gz"), values)


@pytest.mark.parametrize(
    ("values", "kind"), [((0, 1, 0.5), np.float32), ((0, 1, 1.004), np.float64), ((0, 0.3, 1), np.uint8)]
)
def test_a_real_fraction_is_refused_with_its_digits(tmp_path: Path, values: tuple[float, ...], kind: type) -> None:
    array = np.resize(np.array(values), (3, 3, 3))
    header = nib.Nifti1Header()
    header.set_data_dtype(kind)
    nib.save(nib.Nifti1Image(array, np.eye(4), header), tmp_path / "a.nii.gz")
    with pytest.raises(InputError, match=r"label values must be whole numbers, found (0\.5|1\.00[34]\d*|0\.\d+)$"):
        numbers(tmp_path / "a.nii.gz")


def test_numbers_that_a_slope_merged_are_refused(tmp_path: Path) -> None:
    header = nib.Nifti1Header()
    header.set_data_dtype(np.uint8)
    nib.save(nib.Nifti1Image(np.arange(400.0).reshape(20, 20, 1), np.eye(4), header), tmp_path / "a.nii.gz")
    with pytest.raises(InputError, match="label values must be whole numbers"):
        numbers(tmp_path / "a.nii.gz")


Segments = list[tuple[str, int, int]]


def write_slicer(path: Path, layers: np.ndarray, segments: Segments) -> Path:
    """A ``.seg.nrrd`` as 3D Slicer writes it; layers ``(x, y, z[, L])``, segments with name, value and layer."""
    several = layers.ndim == 4
    lines = ["NRRD0004", "type: unsigned char", f"dimension: {layers.ndim}", "space: left-posterior-superior"]
    sizes = [*([layers.shape[-1]] if several else []), *layers.shape[:3]]
    lines += [f"sizes: {' '.join(map(str, sizes))}"]
    lines += [f"space directions: {'none ' * several}(1.5,0,0) (0,2,0) (0,0,3)"]
    lines += [f"kinds: {'list ' * several}domain domain domain", "encoding: raw", "space origin: (10,-20,30)"]
    for i, (name, value, layer) in enumerate(segments):
        lines += [f"Segment{i}_Name:={name}", f"Segment{i}_LabelValue:={value}", f"Segment{i}_Layer:={layer}"]
    data = np.moveaxis(layers, -1, 0) if several else layers
    path.write_bytes(("\n".join(lines) + "\n\n").encode() + data.astype(np.uint8).tobytes(order="F"))
    return path


def test_slicers_segments_keep_their_values_and_have_names(tmp_path: Path) -> None:
    path = write_slicer(tmp_path / "case_1.seg.nrrd", LABEL, [("left lung", 3, 0), ("heart", 1, 0), ("liver", 2, 0)])
    found = read(path)
    np.testing.assert_array_equal(found.numpy()[0], LABEL)
    np.testing.assert_allclose(found.affine.numpy(), [[-1.5, 0, 0, -10], [0, -2, 0, 20], [0, 0, 3, 30], [0, 0, 0, 1]])
    assert found.meta[LABEL_NAMES] == {1: "heart", 2: "liver", 3: "left lung"}
    assert list(find_label_maps(tmp_path)) == ["case_1"] and find_spatial_dims(tmp_path, bare=True) == 3


@pytest.mark.parametrize("layers", [2, 3, 4, 5])
def test_slicers_overlapping_layers_become_one_map_in_which_the_smallest_stands(
    tmp_path: Path, layers: int, caplog: pytest.LogCaptureFixture
) -> None:
    stored, expected = np.zeros((*SHAPE, layers), np.uint8), np.zeros(SHAPE, int)
    segments = []
    for layer in range(layers):  # boxes one in another, the smallest first
        box = (slice(0, layer + 1), slice(0, 6), slice(0, 7))
        stored[(*box, layer)] = 1
        segments.append((f"part {layer}", 1, layer))
    for layer in reversed(range(layers)):
        expected[0 : layer + 1] = layer + 1
    found = read(write_slicer(tmp_path / "a.seg.nrrd", stored, segments))
    np.testing.assert_array_equal(found.numpy()[0], expected)
    assert found.meta[LABEL_NAMES] == {layer + 1: f"part {layer}" for layer in range(layers)}
    assert f"a.seg.nrrd: segments overlap in {(layers - 1) * 42} voxels" in caplog.text


def test_slicers_segments_of_one_name_are_one_structure(tmp_path: Path) -> None:
    path = write_slicer(tmp_path / "a.seg.nrrd", LABEL, [("node", 1, 0), ("node", 3, 0), ("liver", 2, 0)])
    found = read(path)
    np.testing.assert_array_equal(found.numpy()[0], np.array([0, 1, 2, 1])[LABEL])
    assert found.meta[LABEL_NAMES] == {1: "node", 2: "liver"}


def test_a_segmentation_without_voxels_is_named(tmp_path: Path) -> None:
    path = write_slicer(tmp_path / "a.seg.nrrd", np.zeros((1, 1, 1), np.uint8), [("heart", 1, 0)])
    with pytest.raises(InputError, match=r"a\.seg\.nrrd: cannot be read: a segmentation without voxels"):
        read(path)


@pytest.mark.parametrize("change", [lambda a: a + np.eye(4)[:, :1] @ np.eye(4)[3:] * 0.5, lambda a: a * 1.01])
def test_channels_in_other_places_are_refused(tmp_path: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    for channel, affine in enumerate((AFFINE, AFFINE + 1e-4, change(AFFINE))):
        nib.save(nib.Nifti1Image(LABEL.astype(np.float32) + channel, affine), tmp_path / f"a_000{channel}.nii.gz")
    paths = sorted(tmp_path.glob("*.nii.gz"))
    assert LoadMapsd("image", 3)({"image": paths[:2]})["image"].shape == (2, *SHAPE)
    with pytest.raises(InputError, match=r"a_0000\.nii\.gz: .*its channels differ in spacing, orientation or origin"):
        LoadMapsd("image", 3)({"image": paths})
