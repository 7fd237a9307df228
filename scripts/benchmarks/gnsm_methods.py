"""Our own methods: trained and asked by the commands that users have, then read from the files that these write."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from map_metrics import folder_metrics
from methods import ABLATED
from package_commands import gnsm, scored_rows, train
from qc_data import Dataset
from rival_methods import score_masks
from rules_compared import rules_rows, weights_rows
from scores import Scores

from gnsm_monai.data.datalist import find_label_maps
from gnsm_monai.evaluation.metrics import pearson, spearman
from gnsm_monai.evaluation.summary import level_correlations
from gnsm_monai.files import load_arrays, load_json
from gnsm_monai.rules.levels import LevelStatistics, stack_levels, stored_levels

__all__ = ["GNSM", "score_gnsm"]

PUBLISHED = {
    "noise": "{'name':'temperature','num_levels':5}",
    "objective": "kl",
    "anomaly_score": "score_norm_gmm",
}
"""The published method: noise by temperature, direct parametrisation, a Gaussian mixture over norms of the score."""

IMAGE = {"condition_on_image": True}
SHORTER = {**IMAGE, "steps_per_epoch": 240}
"""Images, and two thirds of the steps."""

UNEXCUSED = {**SHORTER, "anomaly_score": "disagreement_equal"}
"""The mask is blamed for what the network cannot read in the image."""

FEWER = {**UNEXCUSED, "batch_size": "$4 if @spatial_dims == 3 else 16", "steps_per_epoch": 120}
"""Half as many steps as that, each with twice as many maps."""

EIGHT = {**FEWER, "noise": "mixing"}
"""The noise of a model without images, too."""

UNWARNED = {"augmentation#overflow": False}
"""No image whose integers overflowed is shown in training."""

HALF_POOR = {**EIGHT, **UNWARNED, "augmentation#poor_images": 0.5}
"""Every second image made a poor one."""

GNSM: dict[str, Mapping[str, Any]] = {
    "gnsm": {},
    "gnsm_soft": {},
    "gnsm_image": IMAGE,
    "gnsm_image_24": IMAGE,
    "gnsm_image_240_steps": SHORTER,
    "gnsm_image_nothing_excused": UNEXCUSED,
    "gnsm_image_eight_levels": EIGHT,
    "gnsm_image_no_overflow": {**FEWER, **UNWARNED},
    "gnsm_image_eight_no_overflow": {**EIGHT, **UNWARNED},
    "gnsm_image_half_poor": HALF_POOR,
    "gnsm_image_full_resolution": {**HALF_POOR, "network_def#strides": "[1,2,2]"},
    "gnsm_image_25_epochs": {**HALF_POOR, "epochs": 25},
    "gnsm_published": PUBLISHED,
}
"""Each method, and the settings of its training."""

MODEL_OF = {"gnsm_soft": "gnsm"}
"""Methods that ask the model of another one."""


def score_gnsm(dataset: Dataset, method: str, seed: int, work: Path) -> Scores | None:
    """Trains, ranks and reads; None where the data set lacks what the method needs.

    Args:
        dataset: what is scored.
        method: name of the method.
        seed: of the training.
        work: models are kept in ``work/DATASET/METHOD-SEED/model``, rankings beside them.
    """
    options = GNSM[method]
    with_images = bool(options.get("condition_on_image"))
    folders = [p for p in dataset.predictions if method != "gnsm_soft" or any(p.glob("*.npz"))]
    if not folders or (with_images and not dataset.images):
        return None
    if method == "gnsm_image_24":
        if not dataset.segmenter_cases:
            return None
        unseen = set(find_label_maps(dataset.folder / "labelsTr")) - set(dataset.segmenter_cases)
        options = {**options, "exclude_cases": sorted(unseen)}
    model = work / dataset.models / f"{MODEL_OF.get(method, method)}-{seed}" / "model"
    minutes = train(model, {"dataset_dir": dataset.folder, "seed": seed, **options})
    results = work / dataset.name / f"{method}-{seed}" / "results"
    soft = "auto" if method == "gnsm_soft" else "off"
    ranked = [
        _rank(dataset, model, group, images, results, soft) for images, group in _groups(dataset, folders, with_images)
    ]
    return _read(dataset, method, seed, ranked, minutes, model)


def _groups(dataset: Dataset, folders: Sequence[Path], with_images: bool) -> Iterator[tuple[Path | None, list[Path]]]:
    """Folders that can be ranked in one call: it takes one folder of images."""
    if not with_images:
        yield None, list(folders)
        return
    for images in dict.fromkeys(dataset.images.values()):
        yield images, [path for path in folders if dataset.images[path.name] == images]


def _rank(
    dataset: Dataset, model: Path, folders: Sequence[Path], images: Path | None, results: Path, soft: str
) -> tuple[Path, Sequence[Path]]:
    """The ranking's folder, beside the folders of masks in it."""
    output = results if images is None else results / images.name
    if not (output / "summary.json").is_file():
        seen = [] if images is None else ["--images", images]
        gnsm(
            *("rank", "--model", model, "--predictions", *folders, "--references", dataset.references),
            *("--output", output, "--soft", soft, "--maps", *seen),
        )
    return output, folders


