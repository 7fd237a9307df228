"""After training: what held-out references, and failures made from them, score."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from gnsm_monai.data.constants import IGNORE_INDEX
from gnsm_monai.data.degradations import KINDS, degrade, mean_foreground_dice
from gnsm_monai.data.references import References
from gnsm_monai.data.transforms import IMAGE, LABEL, FitToGridd, encode_labels, load_case, resample
from gnsm_monai.errors import InputError
from gnsm_monai.files import load_arrays, load_json, save_arrays, save_json, sha256
from gnsm_monai.scoring.anomaly import AnomalyModel, rank_correlation
from gnsm_monai.scoring.scorer import STATISTICS, Scorer

__all__ = ["SETTINGS", "STATISTICS_FILE", "ReferenceFit", "load_anomaly_model", "load_settings", "load_weights"]

SETTINGS, STATISTICS_FILE, WEIGHTS = "settings.json", "reference_statistics.npz", "model.pt"


class ReferenceFit:
    """Scores held-out references and degraded copies of them, chooses the anomaly score, and completes the model.

    Writes ``reference_statistics.npz`` (level statistics of the references kept for fitting, of their degraded copies,
    and of those kept for calibration, with the fitted :class:`AnomalyModel`) and then ``settings.json`` (all that
    scoring needs besides the weights) to the model's folder. Nothing here sees a prediction.

    Args:
        scorer: gives the level statistics.
        network: as scoring will run it; its weights are taken from ``model.pt``.
        references: the reference cases.
        model_dir: folder with ``model.pt``.
        settings: plain values to keep in ``settings.json``.
        copies: degraded copies per reference kept for fitting, of changing kind and random severity.
        rule: rule of the anomaly score, or ``auto``.
        seed: of the degradations and densities.
        device: where the network runs.
    """

    def __init__(
        self,
        scorer: Scorer,
        network: nn.Module,
        references: References,
        model_dir: str | Path,
        settings: Mapping[str, Any],
        copies: int = 4,
        rule: str = "auto",
        seed: int = 0,
        device: str | torch.device = "cpu",
    ) -> None:
        self.scorer, self.network, self.references = scorer, network, references
        self.model_dir, self.settings = Path(model_dir), dict(settings)
        self.copies, self.rule, self.seed, self.device = copies, rule, seed, torch.device(device)
        self.logger = logging.getLogger(__name__)

    def run(self, level_weights: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """Returns the arrays that are written to ``reference_statistics.npz``.

        Args:
            level_weights: what each level counts in the score, ``(L,)``; equal by default.
        """
        self.load_weights(self.network)
        self.network.to(self.device).eval()
        fit, calibration = self.references.used_for("fit"), self.references.used_for("calibration")
        self.logger.info(
            "scoring %d held-out references with %d degraded copies each, and %d for calibration",
            len(fit),
            self.copies,
            len(calibration),
        )
        held_out, degraded, dice, kinds = [], [], [], []
        for number, case in enumerate(fit):
            clean = self._load(case)
            held_out.append(self._score(clean))
            for kind, label, quality in self._degraded(clean[LABEL][0].numpy(), number, "empty" not in kinds):
                degraded.append(self._score({**clean, LABEL: clean[LABEL].new_tensor(label[None])}))
                dice.append(quality)
                kinds.append(kind)
        if not degraded:
            raise InputError("the references kept for fitting hold no structure: no score can be chosen on them")
        arrays = {"fit": np.stack(held_out), "degraded": np.stack(degraded), "degraded_dice": np.array(dice)}
        model = AnomalyModel.fit(
            arrays["fit"], arrays["degraded"], arrays["degraded_dice"], self.rule, self.seed, level_weights
        )
        arrays["calibration"] = np.stack([self._score(self._load(case)) for case in calibration])
        arrays["calibration_scores"] = model.score(arrays["calibration"])
        arrays["degraded_kinds"] = np.array(kinds)
        arrays["fit_cases"] = np.array([case["case"] for case in fit])
        arrays["calibration_cases"] = np.array([case["case"] for case in calibration])
        save_arrays(self.model_dir / STATISTICS_FILE, {**arrays, **model.to_arrays()})
        # Last, and with the identity of the weights: a folder with settings is a complete model.
        identity = {"anomaly_score": model.rule, "weights_sha256": sha256(self.model_dir / WEIGHTS)}
        save_json(self.model_dir / SETTINGS, {**self.settings, **identity})
        self.logger.info("anomaly score: %s (%s)", model.rule, _comparison(model))
        return arrays

    def load_weights(self, network: nn.Module) -> None:
        """Loads the weights that training kept. Raises InputError where it kept none."""
        if not (self.model_dir / WEIGHTS).is_file():
            raise InputError(f"{self.model_dir}: no weights to keep: the validation loss was never a number")
        load_weights(network, self.model_dir)

    def level_figures(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Spearman correlation with Dice of every statistic at every level, ``(L,)`` each, on references and copies."""
        everything = np.concatenate([arrays["fit"], arrays["degraded"]])
        quality = np.concatenate([np.ones(len(arrays["fit"])), arrays["degraded_dice"]])
        return {
            name: np.array([rank_correlation(values, quality) for values in everything[:, :, s].T])
            for s, name in enumerate(STATISTICS)
            if np.isfinite(everything[:, :, s]).all()
        }

    def _load(self, case: Mapping[str, Any]) -> dict[str, Any]:
        keys = [key for key in (LABEL, IMAGE) if key in case]
        dims = len(self.references.spatial_size)
        loaded = load_case(self.references.labels, dims, keys)({key: case[key] for key in keys})
        return dict(resample(self.references.voxel_size, keys)(loaded))

    def _score(self, case: Mapping[str, Any]) -> np.ndarray:
        placed = FitToGridd(self.references.spatial_size, grow=True, keys=list(case))(dict(case))
        label = placed[LABEL].as_tensor()[None].to(self.device)
        probabilities, mask = encode_labels(label, self.references.labels.num_classes)
        image = placed[IMAGE].as_tensor()[None].to(self.device) if IMAGE in placed else None
        return self.scorer(self.network, probabilities, mask, image).levels

    def _degraded(self, label: np.ndarray, number: int, empty: bool) -> list[tuple[str, np.ndarray, float]]:
        """Degraded copies of the reference of that number, and an ``empty`` one if asked for: kind, label map, Dice.

        An empty reference has nothing to degrade.
        """
        if not (label > 0).any():
            return []
        num_classes, spacing = self.references.labels.num_classes, self.references.voxel_size
        copies = []
        for copy in range(self.copies):
            kind = KINDS[(number * self.copies + copy) % len(KINDS)]
            rng = np.random.default_rng([self.seed, number, copy])
            worse = degrade(label, kind, rng.uniform(), rng, num_classes, spacing)
            dice = mean_foreground_dice(worse, label, num_classes, self.references.labels.members)
            copies.append((kind, worse, dice))
        if empty:
            copies.append(("empty", np.where(label == IGNORE_INDEX, label, 0), 0.0))
        return copies


