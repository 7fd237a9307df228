"""Probabilities beside a mask: read in the mask's axes, turned to classes, and refused where they cannot be meant."""

from __future__ import annotations

import io
import itertools
import pickle
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from gnsm_monai.data.constants import IGNORE_INDEX, LABEL, SOFT
from gnsm_monai.data.loading import CaughtErrors
from gnsm_monai.data.nnunet import LabelScheme, Region
from gnsm_monai.data.soft import class_probabilities, read_probabilities
from gnsm_monai.data.transforms import FitToGridd, ToSpacingd, encode_labels, load_case
from gnsm_monai.errors import InputError

SCHEME = LabelScheme(("a", "b"), (0, 1, 2))
TUMOUR = LabelScheme(
    ("edema", "necrosis", "enhancing"),
    (0, 1, 2, 3),
    regions=(Region("whole", (1, 2, 3), 1), Region("core", (2, 3), 2), Region("enhancing", (3,), 3)),
)
SHAPE = (4, 5, 6)


def softmax(shape: tuple[int, ...] = SHAPE, channels: int = 3, seed: int = 0) -> np.ndarray:
    """Probabilities ``(C, *shape)`` float32."""
    weights = np.random.default_rng(seed).exponential(size=(channels, *shape))
    return (weights / weights.sum(0)).astype(np.float32)


def save_npz(path: Path, probabilities: np.ndarray, **more: Any) -> Path:
    """As nnU-Net saves ``(C, x, y[, z])``: axes (C, z, y, x), a 2D map as one slice."""
    volume = probabilities if probabilities.ndim == 4 else probabilities[..., None]
    np.savez_compressed(path, probabilities=volume.transpose(0, 3, 2, 1), **more)
    return path


def save_member(path: Path, content: bytes, name: str = "probabilities.npy") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return path


