"""Images of a folder that is ranked by itself: read where they tell the masks, and without harm where they do not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gnsm_monai.files import load_arrays
from gnsm_monai.folder.consensus import Consensus
from gnsm_monai.folder.images import MIN_READ, why_not_used, with_images
from gnsm_monai.folder.ranking import NOT_WITH_REFERENCES
from gnsm_monai.folder.reading import read_masks
from gnsm_monai.records import load_record, save_record
from gnsm_monai.report.earlier import LEARNT
from tests.folder.masks import write
from tests.folder.test_ranking import ball, rank, rows
from tests.folder.test_resuming import Decodings

NUMBER = 14
FILES = ("ranking.csv", "structures.csv", "slices.csv", "results.json")
BESIDE = "c03"
"""A mask of usual form in a usual place, but two voxels beside what its image shows."""


def moved(seed: int) -> np.ndarray:
    """Balls whose places differ more than their sizes: place alone tells little."""
    rng = np.random.default_rng(seed)
    return ball(rng.normal((10, 11, 9), 1.5), rng.normal(6, 0.4))


def image(mask: np.ndarray, seed: int) -> np.ndarray:
    """Structures of other brightness than the rest, and noise."""
    return (mask * 2.0 + np.random.default_rng(seed).normal(0, 0.5, mask.shape)).astype(np.float32)


def score(output: Path, case: str) -> float:
    return next(float(row["anomaly_score"]) for row in rows(output) if row["case"] == case)


def message(output: Path, case: str) -> str:
    return next(row["message"] for row in rows(output) if row["case"] == case)


def said(output: Path) -> Mapping[str, Any]:
    content: Mapping[str, Any] = json.loads((output / "results.json").read_text())["folder_itself"]["images"]
    return content


@pytest.fixture(scope="module")
def folder(few_trees: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Masks, their images, images of noise; and rankings of them: ``alone``, ``read`` and ``unread``."""
    where = tmp_path_factory.mktemp("images")
    sound = {f"c{i:02d}": moved(i) for i in range(NUMBER)}
    write(where / "masks", {**sound, BESIDE: np.roll(sound[BESIDE], (-2, 2), (0, 1))})
    write(where / "images", {f"{name}_0000": image(mask, i) for i, (name, mask) in enumerate(sound.items())})
    noise = np.random.default_rng(0)
    write(where / "noise", {f"{name}_0000": noise.normal(size=mask.shape) for name, mask in sound.items()})
    assert rank(where / "alone", where / "masks") == 0
    assert rank(where / "read", where / "masks", "--images", where / "images") == 0
    assert rank(where / "unread", where / "masks", "--images", where / "noise") == 0
    return where