def load_settings(model_dir: str | Path) -> dict[str, Any]:
    """Plain settings of a finished model.

    Raises:
        InputError: no such model, training that was not finished, or weights that belong to another run.
    """
    folder = Path(model_dir)
    if not (folder / SETTINGS).is_file() or not (folder / WEIGHTS).is_file():
        state = "training was not finished: run it again with --resume True" if folder.is_dir() else "no such folder"
        raise InputError(f"{folder}: no trained model here ({state})")
    settings = load_json(folder / SETTINGS)
    if settings.get("weights_sha256") != sha256(folder / WEIGHTS):
        raise InputError(
            f"{folder}: {WEIGHTS} is not the one that {SETTINGS} and {STATISTICS_FILE} were made for: "
            "if its training was stopped, run it again with --resume True"
        )
    return settings


def load_anomaly_model(model_dir: str | Path) -> AnomalyModel:
    """The fitted anomaly score of a finished model. Raises InputError where the file is missing or damaged."""
    path = Path(model_dir) / STATISTICS_FILE
    try:
        return AnomalyModel.from_arrays(load_arrays(path))
    except KeyError as error:
        raise InputError(f"{path}: lacks the array {error}") from error


def load_weights(network: nn.Module, model_dir: str | Path) -> nn.Module:
    """Loads ``model.pt`` into ``network``, never executing code from it, and returns the network.

    Raises:
        InputError: the file is missing, damaged, or of another network.
    """
    path = Path(model_dir) / WEIGHTS
    try:
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True)["model"])
    except Exception as error:  # pickle, zip and shape errors of many kinds
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: the weights cannot be loaded: {reason}") from error
    return network


def _comparison(model: AnomalyModel) -> str:
    ordered = sorted(model.comparison.items(), key=lambda item: item[1])
    return "Spearman with Dice on degraded references: " + ", ".join(f"{name} {value:.3f}" for name, value in ordered)