def npy(shape: tuple[int, ...], kind: str = "<f4", data: bytes = b"") -> bytes:
    """An npy file whose header claims a shape, whatever follows."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": kind, "fortran_order": False, "shape": shape})
    return file.getvalue() + data


class TestReading:
    @pytest.mark.parametrize("kind", [np.float16, np.float32])
    @pytest.mark.parametrize("shape", [(4, 5, 6), (7, 8)])
    def test_axes_are_those_of_the_mask(self, tmp_path: Path, shape: tuple[int, ...], kind: type) -> None:
        expected = softmax(shape).astype(kind)
        found = read_probabilities(save_npz(tmp_path / "a.npz", expected), 3, shape)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, expected.astype(np.float32))

    def test_arrays_in_fortran_order_are_read(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "a.npz", probabilities=np.asfortranarray(softmax().transpose(0, 3, 2, 1)))
        np.testing.assert_array_equal(read_probabilities(tmp_path / "a.npz", 3, SHAPE), softmax())

    def test_a_header_that_claims_a_huge_array_is_refused_before_anything_is_allocated(self, tmp_path: Path) -> None:
        path = save_member(tmp_path / "a.npz", npy((3, 10**4, 10**4, 10**4)))
        tracemalloc.start()
        with pytest.raises(InputError, match=r"a\.npz: shape \(3, 10000, 10000, 10000\) of 'probabilities'"):
            read_probabilities(path, 3, SHAPE)
        assert tracemalloc.get_traced_memory()[1] < 2**20
        tracemalloc.stop()

    def test_a_member_that_unpacks_to_more_than_its_header_claims_is_not_unpacked(self, tmp_path: Path) -> None:
        path = save_member(tmp_path / "a.npz", npy((3, 6, 5, 4), data=bytes(2**26)))
        assert path.stat().st_size < 2**17
        tracemalloc.start()
        with pytest.raises(InputError, match=r"a\.npz: 'probabilities' holds 67108864 bytes where 1440 are due"):
            read_probabilities(path, 3, SHAPE)
        assert tracemalloc.get_traced_memory()[1] < 2**20
        tracemalloc.stop()

    def test_pickled_code_is_never_run(self, tmp_path: Path) -> None:
        class Trap:
            def __reduce__(self) -> tuple[Any, ...]:
                return Path.touch, (tmp_path / "sprung",)

        trap = pickle.dumps(np.array([Trap()], dtype=object))
        path = save_member(tmp_path / "a.npz", npy((3, 6, 5, 4), "|O", trap))
        with pytest.raises(InputError, match=r"'probabilities' must be float16 or float32, found object"):
            read_probabilities(path, 3, SHAPE)
        assert not (tmp_path / "sprung").exists()

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (npy((2, 6, 5, 4)), r"shape \(2, 6, 5, 4\) of 'probabilities' where its mask asks for \(3, 6, 5, 4\)"),
            (npy((3, 4, 5, 6)), r"shape \(3, 4, 5, 6\) of 'probabilities' where its mask asks for \(3, 6, 5, 4\)"),
            (npy((3, 6, 5, 4), "<f8"), "must be float16 or float32, found float64"),
            (npy((3, 6, 5, 4), "<i4"), "must be float16 or float32, found int32"),
            (npy((3, 6, 5, 4), data=bytes(100)), "holds 100 bytes where 1440 are due"),
            (b"no array", "cannot be read: "),
            (b"", "cannot be read: "),
        ],
    )
    def test_other_arrays_are_refused(self, tmp_path: Path, content: bytes, reason: str) -> None:
        with pytest.raises(InputError, match=rf"a\.npz: .*{reason}") as caught:
            read_probabilities(save_member(tmp_path / "a.npz", content), 3, SHAPE)
        assert "\n" not in str(caught.value)

    def test_a_file_without_probabilities_is_refused(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "a.npz", softmax=softmax())
        with pytest.raises(InputError, match=r"a\.npz: holds no array 'probabilities', as nnU-Net v2"):
            read_probabilities(tmp_path / "a.npz", 3, SHAPE)

    @pytest.mark.parametrize("damage", [lambda content: b"", lambda content: content[:200], lambda content: b"hello"])
    def test_a_damaged_file_is_named(self, tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
        path = save_npz(tmp_path / "a.npz", softmax())
        path.write_bytes(damage(path.read_bytes()))
        with pytest.raises(InputError, match=r"a\.npz: cannot be read: \S+") as caught:
            read_probabilities(path, 3, SHAPE)
        assert "\n" not in str(caught.value)

    def test_data_that_fail_their_checksum_are_named(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "a.npz", probabilities=softmax().transpose(0, 3, 2, 1))
        content = bytearray((tmp_path / "a.npz").read_bytes())
        content[1000] ^= 255
        (tmp_path / "a.npz").write_bytes(content)
        with pytest.raises(InputError, match=r"a\.npz: cannot be read: .*CRC"):
            read_probabilities(tmp_path / "a.npz", 3, SHAPE)


class TestClassProbabilities:
    def test_a_softmax_is_taken_as_it_is(self) -> None:
        np.testing.assert_allclose(class_probabilities(softmax(), SCHEME), softmax(), rtol=1e-6)

    def test_the_rounding_of_half_precision_is_put_right(self) -> None:
        found = class_probabilities(softmax().astype(np.float16).astype(np.float32), SCHEME)
        np.testing.assert_allclose(found.sum(0), 1, rtol=1e-6)
        np.testing.assert_allclose(found, softmax(), atol=1e-3)

    @pytest.mark.parametrize("scheme", [TUMOUR, LabelScheme(("x", "y"), (0, 1, 2), None, TUMOUR.regions[:1] * 2)])
    def test_regions_give_what_nnunets_rule_gives_on_average(self, scheme: LabelScheme) -> None:
        """Every combination of predicted regions, written in order, weighted by its probability."""
        saved = np.random.default_rng(0).random((len(scheme.regions), 3, 4)).astype(np.float32)
        expected = np.zeros((scheme.num_classes, 3, 4))
        for drawn in itertools.product([False, True], repeat=len(scheme.regions)):
            written, weight = 0, np.ones((3, 4))
            for region, predicted, p in zip(scheme.regions, drawn, saved, strict=True):
                written = region.written if predicted else written
                weight = weight * (p if predicted else 1 - p)
            expected[written] += weight
        found = class_probabilities(saved, scheme)
        np.testing.assert_allclose(found, expected, atol=1e-6)
        np.testing.assert_allclose(found.sum(0), 1, atol=1e-6)

    @pytest.mark.parametrize("scheme", [SCHEME, TUMOUR])
    @pytest.mark.parametrize(
        ("value", "reason"),
        [
            (np.nan, "NaN or infinite probabilities"),
            (np.inf, "NaN or infinite probabilities"),
            (1.2, r"probabilities must lie in \[0, 1\], found 1.2"),
            (-0.3, r"probabilities must lie in \[0, 1\], found -0.3"),
        ],
    )
    def test_values_that_are_no_probabilities_are_refused(self, scheme: LabelScheme, value: float, reason: str) -> None:
        saved = softmax()
        saved[1, 2, 3, 4] = value
        with pytest.raises(InputError, match=f"a.npz: {reason}"):
            class_probabilities(saved, scheme, "a.npz")

    @pytest.mark.parametrize(("total", "refused"), [(0.98, True), (1.02, True), (0.995, False), (1.005, False)])
    def test_a_softmax_must_sum_to_one_within_a_hundredth(self, total: float, refused: bool) -> None:
        saved = softmax()
        saved[:, 1, 1, 1] = [total / 2, total / 2, 0]
        if not refused:
            assert class_probabilities(saved, SCHEME)[0, 1, 1, 1] == pytest.approx(0.5)
            return
        with pytest.raises(InputError, match=rf"a\.npz: the probabilities of a voxel must sum to 1, found {total}$"):
            class_probabilities(saved, SCHEME, "a.npz")


def placed(case: dict[str, Any], scheme: LabelScheme, spacing: list[float], size: tuple[int, ...]) -> dict[str, Any]:
    keys = [LABEL, SOFT]
    loaded = ToSpacingd(keys, spacing)(load_case(scheme, len(size), keys)(case))
    return dict(FitToGridd(size, grow=True, keys=keys)(loaded))


class TestPlacing:
    @pytest.mark.parametrize("codes", ["RAS", "LPS", "SLA", "AIR"])
    def test_probabilities_follow_their_mask_into_ras(self, tmp_path: Path, codes: str) -> None:
        index = np.random.default_rng(0).integers(0, 3, SHAPE)
        target = nib.orientations.ornt_transform(
            nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(codes)
        )
        stored = nib.Nifti1Image(index.astype(np.uint8), np.diag([2.0, 3, 4, 1])).as_reoriented(target)
        nib.save(stored, tmp_path / "a.nii.gz")
        turned = np.asarray(stored.dataobj)
        save_npz(tmp_path / "a.npz", np.stack([turned == c for c in range(3)]).astype(np.float16))
        case = placed({LABEL: tmp_path / "a.nii.gz", SOFT: tmp_path / "a.npz"}, SCHEME, [2, 3, 4], (8, 8, 8))
        hard, mask = encode_labels(case[LABEL][None], 3)
        soft, counts = encode_labels(case[LABEL][None], 3, case[SOFT][None])
        assert torch.equal(hard, soft) and torch.equal(mask, counts)
        assert mask.sum() == index.size

    def test_another_spacing_is_reached_linearly_and_sums_to_one(self, tmp_path: Path) -> None:
        index = np.zeros((12, 10), np.uint8)
        index[3:9, 2:7] = 1
        image = nib.Nifti1Image(index[..., None], np.diag([1.0, 1, 1, 1]))
        nib.save(image, tmp_path / "a.nii.gz")
        save_npz(tmp_path / "a.npz", np.stack([index == c for c in range(3)]).astype(np.float32))
        case = placed({LABEL: tmp_path / "a.nii.gz", SOFT: tmp_path / "a.npz"}, SCHEME, [0.7, 1.3], (24, 16))
        soft, mask = encode_labels(case[LABEL][None], 3, case[SOFT][None])
        np.testing.assert_allclose(soft.sum(1), 1, atol=1e-5)
        outside = mask[:, 0] == 0
        assert outside.any() and (soft[:, 0][outside] == 1).all()
        assert ((soft > 0.1) & (soft < 0.9)).any()  # edges are between
        assert abs(float(soft[:, 1].sum()) * 0.7 * 1.3 - 30) < 2  # mm^2, as in the file

    def test_ignored_voxels_are_background_whatever_was_predicted(self) -> None:
        label = torch.tensor([[[[1, IGNORE_INDEX]]]], dtype=torch.int16)
        soft, mask = encode_labels(label, 2, torch.full((1, 2, 1, 2), 0.5))
        assert soft[0, :, 0].tolist() == [[0.5, 1.0], [0.5, 0.0]] and mask.flatten().tolist() == [1, 0]

    def test_a_case_without_probabilities_is_read_as_before(self, save: Callable[..., Path]) -> None:
        path = save("a.png", np.ones((4, 5), np.uint8))
        assert set(load_case(SCHEME, 2, [LABEL, SOFT])({LABEL: path})) == {LABEL}

    def test_probabilities_of_another_shape_leave_the_mask_to_be_scored(
        self, save: Callable[..., Path], tmp_path: Path
    ) -> None:
        path = save("a.png", np.ones((4, 5), np.uint8))
        npz = save_npz(tmp_path / "a.npz", softmax((5, 4)))
        case = CaughtErrors(load_case(SCHEME, 2, [LABEL, SOFT]))({"case": "a", LABEL: path, SOFT: npz})
        shapes = "shape (3, 1, 4, 5) of 'probabilities' where its mask asks for (3, 1, 5, 4)"
        assert case["note"] == f"{npz}: {shapes}: the mask itself is scored"
        assert SOFT not in case and case[LABEL].shape == (1, 4, 5)