def _read(
    dataset: Dataset,
    method: str,
    seed: int,
    ranked: Sequence[tuple[Path, Sequence[Path]]],
    minutes: float | None,
    model: Path,
) -> Scores:
    scores: dict[tuple[str, str], float] = {}
    maps: dict[tuple[str, str], Path] = {}
    levels: dict[tuple[str, str], LevelStatistics] = {}
    structures: list[tuple[str, str, float, float]] = []
    seconds, cases = 0.0, 0
    for output, folders in ranked:
        for row in scored_rows(output / "ranking.csv"):
            key = _key(row["case"], folders)
            scores[key], maps[key] = float(row["anomaly_score"]), output / "maps" / f"{row['case']}.nii.gz"
        for row in scored_rows(output / "structures.csv"):
            if row["anomaly_score"] and row["dice"]:
                folder, _ = _key(row["case"], folders)
                structures.append((folder, row["structure"], float(row["anomaly_score"]), float(row["dice"])))
        arrays = load_arrays(output / "level_statistics.npz")
        stored = stored_levels(arrays, "levels")
        for number, case in enumerate(arrays["case"]):
            levels[_key(case, folders)] = {name: values[number] for name, values in stored.items()}
        summary = load_json(output / "summary.json")
        seconds, cases = seconds + summary["seconds_per_case"] * summary["cases"], cases + summary["cases"]
    wanted = {folder.name for _, folders in ranked for folder in folders}
    masks = [mask for mask in dataset.masks if mask.folder in wanted]
    keys = [(mask.folder, mask.case) for mask in masks]
    dice = [mask.dice for mask in masks]
    places = {key: maps[key] for key in keys}
    more: dict[str, Any] = {
        "maps": folder_metrics(masks, lambda mask: dataset.read_map(places[mask.folder, mask.case])),
        "structures": _structure_correlations(structures),
        "levels": level_correlations(stack_levels([levels[key] for key in keys]), dice),
    }
    if method in ABLATED:
        outputs = [output for output, _ in ranked]
        more |= {"weights": weights_rows(model, *outputs), "rules": rules_rows(model, *outputs)}
    return score_masks(dataset.name, method, seed, masks, [scores[key] for key in keys], minutes, seconds / cases, more)


def _key(case: str, folders: Sequence[Path]) -> tuple[str, str]:
    """Folder and case of an id, which names the folder where several were ranked in one call."""
    return (folders[0].name, case) if len(folders) == 1 else tuple(case.rsplit("/", 1))  # type: ignore[return-value]


def _structure_correlations(rows: Sequence[tuple[str, str, float, float]]) -> dict[str, dict[str, dict[str, float]]]:
    """By folder (``all`` too) and structure: Spearman and Pearson of its anomaly with its Dice."""
    pooled: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for folder, structure, score, dice in rows:
        for name in (folder, "all"):
            pooled.setdefault(name, {}).setdefault(structure, []).append((score, dice))
    return {
        folder: {
            structure: {"spearman": spearman(*zip(*pairs)), "pearson": pearson(*zip(*pairs))}  # noqa: B905
            for structure, pairs in members.items()
        }
        for folder, members in pooled.items()
    }
