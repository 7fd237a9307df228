"""Benchmarks of whole cohorts, large masks and where the time goes, small."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import cohort
import numpy as np
import pytest
import shape_cells
import time_shares
import torch
import volumes

from gnsm_monai.data.phantoms import write_phantom_dataset


def test_a_cohort_is_as_many_links_as_asked_for(tmp_path: Path) -> None:
    for folder, names in (("a", ["x", "y"]), ("b", ["z"])):
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / f"{name}.nii.gz").write_text(name)
    folders = [tmp_path / "a", tmp_path / "b"]
    cohort.cohort(folders, tmp_path / "many", 7)
    found = sorted(cohort.cohort(folders, tmp_path / "many", 5).iterdir())
    assert [path.name for path in found] == [f"case_0000{n}.nii.gz" for n in range(5)]
    assert [path.read_text() for path in found] == ["x", "y", "z", "x", "y"]


def test_the_cohorts_page_has_its_ratios() -> None:
    taken = {"wall": 115.0, "scoring": 100.0, "network": 50.0}
    shared = {"masks": 40, "one": 18.0, "two": 10.0, "identical": True}
    text = "\n".join(cohort.lines({"count": 1000, "workers": {"1": taken}, "shared": shared}))
    assert "| 1 | 115 s | 100 s | 50 s | 115 ms | 1.150 | 2.30 |" in text
    assert "**1.80 times**" in text and "ranking.csv is the same" in text
    differing = cohort.lines({"count": 9, "workers": {}, "shared": {**shared, "identical": False}})
    assert "DIFFERS" in differing[-1]


@pytest.mark.parametrize("size", [16, 32])
def test_a_body_is_the_same_place_whatever_its_voxels(size: int) -> None:
    label, affine = volumes.body(size, 5, seed=3)
    assert label.shape == (size, size, size * 400 // 512)
    assert set(np.unique(label)) == set(range(5))
    np.testing.assert_allclose(np.abs(affine[:3, :3]).sum(0) * label.shape, volumes.EXTENT, rtol=0.03)
    other, _ = volumes.body(size, 5, seed=4)
    assert 0.5 < (label == other)[(label > 0) | (other > 0)].mean() < 1
    volume = (label > 0).mean()
    assert volume == pytest.approx(4 / 3 * np.pi * 0.4**3, rel=0.25)


def test_a_process_is_measured_and_its_failure_is_none() -> None:
    """Beside what it holds, whatever the process that asks has held itself."""
    large = "import numpy as np; a = np.ones(100_000_000, dtype=np.float64)"
    small, more = (volumes.watched([sys.executable, "-c", code])["gib"] for code in ("pass", large))
    assert small < 0.2 and more > 0.745
    with pytest.raises(Exception, match="exit status 3"):
        volumes.watched([sys.executable, "-c", "raise SystemExit(3)"])


def test_the_page_of_volumes_compares_with_the_rival_where_it_ran() -> None:
    row: dict[str, Any] = {"classes": 3, "shape": [64, 64, 50], "one_hot_gib": 0.0023}
    row |= {"rank": {"seconds": 10.0, "gib": 0.5}, "maps": {"seconds": 12.0, "gib": 0.6}, "command": "python v.py"}
    lines = volumes.lines({"rows": [{**row, "rival": {"seconds": 25.0, "gib": 0.7}}, {**row, "rival": None}]})
    start = "| 3 | 64 x 64 x 50 | 0.00 GiB | 0.50 GiB | 10.0 s | 0.60 GiB | 12.0 s |"
    assert f"{start} 0.70 GiB | 25.0 s | 2.5 |" in lines
    assert f"{start} – | – | – |" in lines and "`python v.py`  " in lines


def test_rows_of_several_sittings_make_one_page() -> None:
    content: dict[str, Any] = {}
    row: dict[str, Any] = {"shape": [64, 64, 50], "one_hot_gib": 0.0023, "rival": None}
    row |= {"rank": {"seconds": 10.0, "gib": 0.5}, "maps": {"seconds": 12.0, "gib": 0.6}}
    for classes, command in ((25, "first"), (3, "second"), (25, "third")):
        content = volumes.with_row(content, {**row, "classes": classes, "command": command})
    lines = volumes.lines(content)
    assert [line for line in lines if line.startswith("`")] == ["`second`  ", "`third`  "]
    assert [line[:5] for line in lines if " 64 x 64 " in line] == ["| 3 |", "| 25 "]


def test_time_is_shared_out_to_operations() -> None:
    a = torch.randn(200, 200)
    found = time_shares.operations(lambda: a @ a)
    assert found["longest"][0][0] == "aten::mm"
    assert sum(share for _, _, share in found["longest"]) == pytest.approx(1)
    assert sum(ms for _, ms, _ in found["longest"]) == pytest.approx(found["ms"])


def test_what_stands_in_for_a_kernel_gives_the_same() -> None:
    rows = time_shares.kernels([8, 8, 8], 1)
    assert len(rows) == 5
    assert all(row[-1] < 1e-4 for row in rows[:-1])


def test_shapes_by_cells_are_compared_with_those_by_voxels(tmp_path: Path) -> None:
    dataset = write_phantom_dataset(tmp_path, spatial_dims=2, num_train=12, num_test=1)
    options = argparse.Namespace(command="", dataset=dataset, spatial_dims=2, steps=[20, 30])
    *_, content = shape_cells.measure(options, {})
    assert [(row["cell"], row["steps"]) for row in content["rows"]] == [([1, 1], 20), ([2, 2], 20), ([2, 2], 30)]
    assert all(0 < row["disagreement"] < 1 and -1 <= row["spearman"] <= 1 for row in content["rows"])
    first, second = content["rows"][0]["seconds"], content["rows"][1]["seconds"]
    (line,) = (line for line in shape_cells.lines(content) if "| 2x2 | 20 |" in line)
    assert line.split(" | ")[3] == f"{first / second:.1f}"
