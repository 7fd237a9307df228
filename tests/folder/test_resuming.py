"""A ranking without a model that is killed goes on: what was read stays read, and the result is the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gnsm_monai.data.loading import LoadMapsd
from gnsm_monai.scoring.journal import PROGRESS
from tests.folder.masks import write
from tests.folder.test_ranking import ball, rank, usual

FILES = ("ranking.csv", "structures.csv", "slices.csv", "levels.csv", "results.json")


class Decodings:
    """Counts the files that are decoded, and ends the process, as it were, at one of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.number, self.last, self.load = 0, 1 << 30, LoadMapsd.__call__
        monkeypatch.setattr(LoadMapsd, "__call__", lambda *given: self(*given))

    def __call__(self, loader: Any, case: Any) -> Any:
        if self.number == self.last:
            raise KeyboardInterrupt
        self.number += 1
        return self.load(loader, case)


def test_a_ranking_that_ends_while_it_reads_goes_on_to_the_same_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = {f"c{i}": usual(i) for i in range(8)}
    masks = [write(tmp_path / "masks", {**truth, "c3": ball((5, 5, 5), 3)})]
    given = [*masks, "--references", write(tmp_path / "references", truth)]
    assert rank(tmp_path / "whole", *given) == 0
    decodings = Decodings(monkeypatch)
    for last in (5, 6):  # among the masks; and, with three masks left, among the references
        decodings.number, decodings.last = 0, last
        assert rank(tmp_path / "out", *given) == 130
        assert (tmp_path / "out" / PROGRESS).is_dir() and not (tmp_path / "out" / "ranking.csv").exists()
    decodings.number, decodings.last = 0, 1 << 30
    assert rank(tmp_path / "out", *given) == 0
    assert decodings.number == 6  # of 16: five references, and the last mask, as in every complete journal
    for name in FILES:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    assert not (tmp_path / "out" / PROGRESS).exists()


def test_a_mask_that_has_changed_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    masks = write(tmp_path / "masks", {f"c{i}": usual(i) for i in range(6)})
    decodings = Decodings(monkeypatch)
    decodings.last = 4
    assert rank(tmp_path / "out", masks) == 130
    write(masks, {"c1": ball((5, 5, 5), 3)})
    decodings.last = 1 << 30
    assert rank(tmp_path / "out", masks) == 0
    assert rank(tmp_path / "whole", masks) == 0
    assert (tmp_path / "out" / "ranking.csv").read_bytes() == (tmp_path / "whole" / "ranking.csv").read_bytes()
    assert (tmp_path / "out" / "ranking.csv").read_text().splitlines()[1].startswith("1,c1,")


def test_a_mistake_leaves_nothing_behind(tmp_path: Path) -> None:
    masks = write(tmp_path / "masks", {f"c{i}": usual(i) for i in range(4)})
    (masks / "c7.nii.gz").write_bytes(b"no mask")
    with pytest.raises(SystemExit):
        rank(tmp_path / "out", masks, "--strict")
    assert not (tmp_path / "out").exists()
    np.testing.assert_array_equal(sorted(path.name for path in tmp_path.iterdir()), ["masks"])


def test_a_mistake_loses_nothing_that_an_earlier_run_has_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    masks = write(tmp_path / "masks", {f"c{i}": usual(i) for i in range(6)})
    decodings = Decodings(monkeypatch)
    decodings.last = 4
    assert rank(tmp_path / "out", masks) == 130
    decodings.last = 1 << 30
    with pytest.raises(SystemExit):
        rank(tmp_path / "out", masks, "--marks", tmp_path / "none.csv")
    with pytest.raises(SystemExit):
        rank(tmp_path / "out", tmp_path / "masks", tmp_path / "none")
    decodings.number = 0
    assert rank(tmp_path / "out", masks) == 0
    assert decodings.number == 2  # the masks that were left
