"""What the contract says of inputs, from the folder to the model's grid: which masks are refused, and how they lie."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch
from torch import nn

from gnsm_monai import workflow
from gnsm_monai.data.constants import LABEL
from gnsm_monai.data.nnunet import LabelScheme
from gnsm_monai.data.transforms import encode_labels
from gnsm_monai.errors import InputError
from gnsm_monai.networks import ScoreUNet
from gnsm_monai.noise import mixing_schedule
from gnsm_monai.rules import to_array
from gnsm_monai.scoring import Scorer
from gnsm_monai.workflow import options
from tests.reading import scoring_dataset

SHAPE = (12, 14, 10)
AFFINE = np.diag([1.5, 1.0, 2.0, 1.0])
SETTINGS: dict[str, Any] = {
    "labels": LabelScheme(("a", "b"), (0, 1, 2), ignore_value=9).to_dict(),
    "spatial_dims": 3,
    "network": {"image_channels": 0},
    "voxel_size": [1.5, 1.0, 2.0],
    "spatial_size": [16, 16, 16],
}


def anatomy() -> np.ndarray:
    """Two touching boxes without any symmetry."""
    label = np.zeros(SHAPE, np.uint8)
    label[2:7, 3:10, 2:8] = 1
    label[7:10, 5:12, 3:6] = 2
    return label


def save(path: Path, label: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(label, affine), path)
    return path


def write(folder: Path, name: str, label: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    save(folder / "masks" / name, label, affine)


def with_value(value: float) -> np.ndarray:
    label = anatomy().astype(np.float32)
    label[0, 0, 0] = value
    return label


def truncated(folder: Path, name: str) -> None:
    noise = np.random.default_rng(0).integers(0, 3, SHAPE).astype(np.uint8)
    write(folder, name, noise)
    path = folder / "masks" / name
    path.write_bytes(path.read_bytes()[:-100])


def huge(folder: Path, name: str) -> None:
    content = nib.Nifti1Image(anatomy(), AFFINE).to_bytes()
    content = content[:42] + np.array([10_000] * 3, "<i2").tobytes() + content[48:]
    (folder / "masks" / name).write_bytes(gzip.compress(content))


def colour(folder: Path, name: str) -> None:
    pixels = np.zeros((*SHAPE[::-1], 3), np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(pixels, isVector=True), str(folder / "masks" / name))


def damaged(folder: Path, name: str) -> None:
    """Stored without compression, so that one changed byte is one changed voxel."""
    content = bytearray(gzip.compress(nib.Nifti1Image(anatomy(), AFFINE).to_bytes(), 0))
    content[-100] ^= 1
    (folder / "masks" / name).write_bytes(content)


def damaged_mha(folder: Path, name: str) -> None:
    path = folder / "masks" / name
    sitk.WriteImage(sitk.GetImageFromArray(anatomy().T), str(path), True)
    content = bytearray(path.read_bytes())
    content[-20] ^= 4
    path.write_bytes(content)


def longer(folder: Path, name: str) -> None:
    content = nib.Nifti1Image(anatomy(), AFFINE).to_bytes()
    (folder / "masks" / name).write_bytes(gzip.compress(content + bytes(1 << 22)))


def soft(folder: Path, name: str, probabilities: np.ndarray) -> None:
    write(folder, name, anatomy())
    np.savez(folder / "masks" / name.replace(".nii.gz", ".npz"), probabilities=probabilities)


def damaged_soft(folder: Path, name: str) -> None:
    write(folder, name, anatomy())
    (folder / "masks" / name.replace(".nii.gz", ".npz")).write_bytes(b"PK\x03\x04 no zip")


def reference_of(folder: Path, name: str, label: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    write(folder, name, anatomy())
    save(folder / "references" / name, label, affine)


def linked_soft(folder: Path, name: str) -> None:
    write(folder, name, anatomy())
    (folder / "masks" / name.replace(".nii.gz", ".npz")).symlink_to("gone")


def lost_reference(folder: Path, name: str) -> None:
    write(folder, name, anatomy())
    (folder / "references").mkdir(exist_ok=True)
    (folder / "references" / name).symlink_to("gone")


def twice(folder: Path, name: str) -> None:
    write(folder, name, anatomy())
    write(folder, f"{name}.gz", anatomy())


MOVED = AFFINE + np.array([[0, 0, 0, 5], *[[0] * 4] * 3])
BAD: dict[str, tuple[Callable[[Path, str], None], str]] = {
    "empty.nii.gz": (lambda f, n: (f / "masks" / n).write_bytes(b""), "cannot be read: "),
    "text.nii.gz": (lambda f, n: (f / "masks" / n).write_bytes(b"hello"), "cannot be read: "),
    "words.mha": (lambda f, n: (f / "masks" / n).write_bytes(b"hello"), "cannot be read: "),
    "truncated.nii.gz": (truncated, "cannot be read: "),
    "cut.nii": (truncated, "cannot be read: "),
    "huge.nii.gz": (huge, "cannot be read: its header claims 10000 x 10000 x 10000 voxels"),
    "unknown.nii.gz": (lambda f, n: write(f, n, with_value(7)), "label value 7 is not among the declared [0, 1, 2, 9]"),
    "negative.nii.gz": (lambda f, n: write(f, n, with_value(-1)), "label value -1 is not among the declared"),
    "fraction.nii.gz": (lambda f, n: write(f, n, with_value(0.5)), "label values must be whole numbers, found 0.5"),
    "nan.nii.gz": (lambda f, n: write(f, n, with_value(np.nan)), "NaN or infinite values in a label map"),
    "flat.nii.gz": (lambda f, n: write(f, n, anatomy()[0]), "a label map of 3 axes is needed, found shape (14, 10)"),
    "series.nii.gz": (
        lambda f, n: write(f, n, np.stack([anatomy()] * 2, -1)),
        "a label map of 3 axes is needed, found shape (12, 14, 10, 2)",
    ),
    "colour.nrrd": (colour, "a label map of 3 axes is needed, found shape (12, 14, 10, 3)"),
    "none.nii.gz": (lambda f, n: write(f, n, anatomy()[:0]), "an axis without voxels, shape (0"),
    "damaged.nii.gz": (damaged, "cannot be read: damaged: what it unpacks to does not match its checksum"),
    "bent.mha": (damaged_mha, "cannot be read: damaged: its compressed data cannot be unpacked"),
    "longer.nii.gz": (longer, "cannot be read: it unpacks to more than its header claims"),
    "micrometres.nii.gz": (
        lambda f, n: write(f, n, anatomy(), AFFINE @ np.diag([1000, 1000, 1000, 1])),
        "its field of view has 18000 x 14000 x 20000 mm: is its spacing in mm?",
    ),
    "complex.nii.gz": (
        lambda f, n: write(f, n, anatomy().astype(np.complex64)),
        "cannot be read: numbers are needed, found voxels of type complex64",
    ),
    "rgb.nii.gz": (
        lambda f, n: write(f, n, np.zeros(SHAPE, [("R", "u1"), ("G", "u1"), ("B", "u1")])),
        "cannot be read: numbers are needed, found voxels of type colour",
    ),
    "folder.nii.gz": (lambda f, n: (f / "masks" / n).mkdir(), "is a folder, not a file"),
    "link.nii.gz": (lambda f, n: (f / "masks" / n).symlink_to("gone"), "is a link to a file that is not there"),
    "pipe.nii.gz": (lambda f, n: os.mkfifo(f / "masks" / n), "is no regular file"),
    "twice.nii": (twice, "2 files for case 'twice': twice.nii and twice.nii.gz"),
}
"""Kinds of bad files: name, what writes it, what is said of it."""

SPARED: dict[str, tuple[Callable[[Path, str], None], str]] = {
    "shape.nii.gz": (
        lambda f, n: reference_of(f, n, anatomy()[1:, 1:], MOVED),
        "does not fit the mask: 11 x 13 x 10 voxels of 1.5 x 1 x 2 mm, the mask 12 x",
    ),
    "place.nii.gz": (
        lambda f, n: reference_of(f, n, anatomy(), MOVED),
        "the headers of mask and reference place them 5 mm apart: taken voxel by voxel",
    ),
    "sum.nii.gz": (
        lambda f, n: soft(f, n, np.full((3, *SHAPE[::-1]), 0.3, np.float16)),
        "the probabilities of a voxel must sum to 1, found 0.9",
    ),
    "axes.nii.gz": (
        lambda f, n: soft(f, n, np.full((3, *SHAPE), 1 / 3, np.float32)),
        "shape (3, 12, 14, 10) of 'probabilities' where its mask asks for (3, 10, 14, 12)",
    ),
    "channels.nii.gz": (
        lambda f, n: soft(f, n, np.full((2, *SHAPE[::-1]), 1 / 2, np.float32)),
        "shape (2, 10, 14, 12) of 'probabilities' where its mask asks for (3, 10, 14, 12)",
    ),
    "zip.nii.gz": (damaged_soft, "cannot be read: "),
    "linked.nii.gz": (linked_soft, "is a link to a file that is not there"),
    "lost.nii.gz": (lost_reference, "is a link to a file that is not there"),
}
"""Kinds of files beside a mask that is ranked nevertheless: name, what writes it, what is noted."""


def test_bad_files_of_every_kind_get_one_line_each_and_good_ones_are_read(tmp_path: Path) -> None:
    write(tmp_path, "good.nii.gz", anatomy())
    write(tmp_path, "background.nii.gz", np.zeros(SHAPE, np.uint8))
    save(tmp_path / "references" / "good.nii.gz", anatomy())
    for name, (spoil, _) in [*BAD.items(), *SPARED.items()]:
        spoil(tmp_path, name)
    cases = workflow.predictions(str(tmp_path / "masks"), str(tmp_path / "references"), None, SETTINGS)
    dataset = scoring_dataset(cases, SETTINGS)
    found = {case["label"].name: dataset[number] for number, case in enumerate(cases)}  # type: ignore[index]
    assert len(found) == len(BAD) + len(SPARED) + 2 and len(BAD) > 20
    for key, kinds in (("message", BAD), ("note", SPARED)):
        for name, (_, expected) in kinds.items():
            case = found.pop(name)
            assert (LABEL in case) == (key == "note")
            masks, stem = tmp_path / "masks", name.split(".")[0]
            named = (masks / name, masks / f"{stem}.npz", tmp_path / "references" / name)
            text = case[key]
            assert any(str(path) in text for path in named) or "2 files" in text or "headers" in text, text
            assert expected in text and "\n" not in text and "0x" not in text, text
    assert set(found) == {"good.nii.gz", "background.nii.gz"}
    assert all("message" not in case and "note" not in case for case in found.values())
    assert found["good.nii.gz"]["dice"].tolist() == [1, 1]


def test_an_image_of_another_shape_fails_its_case_and_one_of_another_place_does_not(
    tmp_path: Path,
) -> None:
    settings = {**SETTINGS, "network": {"image_channels": 1}}
    save(tmp_path / "images" / "small_0000.nii.gz", np.ones((3, 4, 5), np.float32), MOVED)
    for name in ("moved", "missing", "good", "small"):
        write(tmp_path, f"{name}.nii.gz", anatomy())
    for name, affine in (("moved", MOVED), ("good", AFFINE)):
        save(tmp_path / "images" / f"{name}_0000.nii.gz", np.random.default_rng(0).random(SHAPE, np.float32), affine)
    cases = workflow.predictions(str(tmp_path / "masks"), None, str(tmp_path / "images"), settings)
    dataset = scoring_dataset(cases, settings)
    read = {case["case"]: dataset[number] for number, case in enumerate(cases)}  # type: ignore[index]
    assert "message" not in read["good"] and "note" not in read["good"]
    assert read["missing"]["message"] == f"{tmp_path / 'images'}: no image for case 'missing'"
    assert read["moved"]["note"] == "the headers of mask and image place them 5 mm apart: taken voxel by voxel"
    assert read["small"]["message"].startswith(f"{tmp_path / 'images' / 'small_0000.nii.gz'}: does not fit the mask: ")


@pytest.fixture(scope="module")
def network() -> ScoreUNet:
    torch.manual_seed(0)
    net = ScoreUNet(3, 3, noise=mixing_schedule(2), channels=(4, 8), position_size=(16, 16, 16)).eval()
    nn.init.normal_(net.head[-1].weight)
    net.set_prior(torch.rand(3, 16, 16, 16).softmax(0))
    return net


def score(network: ScoreUNet, path: Path) -> np.ndarray:
    (case,) = scoring_dataset([{"case": "a", "label": path}], SETTINGS)  # type: ignore[misc]
    return to_array(Scorer(mixing_schedule(2))(network, *encode_labels(case["label"][None], 3)).levels)


@pytest.mark.parametrize("codes", ["LPS", "LAS", "SLA", "PIR", "AIL"])
def test_the_same_anatomy_gets_the_same_score_in_any_orientation(
    network: ScoreUNet, tmp_path: Path, codes: str
) -> None:
    straight = nib.Nifti1Image(anatomy(), AFFINE)
    to_codes = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(codes)
    )
    nib.save(straight, tmp_path / "ras.nii.gz")
    nib.save(straight.as_reoriented(to_codes), tmp_path / "turned.nii.gz")
    ours, theirs = (score(network, tmp_path / name) for name in ("ras.nii.gz", "turned.nii.gz"))
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    mirrored = save(tmp_path / "mirrored.nii.gz", np.ascontiguousarray(anatomy()[::-1]))
    assert not np.allclose(ours, score(network, mirrored), rtol=1e-3)  # orientation does count


def test_another_spacing_is_resampled_to_the_models(network: ScoreUNet, tmp_path: Path) -> None:
    """Every voxel cut in two along each axis, with half the spacing: the same place, the same score."""
    fine = np.kron(anatomy(), np.ones((2, 2, 2), np.uint8))
    halved = AFFINE @ np.diag([0.5, 0.5, 0.5, 1])
    halved[:3, 3] = -np.diag(AFFINE)[:3] / 4
    ours = score(network, save(tmp_path / "coarse.nii.gz", anatomy()))
    theirs = score(network, save(tmp_path / "fine.nii.gz", fine, halved))
    untouched = score(network, save(tmp_path / "small.nii.gz", fine))  # as if its voxels were large
    np.testing.assert_allclose(ours, theirs, rtol=0.1)
    assert not np.allclose(ours, untouched, rtol=0.1)


def test_the_option_soft_is_read_as_yaml_and_the_command_line_give_it() -> None:
    assert [options.score_soft(value) for value in ("auto", "off", False)] == [True, False, False]
    for value in (True, "on", 0, None, ""):
        with pytest.raises(InputError, match=r"soft: '.*' is not one of auto, off"):
            options.score_soft(value)  # type: ignore[arg-type]
