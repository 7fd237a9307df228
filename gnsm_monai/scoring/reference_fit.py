"""After training: what held-out references, and failures made from them, score."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import nn

from gnsm_monai.data.references import References
from gnsm_monai.data.transforms import IMAGE, LABEL, FitToGridd, encode_labels
from gnsm_monai.errors import InputError
from gnsm_monai.files import save_arrays, save_json, sha256
from gnsm_monai.model.files import SETTINGS, STATISTICS_FILE, WEIGHTS, load_weights
from gnsm_monai.scoring.anomaly import AnomalyModel
from gnsm_monai.scoring.calibration import Calibration, DicePredictor
from gnsm_monai.scoring.choice import rank_correlation
from gnsm_monai.scoring.reference_failures import Failure, ReferenceFailures
from gnsm_monai.scoring.reference_images import ReferenceImages, case_smoothness
from gnsm_monai.scoring.reference_shapes import ReferenceShapes
from gnsm_monai.scoring.scorer import Scorer
from gnsm_monai.scoring.statistics import STATISTICS, CaseStatistics

__all__ = ["ReferenceFit"]

Loads: TypeAlias = Callable[[Mapping[str, Any]], Mapping[str, Any]]


@dataclass(frozen=True)
class _Scored:
    """Level statistics ``(N, L, S)`` and ``(N, structures, L)`` of references, and ``(M, L, S)`` of failures.

    ``of_networks``: which failures are masks of networks, ``(M,)``. ``groups``: number of the reference that each
    failure was made from, ``(M,)``.
    """

    clean: np.ndarray
    structures: np.ndarray
    failed: np.ndarray
    dice: np.ndarray
    kinds: list[str]
    of_networks: np.ndarray
    groups: np.ndarray


class ReferenceFit:
    """Scores held-out references and failures made from them, chooses the anomaly score, and completes the model.

    Writes ``reference_statistics.npz`` (level statistics of the references kept for fitting, of failures made from
    them, and of those kept for calibration, with the fitted :class:`AnomalyModel`) and then ``settings.json`` (all that
    scoring needs besides the weights) to the model's folder. Nothing here sees a prediction.

    Args:
        scorer: gives the level statistics.
        network: as scoring will run it; its weights are taken from ``model.pt``.
        references: the reference cases.
        model_dir: folder with ``model.pt``.
        settings: plain values to keep in ``settings.json``.
        copies: degraded copies per reference kept for fitting, of changing kind and random severity; half as many, and
            all masks that the small network makes, where there is one.
        calibration_copies: the same per reference kept for calibration, for the interval of the predicted Dice; half
            of them masks of the small network, where there is one.
        failures: where failures come from, of :data:`gnsm_monai.scoring.reference_failures.SOURCES`.
        shapes: learns the references' shapes, such as :class:`gnsm_monai.workflow.ShapeLearner`; None for none.
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
        copies: int = 8,
        calibration_copies: int = 4,
        failures: str = "auto",
        shapes: Callable[[Loads], tuple[ReferenceShapes, dict[str, ReferenceShapes]]] | None = None,
        rule: str = "auto",
        seed: int = 0,
        device: str | torch.device = "cpu",
    ) -> None:
        self.scorer, self.network, self.references = scorer, network, references
        self.model_dir, self.settings = Path(model_dir), dict(settings)
        self.copies, self.calibration_copies = copies, calibration_copies
        self.failures, self.rule, self.seed, self.device = failures, rule, seed, torch.device(device)
        self.shapes = shapes
        self.anomaly: AnomalyModel | None = None
        """The anomaly score that :meth:`run` has fitted; :attr:`settings` are then those of ``settings.json``."""
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
        makes = ReferenceFailures(self.references, self.failures, self.seed, self.device)
        self.logger.info(
            "scoring %d held-out references and failures made from them, and %d for calibration",
            len(fit),
            len(calibration),
        )
        whole, shapes = (ReferenceShapes(), {}) if self.shapes is None else self.shapes(makes.load)
        fitted = self._scored(fit, makes, 0, self.copies, None, shapes)
        if not fitted.kinds:
            raise InputError("the references kept for fitting hold no structure: no score can be chosen on them")
        model = AnomalyModel.fit(
            fitted.clean,
            fitted.failed,
            fitted.dice,
            self.rule,
            self.seed,
            level_weights,
            fitted.groups,
            fitted.of_networks,
        )
        masks = self.calibration_copies // 2
        unseen = self._scored(calibration, makes, 1, self.calibration_copies, masks, shapes)
        if not unseen.kinds:
            raise InputError(
                "the references kept for calibration hold no structure: no Dice can be predicted from them"
            )
        # Failures alone: a predicted mask, however good, never equals its reference.
        predictor = DicePredictor.fit(model.fair_scores, fitted.dice, model.score(unseen.failed), unseen.dice)
        structures = np.stack([model.structure_scores(levels) for levels in unseen.structures])
        arrays = {
            "fit": fitted.clean,
            "failures": fitted.failed,
            "failure_dice": fitted.dice,
            "failure_kinds": np.array(fitted.kinds),
            "failure_of_networks": fitted.of_networks,
            "failure_groups": fitted.groups,
            "calibration": unseen.clean,
            "calibration_failures": unseen.failed,
            "calibration_failure_dice": unseen.dice,
            "calibration_failure_kinds": np.array(unseen.kinds),
            "fit_cases": np.array([case["case"] for case in fit]),
            "calibration_cases": np.array([case["case"] for case in calibration]),
            **(losses or {}),
        }
        decisions = Calibration(model.score(unseen.clean), structures, predictor)
        kept = {**arrays, **model.to_arrays(), **decisions.to_arrays(), **whole.to_arrays()}
        if self.references.image_channels:
            kept |= self._images(makes.load).to_arrays()
        self.anomaly = model
        self.settings |= {"anomaly_score": model.rule, "failures": "copies" if makes.segmenter is None else "networks"}
        self.settings["weights_sha256"] = sha256(self.model_dir / WEIGHTS)
        self.settings["statistics_sha256"] = save_arrays(self.model_dir / STATISTICS_FILE, kept)
        # Last, and with the identity of the weights: a folder with settings is a complete model.
        save_json(self.model_dir / SETTINGS, self.settings)
        self.logger.info("anomaly score: %s (%s)", model.rule, _comparison(model))
        return arrays

    def load_weights(self, network: nn.Module) -> None:
        """Loads the weights that training kept. Raises InputError where it kept none."""
        if not (self.model_dir / WEIGHTS).is_file():
            raise InputError(f"{self.model_dir}: no weights to keep: the validation loss was never a number")
        load_weights(network, self.model_dir)

    def level_figures(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Spearman correlation with Dice of every statistic at every level, ``(L,)``, on references and failures."""
        everything = np.concatenate([arrays["fit"], arrays["failures"]])
        quality = np.concatenate([np.ones(len(arrays["fit"])), arrays["failure_dice"]])
        return {
            name: np.array([rank_correlation(values, quality) for values in everything[:, :, s].T])
            for s, name in enumerate(STATISTICS)
            if np.isfinite(everything[:, :, s]).all()
        }

    def _scored(
        self,
        cases: Sequence[Mapping[str, Any]],
        makes: ReferenceFailures,
        stream: int,
        copies: int,
        masks: int | None,
        shapes: Mapping[str, ReferenceShapes],
    ) -> _Scored:
        clean, structures, failed, groups = [], [], [], []
        found: list[Failure] = []
        for number, case in enumerate(cases):
            self.scorer.shapes = shapes.get(case["case"])
            loaded = makes.load(case)
            statistics = self._score(loaded)
            clean.append(statistics.levels)
            structures.append(statistics.structures)
            empty = not any(failure.kind == "empty" for failure in found)
            for failure in makes.of(case, loaded, number, stream, copies, masks, empty):
                failed.append(self._score(failure.case).levels)
                found.append(replace(failure, case={}))
                groups.append(number)
        return _Scored(
            np.stack(clean),
            np.stack(structures),
            np.stack(failed) if failed else np.empty((0, *clean[0].shape)),
            np.array([failure.dice for failure in found]),
            [failure.kind for failure in found],
            np.array([failure.of_network for failure in found], dtype=bool),
            np.array(groups),
        )

    def _images(self, load: Loads) -> ReferenceImages:
        """Of all references: nothing is learnt that could flatter those that trained the network."""
        cases = (self._placed(load(case)) for case in self.references.cases)
        return ReferenceImages.fit(np.stack([case_smoothness(case) for case in cases]))

    def _placed(self, case: Mapping[str, Any]) -> dict[str, Any]:
        """A case on the grid on which masks are scored."""
        placed = FitToGridd(self.references.spatial_size, grow=True, keys=list(case))(dict(case))
        return {str(key): value for key, value in placed.items()}

    def _score(self, case: Mapping[str, Any]) -> CaseStatistics:
        placed = self._placed(case)
        label = placed[LABEL].as_tensor()[None].to(self.device)
        probabilities, mask = encode_labels(label, self.references.labels.num_classes)
        sees = self.references.image_channels > 0
        image = torch.as_tensor(placed[IMAGE])[None].to(self.device) if sees else None
        return self.scorer(self.network, probabilities, mask, image)


def _comparison(model: AnomalyModel) -> str:
    ordered = sorted(model.comparison.items(), key=lambda item: item[1])
    return "Spearman with Dice on failures of held-out references: " + ", ".join(
        f"{name} {value:.3f}" for name, value in ordered
    )
