"""A few references beside a folder of masks: what they correct, and what p-values they allow."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gnsm_monai.cli import main
from gnsm_monai.folder.consensus import Consensus, frames_of
from gnsm_monai.folder.few_references import SHIFT, STRETCH, FewReferences, deformed, spread_of
from gnsm_monai.folder.judging import Fit
from gnsm_monai.folder.ranking import NO_P_VALUES
from tests.folder.masks import blob, usual_masks, write


def cut(mask: np.ndarray, rows: int) -> np.ndarray:
    """Without its first rows, beginning in the middle of the picture."""
    return mask & (np.arange(24) >= 6 + rows)[None, :, None]


def test_an_error_that_all_masks_share_is_seen_by_references_and_not_without() -> None:
    amounts = np.linspace(3, 8, 20).round().astype(int)
    masks = [cut(mask, amount) for mask, amount in zip(usual_masks(20), amounts, strict=True)]
    references = usual_masks(4, seed=9)
    grids = frames_of([*masks, *references])
    few = Consensus.of(masks, range(20), 0, grids, FewReferences.of(references, grids).fit())
    alone = Consensus.of(masks, range(20), 0, grids)
    assert np.corrcoef(few.scores, amounts)[0, 1] > 0.9
    assert few.scores.mean() > 2 * alone.scores.mean()  # all of them are wrong
    assert np.corrcoef(alone.scores, amounts)[0, 1] < 0.7


def test_p_values_are_ranks_among_references_that_were_not_learnt_from() -> None:
    references = usual_masks(11, seed=5)
    masks = [*usual_masks(6, seed=6), blob((6, 6), (3, 3)), np.zeros((2, 24, 28), dtype=bool)]
    grids = frames_of([*masks, *references])
    few = FewReferences.of(references, grids)
    consensus = Consensus.of(masks, range(8), 0, grids, few.fit())
    p_values = few.p_values(consensus)
    assert p_values[6] == p_values[7] == pytest.approx(1 / 12)
    assert np.median(p_values[:6]) > 0.25
    np.testing.assert_allclose(p_values * 12, np.round(p_values * 12))  # a number of references each


def test_references_of_a_patient_are_never_learnt_from_where_one_of_them_is_compared() -> None:
    """Of each patient two equal references; with its like among what is learnt from, a reference would score less."""
    once, masks = usual_masks(10, seed=5), usual_masks(6, seed=6)
    grids = frames_of([*masks, *once])
    twice = [mask for mask in once for _ in range(2)]
    patients = [f"p{n // 2}" for n in range(20)]
    seen: list[set[str]] = []

    class Watched(FewReferences):
        def fit(self, without: Sequence[int] = ()) -> Fit:
            seen.append({patients[i] for i in without} & {patients[i] for i in range(20) if i not in without})
            return super().fit(without)

    few = Watched.of(twice, grids, 0, patients)
    p_values = few.p_values(Consensus.of(masks, range(6), 0, grids, few.fit()))
    assert seen == [set()] * 6
    np.testing.assert_allclose((p_values * 21 - 1) % 2, 0)  # equal references are above a mask together


def test_good_masks_are_under_alpha_no_more_often_than_alpha_says() -> None:
    p_values = []
    for seed in range(6):
        everyone = usual_masks(19, seed=100 + seed)
        references, masks = everyone[:9], everyone[9:]
        grids = frames_of(everyone)
        few = FewReferences.of(references, grids, seed)
        p_values.append(few.p_values(Consensus.of(masks, range(10), seed, grids, few.fit()), seed))
    share = (np.concatenate(p_values)[:, None] <= [0.1, 0.2, 0.5]).mean(0)
    # 60 masks of exchangeable references: three standard errors above what is expected.
    assert (share <= np.array([0.1, 0.2, 0.5]) + 3 * np.sqrt([0.09 / 60, 0.16 / 60, 0.25 / 60])).all()


def test_fewer_than_eight_references_give_no_p_value() -> None:
    references, masks = usual_masks(7, seed=1), usual_masks(4)
    grids = frames_of([*masks, *references])
    few = FewReferences.of(references, grids)
    assert np.isnan(few.p_values(Consensus.of(masks, range(4), 0, grids, few.fit()))).all()


def test_copies_are_near_their_mask_and_differ() -> None:
    mask = usual_masks(1)[0]
    copies = deformed(mask, np.random.default_rng(0))
    overlaps = [2 * np.minimum(copy, mask).sum() / (copy.sum() + mask.sum()) for copy in copies]
    assert min(overlaps) > 0.7 and max(overlaps) < 0.999
    assert all(copy.min() >= 0 and copy.max() <= 1 for copy in copies)
    np.testing.assert_array_equal(copies[0], deformed(mask, np.random.default_rng(0))[0])
    nothing = np.zeros((1, 4, 4))
    assert not np.any(deformed(nothing, np.random.default_rng(0)))


def test_copies_vary_as_much_as_the_references_do() -> None:
    row, column = np.indices((40, 40))
    boxes = [((abs(row - 20) <= a) & (abs(column - 20) <= a))[None] for a in (4, 8, 16)]
    deviations = [np.sqrt(((2 * a + 1) ** 2 - 1) / 12) + 0.5 for a in (4, 8, 16)]  # of integers that are equally likely
    places = [0.5 / (2 * a + 1) for a in (4, 8, 16)]
    spread = spread_of(boxes)
    np.testing.assert_allclose(spread, [np.std(np.log(deviations), ddof=1), np.std(places, ddof=1)])
    assert spread_of(boxes[:1]) == (STRETCH, SHIFT) == spread_of([boxes[0], np.zeros_like(boxes[0])])
    same = deformed(boxes[1], np.random.default_rng(0), (0.0, 0.0), 2)
    np.testing.assert_array_equal(same[1], boxes[1])


def rank(tmp_path: Path, *words: Any) -> list[dict[str, str]]:
    main(["rank", "--output", str(tmp_path / "out"), "--predictions", str(tmp_path / "masks"), *map(str, words)])
    with open(tmp_path / "out" / "ranking.csv", newline="") as table:
        return list(csv.DictReader(table))


def labels(masks: list[np.ndarray]) -> dict[str, np.ndarray]:
    return {f"c{i}": (mask[0] + 2 * mask[1]).astype(np.uint8)[..., None] for i, mask in enumerate(masks)}


@pytest.mark.parametrize("number", [3, 8])
def test_the_command_says_what_its_references_allow(tmp_path: Path, number: int) -> None:
    write(tmp_path / "masks", labels([*usual_masks(4), blob((6, 6), (3, 3))]))
    write(tmp_path / "few", labels(usual_masks(number, seed=1)))
    table = rank(tmp_path, "--few-references", tmp_path / "few")
    assert table[0]["case"] == "c4"
    assert [row["p_value"] != "" for row in table] == [number == 8] * 5
    limits = json.loads((tmp_path / "out" / "summary.json").read_text())["settings"]["folder_itself"]["limits"]
    assert f"Learnt from {number} references" in limits
    assert (NO_P_VALUES.format(0.25) in limits) == (number == 3)
    report = " ".join((tmp_path / "out" / "report.html").read_text().split())
    assert "unlike what the references and the other masks let expect a mask is" in report


def test_copies_of_a_reference_add_nothing_and_make_no_p_values(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Eight files would give p-values; a copy in another fold would make each of them the lowest."""
    write(tmp_path / "masks", labels(usual_masks(4)))
    references = labels(usual_masks(5, seed=1))
    write(tmp_path / "few", references)
    table = rank(tmp_path, "--few-references", tmp_path / "few")
    write(tmp_path / "few", {f"copy{i}": references["c0"] for i in range(4)})
    assert rank(tmp_path, "--few-references", tmp_path / "few") == table
    assert "references that are a copy of another one and do not count: 4" in caplog.text
    write(tmp_path / "copies", {f"copy{i}": references["c0"] for i in range(4)})
    with pytest.raises(SystemExit):
        rank(tmp_path, "--few-references", tmp_path / "copies")


def test_too_few_references_and_references_of_other_labels_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "masks", labels(usual_masks(4)))
    write(tmp_path / "few", labels(usual_masks(2, seed=1)))
    with pytest.raises(SystemExit):
        rank(tmp_path, "--few-references", tmp_path / "few")
    assert "2 reference(s): 3 different ones are needed at least" in capsys.readouterr().err
    write(tmp_path / "other", {name: 5 * values for name, values in labels(usual_masks(3)).items()})
    with pytest.raises(SystemExit):
        rank(tmp_path, "--few-references", tmp_path / "other")
    assert str(tmp_path / "other") in capsys.readouterr().err
    with pytest.raises(SystemExit):
        rank(tmp_path, "--few-references", tmp_path / "few", "--model", tmp_path)
    assert "--few-references: is for a ranking without --model" in capsys.readouterr().err
