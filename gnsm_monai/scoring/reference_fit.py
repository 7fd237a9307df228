"""After training: what held-out references, and failures made from them, score."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from gnsm_monai.data.constants import IGNORE_INDEX
from gnsm_monai.data.degradations import KINDS, degrade_like_a_segmenter, mean_foreground_dice
from gnsm_monai.data.references import References
from gnsm_monai.data.transforms import IMAGE, LABEL, FitToGridd, encode_labels, load_case, resample
from gnsm_monai.errors import InputError
from gnsm_monai.files import save_arrays, save_json, sha256
from gnsm_monai.scoring.anomaly import AnomalyModel, rank_correlation
from gnsm_monai.scoring.calibration import Calibration, DicePredictor
from gnsm_monai.scoring.model_files import SETTINGS, STATISTICS_FILE, WEIGHTS, load_weights
from gnsm_monai.scoring.scorer import STATISTICS, CaseStatistics, Scorer

__all__ = ["ReferenceFit"]


@dataclass(frozen=True)
class _Scored:
    """Level statistics ``(N, L, S)`` and ``(N, structures, L)`` of references, and ``(M, L, S)`` of degraded copies.

    ``groups``: number of the reference that each copy was made from, ``(M,)``.
    """

    clean: np.ndarray
    structures: np.ndarray
    degraded: np.ndarray
    dice: np.ndarray
    kinds: list[str]
    groups: np.ndarray


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
        calibration_copies: the same per reference kept for calibration, for the interval of the predicted Dice.
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
        calibration_copies: int = 2,
        rule: str = "auto",
        seed: int = 0,
        device: str | torch.device = "cpu",
    ) -> None:
        self.scorer, self.network, self.references = scorer, network, references
        self.model_dir, self.settings = Path(model_dir), dict(settings)
        self.copies, self.calibration_copies = copies, calibration_copies
        self.rule, self.seed, self.device = rule, seed, torch.device(device)
        self.logger = logging.getLogger(__name__)

    def run(
        self, level_weights: np.ndarray | None = None, losses: Mapping[str, np.ndarray] | None = None
    ) -> dict[str, np.ndarray]:
        """Returns the arrays that are written to ``reference_statistics.npz``.

        Args:
            level_weights: what each level counts in the score, ``(L,)``; equal by default.
            losses: losses per level on held-out references, ``(L,)`` each, kept beside the statistics.
        """
        self.load_weights(self.network)
        self.network.to(self.device).eval()
        fit, calibration = self.references.used_for("fit"), self.references.used_for("calibration")
        self.logger.info(
            "scoring %d held-out references with %d degraded copies each, and %d with %d each for calibration",
            len(fit),
            self.copies,
            len(calibration),
            self.calibration_copies,
        )
        fitted = self._scored(fit, self.copies, stream=0)
        if not fitted.kinds:
            raise InputError("the references kept for fitting hold no structure: no score can be chosen on them")
        model = AnomalyModel.fit(
            fitted.clean, fitted.degraded, fitted.dice, self.rule, self.seed, level_weights, fitted.groups
        )
        unseen = self._scored(calibration, self.calibration_copies, stream=1)
        if not unseen.kinds:
            raise InputError(
                "the references kept for calibration hold no structure: no Dice can be predicted from them"
            )
        # Degraded copies alone: a predicted mask, however good, never equals its reference.
        predictor = DicePredictor.fit(
            model.score(fitted.degraded), fitted.dice, model.score(unseen.degraded), unseen.dice
        )
        structures = np.stack([model.structure_scores(levels) for levels in unseen.structures])
        arrays = {
            "fit": fitted.clean,
            "degraded": fitted.degraded,
            "degraded_dice": fitted.dice,
            "degraded_kinds": np.array(fitted.kinds),
            "calibration": unseen.clean,
            "calibration_degraded": unseen.degraded,
            "calibration_degraded_dice": unseen.dice,
            "fit_cases": np.array([case["case"] for case in fit]),
            "calibration_cases": np.array([case["case"] for case in calibration]),
            **(losses or {}),
        }
        decisions = Calibration(model.score(unseen.clean), structures, predictor)
        save_arrays(self.model_dir / STATISTICS_FILE, {**arrays, **model.to_arrays(), **decisions.to_arrays()})
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

    def _scored(self, cases: Sequence[Mapping[str, Any]], copies: int, stream: int) -> _Scored:
        clean, structures, degraded, dice, kinds, groups = [], [], [], [], [], []
        for number, case in enumerate(cases):
            loaded = self._load(case)
            statistics = self._score(loaded)
            clean.append(statistics.levels)
            structures.append(statistics.structures)
            label = loaded[LABEL][0].numpy()
            for kind, worse, quality in self._degraded(label, number, copies, stream, "empty" not in kinds):
                degraded.append(self._score({**loaded, LABEL: loaded[LABEL].new_tensor(worse[None])}).levels)
                dice.append(quality)
                kinds.append(kind)
                groups.append(number)
        return _Scored(
            np.stack(clean),
            np.stack(structures),
            np.stack(degraded) if degraded else np.empty((0, *clean[0].shape)),
            np.array(dice),
            kinds,
            np.array(groups),
        )

    def _score(self, case: Mapping[str, Any]) -> CaseStatistics:
        placed = FitToGridd(self.references.spatial_size, grow=True, keys=list(case))(dict(case))
        label = placed[LABEL].as_tensor()[None].to(self.device)
        probabilities, mask = encode_labels(label, self.references.labels.num_classes)
        image = placed[IMAGE].as_tensor()[None].to(self.device) if IMAGE in placed else None
        return self.scorer(self.network, probabilities, mask, image)

    def _degraded(
        self, label: np.ndarray, number: int, num_copies: int, stream: int, empty: bool
    ) -> list[tuple[str, np.ndarray, float]]:
        """Degraded copies of the reference of that number, and an ``empty`` one if asked for: kind, label map, Dice.

        An empty reference has nothing to degrade.
        """
        if not (label > 0).any():
            return []
        num_classes, spacing = self.references.labels.num_classes, self.references.voxel_size
        copies = []
        for copy in range(num_copies):
            kind = KINDS[(number * num_copies + copy) % len(KINDS)]
            rng = np.random.default_rng([self.seed, stream, number, copy])
            worse = degrade_like_a_segmenter(label, kind, rng, num_classes, spacing)
            dice = mean_foreground_dice(worse, label, num_classes, self.references.labels.members)
            copies.append((kind, worse, dice))
        if empty:
            copies.append(("empty", np.where(label == IGNORE_INDEX, label, 0), 0.0))
        return copies


def _comparison(model: AnomalyModel) -> str:
    ordered = sorted(model.comparison.items(), key=lambda item: item[1])
    return "Spearman with Dice on degraded references: " + ", ".join(f"{name} {value:.3f}" for name, value in ordered)
