"""The page of detection quality, from synthetic scores whose figures scipy and scikit-learn know."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import qc_page
import qc_sections
import segmentation_qc
from methods import METHODS
from scipy import stats
from scores import METRICS, Scores, load_all, mean_with_interval, path_of
from sklearn.metrics import roc_auc_score

from gnsm_monai.evaluation.summary import correlation_summary

CASES, FOLDERS = 12, ("early", "late")


def make(method: str, seed: int, noise: float, dataset: str = "hippocampus", more: dict | None = None) -> Scores:
    """Two folders of the same patients; the score is 1 - Dice and noise."""
    rng = np.random.default_rng([seed, len(method), len(dataset)])
    dice = np.random.default_rng(0).uniform(0.3, 0.95, 2 * CASES)
    folder = np.repeat(FOLDERS, CASES)
    case = np.tile([f"case_{n:02d}" for n in range(CASES)], 2)
    score = 1 - dice + noise * rng.standard_normal(2 * CASES)
    return Scores(dataset, method, seed, folder, case, dice, score, 12.5 + seed, 0.25, more or {})


def row_of(lines: list[str], title: str, after: str = "") -> list[str]:
    """Cells of the first row with a title, below the first line that holds a text."""
    start = next(n for n, line in enumerate(lines) if after in line)
    line = next(line for line in lines[start:] if line.startswith(f"| {title} |"))
    return [text.strip() for text in line.strip("|").split("|")]


def test_scores_come_back_from_their_file_to_six_digits(tmp_path: Path) -> None:
    scores = make("gnsm", 1, 0.1, more={"maps": {"all": {"auprc": float("nan")}}})
    scores.save(tmp_path)
    path = path_of(tmp_path, "hippocampus", "gnsm", 1)
    assert path.stat().st_size < 45 * len(scores.score) + 300
    (found,) = load_all(tmp_path, "hippocampus")["gnsm"]
    np.testing.assert_allclose(found.score, scores.score, rtol=5e-6)
    np.testing.assert_array_equal(found.folder, scores.folder)
    np.testing.assert_array_equal(found.case, scores.case)
    assert (found.seed, found.training_minutes, found.more) == (1, 13.5, {"maps": {"all": {"auprc": None}}})


def test_metrics_are_those_of_scipy_and_scikit_learn() -> None:
    scores = make("gnsm", 0, 0.2)
    values = {name: metric(scores.score, scores.dice) for name, metric in METRICS.items()}
    assert values["Spearman"] == pytest.approx(stats.spearmanr(scores.score, scores.dice).statistic)
    assert values["Pearson"] == pytest.approx(stats.pearsonr(scores.score, scores.dice).statistic)
    assert values["AUROC (Dice < 0.7)"] == pytest.approx(roc_auc_score(scores.dice < 0.7, scores.score))
    best = METRICS["AURC left"](-scores.dice, scores.dice)
    assert best == pytest.approx(0, abs=1e-12)
    assert best < values["AURC left"] < 1


def test_interval_of_one_seed_is_that_of_the_package_and_of_several_that_of_their_mean() -> None:
    seeds = [make("gnsm", seed, 0.3) for seed in range(3)]
    ours = mean_with_interval(seeds[:1], ["Spearman", "Pearson"], n_bootstrap=50)
    package = correlation_summary(seeds[0].score, seeds[0].dice, n_bootstrap=50, groups=seeds[0].case)
    for name in ("Spearman", "Pearson"):
        assert ours[name]["value"] == pytest.approx(package[name.lower()]["value"])
        assert ours[name]["ci95"] == pytest.approx(package[name.lower()]["ci95"])
    several = mean_with_interval(seeds, ["Spearman"], n_bootstrap=50)["Spearman"]
    expected = [stats.spearmanr(s.score, s.dice).statistic for s in seeds]
    assert several["seeds"] == pytest.approx(expected)
    assert several["value"] == pytest.approx(np.mean(expected))
    low, high = several["ci95"]
    assert low < several["value"] < high
    with pytest.raises(ValueError, match=r"^hippocampus, gnsm: seeds 0 and 1 differ in masks$"):
        mean_with_interval([seeds[0], seeds[1].in_folder("early")])


def test_undefined_metrics_are_a_dash() -> None:
    scores = make("gnsm", 0, 0.1)
    scores.dice = np.clip(scores.dice, 0.75, None)
    found = mean_with_interval([scores], n_bootstrap=5)
    assert found["AUROC (Dice < 0.7)"]["value"] is None
    assert qc_page.cell(found["AUROC (Dice < 0.7)"]) == "–"


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pages")
    root = folder / "segmentation_qc"
    maps = {
        "all": {"auprc": 0.5, "auprc_per_mask": 0.6, "error_share": 0.1, "pointing_rate": 0.8, "pointing_chance": 0.1}
    }
    maps["all"]["pointed"] = 9
    levels = [{"level": "mean", "statistic": "misfit", "spearman": -0.7, "pearson": -0.8}]
    weights = [{"name": "equal", "per_level": [1.0], "references": -0.9, "spearman": -0.8, "pearson": -0.85}]
    structures = {"all": {"anterior": {"spearman": -0.75, "pearson": -0.7}}}
    more = {"maps": maps, "levels": levels, "weights": weights, "structures": structures, "rules": []}
    for seed in range(2):
        make("gnsm", seed, 0.05, more=more).save(root)
    make("voxelwise_prior", 0, 0.2).save(root)
    make("volume", 0, 2.0).save(root)
    make("entropy", 0, 0.1).in_folder("late").save(root)
    varied = make("gnsm", 0, 0.5, "hippocampus_fov")
    varied.more["skipped"] = 3
    varied.select(varied.case != "case_00").save(root)
    segmentation_qc.BENCHMARK.run(["--page"], folder)
    return folder


def test_page_has_the_means_over_seeds_beside_the_rivals(pages: Path) -> None:
    lines = (pages / "segmentation_qc.md").read_text().splitlines()
    assert lines[2].startswith("`python scripts/benchmarks/segmentation_qc.py")
    seeds = [make("gnsm", seed, 0.05) for seed in range(2)]
    each = [stats.spearmanr(s.score, s.dice).statistic for s in seeds]
    assert row_of(lines, "gnsm")[1:3] == ["mask", "24"]
    assert row_of(lines, "gnsm")[3].startswith(f"{np.mean(each):.3f} [")
    assert row_of(lines, "gnsm", "Seeds:")[1] == " ".join(f"{value:.3f}" for value in each)
    late = [stats.spearmanr(s.in_folder("late").score, s.in_folder("late").dice).statistic for s in seeds]
    assert row_of(lines, "gnsm", "Spearman per folder")[2] == f"{np.mean(late):.3f}"
    assert row_of(lines, "softmax entropy", "Spearman per folder")[1] == "–"
    assert row_of(lines, "softmax entropy")[2] == "12"


def test_page_tells_what_the_field_of_view_costs_on_common_masks(pages: Path) -> None:
    lines = (pages / "segmentation_qc.md").read_text().splitlines()
    before, after = make("gnsm", 0, 0.05), make("gnsm", 0, 0.5, "hippocampus_fov")
    kept = before.case != "case_00"
    values = [stats.spearmanr(s.score[kept], s.dice[kept]).statistic for s in (before, after)]
    expected = ["gnsm", "1", "22", *(f"{v:.3f}" for v in (*values, values[1] - values[0]))]
    assert row_of(lines, "gnsm", "What a varying field of view costs") == expected
    assert any("is in the field of view: 3 cases." in line for line in lines)


def test_page_has_maps_ablation_times_and_figures(pages: Path) -> None:
    lines = (pages / "segmentation_qc.md").read_text().splitlines()
    assert row_of(lines, "all", "Maps and structures")[1:] == ["gnsm", "0.500", "0.600", "0.100", "0.800", "0.100", "9"]
    assert row_of(lines, "gnsm", "Spearman of a structure's")[1:] == ["all", "-0.750"]
    assert row_of(lines, "mean", "each piece")[1] == "-0.700 / -0.800"
    assert row_of(lines, "equal", "each piece")[1:] == ["-0.900", "-0.800", "-0.850"]
    assert row_of(lines, "hippocampus", "## Time")[1:] == ["gnsm", "13.0", "13.5", "0.25"]
    pictures = [line.split("(")[1].rstrip(")") for line in lines if line.startswith("![")]
    assert len(pictures) == 3  # without a rival in the varied field of view there is no scatter plot
    for name in pictures:
        assert (pages / name).read_bytes().startswith(b"\x89PNG")
        assert (pages / name).stat().st_size < 120_000


def test_page_tells_how_trainings_agree_and_what_their_mean_is_worth(pages: Path) -> None:
    lines = (pages / "segmentation_qc.md").read_text().splitlines()
    a, b = (make("gnsm", seed, 0.05).in_folder("early") for seed in range(2))
    between = stats.spearmanr(a.score, b.score).statistic
    single = np.mean([stats.spearmanr(s.score, s.dice).statistic for s in (a, b)])
    together = stats.spearmanr(stats.rankdata(a.score) + stats.rankdata(b.score), a.dice).statistic
    expected = ["hippocampus", "gnsm", "early", "2", *(f"{value:.3f}" for value in (between, single, together))]
    assert row_of(lines, "hippocampus", "How trainings agree") == expected


def test_variants_stand_in_tables_and_not_in_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []
    monkeypatch.setattr(qc_page, "risk_coverage", lambda path, curves: drawn.extend(curves))
    tried = next(name for name, method in METHODS.items() if method.variant)
    methods = {name: [make(name, 0, 0.1)] for name in ("gnsm_image", tried, "volume")}
    qc_page.draw_figures({"hippocampus": methods}, tmp_path)
    lines = qc_page.dataset_section("hippocampus", methods)
    assert drawn == [METHODS["gnsm_image"].title, METHODS["volume"].title]
    assert row_of(lines, METHODS[tried].title)[2] == str(2 * CASES)


def test_best_rival_is_the_mask_only_one_with_the_lowest_spearman() -> None:
    noise = {"gnsm": 0.01, "gnsm_published": 0.01, "entropy": 0.02, "voxelwise_prior": 0.2, "volume": 2.0}
    assert qc_sections.best_rival({m: [make(m, 0, n)] for m, n in noise.items()}) == "voxelwise_prior"
    assert qc_sections.best_rival({"gnsm": [make("gnsm", 0, 0.1)]}) is None


def test_what_draws_nothing_has_one_seed_and_the_published_noise_unless_asked() -> None:
    assert segmentation_qc.seeds_of("voxelwise_prior", [3, 4]) == (0,)
    assert segmentation_qc.seeds_of("gnsm", None) == (0, 1, 2)
    assert segmentation_qc.seeds_of("gnsm", [4]) == (4,)
    assert segmentation_qc.seeds_of("gnsm_published", None) == (0,)
    assert all(seeds_are_right(name) for name in METHODS)


def seeds_are_right(name: str) -> bool:
    return METHODS[name].trained or METHODS[name].seeds == (0,)


def test_what_is_there_is_not_run_again(tmp_path: Path) -> None:
    make("volume", 0, 1.0).save(tmp_path)
    # The data do not exist: whatever is not there would have to be read.
    segmentation_qc.run("hippocampus", [("volume", 0)], tmp_path / "none", tmp_path / "work", tmp_path)
    with pytest.raises(FileNotFoundError):
        segmentation_qc.run("hippocampus", [("volume", 1)], tmp_path / "none", tmp_path / "work", tmp_path)


def test_the_summary_has_the_best_rival_of_each_set_and_of_all() -> None:
    sets = {
        "hippocampus": {"gnsm": 0.1, "gnsm_image": 0.05, "volume": 0.2, "voxelwise_prior": 0.6, "linear_shape": 0.15},
        "chest": {"gnsm": 0.1, "volume": 3.0, "voxelwise_prior": 0.05},
        "phantoms_2d": {"gnsm": 3.0, "volume": 3.0},
    }
    found = {name: {m: [make(m, 0, n, name)] for m, n in noise.items()} for name, noise in sets.items()}

    def pooled(name: str, method: str) -> float:
        (scores,) = found[name][method]
        return stats.spearmanr(scores.score, scores.dice).statistic

    lines = qc_sections.summary(found)
    first, second, last = (line.split(" | ") for line in lines if line.startswith(("| Hippo", "| Chest", "| mean")))
    within = [stats.spearmanr(s.score, s.dice).statistic for s in map(found["chest"]["gnsm"][0].in_folder, FOLDERS)]
    assert second[1] == f"{pooled('chest', 'gnsm'):.3f} / {np.mean(within):.3f}" and second[2] == "–"
    assert [first[4], second[4]] == ["linear shape, fixed grid |", "voxelwise prior |"]
    means = {m: np.mean([pooled(name, m) for name in ("hippocampus", "chest")]) for m in sets["chest"]}
    rival = min(("volume", "voxelwise_prior"), key=lambda m: means[m])
    assert last[:2] == ["| mean over the 2 sets", f"{means['gnsm']:.3f}"]
    assert last[3:] == [f"{means[rival]:.3f}", f"{METHODS[rival].title} |"]
