"""Labels that are shifted, swapped or mirrored, beside the truth that they were made from."""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.transforms import Compose, Orientationd

from gnsm_monai.cli_commands import rank, train
from gnsm_monai.data.class_index import ToClassIndexd
from gnsm_monai.data.loading import LoadMapsd
from gnsm_monai.data.nnunet import LabelScheme
from gnsm_monai.engines import Corrections
from gnsm_monai.engines.corrections import changed_values
from gnsm_monai.report.earlier import remove_earlier_results
from tests.builders import CHAIN, TINY, chain
from tests.results import case_result

AFFINE = np.array([[-1.0, 0, 0, 30], [0, 1, 0, -7], [0, 0, 1, 3], [0, 0, 0, 1]])
VALUES = np.array([0, *(5 * i for i in range(1, 10))])
"""Value in the files of each class."""


def write(path: Path, label: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(VALUES[label][..., None].astype(np.int16), AFFINE), path)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("chain")
    rng = np.random.default_rng(0)
    for i in range(60):
        write(folder / "data" / "labelsTr" / f"c{i:02d}.nii.gz", chain(rng))
    names = {"background": 0, **dict(zip([*CHAIN, "flank"], VALUES[1:].tolist(), strict=True))}
    content = {"labels": names, "numTraining": 60, "file_ending": ".nii.gz", "channel_names": {"0": "CT"}}
    (folder / "data" / "dataset.json").write_text(json.dumps(content))
    settings = {**TINY, "anomaly_score": "shape", "fit::shapes::steps": 0}
    train(folder / "model", dataset_dir=folder / "data", **settings)
    return folder / "model"