def test_a_folder_of_masks_is_no_folder_of_their_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With a model such a folder is refused as well: a mask is never its own image."""
    write(tmp_path / "masks", {f"c{i}_seg": moved(i) for i in range(3)})
    with pytest.raises(SystemExit, match=r"^2$"):
        rank(tmp_path / "results", tmp_path / "masks", "--images", tmp_path / "masks")
    assert "no image of any mask: a mask is called 'c0_seg', and here is nothing" in capsys.readouterr().err


def test_a_plausible_mask_beside_what_its_image_shows_comes_to_the_front(folder: Path) -> None:
    places = [[row["case"] for row in rows(folder / name)].index(BESIDE) for name in ("alone", "read")]
    assert places[0] >= 4 and places[1] <= 1
    assert said(folder / "read")["used"] is True and said(folder / "read")["read"] == NUMBER


def test_images_of_noise_change_nothing_and_one_line_says_so(folder: Path) -> None:
    for name in ("ranking.csv", "structures.csv", "slices.csv"):
        assert (folder / "unread" / name).read_bytes() == (folder / "alone" / name).read_bytes()
    images = said(folder / "unread")
    assert images["used"] is False and images["p_value"] > 0.01
    assert images["text"].startswith("Images are shown and have no part in the scores: they tell held-out masks hardly")


@pytest.mark.parametrize(
    ("gain", "p_value", "words"),
    [
        (0.04, 0.001, "hardly better than place alone (4% less squared error, p = 0.001)"),
        (-0.2, 0.9, "hardly better than place alone (0% less"),
        (0.35, 0.012, "told with 35% less squared error, and 8 cases are too few to be sure"),
        (0.0, None, "8 case(s) have one that can be read, and it takes 7"),
    ],
)
def test_images_that_are_not_used_are_said_to_help_little_only_where_they_do(
    gain: float, p_value: float | None, words: str
) -> None:
    assert words in why_not_used(8, gain, p_value)


def test_one_picture_in_the_place_of_all_images_is_not_used(folder: Path, tmp_path: Path) -> None:
    """It tells every place from every other one, and nothing of a case."""
    noise = np.random.default_rng(0).normal(size=(20, 22, 18)).astype(np.float32)
    images = write(tmp_path / "images", {f"c{i:02d}_0000": noise for i in range(NUMBER)})
    masks = read_masks([folder / "masks"], images_dir=images)
    groups = [mask.name for mask in masks.masks]
    assert not with_images(Consensus.of(masks.one_hot, groups), masks, groups, 0).said["used"]


def test_the_report_the_board_and_the_summary_say_that_images_were_read(folder: Path) -> None:
    text = said(folder / "read")["text"]
    assert text.startswith("Images are read: half of each score") and text in (folder / "read/report.html").read_text()
    reports = {name: " ".join((folder / name / "report.html").read_text().split()) for name in ("read", "alone")}
    assert "the other masks let expect, and what is read in its image, a mask is" in reports["read"]
    assert "unlike what the other masks let expect a mask is" in reports["alone"]
    settings = json.loads((folder / "read" / "summary.json").read_text())["settings"]
    assert settings["folder_itself"]["images"]["text"] == text and "read in the image" in settings["anomaly_score"]
    board = EventAccumulator(str(folder / "read" / "tensorboard"))
    board.Reload()
    stored = board.Tensors("learnt_from_the_folder_itself/text_summary")[0].tensor_proto.string_val[0].decode()
    assert text in stored
    assert json.loads((folder / "alone" / "results.json").read_text())["folder_itself"]["images"] is None


def test_an_image_that_is_missing_damaged_or_of_another_part_costs_its_own_use(folder: Path, tmp_path: Path) -> None:
    sound = {f"c{i:02d}": moved(i) for i in range(NUMBER)}
    images = write(tmp_path / "images", {f"{n}_0000": image(m, i) for i, (n, m) in enumerate(sound.items())})
    (images / "c01_0000.nii.gz").unlink()
    (images / "c02_0000.nii.gz").write_bytes(b"no image")
    write(images, {"c04_0000": np.zeros((5, 5, 5), dtype=np.float32)})
    write(images, {"c05_0000": np.full((20, 22, 18), np.nan, dtype=np.float32)})
    assert rank(tmp_path / "out", folder / "masks", "--images", images) == 0
    assert BESIDE in [row["case"] for row in rows(tmp_path / "out")[:2]] and len(rows(tmp_path / "out")) == NUMBER
    assert said(tmp_path / "out")["read"] == NUMBER - 4
    assert f"The images of 4 of {NUMBER} masks could not be used" in said(tmp_path / "out")["text"]
    assert "no image for case 'c01'" in message(tmp_path / "out", "c01")
    for case in ("c02", "c04", "c05"):
        assert message(tmp_path / "out", case).count("its image was not used: ") == 1, case
        assert f"{case}_0000.nii.gz" in message(tmp_path / "out", case)
    # Those without an image lie among the others, in the order of their scores by the masks.
    without = ["c01", "c02", "c04", "c05"]
    alone = sorted(without, key=lambda case: score(folder / "alone", case))
    assert alone == sorted(without, key=lambda case: score(tmp_path / "out", case))


def test_a_folder_without_any_image_of_its_masks_is_a_mistake(folder: Path, tmp_path: Path, capsys: Any) -> None:
    other = write(tmp_path / "other", {"x1_0000": image(moved(0), 0)})
    with pytest.raises(SystemExit):
        rank(tmp_path / "out", folder / "masks", "--images", other)
    assert "no image of any mask" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_few_images_are_shown_and_not_read(folder: Path, tmp_path: Path) -> None:
    masks = write(tmp_path / "masks", {f"c{i:02d}": moved(i) for i in range(MIN_READ - 1)})
    assert rank(tmp_path / "out", masks, "--images", folder / "images") == 0
    assert rank(tmp_path / "alone", masks) == 0
    assert said(tmp_path / "out")["p_value"] is None
    assert f"{MIN_READ - 1} case(s) have one that can be read" in said(tmp_path / "out")["text"]
    assert (tmp_path / "out/ranking.csv").read_bytes() == (tmp_path / "alone/ranking.csv").read_bytes()


def test_references_beside_the_masks_count_instead_of_images(folder: Path, tmp_path: Path) -> None:
    few = write(tmp_path / "few", {f"r{i}": moved(50 + i) for i in range(3)})
    masks = write(tmp_path / "masks", {f"c{i:02d}": moved(i) for i in range(4)})
    given = [masks, "--few-references", few, "--images", folder / "images"]
    assert rank(tmp_path / "out", *given) == 0
    assert (said(tmp_path / "out")["text"], said(tmp_path / "out")["used"]) == (NOT_WITH_REFERENCES, False)


def test_a_run_that_is_killed_while_it_reads_images_goes_on_to_the_same_files(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = [folder / "masks", "--images", folder / "images"]
    decodings = Decodings(monkeypatch)
    for last in (NUMBER + 5, 1 + 9 + 5):  # while voxels are sampled; and while images are read by what was learnt
        decodings.number, decodings.last = 0, last
        assert rank(tmp_path / "out", *given) == 130
    decodings.number, decodings.last = 0, 1 << 30
    assert rank(tmp_path / "out", *given) == 0
    assert decodings.number < 4 * NUMBER - NUMBER - 10  # masks, voxels, reading, pictures: four times all
    for name in FILES:
        assert (tmp_path / "out" / name).read_bytes() == (folder / "read" / name).read_bytes(), name


def test_later_masks_are_read_by_what_the_first_ones_taught(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    assert rank(output, folder / "masks", "--images", folder / "images") == 0
    assert all(values.dtype.kind in "biufU" for values in load_arrays(output / LEARNT).values())
    before = {row["case"]: row["anomaly_score"] for row in rows(output)}
    new = {"n1": moved(31), "n2": np.roll(moved(32), (-2, 2), (0, 1)), "n3": moved(33)}
    folders = [write(tmp_path / "new", new), write(tmp_path / "deep", {"c05": moved(5)})]
    shown = {"n1": moved(31), "n2": moved(32), "c05": moved(5)}
    images = write(tmp_path / "images", {f"{n}_0000": image(m, int(n[1:])) for n, m in shown.items()})
    assert rank(output, *folders, "--images", images, "--add") == 0
    after = {row["case"]: row["anomaly_score"] for row in rows(output)}
    assert {case: after[case] for case in before} == before
    assert after["deep/c05"] == before["c05"]  # none of the models of its fold has seen it
    assert float(after["new/n2"]) > 2 * float(after["new/n1"])
    assert "no image for case 'n3'" in message(output, "new/n3")


def test_damage_to_what_later_images_are_read_by_is_one_line(folder: Path, tmp_path: Path, capsys: Any) -> None:
    output = tmp_path / "out"
    output.mkdir()
    record = load_record(folder / "read" / LEARNT)
    record["images"]["cells"] = record["images"]["cells"][:-1]
    save_record(output / LEARNT, record)
    with pytest.raises(SystemExit, match="2"):
        rank(output, folder / "masks", "--add")
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert LEARNT in line and "voxels that do not fit the masks" in line


@pytest.mark.parametrize("number", [1, 2])
def test_one_or_two_masks_with_images_are_refused_in_one_line(
    folder: Path, tmp_path: Path, number: int, capsys: pytest.CaptureFixture[str]
) -> None:
    masks = write(tmp_path / "masks", {f"c{i:02d}": moved(i) for i in range(number)})
    with pytest.raises(SystemExit, match="2"):
        rank(tmp_path / "out", masks, "--images", folder / "images")
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "gnsm" in line or "case(s)" in line]
    assert f"masks of {number} case(s) can be read" in line and not (tmp_path / "out").exists()


def test_equal_masks_are_ranked_alike_whatever_their_images_show(folder: Path, tmp_path: Path) -> None:
    masks = write(tmp_path / "masks", {f"c{i:02d}": moved(0) for i in range(MIN_READ + 1)})
    assert rank(tmp_path / "out", masks, "--images", folder / "images") == 0
    scores = [float(row["anomaly_score"]) for row in rows(tmp_path / "out")]
    assert len(scores) == MIN_READ + 1 and max(scores) < 0.05


def test_an_empty_mask_is_the_worst_with_its_image_too(folder: Path, tmp_path: Path) -> None:
    empty = np.zeros((20, 22, 18), dtype=np.uint8)
    write(tmp_path / "masks", {**{f"c{i:02d}": moved(i) for i in range(NUMBER - 1)}, "c13": empty})
    assert rank(tmp_path / "out", tmp_path / "masks", "--images", folder / "images") == 0
    first = rows(tmp_path / "out")[0]
    assert said(tmp_path / "out")["used"] and (first["case"], float(first["anomaly_score"])) == ("c13", 1)
