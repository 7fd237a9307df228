"""After training: what held-out references, and failures made from them, score."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from torch import nn

from gnsm_monai.errors import InputError
from gnsm_monai.files import save_arrays, save_json, sha256
from gnsm_monai.fitting.held_out_scorer import HeldOutScorer
from gnsm_monai.fitting.reference_failures import ReferenceFailures
from gnsm_monai.fitting.reference_statistics import ReferenceStatistics
from gnsm_monai.model.files import SETTINGS, STATISTICS_FILE, WEIGHTS, load_weights
from gnsm_monai.model.quick import QUICK
from gnsm_monai.rules.anomaly import AnomalyModel
from gnsm_monai.rules.calibration import Calibration
from gnsm_monai.rules.failures import PartPredictors
from gnsm_monai.rules.predictors import DicePredictor
from gnsm_monai.rules.statistics import statistic_named
from gnsm_monai.scoring.contacts import ReferenceContacts
from gnsm_monai.scoring.reference_shapes import ReferenceShapes
from gnsm_monai.scoring.scorer import Scorer
from gnsm_monai.time_limit import NO_LIMIT, TimeLimit

__all__ = ["ReferenceFit", "learnt_context"]

logger = logging.getLogger(__name__)


MIN_CONTEXT = 0.02
"""Least share of the loss of independent voxels that a network which learnt context saves, over all levels."""

OTHERS = 2
"""Maps of other references per reference that a combination of statistics is chosen on."""

LearntShapes: TypeAlias = tuple[ReferenceShapes, dict[str, ReferenceShapes]]


def learnt_context(losses: Mapping[str, np.ndarray]) -> bool:
    """Whether a network does better than voxels that know nothing of each other; a warning where it does not.

    Args:
        losses: ``val_loss`` on held-out references and ``no_context_loss``, ``(L,)`` each; true without them.
    """
    loss, alone = (losses.get(name) for name in ("val_loss", "no_context_loss"))
    if loss is None or alone is None or loss.sum() < (1 - MIN_CONTEXT) * alone.sum():
        return True
    logger.warning(
        "the network stays at the loss of independent voxels (%.4f, against %.4f): it has learnt no context, and has "
        "no vote in the anomaly score",
        loss.mean(),
        alone.mean(),
    )
    return False


def _decisions(model: AnomalyModel, selection: ReferenceStatistics, calibration: ReferenceStatistics) -> Calibration:
    """What decides on masks, from all held-out references and from failures made from them.

    The references that the rule is selected on give p-values as well: each has the score of a rule that was not fitted
    to it, as a mask has (cross-conformal prediction, Vovk 2015).
    """
    selected = selection.failures(model, model.fair_scores)
    calibrated = calibration.failures(model, model.score(calibration.failure_levels, calibration.empty_failures))
    # Failures alone: a predicted mask, however good, never equals its reference.
    predictor = DicePredictor.fit(selected.scores, selected.dice, calibrated.scores, calibrated.dice)
    uses = (calibration, selection)
    empty = np.concatenate([np.empty(0, dtype=bool) if use.empty is None else use.empty for use in uses])
    levels = {name: np.concatenate([use.levels[name] for use in uses]) for name in calibration.levels}
    nothing = calibration.empty if calibration.empty is not None else False
    scores = np.concatenate([model.score(calibration.levels, nothing), model.reference_scores])
    flag_scores = model.flag_scores(scores, levels, empty if len(empty) else False)
    return Calibration(
        scores,
        np.stack([model.structure_scores(values) for use in uses for values in use.structures]),
        predictor,
        PartPredictors(selected, calibrated),
        empty,
        np.empty(0) if flag_scores is None else flag_scores,
    )


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
        shapes: Callable[[TimeLimit], LearntShapes] | None = None,
        rule: str = "auto",
        seed: int = 0,
    ) -> None:
        self.scorer, self.network, self.failures = scorer, network, failures
        self.references = failures.references
        self.model_dir, self.settings = Path(model_dir), dict(settings)
        self.shapes, self.rule, self.seed = shapes, rule, seed
        self.logger = logging.getLogger(__name__)

    def run(
        self,
        level_weights: np.ndarray | None = None,
        losses: Mapping[str, np.ndarray] | None = None,
        limit: TimeLimit = NO_LIMIT,
    ) -> tuple[AnomalyModel, dict[str, np.ndarray], dict[str, Any]]:
        """Fits the score and writes the model's files.

        Args:
            level_weights: what each level counts in the score, ``(L,)``; equal by default.
            losses: losses per level on held-out references, ``(L,)`` each, kept beside the statistics.
            limit: of the time; a part that gets less than it needs says so in a line, and the model is complete.

        Returns:
            The score; Spearman correlation of each statistic with Dice, ``(L,)`` by name, -1 is best; what
            ``settings.json`` holds.
        """
        self.load_weights(self.network)
        self.network.eval()
        self.failures.train_segmenter(limit.part("segmenter"))
        whole, shapes = (ReferenceShapes(), {}) if self.shapes is None else self.shapes(limit.part("shapes"))
        held_out = HeldOutScorer(self.scorer, self.network, self.failures, shapes, self._quick)
        images = held_out.images(limit.part("images"))
        context = not self._quick and learnt_context(losses or {})
        selection = held_out.statistics("selection", limit.part("selection"), 0 if context else OTHERS)
        model = selection.fit(self.rule, self.seed, level_weights, context)
        calibration = held_out.statistics("calibration", limit.part("calibration"))
        decisions = _decisions(model, selection, calibration)
        arrays = {
            **selection.selection_arrays(),
            **calibration.calibration_arrays(),
            "fit_cases": np.array(selection.cases),
            "calibration_cases": np.array(calibration.cases),
            **(losses or {}),
        }
        fitted = {**model.to_arrays(), **decisions.to_arrays(), **whole.to_arrays(), **images, **self._contacts()}
        settings = self._write({**arrays, **fitted}, model.rule)
        ordered = sorted(model.comparison.items(), key=lambda item: item[1])
        figures = ", ".join(f"{name} {value:.3f}" for name, value in ordered)
        text = "anomaly score: %s (Spearman with Dice on failures of held-out references: %s)"
        self.logger.info(text, model.rule, figures)
        if model.flag_scale is not None:
            words = statistic_named(model.flag_scale.statistic).words
            self.logger.info("flags: by the anomaly score or the %s, whichever is more unusual", words)
        return model, selection.level_figures(), settings

    def _contacts(self) -> dict[str, np.ndarray]:
        """Of the references, where they were measured: for label maps of many structures."""
        areas = list(self.references.stored.contacts.values())
        fitted = ReferenceContacts.fit(np.stack(areas)) if areas else None
        return {} if fitted is None else fitted.to_arrays()

    @property
    def _quick(self) -> bool:
        """Whether the network is too little trained to have a vote, unasked; one that reads images is there to vote."""
        of_labels = self.scorer.parametrisation == "posterior" and not self.references.image_channels
        unasked = self.rule == "auto" and self.shapes is not None
        return unasked and of_labels and bool(self.settings.get(QUICK))

    def load_weights(self, network: nn.Module) -> None:
        """Loads the weights that training kept. Raises InputError where it kept none."""
        if not (self.model_dir / WEIGHTS).is_file():
            raise InputError(f"{self.model_dir}: no weights to keep: the validation loss was never a number")
        load_weights(network, self.model_dir)

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