def shifted(step: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda label: np.where((label > 0) & (label < 9), label + step, label)


def swapped(label: np.ndarray) -> np.ndarray:
    table = np.arange(10)
    table[[4, 6]] = 6, 4
    return np.asarray(table[label])


WRONG: dict[str, tuple[Callable[[np.ndarray], np.ndarray], str]] = {
    "high": (shifted(1), "vertebra labels are one too high: vertebra_T"),
    "low": (shifted(-1), "vertebra labels are one too low: vertebra_T"),
    "swap": (swapped, "vertebra_T12 and vertebra_L2 are swapped"),
    "mirror": (lambda label: label[::-1], "mirrored from left to right"),
}


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "proposed" / "proposed.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("kind", WRONG)
def test_the_copy_of_a_mask_with_wrong_labels_is_the_truth(model: Path, tmp_path: Path, kind: str) -> None:
    damage, words = WRONG[kind]
    rng = np.random.default_rng(len(kind))
    truths = [chain(rng) for _ in range(9)]
    inner = [truth for truth in truths if set(range(3, 7)) <= set(np.unique(truth)) <= {0, 2, 3, 4, 5, 6, 7, 9}]
    for i, truth in enumerate(inner):
        write(tmp_path / "masks" / f"m{i}.nii.gz", damage(truth))
    before = {path.name: path.read_bytes() for path in (tmp_path / "masks").iterdir()}
    rank(tmp_path / "out", model, [tmp_path / "masks"], propose=True, device="cpu")
    rows = table(tmp_path / "out")
    assert len(inner) >= 3
    assert {row["file"] for row in rows} == set(before)
    for row in rows:
        truth = inner[int(row["case"][1:])]
        copy: Any = nib.load(tmp_path / "out" / "proposed" / row["file"])
        np.testing.assert_array_equal(np.asarray(copy.dataobj)[..., 0], VALUES[truth])
        assert copy.get_data_dtype() == np.int16
        np.testing.assert_array_equal(copy.affine, AFFINE)
        assert row["change"].startswith(words)
        assert float(row["anomaly_score_after"]) < float(row["anomaly_score_before"])
        assert float(row["p_value_after"]) >= float(row["p_value_before"])
    assert {path.name: path.read_bytes() for path in (tmp_path / "masks").iterdir()} == before
    again = tmp_path / "again"
    rank(again, model, [tmp_path / "out" / "proposed"], propose=True, device="cpu")  # the score of the file itself
    scores = {row["case"]: row["anomaly_score"] for row in csv.DictReader((again / "ranking.csv").open(newline=""))}
    assert scores == {row["case"]: row["anomaly_score_after"] for row in rows}
    assert table(again) == []
    rank(tmp_path / "out", model, [tmp_path / "masks"], device="cpu")  # copies of an earlier ranking
    assert not (tmp_path / "out" / "proposed").exists()


@pytest.mark.parametrize("layout", ["{}/{}.nii.gz", "{}/segmentations/{}.nii.gz", "{}/mri/aseg.mgz"])
def test_the_copy_of_a_case_lies_as_the_case_does(model: Path, tmp_path: Path, layout: str) -> None:
    """Names of files recur in every case's folder: one copy must not take the place of another."""
    rng = np.random.default_rng(4)
    truths = [chain(rng) for _ in range(12)]
    inner = [truth for truth in truths if set(range(3, 7)) <= set(np.unique(truth)) <= {0, 2, 3, 4, 5, 6, 7, 9}]
    names = [*CHAIN, "flank"]

    def lay_out(folder: Path, case: str, label: np.ndarray) -> None:
        for number, name in enumerate(names, start=1) if layout.count("{}") == 2 else [(0, "")]:
            path = folder / layout.format(case, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            values = (label == number).astype(np.uint8) if number else VALUES[label].astype(np.int32)
            image: Any = nib.Nifti1Image if number else nib.MGHImage
            nib.save(image(values[..., None], AFFINE), path)

    for i, truth in enumerate(inner):
        lay_out(tmp_path / "masks", f"m{i}", swapped(truth))
        lay_out(tmp_path / "truths", f"m{i}", truth)
    before = {path: path.read_bytes() for path in (tmp_path / "masks").rglob("*.*")}
    rank(tmp_path / "out", model, [tmp_path / "masks"], propose=True, device="cpu")
    copies = tmp_path / "out" / "proposed"
    assert sorted(row["case"] for row in table(tmp_path / "out")) == [f"m{i}" for i in range(len(inner))]
    assert len(inner) >= 2
    assert {path: path.read_bytes() for path in (tmp_path / "masks").rglob("*.*")} == before
    for truth in (tmp_path / "truths").rglob("*.*"):
        copy: Any = nib.load(copies / truth.relative_to(tmp_path / "truths"))
        np.testing.assert_array_equal(np.asarray(copy.dataobj), np.asarray(nib.load(truth).dataobj))
        np.testing.assert_array_equal(copy.affine, AFFINE)
    remove_earlier_results(tmp_path / "out", [], with_maps=False)
    assert not copies.exists()


@pytest.mark.parametrize("seed", range(3))
def test_right_masks_get_no_copy_however_many_are_suspect(model: Path, tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(100 + seed)
    for i in range(8):
        write(tmp_path / "masks" / f"m{i}.nii.gz", chain(rng))
    rank(tmp_path / "out", model, [tmp_path / "masks"], propose=True, device="cpu", alpha=0.9)
    flags = [row["flag"] for row in csv.DictReader((tmp_path / "out" / "ranking.csv").open(newline=""))]
    assert flags.count("1") >= 4
    assert table(tmp_path / "out") == []


def test_a_mask_keeps_its_rank_where_its_file_cannot_be_read_again(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "masks" / "m.nii.gz", chain(np.random.default_rng(0))[::-1])

    def torn(*_: Any) -> Any:
        raise OSError("torn")

    monkeypatch.setattr(Corrections, "_read", torn)
    assert rank(tmp_path / "out", model, [tmp_path / "masks"], propose=True, device="cpu") == 0
    rows = list(csv.DictReader((tmp_path / "out" / "ranking.csv").open(newline="")))
    assert [row["status"] for row in rows] == ["ok"]
    assert table(tmp_path / "out") == []


# ---- parts -----------------------------------------------------------------------------------------------------------

SCHEME = LabelScheme(("a", "b", "c"), (0, 7, 8, 3))


def asymmetric() -> np.ndarray:
    label = np.zeros((12, 10, 8), dtype=np.int64)
    label[2:4, 2:8, 2:6], label[5:7, 2:5, 2:6], label[7:9, 5:8, 1:3] = 1, 2, 3
    return label


def corrected(
    path: Path,
    mask: np.ndarray,
    truth: np.ndarray,
    affine: np.ndarray,
    values: tuple[int, ...] = SCHEME.values,
    **more: Any,
) -> tuple[Any, Any]:
    """What is found of a mask by a judge that knows the truth on the grid; and how often it was asked."""
    nib.save(nib.Nifti1Image(np.array(values)[mask].astype(np.uint8), affine), path)
    return judged(path, truth, **more)


def judged(path: Path, truth: np.ndarray, **more: Any) -> tuple[Any, Any]:
    """The same of a mask that lies in a file, or in a file per structure."""
    prior = np.stack([np.where(truth == c, 0.91, 0.03) for c in range(4)])
    network = SimpleNamespace(num_classes=4, position_size=truth.shape, log_prior=torch.from_numpy(np.log(prior)))
    settings = {"spatial_dims": 3}
    structures = {name: (c,) for c, name in enumerate(SCHEME.names, start=1)}
    calibration = SimpleNamespace(scores=np.linspace(0, 0.01, 40))
    model: Any = SimpleNamespace(
        network=SimpleNamespace(**{**vars(network), **more}), settings=settings, structures=structures,
        calibration=calibration, scheme=SCHEME,
    )  # fmt: skip
    preprocessing = Compose(
        [LoadMapsd(["label"], 3), ToClassIndexd(["label"], SCHEME, 3), Orientationd("label", "RAS", labels=None)]
    )
    case = {"case": "x", "label": path}
    asked = []

    def score(given: Any) -> Any:
        asked.append(given)
        wrong = float((given["label"].numpy()[0] != truth).mean())
        p_value = (1 + int((calibration.scores >= wrong).sum())) / 41
        return case_result("x", anomaly=wrong, p_value=p_value, flagged=p_value <= 0.05)

    first = preprocessing(case)
    found = Corrections(model, preprocessing, [case])(score(first), first, first["label"].numpy()[0], score)
    return found, len(asked) - 1


ORIENTATIONS = {
    "RAS": np.diag([1.0, 1, 1, 1]),
    "ILP": np.array([[0, -1.0, 0, 9], [0, 0, -1, 4], [-1, 0, 0, 2], [0, 0, 0, 1]]),
}


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("axis", range(3))
def test_a_mirror_image_is_turned_round_along_the_axis_of_its_file(tmp_path: Path, orientation: str, axis: int) -> None:
    affine, truth = ORIENTATIONS[orientation], asymmetric()
    world = nib.orientations.io_orientation(affine)
    file = nib.orientations.apply_orientation(truth, nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("RAS"), world))  # fmt: skip
    file_axis = int(np.flatnonzero(world[:, 0] == axis)[0])
    found, _ = corrected(tmp_path / "x.nii.gz", np.flip(file, file_axis), truth, affine)
    assert (found.correction.axis, found.correction.moves) == (file_axis, ())
    assert found.correction.decision.anomaly == 0
    assert "mirrored from" in found.reason


def test_symmetric_references_do_not_tell_a_mirror_image(tmp_path: Path) -> None:
    truth = np.zeros((12, 10, 8), dtype=np.int64)
    truth[2:10, 2:8, 2:6] = 1
    mask = truth.copy()
    mask[2, 2:6, 2:6] = 0  # on one side
    mask[9, 2:5, 2:6] = 2
    found, asked = corrected(tmp_path / "x.nii.gz", mask, truth, np.eye(4))
    assert found.decision.flagged
    assert found.correction is None
    assert asked == 0  # nothing agrees better with the references, so the network is spared


def test_without_places_a_cycle_is_found_by_the_denoised_version_alone(tmp_path: Path) -> None:
    truth = asymmetric()
    mask = np.array([0, 2, 3, 1])[truth]
    found, _ = corrected(tmp_path / "x.nii.gz", mask, truth, np.eye(4))
    assert found.correction.moves == ((7, 3), (8, 7), (3, 8))
    unplaced, _ = corrected(tmp_path / "y.nii.gz", mask, truth, np.eye(4), position_size=None)
    assert unplaced.correction is None  # the denoised version that is given here is the mask itself


def name_values(path: Path, names: dict[str, int]) -> None:
    """A table beside a mask that says what its numbers mean, as BIDS has it."""
    lines = [f"{number}\t{name}" for name, number in names.items()]
    path.with_name(f"{path.name.split('.')[0]}.tsv").write_text("\n".join(["index\tname", *lines, ""]))


def test_a_mask_of_another_numbering_is_changed_in_its_own_numbers(tmp_path: Path) -> None:
    truth = asymmetric()
    mask = np.array([0, 2, 3, 1])[truth]
    path = tmp_path / "x.nii.gz"
    name_values(path, {"c": 1, "a": 2, "b": 3})
    found, _ = corrected(path, mask, truth, np.eye(4), values=(0, 2, 3, 1))
    assert found.correction.moves == ((2, 1), (3, 2), (1, 3))
    changed = changed_values(np.array([0, 2, 3, 1])[mask], found.correction.moves, None)
    np.testing.assert_array_equal(changed, np.array([0, 2, 3, 1])[truth])


def test_wrong_names_of_a_file_per_structure_are_named(tmp_path: Path) -> None:
    truth = asymmetric()
    folder = tmp_path / "x"
    folder.mkdir()
    for name, value in {"b": 1, "a": 2, "c": 3}.items():
        nib.save(nib.Nifti1Image((truth == value).astype(np.uint8), np.eye(4)), folder / f"{name}.nii.gz")
    found, _ = judged(folder, truth)
    assert "a and b are swapped" in found.reason and found.correction.moves is not None


def test_a_number_that_the_file_gives_to_an_absent_structure_is_not_taken_for_the_models(tmp_path: Path) -> None:
    """In the model 3 is c; here it would be a tumour, of which there is none, and c has no number."""
    truth = asymmetric()
    truth[truth == 1] = 0
    mask = np.array([0, 0, 1, 2])[truth]  # b is called a, and c b
    path = tmp_path / "x.nii.gz"
    name_values(path, {"a": 7, "b": 8, "tumour": 3})
    found, _ = corrected(path, mask, truth, np.eye(4))
    assert found.correction is not None and found.correction.moves is None


def test_a_structure_without_a_number_in_the_file_is_named_but_not_written(tmp_path: Path) -> None:
    truth = asymmetric()
    truth[truth == 3] = 0
    mask = np.array([0, 3, 2])[truth]  # a is called c, and the file has no number for a
    path = tmp_path / "x.nii.gz"
    name_values(path, {"c": 1, "b": 3})
    found, _ = corrected(path, mask, truth, np.eye(4), values=(0, 2, 3, 1))
    assert "a is labelled c" in found.reason
    assert found.correction.moves is None


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_changed_values_have_the_type_of_the_file(dtype: type) -> None:
    values = np.array([[0, 7, 8], [3, 7, 0]], dtype=dtype)
    changed = changed_values(values, ((7, 8), (8, 7)), None)
    assert changed.dtype == dtype
    np.testing.assert_array_equal(changed, [[0, 8, 7], [3, 8, 0]])
    np.testing.assert_array_equal(changed_values(values, ((7, 8),), 1), [[8, 8, 0], [0, 8, 3]])


@pytest.fixture(autouse=True, scope="module")
def _quiet() -> Iterator[None]:
    log = logging.getLogger("gnsm_monai")
    before = log.level
    log.setLevel(logging.WARNING)
    yield
    log.setLevel(before)
