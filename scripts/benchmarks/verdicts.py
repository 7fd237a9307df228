"""Do verdicts hold on masks of real networks: estimated mean Dice, Dice of structures, distances, false discoveries?

Trains a small model of label maps per data set, ranks its folders of masks, and compares what results.json says with
the references. A data set whose model or ranking lies in --work is not trained or ranked again.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from bench import DATA, MISSING, Benchmark, Content, table
from package_commands import gnsm, train
from PIL import Image

from gnsm_monai.data.compare import mean_foreground_dice, surface_distances
from gnsm_monai.data.datalist import find_label_maps
from gnsm_monai.files import load_json

FDR = 0.1
SETS = {
    "hippocampus": ("Dataset504_HippocampusQC", 2, 20, 60),
    "heart": ("Dataset704_Heart", 10, 40, 800),
    "blood_cell": ("Dataset705_BloodCell", 3, 30, 120),
    "pancreas": ("Dataset702_Pancreas", 3, 30, 120),
}
"""Data set, epochs, steps of an epoch, and steps of the network of shapes: small models, for a CPU."""


def measure(options: argparse.Namespace, earlier: Content) -> Iterator[Content]:
    content: Content = {"command": options.command, "sets": dict(earlier.get("sets", {}))}
    for name in options.sets:
        content["sets"][name] = _measured(options.data / name, options.work / name, *SETS[name])
        yield content


def _measured(data: Path, model: Path, dataset: str, epochs: int, steps: int, shape_steps: int) -> Content:
    raw, output = data / "nnUNet_raw" / dataset, model.parent / f"{model.name}_rank"
    training = {"epochs": epochs, "steps_per_epoch": steps, "fit::shapes::steps": shape_steps, "device": "cpu"}
    train(model, {"dataset_dir": raw, "max_voxels": 40_000, "fit::failures::copies": 4, **training})
    if not (output / "results.json").is_file():
        folders = sorted(path for path in (data / "predictions").iterdir() if path.is_dir())
        command = ["--model", model, "--predictions", *folders, "--references", raw / "labelsTs", "--output", output]
        gnsm("rank", *command)
    results = load_json(output / "results.json")
    cases = [case for case in results["cases"] if case["status"] == "ok" and case["dice"] is not None]
    readers = _readers(raw / "labelsTs")
    best = max(
        {case["folder"] for case in cases}, key=lambda f: np.mean([c["dice"] for c in cases if c["folder"] == f])
    )
    limits = {
        "reader": float(np.quantile(readers, 0.1)),
        "network": float(np.quantile([case["dice"] for case in cases if case["folder"] == best], 0.1)),
    }
    return {
        "score": results["score_on_failures"],
        "good": limits,
        "folders": [_folder(entry, cases, limits, results["failure_dice"]) for entry in results["folders"]],
        "structures": {name: _structure(name, cases) for name in results["model"]["structures"]},
        "distance": _distances(cases, data / "predictions", raw / "labelsTs"),
    }


def _folder(
    entry: Mapping[str, Any], cases: Sequence[Mapping[str, Any]], limits: Mapping[str, float], failure: float
) -> Content:
    members = [case for case in cases if case["folder"] == entry["folder"]]
    dice = np.array([case["dice"] for case in members])
    flagged = np.array([case["q_value"] <= FDR for case in members])
    good = {name: dice >= limit for name, limit in limits.items()}
    return {
        "folder": entry["folder"],
        "masks": len(members),
        "dice": float(dice.mean()),
        "estimate": entry["mean_dice"],
        "failed": float((dice < failure).mean()),
        "failure_estimate": entry["failure_share"],
        "unlike": entry["unlike_references"],
        "flagged": int(flagged.sum()),
        "good": {name: int(values.sum()) for name, values in good.items()},
        "good_flagged": {name: int((values & flagged).sum()) for name, values in good.items()},
    }


def _structure(name: str, cases: Sequence[Mapping[str, Any]]) -> Content:
    """Mean error of the predicted Dice of one structure, and how often its interval holds the measured one."""
    parts = [part for case in cases for part in case["structures"] if part["structure"] == name]
    known = [part for part in parts if part["dice"] is not None and part["predicted_dice"] is not None]
    errors = [abs(part["dice"] - part["predicted_dice"]) for part in known]
    ends = [part for part in known if part["predicted_dice_low"] is not None]
    inside = [part["predicted_dice_low"] <= part["dice"] <= part["predicted_dice_high"] for part in ends]
    return {"masks": len(known), "mae": _mean(errors), "inside": _mean(inside)}


def _distances(cases: Sequence[Mapping[str, Any]], predictions: Path, references: Path) -> Content | None:
    """Mean error of the predicted surface distance of whole masks; None of pictures, or where none is predicted."""
    truths = find_label_maps(references)
    if not all(path.name.endswith((".nii", ".nii.gz")) for path in truths.values()):
        return None
    masks = {folder: find_label_maps(predictions / folder) for folder in {case["folder"] for case in cases}}
    pairs = []
    for case in cases:
        if case["predicted_distance_mm"] is not None:
            name = case["case"].rpartition("/")[2]
            measured = _distance(masks[case["folder"]][name], truths[name])
            pairs.append((case["predicted_distance_mm"], measured))
    values = np.array(pairs).reshape(-1, 2)
    values = values[np.isfinite(values).all(1)]
    if not len(values):
        return None
    predicted, measured = values.T
    return {
        "masks": len(values),
        "mean": float(measured.mean()),
        "mae": float(np.abs(predicted - measured).mean()),
        "constant": float(np.abs(np.median(measured) - measured).mean()),
    }


def _distance(mask: Path, reference: Path) -> float:
    """Mean surface distance in mm over the structures that both have; NaN without any."""
    image = nib.load(reference)
    a, b = (np.rint(np.asanyarray(one.dataobj)).astype(int) for one in (nib.load(mask), image))
    distances = surface_distances(a, b, int(max(a.max(), b.max())) + 1, image.header.get_zooms()[:3])
    known = distances[np.isfinite(distances)]
    return float(known.mean()) if len(known) else float("nan")


def _readers(references: Path) -> list[float]:
    """Dice of every reference with that of a reader whose border is one voxel away: moved along each fine axis."""
    dice = []
    for path in find_label_maps(references).values():
        if path.suffix == ".png":
            labels, spacing = np.asarray(Image.open(path)).astype(int), np.ones(2)
        else:
            image = nib.load(path)
            labels = np.rint(np.asanyarray(image.dataobj)).astype(int)
            spacing = np.array(image.header.get_zooms()[:3], dtype=float)
        axes = np.flatnonzero(spacing < 1.5 * spacing.min()).tolist()
        moved = [np.roll(labels, step, axis) for axis in axes for step in (-1, 1)]
        dice.append(float(np.mean([mean_foreground_dice(one, labels, int(labels.max()) + 1) for one in moved])))
    return dice


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def lines(content: Content) -> list[str]:
    sets: Mapping[str, Any] = content["sets"]
    folders = [folder for one in sets.values() for folder in one["folders"]]
    told = [folder for folder in folders if folder["estimate"] is not None]
    inside = [_holds(folder["estimate"], folder["dice"]) for folder in told]
    shares = {name: _mean([_false(folder, name) for folder in folders]) for name in ("reader", "network")}
    widths = [(f["estimate"]["high"] - f["estimate"]["low"]) / 2 for f in told if f["estimate"]["low"] is not None]
    missing = [name for name in SETS if name not in sets]
    rows = [_folder_row(name, folder) for name, one in sets.items() for folder in one["folders"]]
    return [
        f"The 90 % interval of a folder's mean Dice holds the measured one in {sum(inside)} of {len(inside)} folders; "
        f"half of its width is {np.mean(widths):.3f} on average. {len(folders) - len(told)} folders more have no "
        f"estimate, as the score of their model is weak on held-out failures. Flagged at q = {FDR}, a share of "
        f"{shares['reader']:.2f} of the masks is good on average over folders by the first definition below, and "
        f"{shares['network']:.2f} by the second." + (f" Not measured: {', '.join(missing)}." if missing else ""),
        "",
        "## Folders",
        "",
        *table(
            ["set", "folder", "masks", "mean Dice", "estimate", "below 0.7", "estimate", "p, unlike references"], rows
        ),
        "",
        "## Structures and distances",
        "",
        "Mean error of what is predicted, and the share of masks whose measured Dice lies in the 90 % interval. Beside "
        "the error of the distance is that of the median distance of all these masks, which no method knows.",
        "",
        *table(["set", "structure", "masks", "error of Dice", "in the interval"], _structure_rows(sets)),
        "",
        *table(["set", "masks", "mean distance, mm", "error, mm", "error of the median, mm"], _distance_rows(sets)),
        "",
        f"## Flags at a false-discovery rate of {FDR}",
        "",
        "A mask is good, first definition, where its Dice is at least that of the tenth percentile of readers whose "
        "border is one voxel away from the reference's: every reference moved by one voxel along each fine axis. "
        "Second definition: at least the tenth percentile of the best network's masks of the set. The rate is promised "
        "for masks that cannot be told from references; a network's good mask often can.",
        "",
        *table(
            ["set", "Dice of a good mask", "folder", "flagged", "good ones", "good among flagged"], _flag_rows(sets)
        ),
    ]


def _holds(estimate: Mapping[str, Any], value: float) -> bool:
    return estimate["low"] is not None and estimate["low"] <= value <= estimate["high"]


def _false(folder: Mapping[str, Any], name: str) -> float:
    """Share of good masks among those that are flagged; 0 where none is."""
    return float(folder["good_flagged"][name] / max(folder["flagged"], 1))


def _folder_row(name: str, folder: Mapping[str, Any]) -> list[Any]:
    estimates = [_ends(folder["estimate"], folder["dice"]), _ends(folder["failure_estimate"], folder["failed"])]
    p = MISSING if folder["unlike"] is None else f"{folder['unlike']:.4f}"
    return [
        name, folder["folder"], folder["masks"], f"{folder['dice']:.3f}", estimates[0], f"{folder['failed']:.2f}",
        estimates[1], p,
    ]  # fmt: skip


def _ends(estimate: Mapping[str, Any] | None, value: float) -> str:
    if estimate is None:
        return MISSING
    if estimate["low"] is None:
        return f"{estimate['value']:.2f}"
    outside = "" if _holds(estimate, value) else " (outside)"
    return f"{estimate['value']:.2f} [{estimate['low']:.2f}, {estimate['high']:.2f}]{outside}"


def _structure_rows(sets: Mapping[str, Any]) -> list[list[Any]]:
    return [
        [name, structure, figures["masks"], *(_number(figures[key]) for key in ("mae", "inside"))]
        for name, one in sets.items()
        for structure, figures in one["structures"].items()
    ]


def _distance_rows(sets: Mapping[str, Any]) -> list[list[Any]]:
    keys = ("mean", "mae", "constant")
    return [
        [name, MISSING, *[MISSING] * 3] if one["distance"] is None
        else [name, one["distance"]["masks"], *(_number(one["distance"][key]) for key in keys)]
        for name, one in sets.items()
    ]  # fmt: skip


def _flag_rows(sets: Mapping[str, Any]) -> list[list[Any]]:
    return [
        [name, f"{one['good']['reader']:.2f} / {one['good']['network']:.2f}", folder["folder"], folder["flagged"],
         *(f"{folder[key]['reader']} / {folder[key]['network']}" for key in ("good", "good_flagged"))]
        for name, one in sets.items() for folder in one["folders"]
    ]  # fmt: skip


def _number(value: float | None) -> str:
    return MISSING if value is None else f"{value:.3f}"


BENCHMARK = Benchmark(
    "verdicts",
    "Do verdicts hold?",
    measure,
    lines,
    {
        **DATA,
        "--work": {"type": Path, "default": Path("runs/verdicts")},
        "--sets": {"nargs": "+", "default": list(SETS), "choices": list(SETS)},
    },
    description=__doc__,
)

if __name__ == "__main__":
    BENCHMARK.run()
