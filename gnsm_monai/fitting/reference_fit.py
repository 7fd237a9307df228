"""After training: what held-out references, and failures made from them, score."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import nn

from gnsm_monai.data.constants import IMAGE, LABEL
from gnsm_monai.data.transforms import FitToGridd, encode_labels
from gnsm_monai.errors import InputError
from gnsm_monai.files import save_arrays, save_json, sha256
from gnsm_monai.fitting.reference_failures import ReferenceFailures
from gnsm_monai.fitting.reference_statistics import ReferenceStatistics, ScoredFailure
from gnsm_monai.model.files import SETTINGS, STATISTICS_FILE, WEIGHTS, load_weights
from gnsm_monai.rules.anomaly import AnomalyModel
from gnsm_monai.rules.calibration import Calibration
from gnsm_monai.rules.failures import PartPredictors
from gnsm_monai.rules.levels import CaseStatistics
from gnsm_monai.rules.predictors import DicePredictor
from gnsm_monai.rules.rule import OTHER
from gnsm_monai.scoring.reference_images import ReferenceImages, case_smoothness
from gnsm_monai.scoring.reference_shapes import ReferenceShapes
from gnsm_monai.scoring.scorer import Scorer

__all__ = ["ReferenceFit"]


MIN_CONTEXT = 0.02
"""Least share of the loss of independent voxels that a network which learnt context saves, over all levels."""

LearntShapes: TypeAlias = tuple[ReferenceShapes, dict[str, ReferenceShapes]]


class ReferenceFit:
    """Scores held-out references and failures made from them, chooses the anomaly score, and completes the model.

    Writes ``reference_statistics.npz`` (level statistics of the references that the rule is selected on, of failures
    made from them, and of those kept for calibration, with the fitted :class:`AnomalyModel`) and then ``settings.json``
    (all that scoring needs besides the weights) to the model's folder. Nothing here sees a prediction.

    Args:
        scorer: gives the level statistics.
        network: as scoring will run it, where it is; its weights are taken from ``model.pt``.
        failures: makes failures from the references.
        model_dir: folder with ``model.pt``.
        settings: plain values to keep in ``settings.json``.
        shapes: learns the references' shapes, such as :class:`gnsm_monai.fitting.ShapeLearner`; None for none.
        rule: rule of the anomaly score, or ``auto``.
        seed: of the densities.
    """

    def __init__(
        self,
        scorer: Scorer,
        network: nn.Module,
        failures: ReferenceFailures,
        model_dir: str | Path,
        settings: Mapping[str, Any],
        shapes: Callable[[], LearntShapes] | None = None,
        rule: str = "auto",
        seed: int = 0,
    ) -> None:
        self.scorer, self.network, self.failures = scorer, network, failures
        self.references = failures.references
        self.model_dir, self.settings = Path(model_dir), dict(settings)
        self.shapes, self.rule, self.seed = shapes, rule, seed
        self.logger = logging.getLogger(__name__)

    def run(
        self, level_weights: np.ndarray | None = None, losses: Mapping[str, np.ndarray] | None = None
    ) -> tuple[AnomalyModel, dict[str, np.ndarray], dict[str, Any]]:
        """Fits the score and writes the model's files.

        Args:
            level_weights: what each level counts in the score, ``(L,)``; equal by default.
            losses: losses per level on held-out references, ``(L,)`` each, kept beside the statistics.

        Returns:
            The score; Spearman correlation of each statistic with Dice, ``(L,)`` by name, -1 is best; what
            ``settings.json`` holds.
        """
        self.load_weights(self.network)
        self.network.eval()
        self.failures.train_segmenter()
        self.logger.info(
            "scoring %d held-out references and failures made from them, and %d for calibration",
            *(len(self.references.used_for(use)) for use in ("selection", "calibration")),
        )
        whole, shapes = (ReferenceShapes(), {}) if self.shapes is None else self.shapes()
        selection = self._statistics("selection", shapes)
        model = selection.fit(self.rule, self.seed, level_weights, self._context(losses or {}))
        calibration = self._statistics("calibration", shapes)
        selected = selection.failures(model, model.fair_scores[: len(selection.scored_failures)])
        calibrated = calibration.failures(model, model.score(calibration.failure_levels))
        # Failures alone: a predicted mask, however good, never equals its reference.
        predictor = DicePredictor.fit(selected.scores, selected.dice, calibrated.scores, calibrated.dice)
        structures = np.stack([model.structure_scores(levels) for levels in calibration.structures])
        parts = PartPredictors(selected, calibrated)
        decisions = Calibration(model.score(calibration.levels), structures, predictor, parts)
        arrays = {
            **selection.selection_arrays(),
            **calibration.calibration_arrays(),
            "fit_cases": np.array(selection.cases),
            "calibration_cases": np.array(calibration.cases),
            **(losses or {}),
        }
        fitted = {**model.to_arrays(), **decisions.to_arrays(), **whole.to_arrays(), **self._images()}
        settings = self._write({**arrays, **fitted}, model.rule)
        ordered = sorted(model.comparison.items(), key=lambda item: item[1])
        figures = ", ".join(f"{name} {value:.3f}" for name, value in ordered)
        text = "anomaly score: %s (Spearman with Dice on failures of held-out references: %s)"
        self.logger.info(text, model.rule, figures)
        return model, selection.level_figures(), settings

    def _context(self, losses: Mapping[str, np.ndarray]) -> bool:
        """Whether the network does better than voxels that know nothing of each other; says so where it does not."""
        alone, loss = (losses.get(name) for name in ("no_context_loss", "val_loss"))
        if alone is None or loss is None or loss.sum() < (1 - MIN_CONTEXT) * alone.sum():
            return True
        self.logger.warning(
            "the network stays at the loss of independent voxels (%.4f, against %.4f): it has learnt no context, and "
            "has no vote in the anomaly score",
            loss.mean(),
            alone.mean(),
        )
        return False

    def load_weights(self, network: nn.Module) -> None:
        """Loads the weights that training kept. Raises InputError where it kept none."""
        if not (self.model_dir / WEIGHTS).is_file():
            raise InputError(f"{self.model_dir}: no weights to keep: the validation loss was never a number")
        load_weights(network, self.model_dir)

    def _statistics(self, use: str, shapes: Mapping[str, ReferenceShapes]) -> ReferenceStatistics:
        """Scores the references of one use, each judged by its own shapes."""
        cases, plan = self.references.used_for(use), self.failures.plans[use]
        references: list[CaseStatistics] = []
        failures: list[ScoredFailure] = []
        others: list[ScoredFailure] = []
        for number, (case, maps) in enumerate(zip(cases, self.references.maps_of(cases), strict=True)):
            judgement = shapes.get(case["case"])
            references.append(_without_maps(self._score(maps, judgement)))
            for failure in self.failures.of(case, maps, number, plan):
                statistics = _without_maps(self._score(failure.case, judgement))
                scored = ScoredFailure(replace(failure, case={}), statistics, number)
                (others if failure.kind == OTHER else failures).append(scored)
                if failure.kind == "empty":  # one is enough: all of them look alike
                    plan = replace(plan, empty=False)
        return ReferenceStatistics([case["case"] for case in cases], references, failures, others)

    def _images(self) -> dict[str, np.ndarray]:
        """How smooth images are, of all references: nothing is learnt that could flatter those of training."""
        if not self.references.image_channels:
            return {}
        cases = (self._placed(maps) for maps in self.references.maps_of(self.references.cases))
        return ReferenceImages.fit(np.stack([case_smoothness(case) for case in cases])).to_arrays()

    def _placed(self, maps: Mapping[str, Any]) -> dict[str, Any]:
        """Maps on the grid on which masks are scored."""
        placed = FitToGridd(self.references.spatial_size, grow=True, keys=list(maps))(dict(maps))
        return {str(key): value for key, value in placed.items()}

    def _score(self, maps: Mapping[str, Any], shapes: ReferenceShapes | None) -> CaseStatistics:
        placed, device = self._placed(maps), next(self.network.parameters()).device
        label = placed[LABEL].as_tensor()[None].to(device)
        probabilities, observed = encode_labels(label, self.references.scheme.num_classes)
        sees = self.references.image_channels > 0
        image = torch.as_tensor(placed[IMAGE])[None].to(device) if sees else None
        return self.scorer(self.network, probabilities, observed, image, shapes=shapes)

    def _write(self, arrays: Mapping[str, np.ndarray], rule: str) -> dict[str, Any]:
        """Writes both files and returns the settings."""
        settings = {
            **self.settings,
            "anomaly_score": rule,
            "failures": "copies" if self.failures.segmenter is None else "networks",
            "weights_sha256": sha256(self.model_dir / WEIGHTS),
            "statistics_sha256": save_arrays(self.model_dir / STATISTICS_FILE, arrays),
        }
        # Last, and with the identity of the weights: a folder with settings is a complete model.
        save_json(self.model_dir / SETTINGS, settings)
        return settings


def _without_maps(statistics: CaseStatistics) -> CaseStatistics:
    """Those of hundreds of failures are kept at a time."""
    nothing = np.empty(0)
    return replace(statistics, anomaly_map=nothing, denoised=nothing, band=nothing)
